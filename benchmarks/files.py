"""What becomes of pictures between file and file: `python -m benchmarks.files [PART ..]`.

    writers   12 000 x 9 000 pixels of 16 bits from synthetic rows into PNG and TIFF: seconds, bytes, peak memory
    colour    --color-fix: PSNR, LR consistency and drift of colours, on the calibration photographs (which decide the
              default) and on the held-out ones
    grounds   a white disc on transparency, enlarged and laid over black, grey and white
    cutouts   photographs cut out by masks: alpha enlarged by bicubic and by the network, PSNR of alpha and of the
              picture on black and on white
    patches   saturated patches of Display P3, enlarged, as CIEDE2000

The packaged model at 4x, two threads or as many as --threads says; --bundle takes another.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deploy.bundle import Bundle
from deploy.cli.tables import text_from_cells
from deploy.images.colour_fix import WAYS
from deploy.images.files import read_image
from deploy.images.formats.contract import Outline
from deploy.images.formats.table import FORMATS
from deploy.images.picture import Origin, Picture
from deploy.images.resize import downscale
from deploy.images.sizes import Size
from deploy.images.transfer import linear_from_srgb, srgb_from_linear
from deploy.images.view import View
from deploy.images.writing import write_picture
from deploy.measure.benchmark.start_up import peak_bytes
from deploy.measure.metrics import lr_consistency, psnr
from deploy.packaged.places import CALIBRATION_IMAGES, EVALUATION_IMAGES, IDM_BUNDLE
from deploy.picture.enlarged import samples_of_batch
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.deploy.images.profiles import display_p3

SIZE = (12_000, 9_000)
SCALE = 4
ORIGIN = Origin(format="png", mode="RGB", bits=8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables that were asked for; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["writers", "colour", "grounds", "cutouts", "patches", []])
    parser.add_argument("--write", help=argparse.SUPPRESS)  # in a process of its own: the format
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--bundle", type=Path, default=IDM_BUNDLE)
    parser.add_argument("--presets", nargs="*", default=["draft", "balanced"])
    parser.add_argument("--pictures", type=int, default=None, help="only so many of each set")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args(arguments)
    if options.write:
        print(*written_here(options.write, Size.from_user(options.size)))
        return 0
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "writers": print_writers,
        "colour": print_colour,
        "grounds": print_grounds,
        "cutouts": print_cut_outs,
        "patches": print_patches,
    }
    for name in options.parts or list(parts):
        parts[name](options)
    return 0


def written_here(name: str, size: Size) -> tuple[float, int, int]:
    """Seconds, bytes of the file, and peak memory of this process in MiB."""
    began = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{name}"
        write_picture(path, FORMATS[name], Outline(size=size, bits=16), synthetic_rows(size))
        taken, length = perf_counter() - began, path.stat().st_size
    return taken, length, peak_bytes() // 1024 // 1024


def synthetic_rows(size: Size) -> Iterator[NDArray[np.uint16]]:
    """Blocks of 64 rows: waves with some noise, different in each channel."""
    height, width = size
    columns = np.arange(width, dtype=np.float32)[None, :, None] / 700 + np.arange(3, dtype=np.float32)
    rng = np.random.default_rng(0)
    for top in range(0, height, 64):
        rows = np.arange(top, min(top + 64, height), dtype=np.float32)[:, None, None] / 500
        wave = (np.sin(columns) * np.cos(rows) + 1) * 30_000
        yield (wave + rng.integers(0, 64, wave.shape, np.uint16)).astype(np.uint16)


def print_writers(options: argparse.Namespace) -> None:
    """Each in a process of its own, whose peak is the writer's with Python and NumPy."""
    width, height = options.size
    cells = [["format", "seconds", "file, MB", "peak memory, MiB"]]
    for name in ("png", "tiff"):
        command = [sys.executable, "-m", "benchmarks.files", "--write", name, "--size", str(width), str(height)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, length, peak = done.stdout.split()
        cells.append([FORMATS[name].title, f"{float(seconds):.0f}", f"{int(length) / 1e6:.0f}", peak])
    pixels = width * height * 6 / 1e6
    print(f"\n{width} x {height} pixels of 16 bits, RGB, {pixels:.0f} MB of samples\n\n{text_from_cells(None, cells)}")


def print_colour(options: argparse.Namespace) -> None:
    """Per set, preset and way: means over the pictures."""
    with Upscaler(Bundle.open(options.bundle), threads=options.threads) as upscaler:
        for folder, title in ((CALIBRATION_IMAGES, "calibration"), (EVALUATION_IMAGES, "held out")):
            paths = sorted(folder.glob("*.png"))[: options.pictures]
            cells = [["preset", "color_fix", "PSNR", "LR consistency", "drift, CIEDE2000", "seconds of the fix"]]
            for preset in options.presets:
                rows = np.array([measured_fixes(upscaler, path, preset) for path in paths]).mean(axis=0)
                for way, (db, consistency, drift, seconds) in zip(WAYS, rows, strict=True):
                    cells.append([preset, way, f"{db:.2f}", f"{consistency:.2f}", f"{drift:.3f}", f"{seconds:.3f}"])
            print(f"\n{title}: {len(paths)} pictures, {SCALE}x\n\n{text_from_cells(None, cells)}")


def measured_fixes(upscaler: Upscaler, path: Path, preset: str) -> list[tuple[float, float, float, float]]:
    """PSNR, LR consistency, drift and seconds for each way, of one run of the network."""
    original = read_image(path).pixels
    lr_size = Size(*(side // SCALE for side in original.shape[:2]))
    size = Size(SCALE * lr_size.height, SCALE * lr_size.width)
    original = original[: size.height, : size.width]
    small = downscale(original.astype(np.float32).transpose(2, 0, 1), lr_size)
    lr = np.rint(np.clip(small, 0, 255)).astype(np.uint8).transpose(1, 2, 0).copy()
    choices = Choices(preset=preset)
    found = []
    with upscaler.sampled(lr, size, upscaler.sampling(choices)) as sampled:
        for way in WAYS:
            view = View(Picture(colour=lr, origin=ORIGIN), color_fix=way)
            began = perf_counter()
            (made,) = samples_of_batch(sampled, [view])
            seconds = perf_counter() - began
            found.append((psnr(made, original), lr_consistency(made, lr), drift(made, original), seconds))
    return [(*row[:3], row[3] - found[0][3]) for row in found]


def drift(made: NDArray[np.uint8], original: NDArray[np.uint8]) -> float:
    """Mean CIEDE2000 between means of light over 16x16 pixels: what is wrong in colour rather than in detail."""
    from skimage.color import deltaE_ciede2000, xyz2lab

    def blocks(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        rows, columns = (side // 16 for side in pixels.shape[:2])
        light = linear_from_srgb(pixels[: rows * 16, : columns * 16] / 255.0)
        return light.reshape(rows, 16, columns, 16, 3).mean(axis=(1, 3))

    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    return float(np.mean(deltaE_ciede2000(*(xyz2lab(blocks(one) @ matrix.T) for one in (made, original)))))


def print_grounds(options: argparse.Namespace) -> None:
    """Levels from white wherever alpha is above 0, with the way around the network alone and with the network."""
    rows, columns = np.mgrid[:32, :32] - 15.5
    alpha = np.rint(255 * np.clip(11 - np.hypot(rows, columns), 0, 1)).astype(np.uint8)
    colour = np.where(alpha[:, :, None] > 0, np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    view = View(Picture(colour=colour, alpha=alpha, origin=ORIGIN))
    size = Size.square(32 * SCALE)
    cells = [["network", "colour, at most", "in the mean", "laid on black, grey or white, at most"]]
    perfect = np.ones((*size, 3), np.float32)
    results = {"one that returns its input": np.concatenate(list(view.samples(iter([perfect]), size, 8)))}
    with Upscaler(Bundle.open(options.bundle), threads=options.threads) as upscaler:
        for preset in options.presets:
            with upscaler.enlarged(view, size, upscaler.sampling(Choices(preset=preset))) as enlarged:
                results[f"packaged, {preset}"] = np.concatenate(list(enlarged.rows()))
    for name, made in results.items():
        shown = made.astype(float)
        share, light = shown[:, :, 3:] / 255, shown[:, :, :3]
        seen = light[shown[:, :, 3] > 0]
        laid = np.abs(share * (light - 255)).max()  # of the same alpha, so that the ground cancels
        cells.append([name, f"{255 - seen.min():.0f}", f"{255 - seen.mean():.2f}", f"{laid:.1f}"])
    print(f"\na white disc, levels of 255 away from white wherever alpha is above 0\n\n{text_from_cells(None, cells)}")


class CutOut(NamedTuple):
    """How near an enlarged cut-out comes to the photograph as it was cut, in dB of PSNR."""

    alpha_db: float
    on_black_db: float
    on_white_db: float


def print_cut_outs(options: argparse.Namespace) -> None:
    """Means over the first crop of each held-out photograph, per mask and over all."""
    paths = sorted(EVALUATION_IMAGES.glob("*1.png"))[: options.pictures]
    cells = [["preset", "mask", "alpha by", "alpha", "on black", "on white"]]
    with Upscaler(Bundle.open(options.bundle), threads=options.threads) as upscaler:
        for preset in options.presets:
            found: dict[str, list[tuple[CutOut, CutOut]]] = {}
            for path in paths:
                for name, pair in measured_cut_outs(upscaler, preset, cut_outs(128), path).items():
                    found.setdefault(name, []).append(pair)
            found["all"] = [pair for pairs in found.values() for pair in pairs]
            for name, pairs in found.items():
                for way, figures in zip(("bicubic", "network"), np.array(pairs).mean(axis=0), strict=True):
                    cells.append([preset, name, way, *(f"{figure:.2f}" for figure in figures)])
    print(f"\ncut-outs of {len(paths)} photographs, {SCALE}x, PSNR in dB\n\n{text_from_cells(None, cells)}")


def cut_outs(side: int) -> dict[str, NDArray[np.float32]]:
    """Masks (side, side) from 0 to 1, each pixel the mean of 8x8: hard edges, thin lines, letters, a soft shadow."""
    fine = 8 * side
    rng = np.random.default_rng(3)

    def disc(draw: ImageDraw.ImageDraw) -> None:
        draw.ellipse([fine * 0.15, fine * 0.1, fine * 0.85, fine * 0.9], fill=255)

    def star(draw: ImageDraw.ImageDraw) -> None:
        points = [(0.2 + 0.25 * (number % 2), number * np.pi / 9) for number in range(18)]
        draw.polygon([(fine * (0.5 + r * np.cos(t)), fine * (0.5 + r * np.sin(t))) for r, t in points], fill=255)

    def hair(draw: ImageDraw.ImageDraw) -> None:
        for left in rng.uniform(0, 1, 26):
            line = [(fine * (left + rng.uniform(-0.03, 0.03)), fine * row / 8) for row in range(9)]
            draw.line(line, fill=255, width=int(rng.uniform(6, 26)))

    def letters(draw: ImageDraw.ImageDraw) -> None:
        font = ImageFont.load_default(fine // 4)
        for row, text in enumerate(("Alpha", "Rgb@", "12 xy")):
            draw.text((fine * 0.04, fine * (0.03 + 0.32 * row)), text, fill=255, font=font)

    def shadow(draw: ImageDraw.ImageDraw) -> None:
        for level in range(64):
            reach = fine * (0.45 - 0.003 * level)
            draw.ellipse([fine / 2 - reach, fine / 2 - reach, fine / 2 + reach, fine / 2 + reach], fill=4 * level)

    masks = {}
    for paint in (disc, star, hair, letters, shadow):
        image = Image.new("L", (fine, fine))
        paint(ImageDraw.Draw(image))
        small = image.resize((side, side), Image.Resampling.BOX)
        masks[paint.__name__] = np.asarray(small, np.float32) / np.float32(255)
    return masks


def measured_cut_outs(
    upscaler: Upscaler, preset: str, masks: dict[str, NDArray[np.float32]], path: Path
) -> dict[str, tuple[CutOut, CutOut]]:
    """For each mask what bicubic and what the network make of its alpha, under the same colours."""
    original = read_image(path).pixels / np.float32(255)
    found = {}
    for name, mask in masks.items():
        size = Size.of(mask)
        lr = Size(size.height // SCALE, size.width // SCALE)
        light = linear_from_srgb(original[: size.height, : size.width])
        alpha = np.clip(downscale(mask[None], lr)[0], 0, 1)
        mixed = downscale((light * mask[:, :, None]).transpose(2, 0, 1), lr).transpose(1, 2, 0)
        colour = srgb_from_linear(np.clip(mixed / np.maximum(alpha, 1e-3)[:, :, None], 0, 1))
        small = [np.rint(255 * values).astype(np.uint8) for values in (colour, alpha)]
        view = View(Picture(colour=small[0], alpha=small[1], origin=ORIGIN))
        with upscaler.enlarged(view, size, upscaler.sampling(Choices(preset=preset))) as enlarged:
            sampled = enlarged.sampled
            rows = np.concatenate([block[0] for block in sampled.unit_rows()])
            ways = [np.concatenate(list(view.samples(iter([rows]), size, 8, way))) for way in (None, sampled.alpha(0))]
        found[name] = (_cut_out(ways[0], light, mask), _cut_out(ways[1], light, mask))
    return found


def _cut_out(made: NDArray[np.uint8], light: NDArray[np.floating], mask: NDArray[np.float32]) -> CutOut:
    share = made[:, :, 3:] / np.float32(255)
    grounds = []
    for ground in (0, 1):
        shown, wanted = (
            np.rint(255 * srgb_from_linear(one * alpha + ground * (1 - alpha))).astype(np.uint8)
            for one, alpha in ((linear_from_srgb(made[:, :, :3] / np.float32(255)), share), (light, mask[:, :, None]))
        )
        grounds.append(psnr(shown, wanted))
    return CutOut(psnr(made[:, :, 3], np.rint(255 * mask).astype(np.uint8)), *grounds)


def print_patches(options: argparse.Namespace) -> None:
    """CIEDE2000 between each patch and the mean of its result's middle."""
    from skimage.color import deltaE_ciede2000, xyz2lab

    to_xyz = np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0, 0.0451134, 1.0439444]])

    def lab(values: NDArray[np.floating]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = xyz2lab(linear_from_srgb(values / 255.0) @ to_xyz.T)
        return found

    patches = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [230, 20, 200], [128, 128, 128]], float)
    cells = [["patch in P3", *(f"packaged, {preset}" for preset in options.presets)]]
    rows = [[" ".join(f"{value:.0f}" for value in patch)] for patch in patches]
    with Upscaler(Bundle.open(options.bundle), threads=options.threads) as upscaler:
        for preset in options.presets:
            for row, patch in zip(rows, patches, strict=True):
                colour = np.broadcast_to(patch.astype(np.uint8), (24, 24, 3)).copy()
                view = View(Picture(colour=colour, profile=display_p3(), origin=ORIGIN))
                size = Size.square(24 * SCALE)
                with upscaler.enlarged(view, size, upscaler.sampling(Choices(preset=preset))) as enlarged:
                    made = np.concatenate(list(enlarged.rows(16)))[16:-16, 16:-16] / 257.0
                light = linear_from_srgb(made / 255).mean(axis=(0, 1)) @ to_xyz.T
                row.append(f"{float(deltaE_ciede2000(xyz2lab(light[None]), lab(patch[None]))[0]):.2f}")
    print(f"\nsaturated patches of Display P3, CIEDE2000 of the mean\n\n{text_from_cells(None, cells + rows)}")


if __name__ == "__main__":
    sys.exit(main())
