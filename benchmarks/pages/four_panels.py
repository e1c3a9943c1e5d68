"""The picture of the README: `python -m benchmarks.pages.four_panels`.

A held-out photograph reduced four times: enlarged by repeating pixels, by bicubic interpolation and by the packaged
model (default preset, seed 0, ONNX Runtime in float32), and the original.
"""

import sys
from pathlib import Path

from PIL import Image

from deploy import Bundle, Upscaler
from deploy.packaged.places import IDM_BUNDLE, SAMPLE_IMAGES, SAMPLE_ORIGINALS

PICTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "images" / "four-panels.png"
PHOTOGRAPH = "coffee.png"
SHOWN = (0, 0, 256, 232)
"""What is cut out of each panel, (left, upper, right, lower), so that the file stays below 300 kB."""
GAP = 8


def four_panels() -> Image.Image:
    """The four, side by side on white."""
    small = Image.open(SAMPLE_IMAGES / PHOTOGRAPH).convert("RGB")
    original = Image.open(SAMPLE_ORIGINALS / PHOTOGRAPH).convert("RGB")
    with Upscaler(Bundle.open(IDM_BUNDLE), engine="onnxruntime-cpu", precision="fp32") as upscaler:
        enlarged = upscaler.upscale(small, size=original.size, seed=0)
    repeated, bicubic = (
        small.resize(original.size, way) for way in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
    )
    panels = [panel.crop(SHOWN) for panel in (repeated, bicubic, enlarged, original)]
    width, height = panels[0].size
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number * (width + GAP), 0))
    return sheet


def main() -> int:
    """The picture is written."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    four_panels().save(PICTURE, optimize=True)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
