"""The whole flow on the packaged model, step by step, into one folder; an interrupted run goes on where it stopped."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import deploy
from calibration.targets.table import target_named
from deploy.bundle import Bundle
from deploy.engine.builds import PlanOptions, all_planned_builds, build_plans
from deploy.engine.chosen import AUTO
from deploy.engine.decide import BuildOptions, decide
from deploy.engine.graphs import INT8
from deploy.engine.int8 import has_int8
from deploy.engine.profiles import default_sizes
from deploy.engine.trials import TrialSettings
from deploy.errors import FolderError, ImageError, MissingPackage
from deploy.folders.request import Request
from deploy.folders.run import infer_pictures
from deploy.images.files import read_image, write_image
from deploy.images.pictures import Pixels
from deploy.images.resize import upscale
from deploy.int8.installed import refuse_without_onnx, targets_here
from deploy.measure.evaluation.contenders import MODEL_FREE, Setting
from deploy.measure.evaluation.evaluate import evaluate
from deploy.measure.evaluation.originals import Original, pixels_from_planes, read_originals
from deploy.measure.evaluation.report import report_from_evaluations
from deploy.measure.evaluation.tables import table_from_evaluation
from deploy.measure.metrics import fidelity, high_frequency_energy, psnr
from deploy.measure.sheet import contact_sheet
from deploy.packaged.places import (
    CALIBRATION_IMAGES,
    EVALUATION_IMAGES,
    IDM_BUNDLE,
    IDM_CHECKPOINT,
    SAMPLE_ORIGINALS,
    packaged_pictures,
)
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from engines.backends import DEFAULT_BACKEND, backend_named
from engines.cache import Cache
from engines.new_files import new_file
from engines.progress import Progress, Say, part_of

STATE = "demo.json"
"""What was done so far and what came out; written after every step."""


FLOAT = "fp32"

REPORT = "int8-report"

CALIBRATION = "calibration"
"""Folder for partial results of `quantize`, so that an interrupted demo goes on; removed when the step is done."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo does; the defaults are the demo."""

    from_checkpoint: bool = False
    """Export the packaged checkpoint first, which needs torch, instead of opening the packaged bundle."""
    scales: tuple[float, ...] = (4.0, 12.0)
    pictures: int = 3
    originals: int = 24
    int8: bool = True
    """Quantize the bundle, and show what that changes."""
    calibration_pictures: int = 8
    """Of the packaged ones: calibrating on all 16 would take most of the demo's minutes."""
    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    seed: int = 0

    def quick(self) -> "DemoSettings":
        """The settings of `--quick`: the same flow on less, in about a third of the time."""
        return replace(self, pictures=1, originals=2, calibration_pictures=1)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A run of the demo in its folder."""

    settings: DemoSettings
    folder: Path
    say: Say
    progress: Progress

    def bundle_path(self) -> Path:
        """The bundle that the demo runs, its own: quantizing changes it."""
        return self.folder / IDM_BUNDLE.name

    def upscaler(self, precision: str | None = None) -> AbstractContextManager[Upscaler]:
        """The bundle's networks, ready to run as results are made, or in another precision on the same engine."""
        settings = self.settings
        bundle = Bundle.open(self.bundle_path(), verify="sizes")
        upscaler = Upscaler(bundle, engine=settings.engine, precision=settings.precision, threads=settings.threads)
        if precision is None:
            return upscaler
        return Upscaler(bundle, engine=upscaler.choice.backend, precision=precision, threads=settings.threads)

    def samples(self) -> list[Path]:
        """The packaged pictures to enlarge."""
        return packaged_pictures()[: self.settings.pictures]


def make_bundle(demo: Demo) -> dict[str, Any]:
    """The bundle exists and is what it says: exported now, or copied from the package, every hash compared."""
    if demo.settings.from_checkpoint:
        from deploy.checkpoint.load import load_checkpoint
        from deploy.export.export import export_bundle

        loaded = load_checkpoint(IDM_CHECKPOINT)
        bundle = export_bundle(loaded, demo.bundle_path(), samples=demo.samples(), force=True, progress=demo.progress)
    else:
        bundle = _copied(Bundle.open(IDM_BUNDLE), demo.bundle_path())
    size = sum(record.bytes for record in bundle.manifest.files.values())
    return {"bundle": str(bundle.path), "bytes": size, "checkpoint_sha256": bundle.manifest.source.sha256}


def _copied(bundle: Bundle, place: Path) -> Bundle:
    """A copy of the bundle at `place`, whatever lay there."""
    partial = place.with_name(f".{place.name}.partial")
    try:
        for old in (partial, place):
            if old.exists():
                shutil.rmtree(old)
        shutil.copytree(bundle.path, partial)
        partial.rename(place)
    except OSError as error:
        raise FolderError(
            f"copying the packaged bundle to {place}: {error.strerror}. Choose another folder with -o."
        ) from error
    return Bundle.open(place)


def quantize_copy(demo: Demo) -> dict[str, Any]:
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


def _why_not(demo: Demo) -> str | None:
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
    """The targets that the demo quantizes for: graphs for a GPU show nothing on a CPU."""
    return tuple(name for name in targets_here(None, lambda _: None) if target_named(name).on_cpu)


def choose_engine(demo: Demo) -> dict[str, Any]:
    """The fastest engine and precision for the demo's bundle here, with every candidate's figures; or why not."""
    settings = demo.settings
    if (settings.engine, settings.precision) != (AUTO, AUTO):
        return {"left_out": "the engine or the precision was named"}
    bundle = Bundle.open(demo.bundle_path(), verify="sizes")
    cache, plans = Cache(), PlanOptions(sizes=default_sizes(bundle))
    build_plans(all_planned_builds(bundle, AUTO, AUTO, plans), cache, plans, demo.progress)
    decision = decide(bundle, cache, BuildOptions(trial=TrialSettings(threads=settings.threads)), demo.progress)
    demo.say(f"engine: {decision.why}")
    return {
        "left_out": None,
        "engine": decision.choice.backend,
        "precision": decision.choice.precision,
        "why": decision.why,
        "candidates": msgspec.to_builtins(decision.candidates),
    }


def enlarge_samples(demo: Demo) -> dict[str, Any]:
    """Every sample at every scale, `<name>_x<scale>.png`; the first in two stages as well where training ends."""
    pictures: list[dict[str, Any]] = []
    with demo.upscaler() as upscaler:
        runs = [(scale, tuple(demo.samples())) for scale in demo.settings.scales]
        if is_beyond_training(upscaler.bundle, max(demo.settings.scales)):
            first, last = min(demo.settings.scales), max(demo.settings.scales)
            runs.append((last / first, (demo.folder / f"{demo.samples()[0].stem}_x{first:g}.png",)))
        for index, (scale, images) in enumerate(runs):
            request = Request(images=images, scale=scale, output=demo.folder, seed=demo.settings.seed, force=True)
            report = infer_pictures(upscaler, request, say=demo.say, progress=part_of(demo.progress, index, len(runs)))
            if report["failed"]:
                raise ImageError(f"the demo could not enlarge its samples: {report['failed'][0]['error']}")
            pictures += report["pictures"]
    keys = ("engine", "precision", "sampling")
    return {"pictures": pictures, **{key: report[key] for key in keys}}


def is_beyond_training(bundle: Bundle, scale: float) -> bool:
    """Whether the bundle's model has never seen a scale as large as this."""
    trained = bundle.manifest.scale_range.trained
    return trained is not None and scale > trained[1]


def other_precision(demo: Demo) -> str | None:
    """What results are compared with: int8 beside float results, float beside int8 ones, None without int8."""
    with demo.upscaler() as upscaler:
        choice = upscaler.choice
    if choice.precision == INT8:
        return FLOAT
    return INT8 if has_int8(Bundle.open(demo.bundle_path(), verify="sizes"), choice.backend) else None


def enlarge_again(demo: Demo) -> dict[str, Any]:
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


def picture_in_other_precision(demo: Demo, image: Path, scale: float) -> tuple[str, Pixels] | None:
    """What `enlarge_again` made of a sample, and in what precision."""
    for precision in (INT8, FLOAT):
        path = demo.folder / precision / f"{image.stem}_x{scale:g}.png"
        if path.exists():
            return precision, read_image(path).pixels
    return None


def draw_sheets(demo: Demo) -> dict[str, Any]:
    """One contact sheet per scale: nearest, bicubic, the result, and the original where there is one of that size."""
    sheets = []
    for scale in demo.settings.scales:
        rows = [_sheet_row(demo, image, scale) for image in demo.samples()]
        path = demo.folder / f"contact-sheet-x{scale:g}.png"
        write_image(contact_sheet(rows, side=256 if scale <= 4 else 384, title=f"idm-deploy demo, {scale:g}x"), path)
        sheets.append(str(path))
    return {"sheets": sheets}


def _sheet_row(demo: Demo, image: Path, scale: float) -> list[tuple[str, Pixels]]:
    lr = read_image(image).pixels
    result = read_image(demo.folder / f"{image.stem}_x{scale:g}.png").pixels
    size = (result.shape[0], result.shape[1])
    bicubic = pixels_from_planes(upscale(np.moveaxis(lr, -1, 0).astype(np.float32), size))
    original_path = SAMPLE_ORIGINALS / image.name
    whole = read_image(original_path).pixels if original_path.exists() else None
    original = (
        Original(name=image.name, pixels=whole, lr=lr) if whole is not None and whole.shape == result.shape else None
    )
    row = [
        (f"{image.stem}, nearest\n{lr.shape[1]}x{lr.shape[0]}", lr),
        (f"bicubic\n{_noted(bicubic, original)}", bicubic),
        (f"result\n{_noted(result, original)}", result),
    ]
    other = picture_in_other_precision(demo, image, scale)
    if other is not None:
        precision, pixels = other
        row.append(
            (f"{precision}, {fidelity(result, pixels):.1f} dB to the result\n{_noted(pixels, original)}", pixels)
        )
    first = min(demo.settings.scales)
    staged = demo.folder / f"{image.stem}_x{first:g}_x{scale / first:g}.png"
    if staged.exists():
        row.append((f"result of {first:g}x, then {scale / first:g}x\n ", read_image(staged).pixels))
    return row if original is None else [*row, ("original\n ", original.pixels)]


def _noted(picture: Pixels, original: Original | None) -> str:
    if original is None:
        return f"{picture.shape[1]}x{picture.shape[0]}"
    lr_size = (original.lr.shape[0], original.lr.shape[1])
    energy = high_frequency_energy(picture, original.pixels, lr_size)
    return f"{psnr(picture, original.pixels):.2f} dB, detail {energy:.2f}"


def measure_originals(demo: Demo) -> dict[str, Any]:
    """The figures of the default preset on held-out originals, in float and int8, beside filters without a model."""
    originals = read_originals(EVALUATION_IMAGES, 4.0)
    # Spread over the photographs, so that a part of them is not one photograph alone.
    selection = originals[:: max(1, len(originals) // demo.settings.originals)][: demo.settings.originals]
    with ExitStack() as stack:
        settings = contenders(demo, stack)
        result = evaluate(selection, [*MODEL_FREE, *settings], scale=4.0, progress=demo.progress)
    return {"table": table_from_evaluation(result), "evaluation": report_from_evaluations([result])}


def contenders(demo: Demo, stack: ExitStack) -> list[Setting]:
    """The default preset as results are made, and in the other precision; int8 is compared with float."""
    other = other_precision(demo)
    upscalers = [stack.enter_context(demo.upscaler())]
    if other is not None:
        upscalers.append(stack.enter_context(demo.upscaler(other)))
    preset = upscalers[0].bundle.manifest.default_preset
    names = {
        upscaler.choice.precision: f"{preset}, {upscaler.choice.precision}" if other else preset
        for upscaler in upscalers
    }
    in_float = next((name for precision, name in names.items() if precision != INT8), None)
    return [
        Setting(
            name=names[upscaler.choice.precision],
            upscaler=upscaler,
            choices=Choices(),
            seed=demo.settings.seed,
            counterpart=in_float if upscaler.choice.precision == INT8 else None,
        )
        for upscaler in upscalers
    ]


STEPS: Mapping[str, Callable[[Demo], dict[str, Any]]] = {
    "bundle": make_bundle,
    "quantize": quantize_copy,
    "engine": choose_engine,
    "enlarge": enlarge_samples,
    "int8": enlarge_again,
    "sheets": draw_sheets,
    "figures": measure_originals,
}
"""In the order in which they run. A step's result is JSON, stored under its name."""

IN_WORDS: Mapping[str, str] = {
    "bundle": "unpacking the model",
    "quantize": "making an int8 form of the model",
    "engine": "finding the fastest engine here",
    "enlarge": "enlarging the sample pictures",
    "int8": "enlarging them again in the other precision",
    "sheets": "laying the pictures side by side",
    "figures": "measuring quality on photographs that training never saw",
}
"""What each step does, for people who watch it."""


def run_demo(
    folder: Path,
    settings: DemoSettings | None = None,
    *,
    force: bool = False,
    say: Say,
    progress: Progress,
) -> dict[str, Any]:
    """What every step found, after all of them; steps that an interrupted run has finished are not done again."""
    settings = settings or DemoSettings()
    state = _state_to_go_on_with(folder, settings, force)
    for index, (name, step) in enumerate(STEPS.items()):
        if name in state["steps"]:
            say(f"{name}: done before")
            continue

        def tell(doing: str, fraction: float, index: int = index, name: str = name) -> None:
            progress(f"{index + 1} of {len(STEPS)}, {IN_WORDS[name]}: {doing}", (index + fraction) / len(STEPS))

        began = time.perf_counter()
        result = step(Demo(settings=settings, folder=folder, say=say, progress=tell))
        state["steps"][name] = {"seconds": round(time.perf_counter() - began, 2), "result": result}
        _write_state(folder, state)
    state["finished"] = True
    _write_state(folder, state)
    return state


def _state_to_go_on_with(folder: Path, settings: DemoSettings, force: bool) -> dict[str, Any]:
    """The state of an interrupted run with the same settings, or a new one in a folder that may be used."""
    fresh: dict[str, Any] = {
        "version": deploy.__version__,
        "settings": json.loads(json.dumps(asdict(settings))),
        "steps": {},
        "finished": False,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(entry.name for entry in folder.iterdir())
        before = json.loads((folder / STATE).read_text()) if STATE in names else None
    except OSError as error:
        raise FolderError(
            f"the demo cannot use the folder {folder}: {error.strerror}. Choose another with -o."
        ) from error
    except ValueError:  # not JSON: no state of ours
        before = None
    if isinstance(before, dict) and before.keys() == fresh.keys() and not before["finished"]:
        same = all(before[key] == fresh[key] for key in ("version", "settings"))
        return before if same else fresh
    if names and not force:
        raise FolderError(
            f"the demo's folder {folder} is not empty; it holds {', '.join(names[:3])}"
            f"{' and more' if len(names) > 3 else ''}. Choose another with -o, or use --force to write over it."
        )
    _write_state(folder, fresh)
    return fresh


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    with new_file(folder / STATE) as file:
        file.write((json.dumps(state, indent=1, sort_keys=True) + "\n").encode())
