"""What a run would make, without making it: sizes, time and memory, by what the headers of the pictures say."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from deploy.errors import DeployError
from deploy.folders.naming import Job
from deploy.folders.request import Request
from deploy.folders.run import Run
from deploy.images.formats.table import format_of_suffix
from deploy.images.reading import read_header
from deploy.images.sizes import Size
from deploy.picture.existing import note_of_existing
from deploy.picture.files import result_of
from deploy.picture.upscaler import Upscaler
from engines.errors import EngineError
from engines.progress import Say


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would come of one picture: "would make", "would skip", "would fail" with `error`.

    lr, size: of what is enlarged and of the result's file. tiles: in how many pieces; tile: their side, None if there
    is one. seconds: by the times of earlier runs; None where nothing like it was timed. memory_bytes: of the whole
    process while it is made.
    """

    state: str
    input: Path
    output: Path
    error: str | None = None
    lr: Size | None = None
    size: Size | None = None
    tiles: int | None = None
    tile: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    memory_bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The object that `infer --dry-run --json` prints of it."""
        row: dict[str, Any] = {"kind": self.state, "input": str(self.input), "output": str(self.output)}
        if self.error is not None:
            return row | {"error": self.error}
        if self.lr is None or self.size is None:
            return row
        sizes = {
            "input_width": self.lr.width,
            "input_height": self.lr.height,
            "width": self.size.width,
            "height": self.size.height,
        }
        values = {"tiles": self.tiles, "tile": self.tile, "evaluations": self.evaluations}
        values |= {"memory_bytes": self.memory_bytes}
        return row | sizes | values | {"seconds": None if self.seconds is None else round(self.seconds, 3)}


class DryRun:
    """The plans of a request; a context manager. Nothing is written, and no network is run."""

    def __init__(self, upscaler: Upscaler, request: Request, *, say: Say) -> None:
        self._run = Run(upscaler, request, say=say, progress=lambda *_: None, is_dry=True)
        self.plans: list[Plan] = []

    def __enter__(self) -> "DryRun":
        self._run.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._run.__exit__()

    def all_plans(self) -> Iterator[Plan]:
        """Of each picture, in the order in which they would be made."""
        for folder, error in self._run.unreadable.items():
            yield self._kept(Plan(state="would fail", input=folder, output=folder, error=str(error)))
        for job in self._run.jobs:
            yield self._kept(self._plan(job))

    def summary(self) -> dict[str, Any]:
        """The sum of all plans, ready for JSON."""
        made = [plan for plan in self.plans if plan.state == "would make"]
        seconds = [plan.seconds for plan in made]
        known = [each for each in seconds if each is not None]
        return {
            **self._run.report(),
            "would_make": len(made),
            "would_skip": sum(plan.state == "would skip" for plan in self.plans),
            "would_fail": sum(plan.state == "would fail" for plan in self.plans),
            "pixels": sum(prod(plan.size) for plan in made if plan.size is not None),
            "seconds": round(sum(known), 3) if len(known) == len(made) else None,
            "memory_bytes": max((plan.memory_bytes or 0 for plan in made), default=0),
        }

    def _kept(self, plan: Plan) -> Plan:
        self.plans.append(plan)
        return plan

    def _plan(self, job: Job) -> Plan:
        run = self._run
        request = run.request
        try:
            lr, has_alpha = request.outlook_on(job.image, run.upscaler.session.room())
            size = request.output_size(lr)
            if not run.will_be_made(job):
                return Plan(state="would skip", input=job.image, output=job.target)
            if not run.is_ours(job.target):
                note_of_existing(job.target, force=request.force)
            self._refuse_lost_alpha(job, size)
            work = run.forecasts.work(lr, size, has_alpha=has_alpha)
            memory = run.upscaler.predicted_bytes(lr, size, run.sampling, request.tile, has_alpha=has_alpha)
        except (DeployError, EngineError) as error:
            return Plan(state="would fail", input=job.image, output=job.target, error=str(error))
        return Plan(
            state="would make",
            input=job.image,
            output=job.target,
            lr=lr,
            size=run.settings.shown_size(size),
            tiles=work.tiles,
            tile=work.tile,
            evaluations=work.evaluations,
            seconds=run.forecasts.seconds(work),
            memory_bytes=memory,
        )

    def _refuse_lost_alpha(self, job: Job, size: Size) -> None:
        """A transparent picture is not to be written in a format without transparency; only its pixels tell."""
        saving, record = self._run.request.saving, format_of_suffix(job.target)
        holds = record is None or record.writer is None or "alpha" in record.writer.keeps
        if not holds and saving.background is None and read_header(job.image).may_be_transparent:
            source = self._run.request.open(job.image, job.frame, self._run.upscaler.session.room())
            result_of(source, size, saving, job.target if job.names_format else None)
