"""The jobs of `idm-deploy infer` from Python: pictures and folders in, files out, one outcome at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from deploy.bundle import Bundle
from deploy.errors import ImageError
from deploy.folders.outcome import Outcome
from deploy.folders.request import Crop, Request
from deploy.folders.run import Run
from deploy.images.colour_fix import DEFAULT_COLOR_FIX
from deploy.images.sizes import UserSize
from deploy.images.writing import Saving
from deploy.packaged.places import bundle_or_packaged
from deploy.picture.options import ignore
from deploy.picture.parameters import check_kinds, listed, wrong_kind
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

Pictures = str | PathLike[str] | Iterable[str | PathLike[str]]


def enlarge(
    pictures: Pictures,
    out: str | PathLike[str],
    *,
    scale: float | None = None,
    size: UserSize | None = None,
    long_edge: int | None = None,
    fit: UserSize | None = None,
    megapixels: float | None = None,
    upscaler: Upscaler | None = None,
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    name: str | None = None,
    crop: Crop | None = None,
    samples: int = 1,
    compare: bool = False,
    temporal_noise: Literal["fixed"] | None = None,
    frames: Literal["first", "all"] = "first",
    format: str | None = None,
    quality: int | None = None,
    strip_metadata: bool = False,
    color_fix: str = DEFAULT_COLOR_FIX,
    background: str | None = None,
    seed: int = 0,
    tile: int | None = None,
    batch: int | None = None,
    max_pixels: int | None = None,
    force: bool = False,
    choices: Choices | None = None,
    preset: str | None = None,
    steps: int | None = None,
    stages: str | Sequence[float] | None = None,
    draws: int | None = None,
    notice: Callable[[str], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Iterator[Outcome]:
    """Each of `pictures` (files, and folders with all below them) enlarged into the folder `out`, as `Outcome`.

    An outcome comes when its file is complete: "made", "skipped" where it is there already, or "failed" with `error`;
    one bad picture does not stop the others. The network runs while the next outcome is asked for. Leaving the loop
    ends the run; the same call goes on with what is missing, also after the process was killed. What is wrong with the
    request itself is raised by the call, before any picture is touched.

    Exactly one of `scale`, `size`, `long_edge`, `fit` and `megapixels` says how large. `upscaler`: an open one, which
    stays open; None opens the bundle of the current folder, else the packaged model. The other parameters are the
    options of `idm-deploy infer`. `notice` is told what a person should know, `progress` how far the run is.
    """
    named: Any = listed(pictures)
    patterns: dict[str, Any] = {"include": listed(include), "exclude": listed(exclude)}
    check_kinds(
        **patterns,
        pictures=named,
        out=out,
        size=size,
        fit=fit,
        name=name,
        crop=crop,
        samples=samples,
        compare=compare,
        format=format,
        quality=quality,
        strip_metadata=strip_metadata,
        color_fix=color_fix,
        background=background,
        tile=tile,
        batch=batch,
        max_pixels=max_pixels,
        force=force,
        choices=choices,
        preset=preset,
        stages=stages,
        draws=draws,
        notice=notice,
        progress=progress,
    )
    if upscaler is not None and not isinstance(upscaler, Upscaler):
        raise wrong_kind("upscaler", "an open Upscaler", upscaler)
    if temporal_noise not in (None, "fixed"):
        raise ImageError(f"The `temporal_noise` must be fixed or left out, found {temporal_noise!r}.")
    if frames not in ("first", "all"):
        raise ImageError(f"The `frames` must be first or all, found {frames!r}.")
    if any(fspath(picture) == "" for picture in named):
        raise ImageError("A picture's path is empty; `.` is the current folder.")
    request = Request(
        images=tuple(Path(fspath(picture)) for picture in named),
        scale=scale,
        size=size,
        long_edge=long_edge,
        fit=fit,
        megapixels=megapixels,
        output=Path(fspath(out)),
        output_is_folder=True,
        keeps_record=True,
        name=name,
        include=tuple(patterns["include"]),
        exclude=tuple(patterns["exclude"]),
        crop=crop,
        samples=samples,
        compare=compare,
        one_noise=temporal_noise == "fixed",
        seed=seed,
        tile=tile,
        batch=batch,
        max_pixels=max_pixels,
        force=force,
        saving=Saving(
            format=format,
            quality=quality,
            strip_metadata=strip_metadata,
            color_fix=color_fix,
            background=background,
        ),
        all_frames=frames == "all",
        choices=Choices(preset=preset, steps=steps, stages=stages, draws=draws).before(choices),
    )
    with ExitStack() as stack:
        if upscaler is None:
            upscaler = stack.enter_context(Upscaler(Bundle.open(bundle_or_packaged(None, notice or ignore))))
        run = stack.enter_context(
            Run(upscaler, request, say=notice or ignore, progress=lambda *told: progress and progress(*told))
        )
        outcomes = _outcomes(run, stack.pop_all())
    next(outcomes)
    return outcomes


def _outcomes(run: Run, stack: ExitStack) -> Iterator[Outcome]:
    """Those of the run, after an empty one: once that is taken, the run is closed however the iterator ends."""
    with stack:
        yield Outcome(state="skipped", input=Path(), output=Path())
        yield from run.outcomes()
