"""Which tiles are faster than the whole, by arithmetic; and that they are what `tile` would have been."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import Upscaler
from deploy.families.idm.model import IdmModel
from deploy.families.model import Growth
from deploy.families.pixel_unet.config import UnetConfig
from deploy.images.sizes import Size
from deploy.images.tiles import Tiling, whole_tiling
from deploy.picture.faster_tiles import fastest_tile, work_of
from deploy.picture.layout import WHOLE
from deploy.sampling.choices import Choices
from tests.deploy.folders.pictures import enlarged, states

PACKAGED = UnetConfig(
    inner_channel=32, channel_multiplier=(1, 2, 4, 4), attn_res=(8,), image_size=64, res_blocks=1, norm_groups=16
)
PICTURE = np.random.default_rng(7).integers(0, 256, (18, 24, 3), np.uint8)
SIZE = Size(72, 96)
SOON = Growth(doubled_at=2000.0, least_side=32)
"""Of a network whose attention takes as much as all else at 45 x 45."""


def test_attention_is_weighed_by_the_multiplications_of_both() -> None:
    """72 c^2 for the blocks of a level: 32^2 + 64^2/4 + 128^2/16 + 128^2/64 = 3328. Four attentions of 128 channels, of
    a 64th of the pixels in each direction; the published network has five of 512, and one of a 256th."""
    assert PACKAGED.pixels_of_equal_attention == pytest.approx(72 * 3328 / (1.6 * 4 * 2 * 128 / 4096))
    attention = 5 * 2 * 512 / 64**2 + 2 * 512 / 256**2
    assert UnetConfig().pixels_of_equal_attention == pytest.approx(117 * 17408 / (1.6 * attention))


@pytest.mark.parametrize(
    ("size", "tile", "tiles"),
    [
        ((512, 512), None, 1),  # four tiles of 288 are 1.27 times the pixels, at 1.14 instead of 1.44
        ((640, 640), None, 1),  # 1.46 instead of 1.68: a ninth less is not worth it
        ((768, 768), 416, 4),
        ((1024, 1024), 384, 9),
        ((768, 512), None, 1),
        ((512, 1024), 544, 2),  # in one direction alone
        ((2048, 2048), 464, 25),  # 36 of 400 would be as fast
    ],
)
def test_tiles_are_taken_where_they_are_faster_by_more_than_a_little(
    size: tuple[int, int], tile: int | None, tiles: int
) -> None:
    growth = Growth(doubled_at=PACKAGED.pixels_of_equal_attention, least_side=256)
    found = fastest_tile(Size(*size), 8, growth)
    tiling = whole_tiling(Size(*size), 8) if found is None else Tiling(size=Size(*size), tile=found, stride=8)
    assert (found, len(tiling)) == (tile, tiles)


def test_work_is_that_of_all_pixels_of_all_tiles() -> None:
    """Four tiles of 416: 4 * 416^2 pixels, at 1 + 416^2 / 600 000 each."""
    growth = Growth(doubled_at=600_000.0, least_side=256)
    work = work_of(Tiling(size=Size(768, 768), tile=416, stride=8), growth)
    assert work == pytest.approx(4 * 416**2 * (1 + 416**2 / 600_000))


def test_a_picture_in_faster_tiles_is_that_of_tiles_asked_for(up: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    assert up.work(Size(18, 24), SIZE, up.sampling(Choices(start=0.5))).tile is None  # too small
    monkeypatch.setattr(IdmModel, "growth", SOON)
    tile = fastest_tile(SIZE, up.session.model.stride, SOON)
    assert tile is not None

    def made(tile: int | None, start: float | None = 0.5) -> np.ndarray:
        return up.upscale(PICTURE, 4, "ddim", 2, start, tile=tile)

    assert np.array_equal(made(None), made(tile)) and not np.array_equal(made(None), made(WHOLE))
    assert np.array_equal(up.upscale([PICTURE] * 2, 4, "ddim", 2, 0.5)[1], made(tile))
    sampling, from_noise = (up.sampling(choices) for choices in (Choices(start=0.5), Choices(published=True, steps=2)))
    work = up.work(Size(18, 24), SIZE, sampling)
    assert work.for_speed and work.tile == tile
    assert up.work(Size(18, 24), SIZE, from_noise).tile is None  # tiles would be another picture
    assert up.work(Size(18, 24), SIZE, sampling, WHOLE).tile is None


def test_on_a_gpu_pictures_are_whole(up: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    model = up.session.model
    assert model.growth is not None
    monkeypatch.setattr(type(model.graphs.choice), "record", type("OnGpu", (), {"on_gpu": True}))
    assert model.growth is None


def test_a_folder_takes_whole_pictures_and_faster_tiles_unless_it_is_said(
    up: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "in" / "large.png")
    Image.fromarray(PICTURE[:4, :4]).save(tmp_path / "in" / "small.png")

    def run(tile: int | None = None) -> dict[str, str]:
        found = enlarged(up, tmp_path / "in", tmp_path / "out", scale=4, choices=Choices(start=0.5), tile=tile)
        return {name.removesuffix("_x4.png"): state for name, state in states(found).items()}

    assert run() == {"large": "made", "small": "made"}  # before this version, or on a GPU
    monkeypatch.setattr(IdmModel, "growth", SOON)
    assert run() == {"large": "skipped", "small": "skipped"}  # a whole picture is as good
    (tmp_path / "out" / "large_x4.png").unlink()
    assert run() == {"large": "made", "small": "skipped"}
    assert run() == {"large": "skipped", "small": "skipped"}
    in_tiles = (tmp_path / "out" / "large_x4.png").read_bytes()
    assert run(WHOLE) == {"large": "made", "small": "skipped"}
    assert (tmp_path / "out" / "large_x4.png").read_bytes() != in_tiles
    assert run(WHOLE) == {"large": "skipped", "small": "skipped"}
    assert run(32) == {"large": "made", "small": "made"}
    assert run() == {"large": "made", "small": "made"}
    # The record may be lost: the notes tell the same.
    for file in (tmp_path / "out" / ".idm-deploy").glob("record*"):
        file.unlink()
    assert run() == {"large": "skipped", "small": "skipped"}
    for file in (tmp_path / "out" / ".idm-deploy").glob("record*"):
        file.unlink()
    assert run(WHOLE) == {"large": "made", "small": "skipped"}
