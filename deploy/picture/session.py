"""A bundle's networks on one engine, opened once for everything that runs them."""

from dataclasses import replace
from types import TracebackType
from typing import Self

from deploy.bundle import Bundle
from deploy.engine.choice import engine_choice
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError, PlanError, SizeError
from deploy.families.table import family_named
from deploy.picture.memory import bytes_from_text, default_budget
from deploy.picture.room import ROOM
from deploy.picture.schedule.measuring import measured_noise_of
from deploy.sampling.choices import Choices, Sampling, sampling_from
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.fitted import check_int8
from deploy.sampling.plan import Plan, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule


class Session:
    """The graphs and the model of a bundle on the engine of a choice; a context manager that frees them.

    choice: None is what `build-engine` chose, else the first engine that is installed. threads: in place of the
    choice's. memory: bounds what the process has resident while pictures are made, in bytes or as text such as "1GiB";
    None is 60 % of what is free when a picture comes. Upscalers, evaluations, benchmarks and calibrations may share one
    at the same time, from any number of threads. Nothing is opened before it is needed. graphs: of that bundle and
    choice, where somebody watches them.
    """

    def __init__(
        self,
        bundle: Bundle,
        choice: EngineChoice | None = None,
        threads: int | None = None,
        memory: int | str | None = None,
        *,
        graphs: GraphSet | None = None,
    ) -> None:
        try:
            family = family_named(bundle.manifest.family)  # refused before anything is opened
        except BundleError as error:
            raise BundleError(f"{bundle.path} cannot be used: {error}") from error
        choice = choice or engine_choice(bundle, threads=threads)
        self.bundle = bundle
        self.choice = choice if threads is None else replace(choice, threads=threads)
        self._memory = bytes_from_text(memory) if isinstance(memory, str) else memory
        if self._memory is not None and self._memory < 1:
            raise SizeError(f"max_memory must be a positive number of bytes, found {memory!r}.")
        self.graphs = graphs or GraphSet(bundle, self.choice)
        self.model = family.model(self.graphs)
        self.schedule = NoiseSchedule.from_record(bundle.manifest.schedule)
        self._planned: tuple[PlanSettings, Plan] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The engines' memory is free, or will be when what runs now is done; whoever comes next opens them."""
        self.graphs.close()

    def sampling(self, choices: Choices | None = None, scale: float | None = None) -> Sampling:
        """A checked way to sample with this bundle, for pictures that grow so many times if that is known."""
        sampling = sampling_from(self.bundle.manifest, choices or Choices(), scale)
        refusal = self.model.refusal_of_consistency()
        if sampling.consistency and refusal is not None:
            raise PlanError(refusal)
        refusal = self.model.refusal_of_blend()
        if sampling.blend != 1 and refusal is not None:
            raise PlanError(refusal)
        if sampling.fitted is not None:
            int8 = self.graphs.int8
            if int8 is not None:
                check_int8(sampling.fitted, int8.target, int8.digest)
        refusal = self.model.refusal_of_turns()
        if self.plan(sampling).turns and refusal is not None:
            raise PlanError(refusal)
        return sampling

    def plan(self, sampling: Sampling) -> Plan:
        """The steps of a way to sample; the last ones that were asked for are kept."""
        planned = self._planned
        if planned is None or planned[0] != sampling.plan:
            equation = EQUATIONS.get(sampling.plan.equation)  # None: fitted
            measured = measured_noise_of(self.bundle) if equation is not None and equation.is_measured else None
            plan = make_plan(self.schedule, sampling.plan, rules=self.model.sampling, measured=measured)
            int8 = self.graphs.int8
            planned = sampling.plan, plan if int8 is None else int8.plan_with_own_noise(plan)
            self._planned = planned
        return planned[1]

    def budget(self) -> int:
        """Bytes that may be resident now."""
        return self._memory or default_budget()

    def room(self) -> int:
        """Bytes that a picture may take to be read, beside what this process holds without its runs; below 0: none."""
        return self.budget() - ROOM.resident_besides_runs()

    def notice_of_int8(self, sampling: Sampling) -> str | None:
        """What to tell of a way to sample that int8 was not calibrated for; None otherwise."""
        return None if self.graphs.int8 is None else self.graphs.int8.notice_of_plan(self.plan(sampling))
