"""How large the noise is that a network predicts, level by level: what the variance of `analytic-dpm` rests on.

Pictures whose originals are known are noised to some levels, and the mean square of the prediction is taken. The less
of the noise a network can tell from the picture, the smaller it is than 1, and the more a step has to add.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle, BundleWriter
from deploy.errors import PlanError
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.images.values import network_from_pixels
from deploy.sampling.noise import image_key
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.plan import MeasuredNoise, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule

Pixels = NDArray[np.uint8]

TABLE = "mean_square_noise"
"""The bundle's table: a row per level, noise level and mean square."""

LEVELS = 20
"""Placed uniformly in time, and as many in log-SNR."""

PICTURES = 8
"""More change nothing that is seen: each is a mean over all of its numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownPicture:
    """A low-resolution picture and its original, 8 bits (height, width, 3)."""

    lr: Pixels
    original: Pixels


def measure_noise(
    model: Model,
    schedule: NoiseSchedule,
    pictures: Sequence[KnownPicture],
    *,
    seed: int,
    progress: Callable[[str, float], None],
) -> MeasuredNoise:
    """The mean square of the predicted noise at LEVELS levels and as many others, over all pictures."""
    if model.generates or not pictures:
        raise PlanError("The predicted noise is measured on pictures whose originals are known, and there are none.")
    levels = {
        row.noise_level
        for placement in ("uniform", "logsnr")
        for row in make_plan(schedule, PlanSettings(steps=LEVELS, placement=placement), rules=model.sampling).rows
    }
    placed = PlanSettings(steps=len(levels), placement=tuple(sorted(levels)))
    rows = model.rows(make_plan(schedule, placed, rules=model.sampling).rows)
    squares = np.zeros(len(rows))
    for number, picture in enumerate(pictures):
        progress("measuring the predicted noise", number / len(pictures))
        squares += _mean_squares(model, picture, rows, seed)
    means = tuple(float(square) for square in squares / len(pictures))
    return MeasuredNoise(noise_levels=tuple(row.noise_level for row in rows), mean_squares=means)


def _mean_squares(model: Model, picture: KnownPicture, rows: Sequence[PlanRow], seed: int) -> NDArray[np.float64]:
    """Of one picture at every level, with noise of its own at each."""
    noise = NoiseSource(seed=seed, sample=0, images=[image_key(picture.original)])
    lr, original = (network_from_pixels(pixels, model.values)[None] for pixels in (picture.lr, picture.original))
    size = Size.of(picture.original)
    subject = model.subject(lr, size, noise.posterior)
    shape = subject.state_shape
    whole = slice(0, shape[2])
    condition = subject.condition(Window.whole(Size(*shape[2:])))
    # Enlarged to its own size, the original is the state that a run should end in.
    state = model.subject(original, size, noise.posterior).first_guess(whole)
    found = []
    for index, row in enumerate(rows):
        x = np.float32(row.noise_level) * state + np.float32(row.sigma) * noise.rows(shape, index, whole)
        predicted = model.predict(np.ascontiguousarray(x, np.float32), condition, row)
        found.append(float(np.square(predicted, dtype=np.float64).mean()))
    return np.array(found)


def with_measured_noise(bundle: Bundle, measured: MeasuredNoise) -> Bundle:
    """The bundle, updated in place, with what was measured."""
    table = np.array([measured.noise_levels, measured.mean_squares], np.float64).T
    with BundleWriter.update(bundle) as writer:
        tables = {**bundle.manifest.tables, TABLE: writer.add_array("mean-square-noise", table)}
        return writer.commit(replace(bundle.manifest, tables=tables))


def measured_noise_of(bundle: Bundle) -> MeasuredNoise | None:
    """What `schedule` measured of the bundle's network; None if it did not."""
    if TABLE not in bundle.manifest.tables:
        return None
    table = bundle.table(TABLE)
    if table.ndim != 2 or table.shape[1] != 2:
        raise PlanError(
            f"{bundle.path}: table {TABLE} has shape {table.shape}, expected a level and a mean square a row."
        )
    levels, squares = (tuple(float(value) for value in column) for column in table.T)
    return MeasuredNoise(noise_levels=levels, mean_squares=squares)
