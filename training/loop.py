"""The training loop that all demo networks share.

It ends after a number of steps or minutes, whichever comes first, with the learning rate following half a
cosine down to that end. What a step draws depends on the seed and the step only, so a resumed run goes on as if
it had not stopped (to the last bit on one CPU and a given number of steps; minutes and GPUs are not exact).
"""

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deploy.errors import CheckpointError, ConfigError, FolderError, OutputError

METADATA_KEY = "idm_deploy"
STATE_FILE, WEIGHTS_FILE, LOG_FILE = "state.pt", "ema.safetensors", "log.txt"
WARM_UP_STEPS = 500
GRADIENT_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and where a training runs."""

    out: Path
    minutes: float | None = None
    steps: int | None = None
    resume: bool = False
    seed: int = 0
    learning_rate: float = 5e-4
    ema_decay: float = 0.9995
    compile: bool = True
    log_seconds: float = 10.0
    save_seconds: float = 60.0
    check_seconds: float = 240.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be above 0, got {value}"
            for name, value in (("minutes", self.minutes), ("steps", self.steps), ("learning_rate", self.learning_rate))
            if value is not None and not value > 0
        ]
        if self.minutes is None and self.steps is None:
            problems.append("say how long with minutes or steps")
        if problems:
            raise ConfigError(f"The training cannot run: {'; '.join(problems)}.")

    def progress(self, step: int, seconds: float) -> float:
        """0 at the beginning, 1 at the end."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


@dataclass(frozen=True)
class Losses:
    """The loss of one step, and what the log tells about it: (parts, 2) sums and counts on the device."""

    total: Tensor
    parts: Tensor
    pictures: int


class Task(Protocol):
    """What is trained."""

    network: nn.Module
    device: torch.device
    part_names: tuple[str, ...]
    compiled: bool

    def losses(self, step: int, generator: torch.Generator) -> Losses:
        """The loss of a step's batch."""

    def check(self) -> str:
        """A line about the held-out photographs with the weights as they are."""

    def metadata(self) -> dict[str, Any]:
        """What a reader of the checkpoint must know beside the weights."""


@dataclass
class Progress:
    """Where a training stands; everything here is saved and resumed."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    averages: list[Tensor]
    step: int = 0
    seconds: float = 0.0
    pictures: int = 0

    def average(self, decay: float) -> None:
        """Moves the averages towards the parameters; in the first steps the plain mean of all so far."""
        share = 1 - min(decay, self.step / (self.step + 10))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their averages inside this context."""
        held = [p.detach() for p in self.parameters]
        raw = [p.clone() for p in held]
        with torch.no_grad():
            torch._foreach_copy_(held, self.averages)
            try:
                yield
            finally:
                torch._foreach_copy_(held, raw)


def train(task: Task, settings: Settings, say: Callable[[str], None]) -> Progress:
    """Trains to the end, leaving `ema.safetensors`, `state.pt` and `log.txt` in the output folder."""
    progress = _beginning(task, settings)
    log = _Log(settings.out / LOG_FILE, task.part_names, say, progress)
    generator = torch.Generator(task.device)
    started = time.monotonic() - progress.seconds
    saved = checked = logged = progress.seconds
    while settings.progress(progress.step, progress.seconds) < 1:
        losses = _step(task, progress, settings, generator, log)
        log.add(losses)
        progress.seconds = time.monotonic() - started
        if progress.seconds - logged >= settings.log_seconds:
            log.write(progress)
            logged = progress.seconds
        if progress.seconds - checked >= settings.check_seconds:
            log.check(task, progress)
            checked = progress.seconds
        if progress.seconds - saved >= settings.save_seconds:
            save(task, progress, settings)
            saved = progress.seconds
        progress.seconds = time.monotonic() - started
    log.write(progress)
    log.check(task, progress)
    save(task, progress, settings)
    return progress


def claim_folder(settings: Settings) -> None:
    """The output folder is there, can be written to, and holds no training but one that is to go on."""
    if (settings.out / STATE_FILE).exists() and not settings.resume:
        raise ConfigError(f"There is a training in {settings.out} already; go on with --resume or name another folder.")
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        with (settings.out / LOG_FILE).open("a"):
            pass
    except OSError as error:
        raise FolderError(
            f"The training cannot use the folder {settings.out}: {error.strerror}. Choose another with --out."
        ) from error


def _beginning(task: Task, settings: Settings) -> Progress:
    """A new training, or the saved one when it is to be resumed."""
    claim_folder(settings)
    path = settings.out / STATE_FILE
    parameters = [p for p in task.network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.99), fused=task.device.type == "cuda"
    )
    progress = Progress(parameters, optimizer, [p.detach().clone() for p in parameters])
    if settings.resume and path.exists():
        _restore(task, progress, path)
    return progress


def _restore(task: Task, progress: Progress, path: Path) -> None:
    try:
        state = torch.load(path, map_location=task.device, weights_only=True)
    except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"The training saved in {path} is damaged and cannot go on; begin again in another folder."
        ) from error
    if json.loads(state["metadata"]) != json.loads(json.dumps(task.metadata())):
        raise CheckpointError(
            f"The training saved in {path} has another configuration than the one asked for; "
            "give it the same options, or begin in another folder."
        )
    task.network.load_state_dict(state["network"])
    progress.optimizer.load_state_dict(state["optimizer"])
    for average, stored in zip(progress.averages, state["averages"], strict=True):
        average.copy_(stored)
    progress.step, progress.seconds, progress.pictures = state["step"], state["seconds"], state["pictures"]


def _step(task: Task, progress: Progress, settings: Settings, generator: torch.Generator, log: "_Log") -> Losses:
    """One step of the optimizer; a failing compiler is given up once and for all, with a line in the log."""
    try:
        losses = _gradients(task, progress, settings, generator)
    except RuntimeError as error:
        if not task.compiled:
            raise
        task.compiled = False
        log.line(f"compilation failed, going on without it: {type(error).__name__}: {str(error)[:300]}")
        losses = _gradients(task, progress, settings, generator)
    done = settings.progress(progress.step, progress.seconds)
    warm = min(1.0, (progress.step + 1) / WARM_UP_STEPS)
    for group in progress.optimizer.param_groups:
        group["lr"] = settings.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    progress.optimizer.step()
    progress.step += 1
    progress.pictures += losses.pictures
    progress.average(settings.ema_decay)
    return losses


def _gradients(task: Task, progress: Progress, settings: Settings, generator: torch.Generator) -> Losses:
    generator.manual_seed(settings.seed * 1_000_003 + progress.step)
    progress.optimizer.zero_grad(set_to_none=True)
    losses = task.losses(progress.step, generator)
    losses.total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(progress.parameters, GRADIENT_NORM)
    return losses


def save(task: Task, progress: Progress, settings: Settings) -> None:
    """Writes the averaged weights in half precision for users, and everything that resuming needs."""
    with progress.averaged():
        write_weights(settings.out / WEIGHTS_FILE, task.network, task.metadata())
    state = {
        "metadata": json.dumps(task.metadata()),
        "network": task.network.state_dict(),
        "optimizer": progress.optimizer.state_dict(),
        "averages": progress.averages,
        "step": progress.step,
        "seconds": progress.seconds,
        "pictures": progress.pictures,
    }
    new = settings.out / f"{STATE_FILE}.new"
    torch.save(state, new)
    new.replace(settings.out / STATE_FILE)


def write_weights(path: Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Writes parameters as float16 and buffers as they are, with the metadata under the key `idm_deploy`."""
    parameters = {name for name, _ in network.named_parameters()}
    tensors = {
        name: (tensor.detach().half() if name in parameters else tensor).cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    new = path.with_name(f"{path.name}.new")
    save_file(tensors, new, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    new.replace(path)


class _Log:
    """Lines for the terminal and the log file. Sums stay on the device between two lines."""

    def __init__(self, path: Path, names: tuple[str, ...], say: Callable[[str], None], progress: Progress) -> None:
        self.path, self.names, self.say = path, names, say
        self.sums: Tensor | None = None
        self.since = (progress.step, progress.pictures, progress.seconds)

    def line(self, text: str) -> None:
        """One line, to both."""
        with self.path.open("a") as file:
            file.write(text + "\n")
        self.say(text)

    def add(self, losses: Losses) -> None:
        """Counts a step in."""
        self.sums = losses.parts if self.sums is None else self.sums + losses.parts

    def write(self, progress: Progress) -> None:
        """A line with the mean losses since the last one, and the speed. Losses that are no numbers end the run."""
        if self.sums is None:
            return
        sums = self.sums.double().cpu()
        if not torch.isfinite(sums).all():
            raise OutputError(
                f"The loss at step {progress.step} is not a number; go on from the last saved state with --resume, "
                "or with a lower --learning-rate."
            )
        means = sums[:, 0] / sums[:, 1].clamp(min=1)
        steps, pictures, seconds = self.since
        passed = max(progress.seconds - seconds, 1e-9)
        losses = " ".join(f"{name} {value:.4f}" for name, value in zip(self.names, means.tolist(), strict=True))
        speed = (
            f"{(progress.step - steps) / passed:.1f} steps/s {(progress.pictures - pictures) / passed:.0f} pictures/s"
        )
        self.line(f"{progress.seconds:7.0f} s  step {progress.step}  {losses}  {speed}")
        self.sums, self.since = None, (progress.step, progress.pictures, progress.seconds)

    def check(self, task: Task, progress: Progress) -> None:
        """A line about the held-out photographs, with the averaged weights."""
        with progress.averaged():
            self.line(f"{progress.seconds:7.0f} s  step {progress.step}  check: {task.check()}")
