"""What a service on a cluster is told, as its deployments take it and as `serve.yaml` holds it: plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from deploy.errors import nearest_name
from deploy.serving.batches import SIZES
from deploy.serving.options import ServeError, ServeOptions, tokens_in

APPLICATION = "idm-deploy"
PICTURES, GATE = "Pictures", "Gate"
"""The deployments' names."""

IMPORT_PATH = "deploy.serving.cluster.application:application"

BATCHES_AT_ONCE = 2
"""Groups of pictures that a replica has: one is read and written while the other is sampled."""

LEAST_ONGOING = BATCHES_AT_ONCE * SIZES[0]

FIRST_RAY = (2, 60)
"""The version of Ray whose Serve this was written for: an older one cannot make its gate."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How pictures are made on a cluster, and who may ask; plain values alone. Checked when it is made.

    bundles: folders by name, at the same place on each machine. replicas_least and replicas_most: as many as the load
    asks for between them. ongoing: pictures that a replica has at most; max_queue: that wait before the replicas.
    cpus, gpus: of each replica. token_file: None: no token is asked for.
    """

    bundles: Mapping[str, str]
    host: str = "127.0.0.1"
    port: int = 8080
    hosts: tuple[str, ...] = ()
    token_file: str | None = None
    needs_no_token: bool = False
    replicas_least: int = 1
    replicas_most: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    ongoing: int = LEAST_ONGOING
    max_queue: int = 64
    max_pixels: int = 64_000_000
    max_upload: int = 64 << 20
    max_kept: int = 2048 << 20
    memory: int | None = None
    threads: int | None = None
    engine: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    keep_seconds: float = 900.0
    deadline_seconds: float = 3600.0
    idle_seconds: float = 20.0
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.replicas_least <= self.replicas_most:
            problems.append(f"--replicas is N or LEAST-MOST from 1, found {self.replicas_least}-{self.replicas_most}.")
        if self.ongoing < LEAST_ONGOING:
            problems.append(f"--ongoing is a number from {LEAST_ONGOING}, found {self.ongoing}.")
        if self.cpus <= 0 or self.gpus < 0:
            problems.append(f"A replica takes a part of a machine: --cpus above 0, --gpus from 0; found {self.cpus:g} ")
        if problems:
            raise ServeError(" ".join(problems))
        self.options()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Of the arguments of an application. ServeError where one is unknown or of another kind."""
        known = {field.name for field in fields(cls)}
        for name in given:
            if name not in known:
                raise ServeError(f"There is no argument {name!r}; the nearest is {nearest_name(name, known)!r}.")
        if not isinstance(given.get("bundles"), Mapping):
            raise ServeError("The argument bundles must name folders: {name: folder}.")
        return cls(**{**given, "hosts": tuple(given.get("hosts", ()))})

    def as_json(self) -> dict[str, Any]:
        """Plain values, which `of` reads again."""
        return {**asdict(self), "hosts": list(self.hosts), "bundles": dict(self.bundles)}

    def options(self) -> ServeOptions:
        """The same for what stands before the pictures."""
        return ServeOptions(
            bundles={name: Path(path) for name, path in self.bundles.items()},
            host=self.host,
            port=self.port,
            hosts=self.hosts,
            tokens=None if self.token_file is None else tokens_in(Path(self.token_file)),
            needs_no_token=self.needs_no_token,
            max_queue=self.max_queue,
            max_pixels=self.max_pixels,
            max_upload=self.max_upload,
            max_kept=self.max_kept,
            workers=self.replicas_most,
            batch=self.batch,
            keep_seconds=self.keep_seconds,
            deadline_seconds=self.deadline_seconds,
            idle_seconds=self.idle_seconds,
            drain_seconds=self.drain_seconds,
        )
