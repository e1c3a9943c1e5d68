"""One job: a picture that was asked for, on its way to a result."""

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from deploy.serving.asked import Asked
from deploy.serving.pool import Event

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
FINAL: frozenset[State] = frozenset({"done", "failed", "cancelled", "expired"})

USUAL_SECONDS = 1.0
"""Cost of a picture of which nothing is known."""


class Maker(Protocol):
    """Who makes a picture, a worker or a replica on a cluster, as its job knows it."""

    def send(self, order: Event) -> None:
        """An order is on its way."""


@dataclass(kw_only=True, eq=False)
class Job:
    """One picture that was asked for. look: what the worker says of it beforehand; made: what became of it."""

    id: str
    client: str
    asked: Asked
    folder: Path
    name: str  # of the client's file
    look: Event
    deadline: float  # by the clock of the loop
    previews: int = 0
    context: Any = None  # of the trace that it belongs to
    via: str = "v1"  # the interface that it came over
    is_kept: bool = True  # its result can be fetched later, rather than being the answer of its request
    state: State = "queued"
    step: int = 0
    fraction: float = 0.0
    created: float = field(default_factory=time.monotonic)
    began: float | None = None
    ended: float | None = None
    error: dict[str, Any] | None = None
    error_headers: dict[str, str] = field(default_factory=dict)
    made: Event = field(default_factory=dict)
    preview: Event | None = None
    worker: Maker | None = None
    kept_bytes: int = 0  # of its files, once it has ended
    order: str = ""  # by which it was given to the worker
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cost(self) -> float:
        """Seconds that it is expected to take."""
        seconds = self.look["seconds"]
        return USUAL_SECONDS if seconds is None else float(seconds)

    @property
    def own_bytes(self) -> int:
        """Memory that its making takes."""
        return int(self.look["own_bytes"])

    @property
    def input_bytes(self) -> int:
        """Memory that its decoded input takes, with what the network sees of it."""
        width, height = self.look["input"]
        return int(8 * width * height)

    @property
    def kind(self) -> str:
        """The same for pictures that might be made together; its own where each step is shown."""
        return self.id if self.previews else str(self.look["kind"])

    @property
    def image(self) -> Path:
        """What the client sent."""
        return self.folder / "input"

    @property
    def target(self) -> Path:
        """The file of the result."""
        return self.folder / "result"

    @property
    def file_name(self) -> str:
        """What a browser calls the result: made of the client's name, and of nothing that is not a name."""
        stem = re.sub(r"[^\w .-]+", "_", Path(self.name.replace("\\", "/")).name.rsplit(".", 1)[0]).strip(" .")[:80]
        return f"{stem or 'picture'}_{self.look['label']}{self.made.get('suffix', '')}"

    def weigh(self) -> None:
        """What its files take is known."""
        with suppress(OSError):  # they go meanwhile
            self.kept_bytes = sum(path.stat().st_size for path in self.folder.iterdir())

    def change(self) -> None:
        """Whoever watches looks again."""
        self.changed.set()
        self.changed = asyncio.Event()

    def as_json(self, place: int | None) -> dict[str, Any]:
        """What clients see of it."""
        end = self.ended or time.monotonic()
        address = f"/v1/jobs/{self.id}"
        return {
            "id": self.id,
            "state": self.state,
            "place": place,
            "step": self.step,
            "steps": self.look["steps"],
            "fraction": round(self.fraction, 4),
            "width": self.look["width"],
            "height": self.look["height"],
            "evaluations": self.made.get("evaluations", self.look["evaluations"]),
            "seconds": None if self.began is None else round(end - self.began, 3),
            "expected_seconds": self.look["seconds"],
            "seed": self.asked.values.get("seed", 0),
            "preset": self.look["preset"],
            "model": self.look["model"],
            "format": self.made.get("format", self.look["format"]),
            "bytes": self.made.get("bytes"),
            "notices": self.made.get("notices", []),
            "error": self.error,
            "links": {
                "self": address,
                **{name: f"{address}/{name}" for name in ("events", "result", "input", "bicubic")},
            },
        }
