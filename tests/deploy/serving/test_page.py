"""The page in a real browser, in front of a real service that wants a token."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.images.formats.contract import Outline
from deploy.images.formats.table import FORMATS
from deploy.images.reading import read_header
from deploy.images.sizes import Size
from deploy.images.writing import write_picture
from deploy.packaged.places import IDM_BUNDLE, SAMPLE_IMAGES
from tests.browser import Page, find_browser, opened_browser
from tests.deploy.serving.service import Service, served

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
]

TOKEN = "a token of the page's tests"
WIDTHS = (1280, 400)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "tokens.txt").write_text(f"{TOKEN}\n")
    limits = ("--max-pixels", "1000000", "--max-upload", "1MiB")
    with served(folder / "tmp", options=("--token-file", str(folder / "tokens.txt"), *limits)) as running:
        yield running


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Page]:
    """A tab that has been given the token, after a wrong one."""
    assert BROWSER is not None
    with opened_browser(BROWSER, tmp_path_factory.mktemp("profile")) as page:
        page.resize(1280, 900)
        page.open(f"{service.address}/")
        for token in ("not the token of this server", TOKEN):
            page.until("document.querySelector('#token-dialog').open && document.querySelector('#token').value === ''")
            page.call("Input.insertText", text=token)
            page.press("Enter")
            page.until("document.querySelector('#token').value === ''" if token != TOKEN else "offer !== null")
        yield page


@pytest.fixture
def page(tab: Page, service: Service, tmp_path: Path) -> Page:
    """The page as somebody finds it who comes for the first time."""
    tab.tell("removeAll(), localStorage.clear()")
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.resize(1280, 900)
    tab.open(f"{service.address}/")
    tab.until("offer !== null")
    tab.problems.clear()
    tab.requests.clear()
    return tab


def text(page: Page, selector: str) -> str:
    """What stands there."""
    found: str = page.tell(f"document.querySelector({json.dumps(selector)}).textContent")
    return found


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.tell(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((part) => part.textContent)"
    )
    return found


def click(page: Page, selector: str) -> None:
    page.tell(f"document.querySelector({json.dumps(selector)}).click()")


def fill(page: Page, selector: str, value: str) -> None:
    """A control has another value, and the page hears of it."""
    page.tell(
        f"(() => {{ const at = document.querySelector({json.dumps(selector)}); at.value = {json.dumps(value)};"
        " for (const kind of ['input', 'change']) at.dispatchEvent(new Event(kind, { bubbles: true })); })()"
    )


def until_done(page: Page, count: int) -> None:
    page.until(f"document.querySelectorAll('.versions li.done').length === {count}")


def infer(*words: str) -> None:
    """The same picture by the command line, with the service's engine."""
    engine = ["--engine", "onnxruntime-cpu", "--precision", "fp32", "--threads", "1", "--quiet", "--force"]
    result = CliRunner().invoke(app, ["infer", *words, "--bundle", str(IDM_BUNDLE), *engine])
    assert result.exit_code == 0, result.output


def downloaded(folder: Path, name: str) -> Path:
    """The file, once the browser has saved it whole."""
    end = monotonic() + 20
    while not (folder / name).exists() or list(folder.glob("*.crdownload")):
        assert monotonic() < end, [*folder.iterdir()]
        sleep(0.05)
    return folder / name


def assert_quiet(page: Page, service: Service) -> None:
    """Nothing on the console, which is where violations of the policy stand too; nothing fetched from elsewhere."""
    assert page.problems == []
    elsewhere = [url for url in page.requests if not url.startswith((f"{service.address}/", "blob:", "data:"))]
    assert elsewhere == []


def test_what_is_dropped_is_enlarged_and_saved_as_one_zip(page: Page, service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    (folder / "below").mkdir(parents=True)
    shutil.copy(SAMPLE_IMAGES / "chelsea.png", folder / "below" / f"{HOSTILE}.png")
    Image.open(SAMPLE_IMAGES / "coffee.png").save(folder / "cup.tif")
    (folder / "notes.txt").write_text("no picture")
    click(page, "input[name=preset][value=draft]")
    page.drop([folder, SAMPLE_IMAGES / "flower.png"], 300, 400)
    page.until("document.querySelectorAll('.pictures > li').length === 3")
    assert sorted(texts(page, ".name")) == ["flower.png", f"holiday/below/{HOSTILE}.png", "holiday/cup.tif"]
    assert text(page, "#alarm") == "1 file left out: no picture that can be read."
    # The exact size before anything was sent, of the TIFF too, which the browser does not show.
    page.until("document.querySelector('#plan').textContent.startsWith('0.2 megapixels in all, ')")
    assert "64\u2009×\u200964 → 256\u2009×\u2009256" in text(page, ".pictures > li:last-child .facts")
    assert not [url for url in page.requests if "upscale" in url]

    page.tell("(() => { seen = []; setInterval(() => seen.push(by('total-text').textContent), 15); })()")
    click(page, "#start")
    until_done(page, 3)
    assert any("of 3 done" in line for line in page.tell("seen"))
    assert text(page, "#said") == "3 pictures done."
    assert page.tell("by('total').hidden")
    click(page, "#save-all")
    with zipfile.ZipFile(downloaded(tmp_path, "enlarged.zip")) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    # `infer` names them so too, below the folder that is asked for.
    settings = ("--scale", "4", "--preset", "draft")
    infer(str(folder), *settings, "-o", f"{tmp_path / 'by-infer' / 'holiday'}/")
    infer(str(SAMPLE_IMAGES / "flower.png"), *settings, "-o", f"{tmp_path / 'by-infer'}/")
    pictures = [path for path in (tmp_path / "by-infer").rglob("*_x4.*") if path.is_file()]
    assert len(pictures) == 3
    assert found == {path.relative_to(tmp_path / "by-infer").as_posix(): path.read_bytes() for path in pictures}
    # The browser shows no TIFF, but sees this result and its input all the same.
    page.tell("[...document.querySelectorAll('.open')].find((row) => row.textContent.includes('cup')).click()")
    page.until("document.querySelector('select.left').options.length === 3")
    page.until("[...document.querySelectorAll('.stage img')].every(({ naturalWidth }) => naturalWidth === 256)")
    assert_quiet(page, service)


def test_sizes_of_what_the_browser_cannot_show_are_known_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    pytest.importorskip("OpenImageIO")
    heif = pytest.importorskip("pillow_heif")
    picture, turned = Image.open(SAMPLE_IMAGES / "coffee.png").convert("RGB").resize((53, 37)), Image.Exif()
    turned[274] = 6
    picture.save(tmp_path / "plain.tif")
    picture.save(tmp_path / "turned.tif", exif=turned)
    tifffile.imwrite(tmp_path / "big-endian.tif", np.asarray(picture), byteorder=">")
    heif.from_pillow(picture).save(tmp_path / "part-of-64x64.heic")
    for width, height in ((53, 37), (64, 48), (3000, 40)):
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_picture(tmp_path / f"{width}.jxl", FORMATS["jxl"], Outline(size=Size(height, width), bits=8), [noise])
    known = {path: read_header(path).size for path in sorted(tmp_path.iterdir())}
    cut = tmp_path / "cut.tif"
    cut.write_bytes((tmp_path / "plain.tif").read_bytes()[:6])
    page.give("#files", [*known, cut])
    page.until("pictures.every(({ isReadable }) => isReadable !== null)")
    # Also of those that this browser can show.
    found = page.tell("Promise.all(pictures.map(({ file }) => sizeFromHeader(file)))")
    assert found == [*({"width": size.width, "height": size.height} for size in known.values()), None]
    page.until("by('pictures').lastChild.textContent.includes('size known once it is made')")
    assert page.problems == []


def test_cancelling_ends_the_work_of_the_service(page: Page, service: Service) -> None:
    large = [service.folder.parent / f"large{number}.png" for number in range(3)]
    for path in large:
        Image.open(SAMPLE_IMAGES / "coffee.png").resize((100, 100)).save(path)
    page.give("#files", large)
    click(page, "input[name=preset][value=best]")
    page.until("document.querySelector('#plan').textContent.includes('megapixels')")
    click(page, "#start")
    page.until("pictures[0].versions[0].state === 'running'")
    number = page.tell("pictures[0].versions[0].id")
    click(page, ".versions .act")
    assert text(page, ".versions .note") == "cancelled"
    page.until(f"server.json('v1/jobs/{number}').then(({{ state }}) => state === 'cancelled')")
    page.until("pictures[1].versions[0].state === 'running'")
    click(page, "#cancel-all")
    assert page.tell("pictures.map(({ versions: [{ state }] }) => state)") == ["cancelled"] * 3
    assert page.tell("by('total').hidden") and text(page, "#said") == "All cancelled."
    assert_quiet(page, service)
    # What was cancelled can be made again.
    click(page, "input[name=sizing][value='2']")
    click(page, "input[name=preset][value=draft]")
    page.until("!by('start').disabled")
    click(page, "#start")
    until_done(page, 3)


def test_a_pasted_picture_is_enlarged_too(page: Page, service: Service) -> None:
    page.tell(
        "(async () => { const canvas = Object.assign(document.createElement('canvas'), { width: 20, height: 12 });"
        " canvas.getContext('2d').fillRect(3, 3, 9, 5);"
        " const blob = await new Promise((made) => canvas.toBlob(made)), transfer = new DataTransfer();"
        " transfer.items.add(new File([blob], 'image.png', { type: 'image/png' }));"
        " window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer, cancelable: true })); })()"
    )
    page.until("!by('start').disabled")
    click(page, "#start")
    until_done(page, 1)
    assert "80\u2009×\u200948" in text(page, "#shown-facts")
    assert_quiet(page, service)


def test_the_slider_compares_any_two_and_goes_down_to_pixels(page: Page, service: Service) -> None:
    page.give("#files", [SAMPLE_IMAGES / "chelsea.png"])
    for count, preset in enumerate(("balanced", "draft"), 1):
        click(page, f"input[name=preset][value={preset}]")
        page.until("!by('start').disabled")
        click(page, "#start")
        until_done(page, count)
    page.until("document.querySelector('select.left').options.length === 4")
    assert texts(page, "select.left option") == ["Input", "Bicubic", "4× balanced", "4× draft"]
    assert (page.tell("document.querySelector('select.left').selectedOptions[0].label")) == "Bicubic"
    fill(page, "select.left", page.tell("document.querySelector('select.left').options[2].value"))
    assert page.tell("document.querySelector('.stage .over').alt") == "chelsea.png, 4× balanced"
    assert page.tell("document.querySelector('.stage .under').alt") == "chelsea.png, 4× draft"
    # 256 pixels fit twice into the room; the divider is where the mouse was let go.
    assert page.tell("slider.pair.getBoundingClientRect().width") == 512
    left, top, width, height = page.tell(
        "(({ x, y, width, height }) => [x, y, width, height])(slider.stage.getBoundingClientRect())"
    )
    page.mouse("mousePressed", left + width / 2, top + height / 2)
    page.mouse("mouseMoved", left + 0.7 * width, top + height / 2)
    page.mouse("mouseReleased", left + 0.7 * width, top + height / 2)
    assert page.tell("slider.divider.value") == "70"
    seen = page.tell("parseFloat(slider.pair.style.getPropertyValue('--split'))")
    assert seen == pytest.approx(0.7 * width - (width - 512) / 2, abs=1)
    # Eight screen pixels per picture pixel, moved by the mouse; the divider stays where it is on the screen.
    click(page, "button.zoom[value='8']")
    assert page.tell("slider.pair.getBoundingClientRect().width") == 2048
    before = page.tell("slider.pair.getBoundingClientRect().x")
    page.mouse("mousePressed", left + 0.2 * width, top + height / 2)
    page.mouse("mouseMoved", left + 0.2 * width - 100, top + height / 2)
    page.mouse("mouseReleased", left + 0.2 * width - 100, top + height / 2)
    assert page.tell("slider.pair.getBoundingClientRect().x") == pytest.approx(before - 100, abs=1)
    assert page.tell("slider.divider.value") == "70"
    assert page.tell("getComputedStyle(document.querySelector('.over')).imageRendering") == "pixelated"
    assert_quiet(page, service)


def test_a_part_is_tried_with_the_size_that_the_whole_would_have(page: Page, service: Service, tmp_path: Path) -> None:
    page.give("#files", [SAMPLE_IMAGES / "coffee.png"])
    click(page, "input[name=sizing][value=other]")
    fill(page, "#unit", "long_edge")
    fill(page, "#amount", "192")
    page.until("!by('try-part').disabled")
    click(page, "#try-part")
    assert page.tell("document.activeElement.className") == "crop"
    for key, shift in (("ArrowRight", False), ("ArrowDown", False), ("ArrowLeft", True)):
        page.press(key, shift=shift)
    assert [page.tell(f"by('part-{side}').value") for side in ("x", "y", "width", "height")] == ["17", "17", "31", "32"]
    page.until("by('part-plan').textContent.includes('93\u2009×\u200996')")
    page.press("Enter")
    until_done(page, 1)
    click(page, ".versions .act")
    saved = downloaded(tmp_path, "coffee_long192_part17-17.png")
    infer(
        str(SAMPLE_IMAGES / "coffee.png"), "--scale", "3", "--crop", "17,17,31,32", "-o", str(tmp_path / "by-infer.png")
    )
    assert saved.read_bytes() == (tmp_path / "by-infer.png").read_bytes()
    assert text(page, "#start") == "Enlarge" and not page.tell("by('start').disabled")  # the whole is still to be made
    assert_quiet(page, service)


def test_all_of_it_is_done_by_keys_alone(page: Page, service: Service, tmp_path: Path) -> None:
    page.call("Page.setInterceptFileChooserDialog", enabled=True)

    def go_to(condition: str) -> None:
        for _ in range(40):
            page.press("Tab")
            assert page.tell("document.activeElement === document.body || matchesFocus(document.activeElement)")
            if page.tell(f"((at) => {condition})(document.activeElement)"):
                return
        raise AssertionError(f"the key Tab leads to nothing with {condition}")

    # Whatever has the focus shows it: an outline of its own or of what stands around it.
    page.tell(
        "matchesFocus = (at) => [at, at.closest('label'), at.closest('.stage')].some((part) => part"
        " && getComputedStyle(part).outlineStyle !== 'none' && parseFloat(getComputedStyle(part).outlineWidth) >= 2)"
    )
    go_to("at.id === 'choose-files'")
    page.press("Enter")
    page.give("#files", [SAMPLE_IMAGES / "flower.png"])
    page.call("Page.setInterceptFileChooserDialog", enabled=False)
    page.until("pictures.length === 1 && !by('start').disabled")
    go_to("at.name === 'sizing'")
    page.press("ArrowLeft")
    go_to("at.name === 'preset'")
    page.press("ArrowLeft")
    assert (page.tell("chosen('sizing')"), page.tell("chosen('preset')")) == ("3", "draft")
    page.until("!by('start').disabled")
    go_to("at.id === 'start'")
    page.press("Enter")
    until_done(page, 1)
    go_to("at.getAttribute('aria-label') === 'Save flower.png, 3× draft'")
    page.press("Enter")
    assert downloaded(tmp_path, "flower_x3.png").stat().st_size > 0
    page.until("document.querySelector('select.left').value === 'bicubic'")
    go_to("at === slider.divider")
    page.press("ArrowRight")
    assert page.tell("slider.divider.getAttribute('aria-valuetext')") == "51 % Bicubic, 49 % 3× draft"
    page.press("+")
    page.press("ArrowLeft", shift=True)
    assert page.tell("slider.pair.getBoundingClientRect().width") == 4 * 192  # three times it fits
    page.press("0")
    # Settings are kept for the next visit.
    page.open(f"{service.address}/")
    page.until("offer !== null")
    assert (page.tell("chosen('sizing')"), page.tell("chosen('preset')")) == ("3", "draft")
    assert_quiet(page, service)


def test_what_goes_wrong_is_said_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((SAMPLE_IMAGES / "coffee.png").read_bytes()[:3000])
    (tmp_path / "heavy.png").write_bytes(bytes(1_100_000))
    page.give("#files", [tmp_path / "cut.png", tmp_path / "heavy.png", SAMPLE_IMAGES / "chelsea.png"])
    page.until("pictures.every(({ isReadable }) => isReadable !== null)")
    assert text(page, ".pictures > li:nth-child(2) .facts") == "The file has 1.1 MB; this server takes at most 1.05 MB."
    click(page, "input[name=sizing][value=other]")
    fill(page, "#amount", "0.5")
    assert text(page, "#plan") == "The size has to be a number from 1." and page.tell("by('start').disabled")
    fill(page, "#amount", "16")  # 1024 pixels a side are more than this service makes
    page.until("document.querySelector('.pictures > li:last-child .facts').classList.contains('wrong')")
    assert "--max-pixels" not in text(page, ".pictures > li:last-child .facts")
    click(page, "#usual")
    page.until("!by('start').disabled")
    page.problems.clear()  # the browser itself notes that a request was refused
    # A service that is full for a moment is waited for, and one that does not answer too.
    page.tell(
        "(() => { const ask = fetch, full = new Response('{}', { status: 429, headers: { 'Retry-After': '1' } });"
        " let left = 1; fetch = (...asked) => (String(asked[0]).includes('upscale') && left-- > 0"
        " ? Promise.resolve(full) : ask(...asked)); })()"
    )
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    click(page, "#start")
    page.until("document.querySelector('.note').textContent === 'the server is busy, again in 1 s'")
    page.until("by('alarm').textContent.startsWith('The server does not answer.')")
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    until_done(page, 1)
    page.until("document.querySelectorAll('.versions li.failed').length === 1")
    assert page.tell("by('alarm').hidden")
    assert (
        "cut.png" not in text(page, ".versions li.failed .note") and len(text(page, ".versions li.failed .note")) > 20
    )
    assert text(page, ".versions li.failed .act") == "Again"


@pytest.mark.parametrize("dark", [False, True])
def test_no_width_makes_the_page_scroll_sideways(page: Page, service: Service, dark: bool) -> None:
    def widths() -> dict[int, int]:
        found = {}
        for width in WIDTHS:
            page.resize(width, 800, dark=dark)
            found[width] = page.tell("document.documentElement.scrollWidth")
        return found

    fitting = {width: width for width in WIDTHS}
    page.tell("by('more').open = true")
    assert widths() == fitting
    name = service.folder.parent / ("a name of a picture without any place to break it".replace(" ", "_") + ".png")
    shutil.copy(SAMPLE_IMAGES / "coffee.png", name)
    page.give("#files", [name])
    page.until("!by('start').disabled")
    click(page, "#try-part")
    assert widths() == fitting
    click(page, "#close-part")
    click(page, "#start")
    until_done(page, 1)
    click(page, "button.zoom[value='8']")
    assert widths() == fitting
    names: list[Any] = page.tell(
        "[...document.querySelectorAll('button, input, select, progress')].filter((at) => at.checkVisibility() &&"
        " !(at.textContent.trim() || at.getAttribute('aria-label') || at.labels?.length)).map((at) => at.id)"
    )
    assert names == []  # each control has a name for those who do not see it
    assert_quiet(page, service)
