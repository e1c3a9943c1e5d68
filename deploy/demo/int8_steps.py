"""The demo's steps around int8: the bundle is quantized, and pictures are made in the other precision to compare."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.targets.table import target_named
from deploy.bundle import Bundle
from deploy.engine.graphs import INT8
from deploy.engine.int8 import has_int8
from deploy.errors import ImageError, MissingPackage
from deploy.folders.request import Request
from deploy.folders.run import infer_pictures
from deploy.images.files import read_image
from deploy.int8.installed import refuse_without_onnx, targets_here
from deploy.measure.evaluation.contenders import Setting
from deploy.measure.evaluation.originals import Pixels
from deploy.packaged.places import CALIBRATION_IMAGES
from deploy.sampling.choices import Choices
from engines.backends import DEFAULT_BACKEND, backend_named

if TYPE_CHECKING:
    from deploy.demo.demo import Demo

FLOAT = "fp32"

REPORT = "int8-report"
CALIBRATION = "calibration"
"""Folder for partial results of `quantize`, so that an interrupted demo goes on; removed when the step is done."""


def quantize_copy(demo: "Demo") -> dict[str, Any]:
    """The demo's bundle has int8 graphs, or a sentence why not; with the table and report of `quantize`."""
    reason = _why_not(demo)
    if reason is not None:
        demo.say(f"int8 is left out: {reason}")
        return {"left_out": reason}
    from deploy.int8.command import Source, quantize
    from deploy.int8.settings import Places, QuantizeSettings
    from deploy.int8.telling.results import table_from_results

    packaged = len(list(CALIBRATION_IMAGES.glob("*.png")))
    if demo.settings.calibration_pictures < packaged:
        demo.say(
            f"calibrating on {demo.settings.calibration_pictures} of the {packaged} packaged pictures, to be done in"
            " minutes; `idm-deploy quantize` takes all of them"
        )
    settings = QuantizeSettings(
        targets=_targets(), pictures=demo.settings.calibration_pictures, seed=demo.settings.seed
    )
    places = Places(cache=demo.folder / CALIBRATION, report=demo.folder / REPORT, threads=demo.settings.threads)
    outcome = quantize(
        Source(path=demo.bundle_path()), settings, places, force=True, say=demo.say, progress=demo.progress
    )
    shutil.rmtree(demo.folder / CALIBRATION, ignore_errors=True)
    return {
        "left_out": None,
        "calibration_pictures": demo.settings.calibration_pictures,
        "table": table_from_results(outcome.results),
        "report": str(outcome.folder),
    }


def other_precision(demo: "Demo") -> str | None:
    """What results are compared with: int8 beside float results, float beside int8 ones, None without int8."""
    with demo.upscaler() as upscaler:
        choice = upscaler.choice
    if choice.precision == INT8:
        return FLOAT
    return INT8 if has_int8(Bundle.open(demo.bundle_path(), verify="sizes"), choice.backend) else None


def enlarge_again(demo: "Demo") -> dict[str, Any]:
    """Every sample at the smallest scale once more, in the other precision from the same noise."""
    precision = other_precision(demo)
    if precision is None:
        return {"precision": None, "pictures": []}
    scale, folder = min(demo.settings.scales), demo.folder / precision
    folder.mkdir(exist_ok=True)
    with demo.upscaler(precision) as upscaler:
        request = Request(
            images=tuple(demo.samples()),
            scale=scale,
            output=folder,
            seed=demo.settings.seed,
            force=True,
        )
        report = infer_pictures(upscaler, request, say=demo.say, progress=demo.progress)
    if report["failed"]:
        raise ImageError(f"the demo could not enlarge its samples in {precision}: {report['failed'][0]['error']}")
    return {"precision": precision, "engine": report["engine"], "pictures": report["pictures"]}


def picture_in_other_precision(demo: "Demo", image: Path, scale: float) -> tuple[str, Pixels] | None:
    """What `enlarge_again` made of a sample, and in what precision."""
    for precision in (INT8, FLOAT):
        path = demo.folder / precision / f"{image.stem}_x{scale:g}.png"
        if path.exists():
            return precision, read_image(path).pixels
    return None


def contenders(demo: "Demo", stack: ExitStack) -> list[Setting]:
    """The default preset as results are made, and in the other precision; int8 is compared with float."""
    other = other_precision(demo)
    upscalers = [stack.enter_context(demo.upscaler())]
    if other is not None:
        upscalers.append(stack.enter_context(demo.upscaler(other)))
    preset = upscalers[0].bundle.manifest.default_preset
    names = {one.choice.precision: f"{preset}, {one.choice.precision}" if other else preset for one in upscalers}
    in_float = next((name for precision, name in names.items() if precision != INT8), None)
    return [
        Setting(
            name=names[one.choice.precision],
            upscaler=one,
            choices=Choices(),
            seed=demo.settings.seed,
            counterpart=in_float if one.choice.precision == INT8 else None,
        )
        for one in upscalers
    ]


def _why_not(demo: "Demo") -> str | None:
    if not demo.settings.int8:
        return "it was not asked for"
    try:
        refuse_without_onnx()
        _targets()
    except MissingPackage as error:
        return str(error)
    reference = backend_named(DEFAULT_BACKEND).probe()
    return None if reference.available else f"calibrating runs on ONNX Runtime: {reference.install}"


def _targets() -> tuple[str, ...]:
    """Those that the demo quantizes for: graphs for a GPU show nothing on a CPU."""
    return tuple(name for name in targets_here(None, lambda _: None) if target_named(name).on_cpu)
