"""How the packaged pictures, presets and bundle were made: `python -m training.packing`.

The pictures are cut by rule: calibration from photographs inside scikit-image and scikit-learn that training saw,
samples from those that it did not see, evaluation from these and nine more (`training.held_out`). Running it again
gives the same bytes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.bundle.reading import sha256_of_file
from deploy.images.files import encode_image
from deploy.measure.evaluation.originals import low_resolution
from deploy.packaged.places import (
    CALIBRATION_IMAGES,
    EVALUATION_IMAGES,
    IDM_BUNDLE,
    IDM_CHECKPOINT,
    LATENT_CHECKPOINT,
    SAMPLE_IMAGES,
    SAMPLE_ORIGINALS,
)
from deploy.packaged.presets import presets_of, presets_place
from training.held_out import WALLPAPER_FOLDER, held_out_pictures
from training.photographs import PHOTOGRAPHS, Photograph, read_photograph, reductions

Pixels = NDArray[np.uint8]

app = typer.Typer(help="Make the packaged pictures, presets or bundle again.", no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Square crops of one photograph, `rows` x `columns` of them evenly spaced from border to border."""

    photograph: str
    rows: int
    columns: int
    side: int
    reduction: float = 1.0
    box: tuple[int, int, int, int] | None = None
    """Top, left, bottom and right of the part that the grid covers, where the rest is out of focus."""

    def crops(self) -> dict[str, Pixels]:
        """Every crop under its file name."""
        picture = reductions(read_photograph(photograph_named(self.photograph)), (self.reduction,), self.side)[0]
        if self.box is not None:
            picture = picture[self.box[0] : self.box[2], self.box[1] : self.box[3]]
        height, width = picture.shape[:2]
        cut = {}
        for row, top in enumerate(_starts(height - self.side, self.rows)):
            for column, left in enumerate(_starts(width - self.side, self.columns)):
                name = f"{self.photograph}-{row}{column}.png"
                cut[name] = picture[top : top + self.side, left : left + self.side]
        return cut


CALIBRATION = (
    Grid(photograph="astronaut", rows=2, columns=2, side=144),
    Grid(photograph="rocket", rows=1, columns=2, side=144, reduction=2.0),
    Grid(photograph="china", rows=1, columns=4, side=144, box=(130, 0, 427, 640)),
    Grid(photograph="immunohistochemistry", rows=1, columns=1, side=144),
    Grid(photograph="hubble_deep_field", rows=1, columns=1, side=144, reduction=2.0),
    Grid(photograph="retina", rows=1, columns=1, side=144, reduction=4.0),
    Grid(photograph="brick", rows=1, columns=1, side=144),
    Grid(photograph="grass", rows=1, columns=1, side=144, reduction=2.0),
    Grid(photograph="camera", rows=1, columns=1, side=144, reduction=2.0),
)
"""16 crops of photographs that training saw, some reduced first: full resolution shows little of them in 144 pixels."""

SAMPLES = {"chelsea": (22, 110), "coffee": (60, 150), "flower": (60, 190)}
"""Top and left of the 256-pixel originals whose 64-pixel reductions are the sample pictures."""
SAMPLE_SIDE, SAMPLE_SCALE = 256, 4


def photograph_named(name: str) -> Photograph:
    """The photograph of that name."""
    return next(photograph for photograph in PHOTOGRAPHS if photograph.name == name)


def calibration_pictures() -> dict[str, Pixels]:
    """The calibration pictures by file name."""
    return {name: crop for grid in CALIBRATION for name, crop in grid.crops().items()}


def sample_originals() -> dict[str, Pixels]:
    """The originals of the samples by file name."""
    cut = {}
    for name, (top, left) in SAMPLES.items():
        picture = read_photograph(photograph_named(name))
        cut[f"{name}.png"] = picture[top : top + SAMPLE_SIDE, left : left + SAMPLE_SIDE]
    return cut


def sample_pictures() -> dict[str, Pixels]:
    """The low-resolution sample pictures by file name."""
    side = SAMPLE_SIDE // SAMPLE_SCALE
    return {name: low_resolution(original, (side, side)) for name, original in sample_originals().items()}


@app.command()
def pictures(
    wallpapers: Path = typer.Option(WALLPAPER_FOLDER, help="Folder with the nine photographs that no wheel carries."),
) -> None:
    """Write the evaluation, calibration and sample pictures to their places in the package."""
    places = (
        (EVALUATION_IMAGES, held_out_pictures(wallpapers)),
        (CALIBRATION_IMAGES, calibration_pictures()),
        (SAMPLE_IMAGES, sample_pictures()),
        (SAMPLE_ORIGINALS, sample_originals()),
    )
    for folder, made in places:
        folder.mkdir(parents=True, exist_ok=True)
        for old in set(folder.glob("*.png")) - {folder / name for name in made}:
            old.unlink()
        for name, pixels in made.items():
            (folder / name).write_bytes(encode_image(pixels, "PNG"))
        typer.echo(f"{folder}: {len(made)} pictures")


@app.command()
def bundle(
    checkpoint: Path = typer.Argument(IDM_CHECKPOINT, help="A packaged checkpoint; the latent one has no bundle here."),
    output: Path = typer.Option(IDM_BUNDLE, "--output", "-o", help="The bundle's folder."),
) -> None:
    """Export a demo checkpoint, the weights in two bytes where that loses nothing."""
    from deploy.checkpoint.load import load_checkpoint
    from deploy.export.export import export_bundle

    samples = [SAMPLE_IMAGES / f"{name}.png" for name in SAMPLES]
    output.parent.mkdir(parents=True, exist_ok=True)
    made = export_bundle(load_checkpoint(checkpoint), output, samples=samples, compact=True, force=True)
    typer.echo(f"{made.path}: {sum(record.bytes for record in made.manifest.files.values()) / 1e6:.1f} MB")


@app.command()
def presets(
    scheduled: Path = typer.Argument(help="A float bundle of a packaged checkpoint, in which `schedule` chose."),
) -> None:
    """Write a bundle's presets and fitted rows beside the packaged checkpoint that it was made of."""
    manifest = Bundle.open(scheduled).manifest
    checkpoint = next(
        (place for place in (IDM_CHECKPOINT, LATENT_CHECKPOINT) if sha256_of_file(place) == manifest.source.sha256),
        None,
    )
    if checkpoint is None:
        raise typer.BadParameter(f"{scheduled} was made of {manifest.source.file}, which is not packaged.")
    coded = sorted(name for name, equation in (manifest.fitted or {}).items() if equation.fitted_to.int8_target)
    if coded:
        raise typer.BadParameter(f"{', '.join(coded)} of {scheduled} fit int8 graphs alone; fit rows in float.")
    written = json.dumps(presets_of(manifest), indent=1, sort_keys=True) + "\n"
    presets_place(checkpoint).write_text(written)
    typer.echo(f"{presets_place(checkpoint)}: {', '.join(manifest.presets)}")


def _starts(last: int, count: int) -> list[int]:
    """`count` evenly spaced places from 0 to `last`; a single one lies in the middle."""
    if count == 1:
        return [last // 2]
    return [round(index * last / (count - 1)) for index in range(count)]


if __name__ == "__main__":
    app()
