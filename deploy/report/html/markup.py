"""HTML that is escaped where it is made.

A bundle's strings may come from anyone. Only `Markup` reaches the page as it is, and only `tag` and `joined` make it;
every other string is text, whatever stands in it.
"""

import html
import re
from collections.abc import Iterable
from typing import Union

VOID = frozenset({"br", "col", "img", "input", "link", "meta"})
"""Elements without content, which HTML writes without an end tag."""

RAW = frozenset({"script", "style"})
"""Elements whose content HTML does not unescape; see `raw`."""

UNSHOWN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Characters that HTML forbids, and those that turn the direction of the text around them."""


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


Child = Union[str, None, "Children"]
Children = Iterable[Child]
Value = str | int | float | bool | None


def tag(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """An element. An underscore at the end of an attribute's name is dropped, others become hyphens: `class_`,
    `aria_label`. True is an attribute without value; one that is None or False is left out.
    """
    if name in RAW:
        raise ValueError(f"<{name}> is made by `raw`: its content is not escaped")
    start = f"<{name}{_attributes(attributes)}>"
    if name in VOID:
        if any(child is not None for child in children):
            raise ValueError(f"<{name}> has no content")
        return Markup(start)
    return Markup(f"{start}{joined(children)}</{name}>")


def joined(children: Children) -> Markup:
    """The children one after the other; plain strings escaped, None left out, iterables walked through."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(str(child))
        elif isinstance(child, str):
            parts.append(html.escape(shown(child), quote=False))
        else:
            parts.append(str(joined(child)))
    return Markup("".join(parts))


def raw(name: str, /, content: str) -> Markup:
    """A <style> or <script> with this tool's own content, which must not end the element."""
    if name not in RAW:
        raise ValueError(f"<{name}> is made by `tag`, which escapes")
    if re.search(r"</|<!--", content):
        raise ValueError(f"the content of <{name}> could end the element: it holds '</' or '<!--'")
    return Markup(f"<{name}>{content}</{name}>")


def shown(text: str) -> str:
    """The text with what cannot be shown, or would mislead, replaced by U+FFFD."""
    return UNSHOWN.sub("\ufffd", text)


def _attributes(attributes: dict[str, Value]) -> str:
    parts = []
    for name, value in attributes.items():
        attribute = name.rstrip("_").replace("_", "-")
        if value is None or value is False:
            continue
        parts.append(f" {attribute}" if value is True else f' {attribute}="{html.escape(shown(str(value)))}"')
    return "".join(parts)
