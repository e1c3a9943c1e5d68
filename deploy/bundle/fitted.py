"""What bundle.json says of fitted equations: the rows that `idm-deploy schedule --fit` found, and for what.

Declared records, as `deploy.bundle.quantization` has them: what does not fit is refused when a bundle is opened.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta

from deploy.bundle.limits import MOST_ENTRIES, MOST_IN_LIST
from deploy.bundle.quantization import record_from_json
from deploy.bundle.records import Closed, Digest, Level, Name

PREFIX = "fitted-"
"""Before the number of steps in the name of a fitted equation."""


Factor = Annotated[float, Meta(ge=-1000.0, le=1000.0)]


class FittedStep(Closed, frozen=True):
    """A row of the plan: x_next = x*state + x0[0]*estimate + x0[1]*previous estimate + ... + noise*normal."""

    noise_level: Annotated[float, Meta(gt=0.0, lt=1.0)]
    x: Factor
    x0: Annotated[tuple[Factor, ...], Meta(min_length=1, max_length=MOST_IN_LIST)]
    noise: Level = 0.0
    turn: Literal["as it is", "half", "left-right", "upside-down"] = "as it is"


class FittedTo(Closed, frozen=True):
    """What the rows were fitted to, and with what.

    scales: of the network; the rows may be used up to the largest. int8_target and int8_sha256: whose graphs ran, None
    where they were in float. look: SSIMULACRA2 on the pictures of the fit.
    """

    family: Name
    engine: Name
    precision: Name
    pictures: Annotated[int, Meta(ge=2)]
    scales: Annotated[tuple[Annotated[float, Meta(ge=1.0)], ...], Meta(min_length=1, max_length=MOST_IN_LIST)]
    seed: int
    int8_target: Name | None = None
    int8_sha256: Digest | None = None
    look: float | None = None

    @property
    def largest_scale(self) -> float:
        """The most that the network magnified."""
        return max(self.scales)


class FittedEquation(Closed, frozen=True):
    """Rows in their order. from_guess: they begin at the noised enlarged input, not at pure noise."""

    steps: Annotated[tuple[FittedStep, ...], Meta(min_length=1, max_length=MOST_IN_LIST)]
    from_guess: bool
    consistency: Level
    fitted_to: FittedTo

    def __post_init__(self) -> None:
        levels = [step.noise_level for step in self.steps]
        if not all(low < high for low, high in pairwise(levels)):
            raise ValueError("the noise levels of its steps do not rise")
        if any(len(step.x0) > index + 1 for index, step in enumerate(self.steps)):
            raise ValueError("a step uses more estimates than there are by then")


def fitted_from_json(value: object) -> dict[str, FittedEquation]:
    """The records that JSON's types hold; a ValueError says at which place they hold something else."""
    if not isinstance(value, Mapping) or len(value) > MOST_ENTRIES:
        raise ValueError(f"fitted is {type(value).__name__}, expected an object of {MOST_ENTRIES} entries at most")
    equations = {
        str(name): record_from_json(record, FittedEquation, f"fitted.{name}") for name, record in value.items()
    }
    for name, equation in equations.items():
        if name != f"{PREFIX}{len(equation.steps)}":
            raise ValueError(f"fitted.{name}: it has {len(equation.steps)} steps, its name says otherwise")
    return equations
