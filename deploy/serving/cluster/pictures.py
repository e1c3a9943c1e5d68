"""A replica: a process somewhere on the cluster that holds the bundles and makes pictures as a worker does."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.picture.memory import default_budget
from deploy.serving.batches import Batches
from deploy.serving.cluster.binding import bind_to_own_address
from deploy.serving.cluster.settings import BATCHES_AT_ONCE, ClusterSettings
from deploy.serving.problems import problem_json
from deploy.serving.worker import Worker

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A picture that was asked for. file: what the client sent."""

    name: str
    file: bytes
    asked: dict[str, Any]


class Pictures:
    """Makes pictures; opened once. Answers are plain values: what the picture is, or a problem."""

    def __init__(self, settings: dict[str, Any]) -> None:
        bind_to_own_address()
        self._settings = ClusterSettings.of(settings)
        self._folder = Path(tempfile.mkdtemp(prefix="idm-deploy-replica-"))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: dict[str, asyncio.Future[Event]] = {}
        self._batches = Batches(self._settings.batch)
        self._running = 0
        self._models: list[Event] = []
        threads = self._settings.threads
        self._worker = Worker(
            {
                "bundles": dict(self._settings.bundles),
                "engine": self._settings.engine,
                "precision": self._settings.precision,
                "threads": max(1, round(self._settings.cpus)) if threads is None else threads,
                "memory": self._settings.memory or default_budget() // self._settings.replicas_most,
                "max_pixels": self._settings.max_pixels,
                "lanes": BATCHES_AT_ONCE,
                "folder": str(self._folder),
            },
            self._told,
        )
        self._worker.warm_up()

    def __del__(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    async def describe(self) -> list[Event]:
        """The models, as clients are told of them."""
        return self._models

    async def look(self, asked: dict[str, Any], width: int, height: int) -> Event:
        """What is known of a picture before it is made, or why it will not be."""
        return await self._ask({"op": "look", "asked": asked, "image": None, "width": width, "height": height})

    async def make(self, file: bytes, asked: dict[str, Any]) -> Event:
        """A picture, made with others that came at the same time. Cancelled, it lets go of the engine in a step."""
        wish = Wish(name=secrets.token_hex(8), file=file, asked=asked)
        try:
            made: Event = await self._made_together(wish)
        except asyncio.CancelledError:
            self._worker.obey({"op": "cancel", "id": wish.name})
            raise
        return made

    async def _made_together(self, wish: Wish) -> Event:
        """Is made to collect wishes where Ray Serve is there: `collecting`."""
        return (await self.make_all([wish]))[0]

    async def make_all(self, wishes: Sequence[Wish]) -> list[Event]:
        """What became of each wish, in their order."""
        folders = [self._folder / wish.name for wish in wishes]
        self._running += 1
        try:
            looks = await asyncio.gather(
                *(self._look_at(wish, folder) for wish, folder in zip(wishes, folders, strict=True))
            )
            answers = {}
            groups: dict[str, list[tuple[Wish, Event]]] = {}
            for wish, look in zip(wishes, looks, strict=True):
                if look["event"] == "failed":
                    answers[wish.name] = look
                else:
                    groups.setdefault(look["kind"], []).append((wish, look))
            made = await asyncio.gather(*(self._make_kind(kind, group) for kind, group in groups.items()))
            for group in made:
                answers |= group
            return [answers[wish.name] for wish in wishes]
        finally:
            self._running -= 1
            for folder in folders:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _look_at(self, wish: Wish, folder: Path) -> Event:
        await asyncio.to_thread(_keep, folder, wish.file)
        return await self._ask({"op": "look", "asked": wish.asked, "image": str(folder / "input")})

    async def _make_kind(self, kind: str, group: Sequence[tuple[Wish, Event]]) -> dict[str, Event]:
        """What became of pictures of one kind, by the wishes' names."""
        is_trial = self._running == 1 and self._batches.is_to_be_tried(kind, len(group))
        most = len(group) if is_trial else self._batches.size(kind)
        ends = [self._awaited(wish.name) for wish, _ in group]
        for part in [group[start : start + most] for start in range(0, len(group), most)]:
            order: Event = {"op": "make", "id": secrets.token_hex(8), "kind": kind, "is_trial": is_trial}
            order |= {"at_once": self._batches.size(kind), "is_tried": self._batches.is_tried, "is_short": True}
            order["pictures"] = [
                {
                    "id": wish.name,
                    "asked": wish.asked,
                    "image": str(self._folder / wish.name / "input"),
                    "target": str(self._folder / wish.name / "result"),
                    "previews": 0,
                }
                for wish, _ in part
            ]
            self._worker.obey(order)
        for _ in group:
            self._batches.count(kind)
        answers = {}
        for (wish, look), end in zip(group, ends, strict=True):
            event = await end
            if event["event"] == "done":
                target = self._folder / wish.name / "result"
                event = {**event, "look": look, "file": await asyncio.to_thread(target.read_bytes)}
            answers[wish.name] = event
        return answers

    async def _ask(self, order: Event) -> Event:
        """The answer to an order."""
        order["id"] = secrets.token_hex(8)
        answer = self._awaited(order["id"])
        self._worker.obey(order)
        return await answer

    def _awaited(self, name: str) -> asyncio.Future[Event]:
        self._loop = asyncio.get_running_loop()
        self._events[name] = self._loop.create_future()
        return self._events[name]

    def _told(self, event: Event) -> None:
        """An event of the worker, on one of its threads."""
        if event["event"] == "ready":
            self._models = event["models"]
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._hear, event)

    def _hear(self, event: Event) -> None:
        match event["event"]:
            case "tried":
                self._batches.learn(event["kind"], event["count"])
            case "answer" | "done" | "failed" | "cancelled":
                if event["event"] == "cancelled":
                    event = {**problem_json(409, "The request was cancelled."), "event": "failed"}
                future = self._events.pop(event.get("id", ""), None)
                if future is not None and not future.done():
                    future.set_result(event)


def _keep(folder: Path, file: bytes) -> None:
    folder.mkdir(mode=0o700)
    (folder / "input").write_bytes(file)
