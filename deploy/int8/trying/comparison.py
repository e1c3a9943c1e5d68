"""The same pictures from the same noise, in float and in int8: what quantization changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deploy.bundle import Bundle
from deploy.engine.choice import engine_choice
from deploy.engine.graphs import GraphSet
from deploy.int8.installed import backend_of_target
from deploy.int8.settings import PLAIN_STEPS
from deploy.measure.evaluation.originals import Original, Pixels
from deploy.measure.metrics import fidelity, psnr, ssim
from deploy.picture.generation import Generation
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from engines.backends import DEFAULT_BACKEND

PLAIN = Choices(equation="ddim", steps=PLAIN_STEPS, placement="uniform", start=0.0, consistency=0.0, eta=0.0)
"""No aids, from pure noise: the aids of a preset hide errors."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """dB between int8 and float pictures, per picture, and the PSNR and SSIM of both against the originals.

    The last four are empty where there are no originals.
    """

    decibels: tuple[float, ...]
    psnr_float: tuple[float, ...] = ()
    psnr_int8: tuple[float, ...] = ()
    ssim_float: tuple[float, ...] = ()
    ssim_int8: tuple[float, ...] = ()

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


def float_upscaler(bundle: Bundle, threads: int | None = None) -> Upscaler:
    """The reference: float32 on the default backend."""
    return Upscaler(bundle, DEFAULT_BACKEND, "fp32", threads)


def int8_upscaler(bundle: Bundle, target: str, threads: int | None = None) -> Upscaler:
    """The bundle's int8 graphs of one target, on a CPU."""
    choice = engine_choice(bundle, backend_of_target(target), "int8", threads)
    return Upscaler.of_graphs(GraphSet(bundle, replace(choice, int8_target=target)))


def made_by(upscaler: Upscaler, originals: Sequence[Original], choices: Choices, seed: int = 0) -> list[Pixels]:
    """Every original's LR picture enlarged to its size; pictures of one size run in batches."""
    results: dict[int, Pixels] = {}
    for size in dict.fromkeys(one.size for one in originals):
        members = [index for index, one in enumerate(originals) if one.size == size]
        made = upscaler.upscale(
            [originals[index].lr for index in members],
            size=size,
            seed=seed,
            choices=choices,
        )
        results |= dict(zip(members, made, strict=True))
    return [results[index] for index in range(len(originals))]


def generated_by(upscaler: Upscaler, count: int, choices: Choices, seed: int = 0) -> list[Pixels]:
    """`count` pictures from noise alone, at the size that the configuration names."""
    wanted = Generation(count=count)
    made = upscaler.generate(wanted.sizes, wanted.count, seed, choices=choices)
    return [one[0] for one in made]


def compare(in_float: Sequence[Pixels], in_int8: Sequence[Pixels], originals: Sequence[Original] = ()) -> Fidelity:
    """What int8 changed, picture by picture."""
    pairs = list(zip(in_float, in_int8, strict=True))
    return Fidelity(
        decibels=tuple(fidelity(a, b) for a, b in pairs),
        psnr_float=tuple(psnr(a, o.pixels) for (a, _), o in zip(pairs, originals, strict=False)),
        psnr_int8=tuple(psnr(b, o.pixels) for (_, b), o in zip(pairs, originals, strict=False)),
        ssim_float=tuple(ssim(a, o.pixels) for (a, _), o in zip(pairs, originals, strict=False)),
        ssim_int8=tuple(ssim(b, o.pixels) for (_, b), o in zip(pairs, originals, strict=False)),
    )
