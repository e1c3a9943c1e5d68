"""Rows that are fitted, held against what they must be on Gaussian pictures, whose optimum is a formula."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.bundle.fitted import FittedEquation
from deploy.errors import PlanError
from deploy.measure.evaluation.originals import read_originals
from deploy.measure.ssimulacra2 import ssimulacra2
from deploy.packaged.places import CALIBRATION_IMAGES, EVALUATION_IMAGES, IDM_BUNDLE
from deploy.picture.schedule.fitting import RIDGE, FitRequest, Fitter, Pair, fitted_factors
from deploy.picture.upscaler import Upscaler
from deploy.sampling.plan import PlanRow
from deploy.sampling.turns import TURNS, Turn
from tests.deploy.picture.stub_model import StubModel, StubSubject

ERROR = 0.1
"""Standard deviation of what the toy's network gets wrong, anew at each step."""

PIXELS = np.random.default_rng(0).normal(127.5, 19.0, (8, 96, 96, 3)).round().clip(0, 255).astype(np.uint8)


class ToyModel(StubModel):
    """Sees the original and gets it wrong by noise of its own: nothing of it repeats, whatever the state."""

    generates = False
    normals = np.random.default_rng(1)

    def predict(self, x: NDArray[Any], condition: Any, row: PlanRow, *_: Any) -> NDArray[Any]:
        estimate = condition["picture"] + ERROR * self.normals.standard_normal(x.shape)
        return np.asarray((x - row.noise_level * estimate) / row.sigma, np.float32)

    def refusal_of_turns(self) -> str | None:
        return None

    def turned(self, subject: StubSubject, turn: Turn) -> StubSubject:
        self.turns_made.append(turn)
        return super().turned(subject, turn)

    def __init__(self) -> None:
        super().__init__()
        self.turns_made: list[Turn] = []


@dataclass
class ToySession:
    """As much of a session as a fit asks for."""

    model: Any
    upscaler: Upscaler

    def __getattr__(self, name: str) -> Any:
        return getattr(self.upscaler.session, name)


def nearness(made: NDArray[Any], original: NDArray[Any]) -> float:
    return -float(np.square(made.astype(float) - original).mean())


def best_rows(equation: FittedEquation, variance: float) -> list[NDArray[Any]]:
    """The least-squares rows in closed form: everything is a sum of the picture, errors and noises, all independent.

    Columns: the picture, then per step the noise that the state has anew and the error of the estimate.
    """
    levels = [step.noise_level for step in equation.steps]
    count = len(levels)
    sizes = np.array([variance] + [1.0, ERROR**2] * count)
    state = np.zeros(1 + 2 * count)
    state[0], state[1] = levels[0], np.sqrt(1 - levels[0] ** 2)
    estimates: list[NDArray[Any]] = []
    rows = []
    for index, step in enumerate(equation.steps):
        estimate = np.zeros_like(state)
        estimate[0], estimate[2 + 2 * index] = 1.0, 1.0
        estimates.insert(0, estimate)
        target = np.zeros_like(state)
        target[0] = levels[index + 1] if index + 1 < count else 1.0
        basis = np.stack([state, *estimates])
        towards = np.eye(len(basis))[1] * target[0]  # the newest estimate alone
        gram = (basis * sizes) @ basis.T + RIDGE * np.eye(len(basis))
        row = np.linalg.solve(gram, (basis * sizes) @ target + RIDGE * towards)
        rows.append(row)
        state = row @ basis
        if index + 1 < count:
            state[3 + 2 * index] += step.noise
    return rows


@pytest.fixture
def session(idm_micro: Bundle) -> ToySession:
    return ToySession(model=ToyModel(), upscaler=Upscaler(idm_micro))


def test_rows_are_the_best_there_are_for_gaussian_pictures(session: ToySession) -> None:
    pairs = {1.0: [Pair(lr=pixels, original=pixels) for pixels in PIXELS]}
    request = FitRequest(steps=3, start=0.5, consistency=0.0, scales=(1.0,))
    told: list[float] = []
    fitter = Fitter(session, pairs, nearness)  # type: ignore[arg-type]
    equation = fitter.fit(request, lambda _, done: told.append(done))
    variance = float(np.var(PIXELS / 127.5))
    assert variance == pytest.approx((19 / 127.5) ** 2, rel=0.01)
    # 220 000 values: a factor's own standard deviation is about 0.1 / 0.15 / sqrt(220 000) = 0.0014.
    for step, expected in zip(equation.steps, best_rows(equation, variance), strict=True):
        assert (step.x, *step.x0) == pytest.approx(expected, abs=0.01)
    # The last row is nearly the mean of three estimates, the error a third: 0.1^2/3 on the scale of 127.5.
    assert equation.fitted_to.look == pytest.approx(-(127.5**2) * ERROR**2 / 3 * 0.87, rel=0.1)
    assert [step.turn for step in equation.steps] == list(TURNS[:3]) and set(session.model.turns_made) == {*TURNS[1:3]}
    assert told == sorted(told) and 0 <= told[0] < told[-1] < 1


def test_where_pictures_say_nothing_rows_stay_what_they_are_without_a_fit() -> None:
    """Two arrays that are one cannot be told apart: their factors stay as far apart as they were."""
    same = np.random.default_rng(2).normal(size=(4, 4))
    factors = fitted_factors([([same, same], 2 * same)], np.array([1.5, 0.5]))
    assert factors == pytest.approx((1.5, 0.5), abs=1e-9)


@pytest.mark.parametrize(
    ("pairs", "steps", "refusal"),
    [
        ([Pair(lr=PIXELS[0], original=PIXELS[0])], 3, "fitted to 1 picture fit that one alone"),
        ([Pair(lr=PIXELS[0], original=np.full_like(PIXELS[0], 7))] * 3, 3, "All originals are of one colour"),
        ([], 21, "Rows are fitted for 1 to 20 steps, 21 were asked for"),
    ],
)
def test_what_rows_cannot_be_fitted_to_is_refused(
    session: ToySession, pairs: list[Pair], steps: int, refusal: str
) -> None:
    def fit() -> None:
        request = FitRequest(steps=steps, start=0.5, consistency=0.0, scales=(1.0,))
        Fitter(session, {1.0: pairs}, nearness).fit(request, lambda *_: None)  # type: ignore[arg-type]

    with pytest.raises(PlanError, match=refusal):
        fit()


def test_a_latent_model_is_refused(latent_gen: Bundle) -> None:
    with (
        Upscaler(latent_gen) as upscaler,
        pytest.raises(PlanError, match="state of this model is a latent: no original is known of it"),
    ):
        Fitter(upscaler.session, {}, nearness)


@pytest.mark.slow
def test_four_photographs_are_enough_to_gain_on_others() -> None:
    """The packaged model: two fitted steps against the two by rule that its default preset had, on held-out crops."""
    bundle = Bundle.open(IDM_BUNDLE)
    originals = read_originals(CALIBRATION_IMAGES, 4.0, limit=4, crop=96)
    held_out = read_originals(EVALUATION_IMAGES, 4.0, limit=6)
    with Upscaler(bundle, threads=1) as upscaler:
        pairs = {4.0: [Pair(lr=original.lr, original=original.pixels) for original in originals]}
        fitter = Fitter(upscaler.session, pairs, ssimulacra2)
        equation = fitter.fit(FitRequest(steps=2, start=0.5, consistency=1.0, scales=(4.0,)), lambda *_: None)
    ways: dict[str, dict[str, Any]] = {
        "fitted": {"equation": "fitted-2"},
        "by rule": {
            "equation": "ddim",
            "steps": 2,
            "start": 0.5,
            "eta": 1.0,
            "placement": "quadratic",
            "consistency": 1.0,
        },
    }
    assert bundle.manifest.fitted is not None
    manifest = replace(bundle.manifest, fitted={**bundle.manifest.fitted, "fitted-2": equation})
    with Upscaler(replace(bundle, manifest=manifest), threads=1) as upscaler:
        looks = {
            name: np.mean([ssimulacra2(upscaler.upscale(one.lr, scale=4.0, **way), one.pixels) for one in held_out])
            for name, way in ways.items()
        }
    assert looks["fitted"] > looks["by rule"] + 0.1
