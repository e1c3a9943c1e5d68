"""Where random numbers come from."""

from typing import Any

import numpy as np
import pytest

from deploy.errors import PlanError
from deploy.sampling.noise import normal_field
from deploy.sampling.noise_source import NoiseSource

SHAPE = (2, 3, 6, 9)


def test_a_batch_has_each_pictures_own_field_whatever_the_rows() -> None:
    source = NoiseSource(seed=7, sample=1, images=[5, 6])
    made = np.concatenate([source.rows(SHAPE, 2, slice(0, 4)), source.rows(SHAPE, 2, slice(4, 6))], axis=2)
    for index, image in enumerate((5, 6)):
        expected = normal_field(seed=7, image=image, sample=1, step=2, channels=3, rows=range(6), columns=range(9))
        np.testing.assert_array_equal(made[index], expected)


def test_a_callable_is_asked_once_per_step_and_draw() -> None:
    asked: list[tuple[Any, int]] = []

    def custom(shape: tuple[int, ...], step_index: int) -> Any:
        asked.append((shape, step_index))
        return np.full(shape, step_index, np.float32)

    source = NoiseSource(seed=0, sample=0, images=[1, 2], custom=custom)
    assert (source.rows(SHAPE, -1, slice(0, 3)) == -1).all() and source.rows(SHAPE, -1, slice(3, 6)).shape[2] == 3
    assert (source.posterior(SHAPE) == -2).all()
    assert asked == [(SHAPE, -1), (SHAPE, -2)]


@pytest.mark.parametrize(
    "wrong", [np.zeros(SHAPE), np.zeros((1, 3, 6, 9), np.float32), [1.0, 2.0]], ids=["float64", "shape", "list"]
)
def test_a_callable_that_returns_something_else_is_told(wrong: Any) -> None:
    source = NoiseSource(seed=0, sample=0, images=[1, 2], custom=lambda *_: wrong)
    with pytest.raises(PlanError, match=r"asked for float32 \(2, 3, 6, 9\) of step 4 and returned"):
        source.rows(SHAPE, 4, slice(0, 6))


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", 1 << 64), ("seed", 1.5), ("sample", 1 << 32)])
def test_a_seed_is_a_64_bit_number(name: str, value: Any) -> None:
    with pytest.raises(PlanError, match=rf"The {name} must be a whole number from 0 to"):
        NoiseSource(**({"seed": 0, "sample": 0, "images": [1]} | {name: value}))
