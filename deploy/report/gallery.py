"""The page's pictures: each scene enlarged in every way that this bundle has, from the same noise."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deploy.bundle import Bundle
from deploy.bundle.naming import stem_of_content_name
from deploy.engine.chosen import AUTO, chosen_engine
from deploy.engine.graphs import DENOISE, INT8
from deploy.engine.int8 import has_int8
from deploy.errors import DeployError, SizeError
from deploy.images.files import read_image
from deploy.images.pictures import Pixels
from deploy.images.resize import upscale
from deploy.images.sizes import Size
from deploy.int8.trying.comparison import generated_by
from deploy.measure.evaluation.contenders import MODEL_FREE, Contender, Setting
from deploy.measure.evaluation.evaluate import Evaluation, evaluate
from deploy.measure.evaluation.originals import Original, original_from_pixels, pixels_from_planes, read_originals
from deploy.measure.evaluation.report import report_from_evaluations
from deploy.packaged.places import EVALUATION_IMAGES, SAMPLE_ORIGINALS, packaged_pictures
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from engines.backends import BACKENDS
from engines.errors import EngineError
from engines.progress import Progress

FLOAT, ORIGINAL, INPUT = "float32", "original", "input"

LONGEST_SIDE = 384
"""Pixels a side of a picture on the page; of larger ones the middle is shown."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Pictures to enlarge. Where the true picture is not known, `pixels` only hold the size: bicubic stands in."""

    pictures: tuple[Original, ...]
    are_known: bool
    origin: str
    """Which pictures they are, as the page says it."""


@dataclass(frozen=True, kw_only=True)
class GallerySettings:
    """How many pictures, of what, on which engine; None is what suits the bundle."""

    pictures: int = 3
    originals: Path | None = None
    scale: float | None = None
    engine: str = AUTO
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """One way to see a scene."""

    name: str
    pixels: Pixels
    figures: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One picture in all ways; `size` is that of the enlarged ones."""

    name: str
    size: Size
    variants: tuple[Variant, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """All scenes, how each way works, and what was measured on them."""

    scenes: tuple[Scene, ...]
    origin: str
    scale: float | None
    """None: generated."""
    ways: dict[str, str]
    failures: dict[str, str]
    evaluation: dict[str, Any] | None = None


def make_gallery(bundle: Bundle, settings: GallerySettings, progress: Progress) -> Gallery:
    """Every scene in float32, in int8 where the bundle has it, and on the engine that was chosen for this machine."""
    with ExitStack() as stack:
        upscalers = {
            name: stack.enter_context(Upscaler(bundle, engine, precision, settings.threads))
            for name, engine, precision in kinds_of_engine(bundle, settings)
        }
        if not upscalers:
            raise DeployError(
                f"making pictures with {bundle.path}: no engine here runs any of its graphs. `idm-deploy doctor` shows "
                "what is here; --no-pictures makes the page without."
            )
        first = next(iter(upscalers.values()))
        if first.session.model.generates:
            return _generated(upscalers, settings, progress)
        ways: list[Contender] = [*MODEL_FREE]
        reference = next(iter(upscalers))
        ways += [
            Setting(name=name, upscaler=upscaler, choices=Choices(), seed=settings.seed, counterpart=reference)
            for name, upscaler in upscalers.items()
        ]
        scale = bundle.manifest.usual_scale if settings.scale is None else settings.scale
        pictures = chosen_pictures(bundle, settings.pictures, scale, settings.originals)
        return _enlarged(pictures, ways, scale, progress)


def kinds_of_engine(bundle: Bundle, settings: GallerySettings) -> Iterator[tuple[str, str, str]]:
    """Name, engine and precision of every way in which the model is run for the page."""
    if DENOISE in bundle.manifest.graphs:
        yield FLOAT, settings.engine, "fp32"
    choice = chosen_engine(bundle) if settings.engine == AUTO else None
    int8 = _int8_engine(bundle, settings.engine if choice is None or choice.precision != INT8 else choice.backend)
    if int8 is not None:
        yield INT8, int8, INT8
    if choice is not None and choice.precision not in ("fp32", INT8):
        yield choice.precision, choice.backend, choice.precision


def _int8_engine(bundle: Bundle, engine: str) -> str | None:
    """The engine for int8: the one that was named, or the first that is here and that the bundle has graphs for."""
    fit = (name for name in BACKENDS if engine in (AUTO, name) and has_int8(bundle, name))
    return next((name for name in fit if BACKENDS[name].probe().available), None)


def _enlarged(chosen: Chosen, ways: Sequence[Contender], scale: float, progress: Progress) -> Gallery:
    result = evaluate(chosen.pictures, ways, scale=scale, progress=progress)
    sound = [row for row in result.rows if row.failure is None]
    return Gallery(
        scenes=tuple(_scene(result, index, known=chosen.are_known) for index in range(len(chosen.pictures))),
        origin=chosen.origin,
        scale=scale,
        ways={row.name: row.about.text for row in sound},
        failures={row.name: row.failure for row in result.rows if row.failure is not None},
        evaluation=report_from_evaluations([result]) if chosen.are_known else None,
    )


def _scene(result: Evaluation, index: int, *, known: bool) -> Scene:
    original = result.originals[index]
    lr_size = f"{original.lr.shape[1]}×{original.lr.shape[0]}"
    variants = [Variant(name=INPUT, pixels=original.lr, figures=lr_size)]
    for row in result.rows:
        if row.failure is None:
            psnr, detail = row.figures["psnr"][index], row.figures["energy"][index]
            figures = f"{psnr:.2f} dB, detail {detail:.2f}" if known else ""
            variants.append(Variant(name=row.name, pixels=row.pictures[index], figures=figures))
    if known:
        variants.append(Variant(name=ORIGINAL, pixels=original.pixels))
    return Scene(name=original.name.removesuffix(".png"), size=original.size, variants=tuple(variants))


def _generated(upscalers: dict[str, Upscaler], settings: GallerySettings, progress: Progress) -> Gallery:
    """Pictures from noise alone, the same noise for every way."""
    pictures_of: dict[str, list[Pixels]] = {}
    failures: dict[str, str] = {}
    for number, (name, upscaler) in enumerate(upscalers.items()):
        progress(name, number / len(upscalers))
        try:
            pictures_of[name] = generated_by(upscaler, settings.pictures, Choices(), settings.seed)
        except (DeployError, EngineError) as error:
            failures[name] = str(error)
    scenes = [
        Scene(
            name=f"draw {index + 1}",
            size=Size.of(pictures[0]),
            variants=tuple(
                Variant(name=name, pixels=pixels) for name, pixels in zip(pictures_of, pictures, strict=True)
            ),
        )
        for index, pictures in enumerate(zip(*pictures_of.values(), strict=True))
    ]
    ways = {name: upscalers[name].sampling().recipe() for name in pictures_of}
    return Gallery(scenes=tuple(scenes), origin="generated from noise", scale=None, ways=ways, failures=failures)


def chosen_pictures(bundle: Bundle, count: int, scale: float, originals: Path | None = None) -> Chosen:
    """The first `count` pictures of what says most of this bundle: `originals` if named, its own samples, packaged."""
    if not (math.isfinite(scale) and scale >= 1):
        raise SizeError(f"The page's pictures need a scale of 1 or more, found {scale!r}.")
    if count < 1:
        raise SizeError(f"The page needs at least 1 picture, found {count}; --no-pictures makes it without.")
    if originals is not None:
        large = read_originals(originals, scale)
        cut = [_known(original.name, original.pixels, scale) for original in _spread(large, count)]
        return Chosen(pictures=tuple(cut), are_known=True, origin=f"originals from {originals.name}")
    own = [path for path in bundle.sample_images() if _sha256(path) not in _packaged_samples()]
    if own:
        enlarged = [_unknown(path, scale) for path in own[:count]]
        return Chosen(pictures=tuple(enlarged), are_known=False, origin="the bundle's own samples")
    return Chosen(pictures=tuple(_packaged(count, scale)), are_known=True, origin="packaged photographs")


def _packaged(count: int, scale: float) -> list[Original]:
    """The originals of the packaged samples first, then the smaller held-out ones, spread over the photographs."""
    large = sorted(SAMPLE_ORIGINALS.glob("*.png"))[:count]
    small = sorted(EVALUATION_IMAGES.glob("*.png"))
    paths = [*large, *_spread(small, count - len(large))]
    return [_known(path.name, read_image(path).pixels, scale) for path in paths]


def _spread(items: list[T], count: int) -> list[T]:
    if count < 1:
        return []
    return items[:: max(1, len(items) // count)][:count]


def _known(name: str, pixels: Pixels, scale: float) -> Original:
    """An original, or its middle, with the LR picture made of it."""
    crop = min(LONGEST_SIDE, *pixels.shape[:2]) if max(pixels.shape[:2]) > LONGEST_SIDE else None
    return original_from_pixels(name, pixels, scale, crop)


def _unknown(path: Path, scale: float) -> Original:
    """A low-resolution picture, or its middle, whose true enlargement nobody knows."""
    pixels = read_image(path).pixels
    limit = max(int(LONGEST_SIDE / scale), 1)
    top, left = (max(side - limit, 0) // 2 for side in pixels.shape[:2])
    lr = np.ascontiguousarray(pixels[top : top + limit, left : left + limit])
    size = round(scale * lr.shape[0]), round(scale * lr.shape[1])
    enlarged = pixels_from_planes(upscale(np.moveaxis(lr, -1, 0).astype(np.float32), size))
    return Original(name=stem_of_content_name(path.name) or path.stem, pixels=enlarged, lr=lr)


def _packaged_samples() -> frozenset[str]:
    return frozenset(_sha256(path) for path in packaged_pictures())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
