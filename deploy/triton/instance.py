"""One instance of the sampler inside of Triton: requests in, answers out, by the code that `infer` and `serve` run.

Triton calls an instance from one thread, with as many requests as its dynamic batcher has gathered. Each request has
pictures in a tensor, and says by its parameters how they are to be made.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from calibration.errors import CalibrationError
from deploy.engine.chosen import AUTO
from deploy.errors import DeployError
from deploy.images.sizes import Size
from deploy.picture.memory import default_budget
from deploy.picture.run import Progress
from deploy.serving.asked import Asked
from deploy.serving.batches import Batches, parted
from deploy.serving.making import Made, Order, count_that_pays, make_alone, pixels_together
from deploy.serving.models import Model, Unfit
from deploy.serving.problems import Problem
from deploy.serving.protocols.tensors import FILE, IMAGE, asked_of_parameters, files_of_pixels, pixels_of_files
from deploy.serving.refusals import problem_of_error
from deploy.triton.settings import RunSettings, TritonError
from engines.backends import backend_named
from engines.contract import Backend
from engines.errors import EngineError

WARM_UP_SIDE = 16
"""Pixels a side of the picture that is made before Triton is told that the model is ready."""

CODES = {413: "INVALID_ARG", 422: "INVALID_ARG", 501: "UNSUPPORTED", 507: "UNAVAILABLE"}
"""Statuses of refusals -> Triton's codes, of which it makes those of HTTP and gRPC; others are INTERNAL."""

CANCELLED = 499


class Cancelled(Exception):  # noqa: N818  a state of the request, not of the program
    """Nobody waits for the picture any more."""


REFUSALS = (DeployError, EngineError, CalibrationError)
"""What is raised on purpose, with a sentence for people."""


@dataclass(kw_only=True, eq=False)
class Ask:
    """One request: what it has, asks for and becomes. request: Triton's own. problem: why it is refused."""

    request: Any
    tensor: str = IMAGE
    asked: Asked = field(default_factory=lambda: Asked(values={}))
    problem: Problem | None = None
    targets: list[Path] = field(default_factory=list)

    def check(self) -> None:
        """Raises where nobody waits any more."""
        if self.request.is_cancelled():
            raise Cancelled

    @contextmanager
    def guarded(self, picture: Path | None = None) -> Iterator[None]:
        """What goes wrong in the block is what the request is refused for."""
        try:
            yield
        except Cancelled:
            self.problem = Problem(CANCELLED, "The request was cancelled.")
        except Exception as error:
            self.problem = problem_of_error(error, "" if picture is None else str(picture))

    def response(self, triton: Any) -> Any:
        """What Triton sends."""
        if self.problem is None:
            with self.guarded():
                files = [target.read_bytes() for target in self.targets]
                values = pixels_of_files(files) if self.tensor == IMAGE else np.array(files, object)
                return triton.InferenceResponse([triton.Tensor(self.tensor, values)])
        assert self.problem is not None
        code = "CANCELLED" if self.problem.status == CANCELLED else CODES.get(self.problem.status, "INTERNAL")
        return triton.InferenceResponse(
            error=triton.TritonError(self.problem.detail, getattr(triton.TritonError, code))
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture of a request, in a file. kind: the same for those that might be made together."""

    ask: Ask
    path: Path
    target: Path
    kind: str

    def is_wanted(self) -> bool:
        """Whether its request is not refused or cancelled already."""
        return self.ask.problem is None


class Instance:
    """A bundle that is open on an engine, and the requests that it answers."""

    def __init__(self, model: Model, settings: RunSettings) -> None:
        self._model = model
        self._settings = settings
        self._batches = Batches(settings.batch)
        self._folder = tempfile.TemporaryDirectory(prefix="idm-deploy-triton-")
        model.warm_up(Size.square(WARM_UP_SIDE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> Path:
        """Where the files of requests lie while these are answered."""
        return Path(self._folder.name)

    def close(self) -> None:
        """The engine's memory is free, temporary files are gone."""
        self._model.close()
        self._folder.cleanup()

    def responses(self, requests: Sequence[Any], triton: Any) -> list[Any]:
        """An answer for each request, in their order. triton: the module of its Python backend."""
        with tempfile.TemporaryDirectory(dir=self._folder.name) as place:
            asks = [Ask(request=request) for request in requests]
            groups: dict[str, list[Picture]] = {}
            for number, ask in enumerate(asks):
                with ask.guarded():
                    for picture in self._pictures(ask, Path(place) / str(number)):
                        groups.setdefault(picture.kind, []).append(picture)
            for kind, group in groups.items():
                self._make_kind(kind, group)
            return [ask.response(triton) for ask in asks]

    def _pictures(self, ask: Ask, place: Path) -> list[Picture]:
        """The pictures of a request, as files; looked at by their headers. Problem where they are refused."""
        ask.check()
        ask.asked = asked_of_parameters(_parameters(ask.request))
        ask.tensor, files = self._files(ask.request)
        place.mkdir()
        pictures = []
        for number, file in enumerate(files):
            path, target = place / f"input-{number}", place / f"result-{number}"
            path.write_bytes(file)
            with ask.guarded(path):
                look = self._model.look_at(ask.asked.request(path, self._settings.max_pixels))
                pictures.append(Picture(ask=ask, path=path, target=target, kind=look.kind))
                ask.targets.append(target)
        return pictures

    def _files(self, request: Any) -> tuple[str, list[bytes]]:
        """The name of a request's tensor, and each of its pictures as a file."""
        tensors = {tensor.name(): tensor for tensor in request.inputs()}
        if len(tensors) != 1:
            raise Problem(422, f"A request has either {IMAGE} or {FILE}, and not both.")
        ((name, tensor),) = tensors.items()
        values = tensor.as_numpy()
        if name == FILE:
            return name, [bytes(file) for file in values.ravel()]
        if min(values.shape) < 1:
            raise Problem(422, f"The shape of {IMAGE} is [N, H, W, 3], each from 1, found {[*values.shape]}.")
        if prod(values.shape[1:3]) > self._settings.max_pixels:
            size = f"{values.shape[2]}x{values.shape[1]}"
            raise Unfit(f"The picture has {size} pixels; this model takes {self._settings.max_pixels}.")
        return name, files_of_pixels(values)

    def _make_kind(self, kind: str, group: list[Picture]) -> None:
        """The results of pictures of one kind are in their files; as many are made at once as is faster here."""
        while group := [picture for picture in group if picture.is_wanted()]:
            is_trial = self._batches.is_to_be_tried(kind, len(group))
            count = self._batches.most if is_trial else self._batches.size(kind)
            self._make(kind, group[:count], is_trial=is_trial)
            group = group[count:]

    def _make(self, kind: str, group: Sequence[Picture], *, is_trial: bool) -> None:
        opened: list[tuple[Picture, Made]] = []
        for picture in group:
            with picture.ask.guarded(picture.path):
                opened.append((picture, self._opened(picture)))
        opened = [each for each in opened if each[0].is_wanted()]
        made = [each for _, each in opened]
        is_one_kind = len(made) > 1 and len({each.kind() for each in made}) == 1
        if is_trial and is_one_kind:
            self._batches.learn(kind, self._count_that_pays(made))
        for part in self._batches.parts(kind, opened) if is_one_kind else parted(opened, 1, is_tried=True):
            if len(part) > 1 and self._make_together(part):
                continue
            for picture, each in part:
                if picture.is_wanted():
                    with picture.ask.guarded(picture.path):
                        make_alone(self._model, each, nullcontext())
        for _ in opened:
            self._batches.count(kind)

    def _count_that_pays(self, made: Sequence[Made]) -> int:
        try:
            return count_that_pays(self._model, made)
        except (*REFUSALS, Cancelled):  # each tells for itself when it is made
            return 1

    def _make_together(self, opened: Sequence[tuple[Picture, Made]]) -> bool:
        """Whether it went well: where not, each tells for itself why it cannot be made."""
        try:
            pixels, evaluations, seconds = pixels_together(self._model, [made for _, made in opened])
        except (*REFUSALS, Cancelled):
            return False
        for (picture, made), whole in zip(opened, pixels, strict=True):
            with picture.ask.guarded(picture.path):
                made.write(iter([whole]), evaluations=evaluations, sampling_seconds=seconds / len(opened))
        return True

    def _opened(self, picture: Picture) -> Made:
        picture.ask.check()
        request = picture.ask.asked.request(picture.path, self._settings.max_pixels)
        return Made(
            self._model, Order(request=request, target=picture.target, check=picture.ask.check, progress=_say_nothing)
        )


def instance_of_arguments(bundle: Path, arguments: Mapping[str, str]) -> Instance:
    """The instance that Triton asks for. arguments: of `initialize`, among them the model's configuration."""
    config = json.loads(arguments["model_config"])
    given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    settings = RunSettings.of_parameters({name: value for name, value in given.items() if name not in OF_TRITON})
    groups = config.get("instance_group", [])
    instances = sum(int(group.get("count", 1)) * max(1, len(group.get("gpus", []))) for group in groups) or 1
    is_on_gpu = arguments.get("model_instance_kind") == "GPU"
    if settings.engine != AUTO:
        _check_kind(backend_named(settings.engine), is_on_gpu=is_on_gpu)
    model = Model(
        arguments["model_name"],
        bundle,
        engine=settings.engine,
        precision=settings.precision,
        threads=settings.threads or _threads_of_each(instances),
        memory=(settings.max_memory or default_budget()) // instances,
        device=int(arguments["model_instance_device_id"]) if is_on_gpu else None,
    )
    _check_kind(model.upscaler.choice.record, is_on_gpu=is_on_gpu)
    return Instance(model, settings)


def _check_kind(engine: Backend, *, is_on_gpu: bool) -> None:
    if engine.on_gpu != is_on_gpu:
        place, kind = ("GPUs", "CPU") if engine.on_gpu else ("the processor", "GPU")
        raise TritonError(
            f"The engine {engine.name} runs on {place}, and the instances of config.pbtxt are of KIND_{kind}. Name "
            "another engine there, or another kind of instances."
        )


OF_TRITON = ("EXECUTION_ENV_PATH", "FORCE_CPU_ONLY_INPUT_TENSORS")
"""Parameters of config.pbtxt that Triton's Python backend reads itself."""


def _parameters(request: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
    return parameters


def _threads_of_each(instances: int) -> int | None:
    """Threads of an engine where several share the processor; None: as many as it takes by itself."""
    if instances == 1:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // instances)


def _say_nothing(_: Progress) -> None:
    """Nobody watches."""
