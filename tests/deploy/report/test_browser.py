"""The page in a real browser: nothing on the console, nothing fetched, and the slider moves."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.images.sizes import Size
from deploy.report.gallery import Gallery, Scene, Variant
from deploy.report.page import page_from_facts, write_page
from tests.browser import Page, find_browser, opened_browser
from tests.deploy.report.facts_for_tests import HOSTILE, full_facts

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

RED, BLUE = (230, 10, 10), (10, 10, 230)


def scene(name: str) -> Scene:
    def flat(colour: tuple[int, int, int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        return np.full((32, 48, 3), colour, np.uint8)

    variants = (
        Variant(name="bicubic", pixels=flat(RED), figures="20 dB"),
        Variant(name="int8", pixels=flat(BLUE), figures="30 dB"),
        Variant(name="close", pixels=flat((10, 10, 226))),
        Variant(name="original", pixels=flat((10, 230, 10))),
    )
    return Scene(name=name, size=Size(32, 48), variants=variants)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert BROWSER is not None
    with opened_browser(BROWSER, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gallery = Gallery(
        scenes=(scene("first"), scene(HOSTILE)), origin=HOSTILE, scale=2.0, ways={HOSTILE: HOSTILE}, failures={}
    )
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(page_from_facts(full_facts(gallery=gallery)), path)
    return path


@pytest.fixture
def opened(tab: Page, page: Path) -> Page:
    tab.resize(1280, 900)
    tab.problems.clear()
    tab.requests.clear()
    return tab.open(page)


def split(tab: Page) -> str:
    """How much of the left picture is seen."""
    found: str = tab.tell("getComputedStyle(document.querySelector('.over')).clipPath")
    return found


def colour(tab: Page, share: float, tmp_path: Path) -> tuple[int, ...]:
    """What is really seen at that share of the stage's width, a little above its middle."""
    from PIL import Image

    tab.tell("document.querySelector('.stage').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = tab.tell(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('.pair').getBoundingClientRect())"
    )
    tab.screenshot(tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as picture:
        found: tuple[int, ...] = picture.convert("RGB").getpixel((box[0] + share * box[2], box[1] + 0.3 * box[3]))
    return found


def test_nothing_is_on_the_console_and_nothing_is_fetched(opened: Page, page: Path) -> None:
    assert opened.problems == []
    assert [one for one in opened.requests if not one.startswith("data:image/webp")] == [page.as_uri()]
    assert opened.tell("document.compatMode") == "CSS1Compat"
    assert opened.tell("[...document.images].every((one) => one.complete && one.naturalWidth === 48)")


def test_the_slider_shows_one_picture_left_and_the_other_right(opened: Page, tmp_path: Path) -> None:
    assert opened.tell("getComputedStyle(document.querySelector('.viewer')).display") == "block"
    assert opened.tell("document.querySelector('.stage img.over').alt") == "first, bicubic"
    assert (colour(opened, 0.25, tmp_path), colour(opened, 0.75, tmp_path)) == (RED, BLUE)


def test_keys_move_the_slider(opened: Page, tmp_path: Path) -> None:
    opened.tell("document.querySelector('.stage input').focus()")
    before = split(opened)
    opened.press("ArrowRight")
    assert split(opened) != before
    assert "51%" in opened.tell("document.querySelector('.stage').style.getPropertyValue('--split')")
    spoken = opened.tell("document.querySelector('.stage input').getAttribute('aria-valuetext')")
    assert spoken == "51 % bicubic, 49 % int8"
    opened.press("End")
    assert (colour(opened, 0.25, tmp_path), colour(opened, 0.75, tmp_path)) == (RED, RED)
    opened.press("Home")
    assert (colour(opened, 0.25, tmp_path), colour(opened, 0.75, tmp_path)) == (BLUE, BLUE)


def test_the_mouse_drags_the_slider(opened: Page) -> None:
    opened.tell("document.querySelector('.stage').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y, width, height = opened.tell(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('.stage').getBoundingClientRect())"
    )
    opened.mouse("mousePressed", x + width / 2, y + height / 2)
    opened.mouse("mouseMoved", x + 0.8 * width, y + height / 2)
    opened.mouse("mouseReleased", x + 0.8 * width, y + height / 2)
    assert opened.tell("document.querySelector('.stage input').value") == "80"
    assert split(opened) == "inset(0px 20% 0px 0px)"


def test_another_way_and_another_picture_are_chosen(opened: Page, tmp_path: Path) -> None:
    opened.tell(
        "(() => { const left = document.querySelector('select.left'); left.value = 'original';"
        " left.dispatchEvent(new Event('change')); })()"
    )
    assert colour(opened, 0.25, tmp_path) == (10, 230, 10)
    opened.tell("document.querySelectorAll('.scenes button')[1].click()")
    # The choice of ways stays; a hostile name is only ever text.
    assert opened.tell("document.querySelector('select.left').value") == "original"
    assert opened.tell("document.querySelector('.stage img.over').alt").endswith(", original")
    assert opened.tell("document.querySelectorAll('.scenes button')[1].getAttribute('aria-pressed')") == "true"
    assert opened.tell("document.scripts.length") == 1
    assert opened.problems == []


def test_a_difference_that_cannot_be_seen_is_amplified(opened: Page, tmp_path: Path) -> None:
    opened.tell(
        "(async () => { const set = (side, way) => { const one = document.querySelector(`select.${side}`);"
        " one.value = way; one.dispatchEvent(new Event('change')); };"
        " set('left', 'close'); document.querySelector('.difference').click();"
        " while (!document.querySelector('.factor').textContent) await new Promise((go) => setTimeout(go, 20)); })()"
    )
    # 4 levels of blue, one channel of three: 2.3 in the root mean square, times 8 the last power of two below 32.
    assert opened.tell("document.querySelector('.factor').textContent") == ", amplified 8 times"
    assert colour(opened, 0.5, tmp_path) == (0, 0, 32)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("dark", [False, True])
def test_no_width_makes_the_page_scroll_sideways(opened: Page, width: int, dark: bool) -> None:
    opened.resize(width, 900, dark=dark)
    opened.tell("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert opened.tell("document.documentElement.scrollWidth") <= width
    paper, ink = (opened.tell(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (paper, ink) == (
        ("rgb(21, 23, 26)", "rgb(230, 228, 223)") if dark else ("rgb(252, 251, 248)", "rgb(30, 33, 36)")
    )


def test_without_scripts_every_picture_is_there(opened: Page, page: Path) -> None:
    opened.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened.open(page)
        # The protocol's own evaluation still works.
        assert opened.tell("getComputedStyle(document.querySelector('.viewer')).display") == "none"
        assert opened.tell("document.querySelectorAll('#strips[open] .strip img').length") == 8
    finally:
        opened.call("Emulation.setScriptExecutionDisabled", value=False)


def test_paper_has_every_picture(opened: Page, tmp_path: Path) -> None:
    opened.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert opened.tell("document.getElementById('strips').open") is False  # as it was before
    assert opened.problems == []
