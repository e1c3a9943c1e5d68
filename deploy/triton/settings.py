"""How a bundle is served by Triton: what `export-triton` is told, and what a model is told by its config.pbtxt."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from deploy.engine.chosen import AUTO
from deploy.errors import DeployError, nearest_name
from deploy.picture.memory import bytes_from_text
from engines.backends import BACKENDS, backend_named

MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MOST_TOGETHER = 64
"""Pictures that Triton may hand over at once."""


class TritonError(DeployError):
    """A repository cannot be written, or a model of it cannot run, as it was asked for."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How pictures are made, as `infer` and `serve` have it. Checked when it is made.

    max_memory: bytes of all instances of the model; None: 60 % of what is free. max_pixels: of an input and of a
    result. batch: pictures of one kind made together; None: as many as pay.
    """

    engine: str = AUTO
    precision: str = AUTO
    threads: int | None = None
    max_memory: int | None = None
    max_pixels: int = 64_000_000
    batch: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.engine != AUTO and self.engine not in BACKENDS:
            problems.append(
                f"There is no engine {self.engine!r}; the nearest is {nearest_name(self.engine, BACKENDS)!r}."
            )
        counts = {"threads": self.threads, "max_memory": self.max_memory, "batch": self.batch}
        problems += [f"`{name}` is a number from 1, found {count}." for name, count in counts.items() if count == 0]
        if self.max_pixels < 1:
            problems.append(f"`max_pixels` is a number from 1, found {self.max_pixels}.")
        if problems:
            raise TritonError(" ".join(problems))

    def as_parameters(self) -> dict[str, str]:
        """The parameters of a config.pbtxt, which `of_parameters` reads again; what is left out is empty."""
        return {each.name: "" if (value := getattr(self, each.name)) is None else str(value) for each in fields(self)}

    @classmethod
    def of_parameters(cls, parameters: Mapping[str, str]) -> Self:
        """What a config.pbtxt says, which people may have changed. TritonError where it says what there is not."""
        known = [each.name for each in fields(cls)]
        values: dict[str, str | int] = {}
        for name, text in parameters.items():
            if name not in known:
                nearest = nearest_name(name, known)
                raise TritonError(f"config.pbtxt has a parameter {name!r}; the nearest that is known is {nearest!r}.")
            if text == "":
                continue
            if name in ("engine", "precision"):
                values[name] = text
            elif name == "max_memory" and not text.isdecimal():
                values[name] = bytes_from_text(text)
            elif text.isascii() and text.isdecimal() and len(text) < 19:
                values[name] = int(text)
            else:
                raise TritonError(f"The parameter {name} of config.pbtxt is a whole number, found {text!r}.")
        return cls(**values)  # type: ignore[arg-type]  # each has the type of its field


@dataclass(frozen=True, kw_only=True)
class RepositorySettings:
    """What a repository's models are called, where they run and how long they let wait. Checked when it is made.

    gpus: numbers of GPUs, each of which runs `instances`; (): the processor does. max_batch: pictures that Triton may
    hand over at once. delay_ms: how long it may wait for more of them. max_queue: requests that wait beyond those.
    queue_seconds: after which a request that waits is refused; None: never. graphs: also the networks by themselves.
    """

    name: str
    version: int = 1
    gpus: tuple[int, ...] = ()
    instances: int = 1
    max_batch: int = 8
    max_queue: int = 64
    delay_ms: float = 2.0
    queue_seconds: float | None = None
    graphs: bool = False
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise TritonError(" ".join(problems))

    def _problems(self) -> Iterator[str]:
        if not MODEL_NAME.fullmatch(self.name):
            yield f"A model's name has letters, digits and _.- alone, at most 100, found {self.name!r}."
        for name, count in (("version", self.version), ("instances", self.instances), ("max_queue", self.max_queue)):
            if count < 1:
                yield f"`{name}` is a number from 1, found {count}."
        if not 1 <= self.max_batch <= MOST_TOGETHER:
            yield f"`max_batch` is a number from 1 to {MOST_TOGETHER}, found {self.max_batch}."
        if not 0 <= self.delay_ms <= 60_000:
            yield f"`delay_ms` is a number from 0 to 60000, found {self.delay_ms:g}."
        if self.queue_seconds is not None and not 0 < self.queue_seconds <= 86_400:
            yield f"`queue_seconds` is above 0 and at most 86400, found {self.queue_seconds:g}."
        if len({*self.gpus}) != len(self.gpus) or any(number < 0 for number in self.gpus):
            yield f"`gpus` are numbers of GPUs from 0, each once, found {', '.join(map(str, self.gpus))}."
        if self.run.engine != AUTO and backend_named(self.run.engine).on_gpu != bool(self.gpus):
            yield (
                f"The engine {self.run.engine} runs on the processor: leave `gpus` out."
                if self.gpus
                else f"The engine {self.run.engine} runs on GPUs: say on which with `gpus`, 0 being the first."
            )
