"""The picture of the server's page in docs/serving.md: `python -m benchmarks.pages.serve`.

The packaged model enlarges the packaged pictures, in Chromium, with the page's usual settings. The times that it shows
are that machine's.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps

from deploy.packaged.places import IDM_BUNDLE, SAMPLE_IMAGES
from tests.browser import find_browser, opened_browser

PICTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "images" / "serve.png"
WINDOW = 1200, 880
BITS = 7
"""Of each channel, so that the file stays below 200 kB."""
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "flower.png")


@contextmanager
def served() -> Iterator[str]:
    """The address of a service of the packaged model."""
    words = ["serve", str(IDM_BUNDLE), "--port", "0", "--json"]
    command = [str(Path(sys.executable).with_name("idm-deploy")), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.terminate()


def shot(address: str, browser: str, folder: Path) -> Image.Image:
    """The page with the packaged pictures made, the first of them under the slider."""
    with opened_browser(browser, folder / "profile") as page:
        page.resize(*WINDOW)
        page.open(f"{address}/")
        page.until("offer !== null")
        page.give("#files", [SAMPLE_IMAGES / name for name in PHOTOGRAPHS])
        page.until("pictures.length === 3 && !by('start').disabled")
        page.tell("by('start').click()")
        page.until("document.querySelectorAll('.versions li.done').length === 3")
        page.until("document.querySelector('select.left').value === 'bicubic'")
        page.until("[...document.querySelectorAll('.stage img')].every(({ complete }) => complete)")
        page.until("!by('alarm').checkVisibility() && by('total').hidden")
        page.tell("new Promise((seen) => setTimeout(seen, 400))")
        page.screenshot(folder / "shot.png")
    with Image.open(folder / "shot.png") as picture:
        return picture.convert("RGB")


def main() -> int:
    """The picture is written."""
    browser = find_browser()
    if browser is None:
        print("There is no Chromium or Chrome here, which shows the page.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, served() as address:
        picture = shot(address, browser, Path(folder))
    ImageOps.posterize(picture, BITS).save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
