"""What runs on the machines of a cluster: a process that opens the bundle once and makes pictures as folders' runs do.

Each picture, with those that only differ in their suffix, gets a temporary folder; in it `deploy.folders.run` does what
it does on one machine, so that names, bytes and refusals are the same. Files come from the inputs' place before, and
results go to the output's place after.
"""

import os
import platform
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import deploy
from calibration.errors import CalibrationError
from deploy.cluster.places import Listed, Place, failure
from deploy.cluster.shipping import Shipment, unpacked
from deploy.engine.choice import engine_choice
from deploy.engine.graphs import INT8, EngineChoice
from deploy.errors import ClusterError, DeployError
from deploy.folders.outcome import Outcome
from deploy.folders.request import Request
from deploy.folders.run import Run
from deploy.picture.existing import RECIPE
from deploy.picture.options import ignore
from deploy.picture.pace import Pace
from deploy.picture.session import Session
from deploy.picture.upscaler import Upscaler
from engines.errors import EngineError
from engines.new_files import write_text

LANES = 2
"""Pictures that a worker is at: while the network runs for one, files of another come or go."""

SCRATCH = "idm-deploy-worker-"


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that a worker must know besides its pictures. choice: the driver's, with what surrounds int8 said."""

    version: str
    recipe: str
    shipment: Shipment
    choice: EngineChoice
    memory: int | str | None
    request: Request
    sources: tuple[Place, ...]
    output: Place

    @classmethod
    def of(
        cls,
        upscaler: Upscaler,
        request: Request,
        shipment: Shipment,
        places: tuple[tuple[Place, ...], Place],
        **how: Any,
    ) -> "Order":
        """With the engine of the driver. how: `threads` and `memory` of a worker."""
        choice = replace(upscaler.choice, threads=how["threads"], cache_dir=None, device=None)
        if choice.precision == INT8:
            choice = replace(choice, around=choice.precision_of_engines)
        return cls(
            version=deploy.__version__,
            recipe=RECIPE,
            shipment=shipment,
            choice=choice,
            memory=how["memory"],
            request=request,
            sources=places[0],
            output=places[1],
        )


@dataclass(frozen=True, slots=True)
class Unit:
    """Pictures of one folder whose names differ in their suffix alone, mostly one: made together, named together.

    source: the number of the place they lie in. place: the output's folder they go to. wanted: the numbers of those
    that are to be made. may_exist: whether results may be there already.
    """

    source: int
    place: str
    pictures: tuple[Listed, ...]
    wanted: tuple[int, ...]
    may_exist: bool

    def name(self, file: str) -> str:
        """That of a result, from the output."""
        return f"{self.place}/{file}" if self.place else file


@dataclass(frozen=True)
class Report:
    """What came of one result: of which picture of its unit, under which name in the output, in how many bytes."""

    picture: int
    outcome: Outcome
    name: str = ""
    bytes: int = 0


class Worker:
    """One actor of the pool."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._upscaler: Upscaler | None = None
        self._scratch = Path(os.devnull)

    def open(self) -> str | None:
        """The bundle is open on the driver's engine; else a sentence on why this machine cannot do that."""
        try:
            self._check_versions()
            self._check_places()
            import ray

            bundle = unpacked(ray, self._order.shipment)
            choice = _choice_here(bundle, self._order.choice)
            self._upscaler = Upscaler.of_session(Session(bundle, choice, memory=self._order.memory))
            self._upscaler.sampling(self._order.request.choices)
            self._scratch = _new_scratch()
        except (DeployError, EngineError, CalibrationError) as error:
            return str(error)
        except OSError as error:
            return f"{error.strerror or error} ({error.filename})"
        return None

    def close(self) -> None:
        """Nothing of this worker is left in the machine's temporary folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def make(self, unit: Unit) -> list[Report]:
        """What came of the wanted pictures of a unit; nothing that goes wrong with one is raised."""
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as folder:
            try:
                return list(self._made(unit, Path(folder)))
            except (DeployError, EngineError) as error:
                return [self._failed(unit, number, str(error)) for number in unit.wanted]
            except Exception as error:  # a bug: these pictures fail, the next ones may not
                traceback.print_exc()
                told = f"it could not be made ({type(error).__name__}: {error}); the worker's log in Ray has more."
                return [self._failed(unit, number, told.replace(folder, "")) for number in unit.wanted]

    def _made(self, unit: Unit, folder: Path) -> Iterator[Report]:
        order, source = self._order, self._order.sources[unit.source]
        assert self._upscaler is not None
        inputs, output = folder / "in", folder / "out"
        inputs.mkdir()
        output.mkdir()
        images = {inputs / picture.name.rpartition("/")[2]: number for number, picture in enumerate(unit.pictures)}
        unread: dict[int, str] = {}
        for image, number in images.items():
            picture = unit.pictures[number]
            try:
                source.fetch(picture.name, image)
            except OSError as error:
                unread[number] = str(failure(f"reading {source.shown(picture.name)}", error))
        request = replace(order.request, images=tuple(images), output=output, output_is_folder=True, keeps_record=False)
        # What is known of times helps nobody here, and looking it up takes longer than small pictures do.
        pace = Pace({}, lambda: 1.0)
        with Run(self._upscaler, request, say=ignore, progress=lambda *_: None, pace=pace) as run:
            run.keep_jobs_of([image for image, number in images.items() if number in unit.wanted])
            if unit.may_exist:
                self._fetch_existing(unit, run)
            files = set()
            for outcome in run.outcomes():
                number = images[outcome.input]
                files.add(outcome.output)
                report = self._told(unit, number, outcome, folder)
                if number in unread:
                    report = self._failed(unit, number, unread[number])
                elif outcome.state == "made":
                    report = self._stored(report, outcome.output)
                elif outcome.state == "skipped":
                    report = replace(report, bytes=outcome.output.stat().st_size)
                yield report
            for sheet in {job.sheet for job in run.jobs if job.sheet is not None and job.sheet.is_file()}:
                order.output.store(sheet, unit.name(sheet.name))

    def _fetch_existing(self, unit: Unit, run: Run) -> None:
        """Results that are there are where the run looks for them."""
        place = self._order.output
        for job in run.jobs:
            name = unit.name(job.target.name)
            if not self._order.request.force and place.has(name):
                place.copy(name, job.target)

    def _stored(self, report: Report, file: Path) -> Report:
        """The result lies in its place."""
        size = file.stat().st_size
        try:
            self._order.output.store(file, report.name)
        except OSError as error:
            told = str(failure(f"writing {self._order.output.shown(report.name)}", error))
            return replace(report, outcome=replace(report.outcome, state="failed", error=told))
        file.unlink()
        return replace(report, bytes=size)

    def _told(self, unit: Unit, number: int, outcome: Outcome, folder: Path) -> Report:
        """What came of a result, with the addresses that people know in place of temporary files."""
        name = unit.name(outcome.output.name)
        source, output = self._order.sources[unit.source], self._order.output
        picture = unit.pictures[number].name
        error = outcome.error
        if error is not None:
            for path, address in (
                (str(outcome.input), source.shown(picture)),
                (str(folder / "in"), source.shown(picture.rpartition("/")[0])),
                (str(folder / "out"), output.shown(unit.place)),
            ):
                error = error.replace(path, address)
        addresses = source.shown(picture), output.shown(name)
        told = replace(outcome, error=error, addresses=addresses, forecast_seconds=None)
        return Report(number, told, name)

    def _failed(self, unit: Unit, number: int, error: str) -> Report:
        return failed_report(self._order.sources, self._order.output, unit, number, error)

    def _check_versions(self) -> None:
        order = self._order
        if (deploy.__version__, RECIPE) != (order.version, order.recipe):
            raise ClusterError(
                f"it has idm-deploy {deploy.__version__} (Python {platform.python_version()}), the command is of "
                f"{order.version}. Install the same on every machine."
            )

    def _check_places(self) -> None:
        """The inputs and the output can be seen from here."""
        for place in (*self._order.sources, self._order.output):
            if place.kind() == "nothing" and place.is_local:
                raise ClusterError(
                    f"it has no {place.shown()}. Name a folder on a disk that all machines share, or a bucket."
                )


def failed_report(sources: tuple[Place, ...], output: Place, unit: Unit, number: int, error: str) -> Report:
    """A picture that could not be made."""
    picture = unit.pictures[number].name
    addresses = sources[unit.source].shown(picture), output.shown(unit.place)
    paths = Path(picture), Path(unit.place)
    return Report(number, Outcome(state="failed", input=paths[0], output=paths[1], error=error, addresses=addresses))


def _choice_here(bundle: Any, choice: EngineChoice) -> EngineChoice:
    """The driver's choice, which this machine can run; a DeployError or EngineError otherwise."""
    engine_choice(bundle, choice.backend, choice.precision, choice.threads)
    able = choice.record.precisions_here()
    if choice.precision_of_engines not in able:
        raise ClusterError(
            f"it cannot run {choice.name}: its processor has not the arithmetic for {choice.precision_of_engines}. "
            f"Name another `precision`; it has {', '.join(able)}."
        )
    usual = choice.record.precision_around_int8() if choice.precision == INT8 else None
    return replace(choice, around=None if choice.around == usual else choice.around)


def _new_scratch() -> Path:
    """A temporary folder of this process; those of workers that were killed are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        owner = folder / "process"
        if not _lives(owner.read_text().strip() if owner.is_file() else ""):
            shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    write_text(folder / "process", str(os.getpid()))
    return folder


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True  # just begun, or another user's
    return True
