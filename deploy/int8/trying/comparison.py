"""The same pictures from the same noise, in float and in int8: what quantization changed."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from threading import Event
from typing import Final

import numpy as np

from calibration.lanes import Lanes, go_on, lanes_for
from calibration.targets.table import target_named
from deploy.bundle import Bundle
from deploy.engine.choice import engine_choice
from deploy.images.pictures import Pixels
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.int8.installed import backend_of_target
from deploy.int8.settings import PLAIN_STEPS
from deploy.measure.evaluation.originals import Original
from deploy.measure.metrics import fidelity, psnr, ssim
from deploy.measure.ssimulacra2 import ssimulacra2
from deploy.picture.generation import Generation
from deploy.picture.session import Session
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from deploy.sampling.plan import PlanRow
from engines.backends import DEFAULT_BACKEND

ONE_LANE: Final = Lanes(count=1, threads=None)

PLAIN = Choices(equation="ddim", steps=PLAIN_STEPS, placement="uniform", start=0.0, consistency=0.0, eta=0.0)
"""No aids, from pure noise: the aids of a preset hide errors."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """dB between int8 and float pictures, per picture, and the PSNR and SSIM of both against the originals.

    The last ones are empty where there are no originals, SSIMULACRA2 also where it was not asked for.
    """

    decibels: tuple[float, ...]
    psnr_float: tuple[float, ...] = ()
    psnr_int8: tuple[float, ...] = ()
    ssim_float: tuple[float, ...] = ()
    ssim_int8: tuple[float, ...] = ()
    look_float: tuple[float, ...] = ()
    look_int8: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean over the pictures, in dB."""
        return float(np.mean(self.decibels))

    @property
    def worst(self) -> float:
        """The least over the pictures, in dB."""
        return float(np.min(self.decibels))

    @property
    def psnr_drop(self) -> float | None:
        """dB that the mean PSNR against the originals lost; None without originals."""
        return float(np.mean(self.psnr_float) - np.mean(self.psnr_int8)) if self.psnr_float else None

    @property
    def ssim_drop(self) -> float | None:
        """What the mean SSIM against the originals lost; None without originals."""
        return float(np.mean(self.ssim_float) - np.mean(self.ssim_int8)) if self.ssim_float else None

    @property
    def ssimulacra2_drop(self) -> float | None:
        """What the mean SSIMULACRA2 against the originals lost; None where it was not measured."""
        return float(np.mean(self.look_float) - np.mean(self.look_int8)) if self.look_float else None


def float_upscaler(bundle: Bundle, threads: int | None = None) -> Upscaler:
    """The reference: float32 on the default backend."""
    return Upscaler(bundle, DEFAULT_BACKEND, "fp32", threads)


def int8_session(bundle: Bundle, target: str, threads: int | None = None) -> Session:
    """The bundle's int8 graphs of one target, on a CPU."""
    choice = engine_choice(bundle, backend_of_target(target), "int8", threads)
    return Session(bundle, replace(choice, int8_target=target))


def int8_upscaler(bundle: Bundle, target: str, threads: int | None = None) -> Upscaler:
    """The bundle's int8 graphs of one target on a CPU, to make pictures with."""
    return Upscaler.of_session(int8_session(bundle, target, threads))


def lanes_on(backend: str, threads: int | None) -> Lanes:
    """How a backend makes most of several pictures: in lanes where one engine serves two callers at once.

    OpenVINO's lets them take turns, and two of its engines with a thread each are no faster than one with two.
    """
    return lanes_for(threads) if backend == DEFAULT_BACKEND else Lanes(count=1, threads=threads)


def made_by(
    upscaler: Upscaler, originals: Sequence[Original], choices: Choices, seed: int = 0, lanes: Lanes = ONE_LANE
) -> list[Pixels]:
    """Every original's LR picture enlarged to its size; pictures of one size run in batches, one in each lane.

    The upscaler was opened with as many threads as a lane has.
    """
    batches: list[list[int]] = []
    for size in dict.fromkeys(original.size for original in originals):
        members = [index for index, original in enumerate(originals) if original.size == size]
        length = math.ceil(len(members) / lanes.count)
        batches += [members[first : first + length] for first in range(0, len(members), length)]

    stop = Event()

    def made_of(members: list[int]) -> list[Pixels]:
        size = originals[members[0]].size
        pictures = [originals[index].lr for index in members]
        return upscaler.upscale(
            pictures, size=size.for_user, seed=seed, choices=choices, progress=lambda _: go_on(stop)
        )

    results: dict[int, Pixels] = {}
    for members, pictures in zip(batches, lanes.each(made_of, batches, stop), strict=True):
        results |= dict(zip(members, pictures, strict=True))
    return [results[index] for index in range(len(originals))]


def generated_by(
    upscaler: Upscaler, count: int, choices: Choices, seed: int = 0, lanes: Lanes = ONE_LANE
) -> list[Pixels]:
    """`count` pictures from noise alone, at the size that the configuration names."""

    stop = Event()

    def made_of(number: int) -> Pixels:
        sizes = Generation().sizes
        pictures = upscaler.generate(sizes, 1, seed, choices=choices, sample=number, progress=lambda _: go_on(stop))
        return pictures[0][0]

    return list(lanes.each(made_of, range(count), stop))


def compare(
    in_float: Sequence[Pixels], in_int8: Sequence[Pixels], originals: Sequence[Original] = (), *, looks: bool = False
) -> Fidelity:
    """What int8 changed, picture by picture; `looks`: also as SSIMULACRA2 sees it, which takes longest."""
    pairs = list(zip(in_float, in_int8, strict=True))
    seen = list(zip(pairs, originals, strict=False)) if looks else []
    return Fidelity(
        decibels=tuple(fidelity(a, b) for a, b in pairs),
        psnr_float=tuple(psnr(a, o.pixels) for (a, _), o in zip(pairs, originals, strict=False)),
        psnr_int8=tuple(psnr(b, o.pixels) for (_, b), o in zip(pairs, originals, strict=False)),
        ssim_float=tuple(ssim(a, o.pixels) for (a, _), o in zip(pairs, originals, strict=False)),
        ssim_int8=tuple(ssim(b, o.pixels) for (_, b), o in zip(pairs, originals, strict=False)),
        look_float=tuple(ssimulacra2(a, o.pixels) for (a, _), o in seen),
        look_int8=tuple(ssimulacra2(b, o.pixels) for (_, b), o in seen),
    )


def runs_in_int8(target: str) -> bool:
    """Whether this CPU runs a target's graphs in int8, and on the target's own backend."""
    described = target_named(target)
    return described.on_cpu and backend_of_target(target) == described.tried_on


def seconds_per_step(
    bundle: Bundle, targets: Sequence[str], side: int, *, threads: int | None = None, rounds: int = 5
) -> dict[str, tuple[float, float]]:
    """Per target that runs in int8 here, the median seconds of one step in float32 and in int8 on its backend."""
    with ExitStack() as stack:
        steps: dict[str, Callable[[], object]] = {}
        for target in [name for name in targets if runs_in_int8(name)]:
            choice = engine_choice(bundle, target_named(target).tried_on, "fp32", threads)
            in_float = stack.enter_context(Session(bundle, choice))
            in_int8 = stack.enter_context(int8_session(bundle, target, threads))
            steps[f"{target} float"] = _step(in_float, side)
            steps[f"{target} int8"] = _step(in_int8, side)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - began)
    names = dict.fromkeys(name.split()[0] for name in steps)
    return {name: (median(seconds[f"{name} float"]), median(seconds[f"{name} int8"])) for name in names}


def _step(session: Session, side: int) -> Callable[[], object]:
    """A step to be timed, one evaluation of an empty picture or latent, which has run twice already."""
    model = session.model
    lr, output = (Size.square(length) for length in (max(side // 4, 1), side))
    size = model.state_size(lr, output)
    condition = model.blank_condition(lr, output, Window.whole(size))
    (row,) = model.rows([PlanRow.evaluation(0.5, 500)])
    x = np.zeros((1, model.channels, *size), np.float32)
    for _ in range(2):
        model.predict(x, condition, row)
    return lambda: model.predict(x, condition, row)
