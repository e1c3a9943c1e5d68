"""The measured noise: of a network whose answer is known, kept in a bundle, and asked for by the equation."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle, BundleWriter
from deploy.cli.main import app
from deploy.errors import PlanError
from deploy.families.idm.model import SAMPLING, VALUES
from deploy.images.files import write_image
from deploy.picture.schedule.measuring import KnownPicture, measure_noise, measured_noise_of
from deploy.picture.upscaler import Upscaler
from deploy.sampling.plan import MeasuredNoise
from deploy.sampling.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


class Shrinks:
    """Predicts the noise that is there, times the noise level."""

    values, sampling, generates = VALUES, SAMPLING, False

    def rows(self, rows: Any) -> Any:
        return tuple(rows)

    def subject(self, lr: Any, size: Any, _posterior: Any) -> Any:
        shape = (1, 3, *size)
        return SimpleNamespace(
            state_shape=shape, condition=lambda _: {"lr": lr}, first_guess=lambda rows: lr[:, :, rows]
        )

    def predict(self, x: Any, _condition: Any, row: Any) -> Any:
        original = np.moveaxis(VALUES.levels[PIXELS], -1, 0)
        return row.noise_level * (x - np.float32(row.noise_level) * original) / row.sigma


def test_the_mean_square_of_a_network_that_is_known() -> None:
    pictures = [KnownPicture(lr=PIXELS[::4, ::4].copy(), original=PIXELS)]
    noise = measure_noise(Shrinks(), SCHEDULE, pictures, seed=0, progress=lambda *_: None)  # type: ignore[arg-type]
    assert 35 <= len(noise.noise_levels) <= 40
    # 3072 normal numbers: the mean of their squares is 1 within 4 times sqrt(2/3072).
    np.testing.assert_allclose(noise.mean_squares, np.square(noise.noise_levels), rtol=0.1)
    with pytest.raises(PlanError, match="measured on pictures whose originals are known, and there are none"):
        measure_noise(Shrinks(), SCHEDULE, [], seed=0, progress=lambda *_: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("levels", "squares"),
    [((), ()), ((0.5, 0.2), (1.0, 1.0)), ((0.5,), (1.0, 1.0)), ((0.2, 1.0), (1.0, 1.0)), ((0.5,), (-1.0,))],
)
def test_measurements_that_cannot_be_are_refused(levels: tuple[float, ...], squares: tuple[float, ...]) -> None:
    with pytest.raises(PlanError, match="needs rising levels between 0 and 1 with a mean square each"):
        MeasuredNoise(noise_levels=levels, mean_squares=squares)


def test_schedule_measures_and_the_equation_is_refused_before(
    idm_micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = Bundle.open(shutil.copytree(idm_micro.path, tmp_path / "micro.bundle"))
    assert measured_noise_of(bundle) is None
    with (
        Upscaler(bundle, threads=1) as upscaler,
        pytest.raises(PlanError, match="run `idm-deploy schedule --equation analytic-dpm`"),
    ):
        upscaler.upscale(PIXELS[:4, :4], scale=2.0, equation="analytic-dpm", steps=2)
    (tmp_path / "mine").mkdir()
    write_image(PIXELS[:24, :24], tmp_path / "mine" / "a.png")
    asked = ["schedule", "--equation", "analytic-dpm", "--scale", "2", "--threads", "1", "--originals", "mine"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "analytic-dpm: the predicted noise, measured on 1 picture at" in done.output
    measured = Bundle.open(bundle.path)
    noise = measured_noise_of(measured)
    assert noise is not None and all(0 < square < 10 for square in noise.mean_squares)
    assert measured.manifest.presets == bundle.manifest.presets
    with Upscaler(measured, threads=1) as upscaler:
        assert upscaler.upscale(PIXELS[:4, :4], scale=2.0, equation="analytic-dpm", steps=2).shape == (8, 8, 3)
    with BundleWriter.update(measured) as writer:
        tables = {"mean_square_noise": writer.add_array("mean-square-noise", np.zeros(3))}
        broken = writer.commit(replace(measured.manifest, tables=tables))
    with pytest.raises(PlanError, match=r"table mean_square_noise has shape \(3,\), expected a level"):
        measured_noise_of(broken)
