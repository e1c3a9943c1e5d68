"""What came of a picture."""

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from deploy.folders.naming import Job
from deploy.images.sizes import UserSize

State = Literal["made", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one picture: it was made now, was there already (skipped), or failed.

    size: (width, height) of the file. evaluations: how often the network ran. tile: side of the tiles; None: in one
    piece. seconds: from reading the input to the complete file. changes: what of the input is converted or not kept.
    frame: of an input that holds several pictures, from 1. addresses: of input and output, where these are no paths.
    """

    state: State
    input: Path
    output: Path
    error: str | None = None
    size: UserSize | None = None
    evaluations: int | None = None
    tile: int | None = None
    seconds: float | None = None
    forecast_seconds: float | None = None
    changes: tuple[str, ...] = ()
    frame: int | None = None
    addresses: tuple[str, str] | None = None

    @property
    def shown_input(self) -> str:
        """Its path or address."""
        return str(self.input) if self.addresses is None else self.addresses[0]

    @property
    def shown_output(self) -> str:
        """Its path or address."""
        return str(self.output) if self.addresses is None else self.addresses[1]

    def as_json(self) -> dict[str, Any]:
        """The object that `infer --json` prints of it."""
        row: dict[str, Any] = {"kind": self.state, "input": self.shown_input, "output": self.shown_output}
        row |= {} if self.frame is None else {"frame": self.frame}
        if self.state == "failed":
            return row | {"error": self.error}
        if self.state == "skipped" or self.size is None:
            return row
        values = asdict(self)
        kept = ("evaluations", "tile", "seconds", "forecast_seconds")
        sizes = {"width": self.size[0], "height": self.size[1]}
        return row | sizes | {key: values[key] for key in kept} | {"changes": list(self.changes)}


def skipped(job: Job) -> Outcome:
    """Its result is there already."""
    return Outcome(state="skipped", input=job.image, output=job.target, frame=frame_number(job))


def frame_number(job: Job) -> int | None:
    """As people count, from 1; None where there is one picture."""
    return None if job.frame is None else job.frame + 1


def failed(job: Job, error: Exception, began: float) -> Outcome:
    """It could not be made."""
    told = f"reading {job.image}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return Outcome(
        state="failed",
        input=job.image,
        output=job.target,
        error=told,
        seconds=round(perf_counter() - began, 3),
        frame=frame_number(job),
    )
