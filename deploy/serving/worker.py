"""A process that makes pictures for a service: orders come as lines of JSON, and so does what becomes of them.

It holds the engines, and it alone looks into what clients send, so that a decoder or an engine that dies takes nobody
with it. Orders: look (what will a picture be), make, show (a view for a browser), cancel, and the end
of the stream. A worker whose service has gone removes the service's temporary folder and ends.
"""

import faulthandler
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from calibration.errors import CalibrationError
from deploy.errors import DeployError
from deploy.images.picture import Samples
from deploy.images.sizes import Size
from deploy.picture.memory import resident_bytes
from deploy.picture.run import Progress
from deploy.serving.asked import Asked
from deploy.serving.batches import parted
from deploy.serving.kinds import RESULT
from deploy.serving.making import Made, Order, count_that_pays, make_alone, pixels_together
from deploy.serving.models import Model, model_named
from deploy.serving.refusals import problem_of_error
from deploy.serving.views import write_view
from engines.errors import EngineError

WARM_UP_SIDE = 16
"""Pixels a side of the picture that a worker makes before it says that it is ready."""


class Cancelled(Exception):  # noqa: N818  a state of the job, not of the program
    """Nobody wants the picture any more."""


class Worker:
    """The bundles of one process, and the pictures that are being made with them."""

    def __init__(self, settings: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._cancelled: dict[str, threading.Event] = {}
        memory = settings["memory"]
        self._models = {
            name: Model(
                name,
                Path(path),
                engine=settings["engine"],
                precision=settings["precision"],
                threads=settings["threads"],
                memory=memory,
            )
            for name, path in settings["bundles"].items()
        }
        self._makers = ThreadPoolExecutor(settings["lanes"], "idm-deploy makes")
        self._turn = threading.Lock()  # of short orders: two of them at once share caches and cores, and both lose
        self._askers = ThreadPoolExecutor(1, "idm-deploy looks")

    def warm_up(self) -> None:
        """A small picture is made with the first bundle, and the service is told what there is."""
        model = next(iter(self._models.values()))
        model.warm_up(Size.square(WARM_UP_SIDE))
        models = [model.describe() for model in self._models.values()]
        self._tell({"event": "ready", "models": models, "idle_bytes": resident_bytes()})

    def obey(self, order: dict[str, Any]) -> None:
        """What an order asks for is begun, or done."""
        match order["op"]:
            case "cancel":
                if (event := self._cancelled.get(order["id"])) is not None:
                    event.set()
            case "make":
                for picture in order["pictures"]:
                    self._cancelled[picture["id"]] = threading.Event()
                self._makers.submit(self._guarded, self._make, order)
            case "show":
                self._askers.submit(self._guarded, self._show, order)
            case "look":
                self._askers.submit(self._guarded, self._look, order)

    def close(self) -> None:
        """What runs is done, and the engines are closed."""
        self._makers.shutdown()
        self._askers.shutdown()
        for model in self._models.values():
            model.close()

    def _look(self, order: dict[str, Any]) -> None:
        asked = Asked.of(order["asked"])
        image = Path(order["image"]) if order["image"] is not None else None
        model = model_named(self._models, asked.model)
        request = asked.request(image or Path("picture"), self._settings["max_pixels"])
        if image is None:
            look = model.look(request, Size(order["height"], order["width"]), has_alpha=False, format=None)
        else:
            look = model.look_at(request)
        self._tell({"event": "answer", "id": order["id"], **look.as_json(), "model": model.name})

    def _show(self, order: dict[str, Any]) -> None:
        asked = Asked.of(order["asked"])
        if order["kind"] == RESULT:
            asked = asked.without("crop")
        request = asked.request(Path(order["image"]), self._settings["max_pixels"])
        write_view(request, Path(order["target"]), order["kind"])
        self._tell({"event": "answer", "id": order["id"]})

    def _make(self, order: dict[str, Any]) -> None:
        """The pictures of an order, which the service takes to be of one kind, are made: together where they are."""
        pictures = {picture["id"]: picture for picture in order["pictures"]}
        try:
            opened: dict[str, Made] = {}
            for name, picture in pictures.items():
                self._told(name, picture["image"], partial(self._open, opened, name, picture))
            if not opened:
                return
            model = self._model_of(pictures[next(iter(opened))])
            turn: AbstractContextManager[Any] = self._turn if order["is_short"] else nullcontext()
            is_one_kind = len({made.kind() for made in opened.values()}) == 1
            at_once = order["at_once"] if is_one_kind else 1
            if order["is_trial"]:
                with turn:  # what another lane samples meanwhile would spoil the trial
                    at_once = self._count_that_pays(model, opened) if is_one_kind else 1
                self._tell({"event": "tried", "kind": order["kind"], "count": at_once})
            for part in parted([*opened.items()], at_once, is_tried=order["is_tried"]):
                self._make_part(model, dict(part), turn)
        finally:
            for name in pictures:
                self._cancelled.pop(name, None)
            self._tell({"event": "free", "id": order["id"], "resident_bytes": resident_bytes()})

    def _count_that_pays(self, model: Model, opened: dict[str, Made]) -> int:
        try:
            return count_that_pays(model, list(opened.values()))
        except (DeployError, EngineError, Cancelled):  # each tells for itself
            return 1

    def _make_part(self, model: Model, opened: dict[str, Made], turn: AbstractContextManager[Any]) -> None:
        """Pictures of one kind are made at once; one, or where that fails, each for itself."""
        made_at_once = self._pixels_together(model, opened, turn) if len(opened) > 1 else None
        if made_at_once is None:
            for name, made in opened.items():
                self._told(name, str(made.order.request.images[0]), partial(make_alone, model, made, turn))
            return
        pixels, evaluations, seconds = made_at_once
        for (name, made), whole in zip(opened.items(), pixels, strict=True):
            share = seconds / len(opened)
            write = partial(made.write, iter([whole]), evaluations=evaluations, sampling_seconds=share)
            self._told(name, str(made.order.request.images[0]), write)

    def _pixels_together(
        self, model: Model, opened: dict[str, Made], turn: AbstractContextManager[Any]
    ) -> tuple[list[Samples], int, float] | None:
        try:
            with turn:
                return pixels_together(model, list(opened.values()))
        except (DeployError, EngineError, Cancelled):  # each tells for itself
            return None

    def _open(self, opened: dict[str, Made], name: str, picture: dict[str, Any]) -> None:
        """The picture that was read is among those that are opened."""
        cancelled = self._cancelled[name]

        def check() -> None:
            if cancelled.is_set():
                raise Cancelled

        def progress(done: Progress) -> None:
            self._tell({"event": "step", "id": name, "step": done.step, "steps": done.steps, "fraction": done.fraction})

        def preview(step: int, image: str) -> None:
            self._tell({"event": "preview", "id": name, "step": step, "image": image})

        check()
        request = Asked.of(picture["asked"]).request(Path(picture["image"]), self._settings["max_pixels"])
        previews = picture["previews"]
        opened[name] = Made(
            self._model_of(picture),
            Order(
                request=request,
                target=Path(picture["target"]),
                check=check,
                progress=progress,
                preview=preview if previews else None,
                every=max(previews, 1),
            ),
        )

    def _model_of(self, picture: dict[str, Any]) -> Model:
        return model_named(self._models, picture["asked"].get("model"))

    def _told(self, name: str, image: str, make: Callable[[], dict[str, Any] | None]) -> None:
        """What becomes of one picture is told, if it is anything."""

        def do(_: dict[str, Any]) -> None:
            if (what := make()) is not None:
                self._tell({"event": "done", "id": name, **what})

        self._guarded(do, {"id": name, "image": image})

    def _guarded(self, do: Callable[[dict[str, Any]], None], order: dict[str, Any]) -> None:
        """What goes wrong with an order is told in a sentence; what should not is also kept in the log."""
        try:
            do(order)
            return
        except Cancelled:
            self._tell({"event": "cancelled", "id": order["id"]})
            return
        except Exception as error:
            problem = problem_of_error(error, str(order.get("image") or ""))
        self._tell({"event": "failed", "id": order["id"], "status": problem.status, "detail": problem.detail})


def tell_lines(stream: BinaryIO) -> Callable[[dict[str, Any]], None]:
    """A function that writes an event as a line, from any thread."""
    lock = threading.Lock()

    def tell(event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        with lock:
            stream.write(line)
            stream.flush()

    return tell


def main() -> None:
    """Read the settings from the first line of standard input, then orders until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service says when to end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform != "win32":
        faulthandler.register(signal.SIGUSR1)  # what each thread does, for whoever wonders
    orders = sys.stdin.buffer
    # Whatever a library prints must not come between the lines.
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = json.loads(orders.readline())
    tell = tell_lines(events)
    try:
        worker = Worker(settings, tell)
        worker.warm_up()
    except (DeployError, EngineError, CalibrationError) as error:
        tell({"event": "unable", "detail": str(error)})
        return
    is_asked_to_end = False
    for line in orders:
        order = json.loads(line)
        if order["op"] == "end":
            is_asked_to_end = True
            break
        worker.obey(order)
    if not is_asked_to_end:  # the service has died, and cannot tidy up itself
        shutil.rmtree(settings["folder"], ignore_errors=True)
        os._exit(1)
    worker.close()


if __name__ == "__main__":
    main()
