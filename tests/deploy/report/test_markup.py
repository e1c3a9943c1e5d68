"""HTML is escaped where it is made; what cannot be made safely is refused."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.report.html.markup import Markup, joined, raw, shown, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b> & ", tag("b", "x")) == "<p>&lt;b&gt; &amp; <b>x</b></p>"


def test_attributes_are_escaped_and_named_as_html_has_them() -> None:
    made = tag("a", href='"><script>', class_="x", aria_label="y", hidden=True, title=None, open=False)
    assert made == '<a href="&quot;&gt;&lt;script&gt;" class="x" aria-label="y" hidden></a>'


def test_children_may_be_nested_and_absent() -> None:
    assert joined(["a", None, ("b", [tag("i", "c")]), (one for one in "d")]) == "ab<i>c</i>d"


def test_void_elements_have_no_end_and_no_content() -> None:
    assert tag("img", alt="") == '<img alt="">'
    with pytest.raises(ValueError, match="<img> has no content"):
        tag("img", "text")


def test_scripts_are_made_by_raw_alone() -> None:
    assert raw("style", "a > b {}") == "<style>a > b {}</style>"
    with pytest.raises(ValueError, match="<script> is made by `raw`"):
        tag("script", "x")
    with pytest.raises(ValueError, match="<p> is made by `tag`"):
        raw("p", "x")


@pytest.mark.parametrize("content", ["x = '</script>'", "<!-- x"])
def test_what_could_end_a_script_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="could end the element"):
        raw("script", content)


def test_characters_that_mislead_or_break_are_replaced() -> None:
    # A right-to-left override would show "exe.gnp" for "png.exe"; NUL and lone surrogates are no HTML at all.
    assert shown("a\u202eb\x00c\ud800d\ne") == "a\ufffdb\ufffdc\ufffdd\ne"


class Reader(HTMLParser):
    """What a parser of HTML finds: names of elements, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.values: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_any_text_comes_back_as_text(text: str) -> None:
    reader = Reader()
    reader.feed(tag("p", text, title=text))
    reader.close()
    assert reader.names == ["p"]
    assert reader.text.replace("\r", "\n") == shown(text).replace("\r", "\n")
    assert reader.values == [shown(text)]


def test_markup_is_a_string() -> None:
    assert isinstance(tag("p"), Markup)
    assert isinstance(tag("p"), str)
