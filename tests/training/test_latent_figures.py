"""The figures of the latent demo model's auto-encoder on one held-out crop."""

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from deploy.checkpoint.load import load_checkpoint
from deploy.images.files import read_image, write_image
from deploy.measure.metrics import consistency_between_scales, psnr
from deploy.packaged.places import LATENT_CHECKPOINT, SAMPLE_ORIGINALS
from training.latent_figures import app, decodings, latent_figures

CROP = read_image(SAMPLE_ORIGINALS / "coffee.png").pixels[108:172, 39:103]


def test_one_latent_is_decoded_at_three_sizes() -> None:
    decoded = decodings(load_checkpoint(LATENT_CHECKPOINT).network, CROP)
    assert {scale: picture.shape[:2] for scale, picture in decoded.items()} == {2: (32, 32), 4: (64, 64), 8: (128, 128)}
    figures = latent_figures(LATENT_CHECKPOINT, [CROP])
    assert figures["reconstruction"] == [psnr(decoded[4], CROP)]
    assert figures["8x against 2x"] == [consistency_between_scales(decoded[8], decoded[2])]
    # The goals for the whole set, 28 dB and 35 dB, with room for what one crop differs by.
    assert figures["reconstruction"][0] > 25
    assert min(value for name, (value,) in figures.items() if name != "reconstruction") > 35


def test_the_command_prints_every_figure(tmp_path: Path) -> None:
    write_image(np.ascontiguousarray(CROP[:48, :32]), tmp_path / "crop.png")
    result = CliRunner().invoke(app, [str(tmp_path), "--threads", "1"])
    assert result.exit_code == 0, result.output
    names = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert names == ["reconstruction", "4x against 2x", "8x against 2x", "8x against 4x"]
