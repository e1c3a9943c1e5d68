"""A run over folders and buckets on the machines of a cluster: what `deploy.folders.run` is on one machine."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np

from deploy.cluster.connection import connected
from deploy.cluster.done import DoneList, hash_of_making, hash_of_result
from deploy.cluster.places import OBJECT_STORES, PARTS, Listed, Place
from deploy.cluster.pool import Pool, Share
from deploy.cluster.shipping import shipped
from deploy.cluster.worker import Order, Report, Unit, failed_report
from deploy.errors import ClusterError, ImageError
from deploy.folders.outcome import Outcome
from deploy.folders.patterns import Patterns
from deploy.folders.request import Request
from deploy.folders.run import MOST_CHANGES
from deploy.folders.settings import Settings
from deploy.folders.tally import Tally, shown
from deploy.images.files import READ_SUFFIXES
from deploy.picture.upscaler import Upscaler
from engines.progress import Progress as TellsProgress
from engines.progress import Say

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster, and what of it. share: of each worker. threads, memory: of each worker's engine."""

    address: str
    share: Share
    threads: int
    memory: int | str | None = None


class ClusterRun:
    """The pictures of a request, listed and handed out; `outcomes` makes them. A context manager, as `Run` is.

    The request's images are folders, pictures, or addresses of such; its output is a folder or the address of one.
    """

    def __init__(
        self, upscaler: Upscaler, request: Request, cluster: Cluster, *, say: Say, progress: TellsProgress
    ) -> None:
        self.upscaler, self.request, self.cluster = upscaler, request, cluster
        check_request(request)
        assert request.output is not None
        self.sampling = upscaler.sampling(request.choices)
        self._say, self._progress = say, progress
        self._output = Place.of(request.output)
        self._sources: list[Place] = []
        self._stack = ExitStack()
        self._began = time.perf_counter()
        self.summary: dict[str, Any] = {}
        self.pool: Pool | None = None  # there is one while pictures are made
        self._changes: Counter[str] = Counter()
        self._first_changed: dict[str, str] = {}
        try:
            # A cluster that cannot be reached is told of before anything is listed.
            self._ray = self._stack.enter_context(connected(cluster.address))
            groups = self._groups()
            self._prepare_output()
            self._units, self._skipped = self._left(groups)
        except BaseException:
            self._stack.close()
            raise
        left = sum(len(unit.wanted) for unit in self._units)
        # Of pictures with several frames or draws each result counts, which is known when it comes.
        self.tally = Tally((left + len(self._skipped)) * request.samples, time.perf_counter())

    def outcomes(self) -> Iterator[Outcome]:
        """What came of each picture, as soon as it is known. To be asked for once; `summary` is there afterwards."""
        for outcome in self._skipped:
            for _ in range(self.request.samples):
                yield self._counted(outcome)
        if self._units:
            self._say(self.sampling.describe())
            yield from self._made()
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The workers have ended, what is done is written down, and the cluster is left."""
        try:
            self._done.close()
            if self._output.files.type_name not in OBJECT_STORES:
                self._output.clear(PARTS)
        finally:
            self._stack.close()

    def _groups(self) -> dict[tuple[int, str, str], list[Listed]]:
        """Every picture that is meant, with those of its folder whose names differ in their suffix alone."""
        groups: dict[tuple[int, str, str], list[Listed]] = {}
        places = [(Place.of(image), image) for image in self.request.images]
        kinds = [place.kind() for place, _ in places]
        folders = [place for (place, _), kind in zip(places, kinds, strict=True) if kind == "folder"]
        _refuse_equal_names(folders)
        patterns = Patterns.of(self.request.include, self.request.exclude)
        others = 0
        for (place, _), kind in zip(places, kinds, strict=True):
            if kind == "nothing":
                raise ImageError(f"There is no picture and no folder {place.shown()}.")
            if kind == "file":
                folder, name = place.parent()
                info = folder.files.get_file_info(folder.inside(name))
                number = self._number_of(folder)
                groups.setdefault((number, "", _stem(name)), []).append(Listed(name, info.size, info.mtime_ns or 0))
                continue
            self._refuse_output_in(place)
            number = self._number_of(place)
            top = place.parent()[1] if len(folders) > 1 else ""
            for picture in place.listing():
                path = PurePosixPath(picture.name)
                if not self._is_meant(path, patterns) or self._is_result(place, picture.name):
                    others += 1
                    continue
                to = "/".join(part for part in (top, path.parent.as_posix()) if part not in ("", "."))
                groups.setdefault((number, to, _stem(path.name)), []).append(picture)
        if not groups:
            named = " and ".join(place.shown() for place, _ in places)
            passed = f"; {others} other files were passed over" if others else ""
            raise ImageError(
                f"There is no picture to enlarge in {shown(named)}{passed}. In a folder, pictures are told by their "
                f"suffix ({', '.join(READ_SUFFIXES)}); --include takes others."
            )
        return groups

    def _is_meant(self, path: PurePosixPath, patterns: Patterns) -> bool:
        if not self.request.include and path.suffix.lower() not in READ_SUFFIXES:
            return False
        if any(patterns.leaves_out(folder) for folder in path.parents if folder.name):
            return False
        return patterns.takes(path)

    def _number_of(self, place: Place) -> int:
        if place not in self._sources:
            self._sources.append(place)
        return self._sources.index(place)

    def _refuse_output_in(self, place: Place) -> None:
        if f"{place.shown()}/".startswith(f"{self._output.shown()}/"):
            raise ImageError(
                f"The results of {place.shown()} would lie among its pictures. Name another folder with -o: one in it, "
                "or beside it."
            )

    def _is_result(self, place: Place, name: str) -> bool:
        """Whether it lies in the folder of results, which lies among the pictures."""
        return f"{place.shown(name)}/".startswith(f"{self._output.shown()}/")

    def _prepare_output(self) -> None:
        """The output can be written to, and what is done there is known."""
        output = self._output
        if output.kind() == "file":
            raise ImageError(f"{output.shown()} is a file; on a cluster, -o names a folder.")
        if output.files.type_name not in OBJECT_STORES:
            output.clear(PARTS)
        output.write(f"{PARTS}/try", b"idm-deploy wrote this to see whether it may.\n")
        output.remove(f"{PARTS}/try")
        self._done = DoneList.open(output)

    def _left(self, groups: dict[tuple[int, str, str], list[Listed]]) -> tuple[list[Unit], list[Outcome]]:
        """What is to be made, and what is there already."""
        self._settings = self._hash_of_settings()
        there = list(self._output.listing())
        folders = {listed.name.rpartition("/")[0] for listed in there}
        results = np.array([hash_of_result(listed.name, listed.bytes) for listed in there], np.uint64)
        order = np.argsort(results)
        pictures = [(place, picture) for (_, place, _), group in groups.items() for picture in group]
        done = np.full(len(pictures), -1, np.int64)
        if self._done.rows.shape[1] and not self.request.force:
            for settings in self._settings:
                makings = [hash_of_making(picture, place, settings) for place, picture in pictures]
                done = np.maximum(done, self._done.where_done(np.array(makings, np.uint64).T, results[order]))
        positions = iter(done.tolist())
        units, skipped = [], []
        for (source, place, _), group in groups.items():
            found = [next(positions) for _ in group]
            wanted = tuple(number for number, position in enumerate(found) if position < 0)
            skipped += [
                self._skip(source, group[number], there[order[position]].name)
                for number, position in enumerate(found)
                if position >= 0
            ]
            if wanted:
                units.append(Unit(source, place, tuple(group), wanted, place in folders))
        return units, skipped

    def _hash_of_settings(self) -> list[bytes]:
        """Of all but the inputs: first as results are made now, then as others would do."""
        request = self.request
        settings = Settings(self.upscaler, request, self.sampling)
        names = repr((request.name, request.samples, request.all_frames)).encode()
        mine = settings.hash(0)
        ways = [mine, *sorted(settings.hashes_that_will_do(0) - {mine})]
        return [blake2b(way + names, digest_size=16).digest() for way in ways]

    def _skip(self, source: int, picture: Listed, result: str) -> Outcome:
        addresses = self._sources[source].shown(picture.name), self._output.shown(result)
        return Outcome(state="skipped", input=Path(picture.name), output=Path(result), addresses=addresses)

    def _made(self) -> Iterator[Outcome]:
        cluster = self.cluster
        places = tuple(self._sources), self._output
        # A driver's paths and addresses are of no use to workers, which get their own for each picture.
        request = replace(self.request, images=(Path("x"),), output=Path("out"))
        shipment = shipped(self._ray, self.upscaler.bundle)
        order = Order.of(self.upscaler, request, shipment, places, threads=cluster.threads, memory=cluster.memory)
        self.pool = Pool(self._ray, self._ray.put(order), cluster.share, self._say)
        for unit, made in self.pool.made(iter(self._units)):
            reports = made
            if isinstance(reports, str):
                reports = [failed_report(*places, unit, number, reports) for number in unit.wanted]
            self._note(unit, reports)
            for report in reports:
                yield self._counted(report.outcome)

    def _note(self, unit: Unit, reports: Sequence[Report]) -> None:
        """Pictures of which every result is there are done."""
        for number in unit.wanted:
            mine = [report for report in reports if report.picture == number]
            if mine and all(report.outcome.state != "failed" for report in mine):
                making = hash_of_making(unit.pictures[number], unit.place, self._settings[0])
                self._done.add(making, [(report.name, report.bytes) for report in mine])

    def _counted(self, outcome: Outcome) -> Outcome:
        now = time.perf_counter()
        self.tally.count(outcome, now)
        self.tally.total = max(self.tally.total, self.tally.made + self.tally.skipped + self.tally.failed)
        if outcome.state == "failed":
            told = outcome.error or ""
            named = outcome.shown_input
            _LOG.error("%s", shown(told if named in told else f"{named}: {told}"))
        self._changes.update(outcome.changes)
        for change in outcome.changes:
            self._first_changed.setdefault(change, outcome.shown_input)
        if outcome.state != "skipped":
            self._progress(self.tally.text(outcome.input), self.tally.fraction(now))
        return outcome

    def _finish(self) -> None:
        for change, count in self._changes.most_common(MOST_CHANGES):
            pictures = "1 picture" if count == 1 else f"{count} pictures"
            first = shown(self._first_changed[change])
            self._say(f"{pictures}: {change} ({'' if count == 1 else 'first '}{first})")
        self.tally.tell_failures(lambda line: _LOG.error("%s", line))
        self.summary = {
            "bundle": str(self.upscaler.bundle.path),
            "engine": self.upscaler.choice.backend,
            "precision": self.upscaler.choice.precision,
            "seed": self.request.seed,
            "sampling": self.sampling.as_dict(),
            **self.tally.counts(),
            "seconds": round(time.perf_counter() - self._began, 3),
            "forecast_seconds": None,
        }


def check_request(request: Request) -> None:
    """ClusterError for what cannot be done on a cluster."""
    if request.output is None:
        raise ClusterError("On a cluster, -o names the folder of the results, or its address.")
    if request.batch not in (None, 1):
        raise ClusterError("On a cluster, pictures are made one by one: leave `batch` out.")
    if request.name is not None and "{stem}" not in request.name and "{name}" not in request.name:
        raise ClusterError(
            f"The name {request.name!r} would be that of several pictures. On a cluster it must have {{stem}} or "
            "{name}."
        )


def _stem(name: str) -> str:
    """The name without the suffixes of pictures: what results may have in common."""
    path = PurePosixPath(name)
    while path.suffix.lower() in READ_SUFFIXES and path.stem != path.name:
        path = PurePosixPath(path.stem)
    return path.name


def _refuse_equal_names(folders: Sequence[Place]) -> None:
    counts = Counter(place.parent()[1] for place in folders)
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        raise ImageError(
            f"{count} of the folders are called {name}, and their results would share one folder; enlarge them one "
            "after the other, into different folders."
        )
