"""A replica: a process somewhere on the cluster that holds the bundles and makes pictures as a worker does."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.picture.memory import default_budget
from deploy.serving.batches import Batches
from deploy.serving.cluster.binding import bind_to_own_address
from deploy.serving.cluster.settings import BATCHES_AT_ONCE, ClusterSettings
from deploy.serving.problems import problem_json
from deploy.serving.start import service_folder
from deploy.serving.worker import Worker

NEWS_SECONDS = 0.1
"""How often somebody who follows a picture is told of it: of several steps meanwhile, the last."""

Event = dict[str, Any]


@dataclass(kw_only=True)
class Wish:
    """A picture that was asked for. look: what is known of it beforehand. news: of its making, the newest by kind."""

    name: str
    asked: dict[str, Any]
    look: Event
    previews: int = 0
    news: dict[str, Event] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The same for pictures that might be made together; its own where each step is shown."""
        return self.name if self.previews else str(self.look["kind"])


class Pictures:
    """Makes pictures; opened once. Answers are plain values: what the picture is, or a problem."""

    def __init__(self, settings: dict[str, Any]) -> None:
        bind_to_own_address()
        self._settings = ClusterSettings.of(settings)
        self._ends = ExitStack()
        self._folder = self._ends.enter_context(service_folder())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: dict[str, asyncio.Future[Event]] = {}
        self._wishes: dict[str, Wish] = {}
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
        self._ends.close()

    async def describe(self) -> list[Event]:
        """The models, as clients are told of them."""
        return self._models

    async def answer(self, order: Event, file: bytes | None) -> AsyncIterator[Event]:
        """One event, the answer to a look or a view, with its file; or why there is none. file: of the picture."""
        folder = self._folder / secrets.token_hex(8)
        try:
            if file is not None:
                await asyncio.to_thread(_keep, folder, file)
            image = {"image": None if file is None else str(folder / "input"), "target": str(folder / "view")}
            answer = await self._ask({**order, **image})
            if order["op"] == "show" and answer["event"] != "failed":
                answer = {**answer, "file": await asyncio.to_thread((folder / "view").read_bytes)}
            yield answer
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def make(self, file: bytes, asked: dict[str, Any], previews: int, is_followed: bool) -> AsyncIterator[Event]:
        """A picture, made with others that came at the same time; before it, where it is followed, what is new of it.

        Cancelled, it lets go of the engine in a step.
        """
        name = secrets.token_hex(8)
        folder = self._folder / name
        making: asyncio.Task[Event] | None = None
        try:
            await asyncio.to_thread(_keep, folder, file)
            look = await self._ask({"op": "look", "asked": asked, "image": str(folder / "input")})
            if look["event"] == "failed":
                yield look
                return
            if is_followed:
                yield {**look, "event": "looked"}
            self._wishes[name] = wish = Wish(name=name, asked=asked, look=look, previews=previews)
            making = asyncio.create_task(self._made_together(wish))
            while not making.done():  # awaited by itself, it would end with whoever waits
                await asyncio.wait((making,), timeout=NEWS_SECONDS if is_followed else None)
                news, wish.news = wish.news, {}
                for event in news.values() if is_followed else ():
                    yield event
            made = await making
            if made["event"] == "done":
                made = {**made, "look": look, "file": await asyncio.to_thread((folder / "result").read_bytes)}
            yield made
        finally:
            if making is not None and not making.done():
                making.cancel()
                await self._let_go(name)
            self._wishes.pop(name, None)
            shutil.rmtree(folder, ignore_errors=True)

    async def _made_together(self, wish: Wish) -> Event:
        """Is made to collect wishes where Ray Serve is there: `application`."""
        return (await self.make_all([wish]))[0]

    async def make_all(self, wishes: Sequence[Wish]) -> list[Event]:
        """What became of each wish, in their order."""
        self._running += 1
        try:
            groups: dict[str, list[Wish]] = {}
            for wish in wishes:
                groups.setdefault(wish.kind, []).append(wish)
            made = await asyncio.gather(*(self._make_kind(kind, group) for kind, group in groups.items()))
            answers = {name: event for group in made for name, event in group.items()}
            return [answers[wish.name] for wish in wishes]
        finally:
            self._running -= 1

    async def _make_kind(self, kind: str, group: Sequence[Wish]) -> dict[str, Event]:
        """What became of pictures of one kind, by the wishes' names."""
        is_trial = self._running == 1 and self._batches.is_to_be_tried(kind, len(group))
        most = len(group) if is_trial else self._batches.size(kind)
        ends = {wish.name: self._awaited(wish.name) for wish in group}
        for part in [group[start : start + most] for start in range(0, len(group), most)]:
            order: Event = {"op": "make", "id": secrets.token_hex(8), "kind": kind, "is_trial": is_trial}
            order |= {"at_once": self._batches.size(kind), "is_tried": self._batches.is_tried, "is_short": True}
            order["pictures"] = [
                {
                    "id": wish.name,
                    "asked": wish.asked,
                    "image": str(self._folder / wish.name / "input"),
                    "target": str(self._folder / wish.name / "result"),
                    "previews": wish.previews,
                }
                for wish in part
            ]
            self._worker.obey(order)
        for wish in group:
            self._batches.count(kind)
            wish.news["began"] = {"event": "began"}
        return {name: await end for name, end in ends.items()}

    async def _let_go(self, name: str) -> None:
        """Nobody wants the picture any more, and the engine has let it go, if it had it."""
        self._worker.obey({"op": "cancel", "id": name})
        if (end := self._events.get(name)) is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(end)

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
            case "step" | "preview":
                if (wish := self._wishes.get(event["id"])) is not None:
                    wish.news[event["event"]] = event
            case "answer" | "done" | "failed" | "cancelled":
                future = self._events.pop(event["id"], None)
                if event["event"] == "cancelled":
                    event = {**problem_json(409, "The request was cancelled."), "event": "failed"}
                if future is not None and not future.done():
                    future.set_result(event)


def _keep(folder: Path, file: bytes) -> None:
    folder.mkdir(mode=0o700)
    (folder / "input").write_bytes(file)
