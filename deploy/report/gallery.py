"""The page's pictures: each scene enlarged in every way that this bundle has, from the same noise."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from deploy.engine.chosen import AUTO, chosen_engine
from deploy.engine.graphs import DENOISE, INT8
from deploy.engine.int8 import has_int8
from deploy.errors import DeployError
from deploy.images.sizes import Size
from deploy.int8.trying.comparison import generated_by
from deploy.measure.evaluation.contenders import MODEL_FREE, Contender, Setting
from deploy.measure.evaluation.evaluate import Evaluation, evaluate
from deploy.measure.evaluation.originals import Pixels
from deploy.measure.evaluation.record import report_from_evaluation
from deploy.picture.upscaler import Upscaler
from deploy.report.scenes import Chosen, chosen_pictures, usual_scale
from deploy.sampling.choices import Choices
from engines.backends import BACKENDS
from engines.errors import EngineError

Progress = Callable[[str, float], None]

FLOAT, ORIGINAL, INPUT = "float32", "original", "input"


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
            Setting(name=name, upscaler=one, choices=Choices(), seed=settings.seed, counterpart=reference)
            for name, one in upscalers.items()
        ]
        scale = usual_scale(bundle) if settings.scale is None else settings.scale
        chosen = chosen_pictures(bundle, settings.pictures, scale, settings.originals)
        return _enlarged(chosen, ways, scale, progress)


def kinds_of_engine(bundle: Bundle, settings: GallerySettings) -> Iterator[tuple[str, str, str]]:
    """Name, engine and precision of every way in which the model is run for the page."""
    if DENOISE in bundle.manifest.graphs:
        yield FLOAT, settings.engine, "fp32"
    chosen = chosen_engine(bundle) if settings.engine == AUTO else None
    int8 = _int8_engine(bundle, settings.engine if chosen is None or chosen.precision != INT8 else chosen.backend)
    if int8 is not None:
        yield INT8, int8, INT8
    if chosen is not None and chosen.precision not in ("fp32", INT8):
        yield chosen.precision, chosen.backend, chosen.precision


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
        evaluation=report_from_evaluation(result) if chosen.are_known else None,
    )


def _scene(result: Evaluation, index: int, *, known: bool) -> Scene:
    original = result.originals[index]
    told = f"{original.lr.shape[1]}×{original.lr.shape[0]}"
    variants = [Variant(name=INPUT, pixels=original.lr, figures=told)]
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
    made: dict[str, list[Pixels]] = {}
    failures: dict[str, str] = {}
    for number, (name, upscaler) in enumerate(upscalers.items()):
        progress(name, number / len(upscalers))
        try:
            made[name] = generated_by(upscaler, settings.pictures, Choices(), settings.seed)
        except (DeployError, EngineError) as error:
            failures[name] = str(error)
    scenes = [
        Scene(
            name=f"draw {index + 1}",
            size=Size.of(pictures[0]),
            variants=tuple(Variant(name=name, pixels=one) for name, one in zip(made, pictures, strict=True)),
        )
        for index, pictures in enumerate(zip(*made.values(), strict=True))
    ]
    ways = {name: upscalers[name].sampling().recipe() for name in made}
    return Gallery(scenes=tuple(scenes), origin="generated from noise", scale=None, ways=ways, failures=failures)
