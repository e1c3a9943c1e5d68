"""What the user is told at the end: size, speed, fidelity, quality, layers in float and ranges, per target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec.structs import replace as changed

from calibration.lanes import Lanes, lanes_for
from calibration.observe.layers import read_graph, take_external
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import HeldOut
from deploy.images.pictures import Pixels
from deploy.int8.installed import backend_of_target
from deploy.int8.pipeline import Calibrated
from deploy.int8.settings import QuantizeSettings
from deploy.int8.storing.only_int8 import bytes_of_graphs
from deploy.int8.storing.storing import calibrated_graph
from deploy.int8.trying.budget import share_in_float
from deploy.int8.trying.comparison import (
    PLAIN,
    Fidelity,
    compare,
    float_upscaler,
    generated_by,
    int8_upscaler,
    lanes_on,
    made_by,
    runs_in_int8,
    seconds_per_step,
)
from deploy.int8.trying.decoder import TargetDecoder
from deploy.measure.evaluation.originals import Original, photographs_from_originals, read_originals
from deploy.packaged.places import EVALUATION_IMAGES
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from engines.progress import Progress

HELD_OUT = 6
"""Packaged held-out pictures that the table is made of; `idm-deploy evaluate` takes all of them."""

PLAIN_EVERY = 2
"""Of these, one in so many is also sampled without the preset's aids, in four times the steps: every photograph that
the crops are of stays among them."""

GENERATED = 4
SCALE = 4.0
SIDE = 128
"""Side of the output whose steps are timed where there are no held-out pictures; else as large as those."""


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """One target's row. share_in_float: of the multiply-accumulates of one step."""

    target: str
    ranges: int
    layers: int
    in_float: tuple[str, ...]
    share_in_float: float
    bytes: int
    preset: Fidelity
    plain: Fidelity | None
    seconds_float: float | None
    seconds_int8: float | None
    decoder: TargetDecoder | None = None
    """Of the latent family."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """All rows, and the pictures they were made of: held-out ones, or generated ones. float_bytes: as float32."""

    float_bytes: int
    rows: tuple[TargetResult, ...]
    originals: tuple[Original, ...]
    in_float: tuple[Pixels, ...]
    in_int8: dict[str, tuple[Pixels, ...]]
    preset: str


def measure(calibrated: Calibrated, *, threads: int | None, seed: int, progress: Progress) -> Results:
    """The figures of a bundle that was just quantized; its float denoiser must still be there."""
    bundle = calibrated.bundle
    settings = _settings(bundle)
    generates = not calibrated.pictures
    targets = list(calibrated.recipes)
    total = len(settings) * (1 + len(targets))
    kind = "generated" if generates else "held-out"

    def made(upscaler: Upscaler, lanes: Lanes, done: int, what: str) -> list[list[Pixels]]:
        pictures = []
        for index, choices in enumerate(settings):
            progress(f"making {kind} pictures, {what}", (done * len(settings) + index) / total)
            # Another seed than that of the calibration.
            pictures.append(
                generated_by(upscaler, GENERATED, choices, seed + 1, lanes)
                if generates
                else made_by(upscaler, seen_by[index], choices, seed + 1, lanes)
            )
        return pictures

    lanes = lanes_for(threads)
    with float_upscaler(bundle, lanes.threads) as upscaler:
        originals = [] if generates else held_out_originals(upscaler.session.model.usual_lr)
        seen_by = [originals, originals[::PLAIN_EVERY]]
        reference = made(upscaler, lanes, 0, "in float")
    side = max((max(original.size) for original in originals), default=SIDE)
    speeds = seconds_per_step(bundle, targets, side, threads=threads)
    rows, pictures = [], {}
    for number, target in enumerate(targets):
        lanes = lanes_on(backend_of_target(target), threads)
        with int8_upscaler(bundle, target, lanes.threads) as upscaler:
            results = made(upscaler, lanes, number + 1, f"in int8 for {target}")
        compared = zip(reference, results, seen_by, (True, False), strict=False)
        fidelities = [compare(a, b, of, looks=looks) for a, b, of, looks in compared]
        pictures[target] = tuple(results[0])
        rows.append(_row(calibrated, target, fidelities, speeds))
    return Results(
        float_bytes=float32_bytes(bundle),
        rows=tuple(rows),
        originals=tuple(originals),
        in_float=tuple(reference[0]),
        in_int8=pictures,
        preset=bundle.manifest.default_preset,
    )


def held_out_originals(most_lr: int | None) -> list[Original]:
    """Packaged ones, each of another photograph; most_lr: no side of their low-resolution pictures is larger."""
    spread = read_originals(EVALUATION_IMAGES, SCALE)
    if most_lr is not None and any(max(original.lr.shape[:2]) > most_lr for original in spread):
        spread = read_originals(EVALUATION_IMAGES, SCALE, crop=int(SCALE * most_lr))
    first = list(dict(reversed([(original.photograph, original) for original in spread])).values())[::-1]
    return first[:: max(1, len(first) // HELD_OUT)][:HELD_OUT]


def float32_bytes(bundle: Bundle) -> int:
    """The bytes of the float denoiser's weights in float32, in however many bytes a number they are stored."""
    weights = take_external(read_graph(calibrated_graph(bundle, "denoise")), bundle.path)
    return 4 * sum(array.size for array in weights.values())


def _settings(bundle: Bundle) -> list[Choices]:
    """The default preset, and without its aids where it has any."""
    preset = bundle.manifest.presets[bundle.manifest.default_preset]
    aided = preset.start or preset.consistency
    return [Choices(), PLAIN] if aided else [Choices()]


def _row(
    calibrated: Calibrated, target: str, found: Sequence[Fidelity], speeds: Mapping[str, tuple[float, float]]
) -> TargetResult:
    recipe = calibrated.recipes[target]
    quantization = calibrated.bundle.manifest.quantization
    assert quantization is not None
    seconds = speeds.get(target)
    return TargetResult(
        target=target,
        ranges=recipe.ranges,
        layers=len(calibrated.findings.layers),
        in_float=tuple(sorted(calibrated.choices[target].in_float)),
        share_in_float=share_in_float(recipe, calibrated.multiplications),
        bytes=bytes_of_graphs(calibrated.bundle, [quantization.targets[target].graph]),
        preset=found[0],
        plain=found[1] if len(found) > 1 else None,
        seconds_float=seconds[0] if seconds else None,
        seconds_int8=seconds[1] if seconds else None,
        decoder=calibrated.decoder.get(target),
    )


def table_from_results(results: Results) -> list[list[str]]:
    """Heading and rows for people."""
    heading = ["target", "ranges", "layers in float", "MAC in float", "size", "step", "speed-up", "fidelity", "worst"]
    originals = bool(results.originals)
    plain = any(row.plain for row in results.rows)
    heading += ["SSIMULACRA2", "PSNR", "SSIM"] if originals else []
    heading += ["plain", "worst plain"] if plain else []
    heading += ["decoder"] if results.rows[0].decoder else []
    lines = [heading]
    for row in results.rows:
        timed = row.seconds_float is not None and row.seconds_int8 is not None
        cells = [
            row.target,
            str(row.ranges),
            f"{len(row.in_float)} of {row.layers}",
            f"{row.share_in_float:.1%}",
            f"{row.bytes / results.float_bytes:.2f}x",
            f"{row.seconds_int8 * 1000:.0f} ms" if row.seconds_int8 is not None else "-",
            f"{row.seconds_float / row.seconds_int8:.2f}x" if timed and row.seconds_float and row.seconds_int8 else "-",
            f"{row.preset.mean:.1f} dB",
            f"{row.preset.worst:.1f} dB",
        ]
        changes = ((row.preset.ssimulacra2_drop, 2), (row.preset.psnr_drop, 3), (row.preset.ssim_drop, 4))
        cells += [_change(drop, decimals) for drop, decimals in changes] if originals else []
        cells += [f"{value:.1f} dB" for value in (row.plain.mean, row.plain.worst)] if row.plain else []
        cells += [row.decoder.in_short()] if row.decoder else []
        lines.append(cells)
    return lines


def pictures_of(results: Results) -> str:
    """E.g. "6 crops of 6 held-out photographs"."""
    crops = f"{len(results.originals)} crops of {count_of_photographs(results)} held-out photographs"
    return crops if results.originals else "generated pictures"


def count_of_photographs(results: Results) -> int | None:
    """How many the originals are of; None where there are none."""
    return len(set(photographs_from_originals(results.originals))) or None


def legend_of_table(results: Results) -> list[str]:
    """What the columns of the table mean, a line each."""
    pictures = pictures_of(results)
    lines = [
        "MAC in float: share of a step's multiply-accumulates that are not in int8",
        "size: weights of the denoiser, those that stay in float included, against all of them in float32",
        "step, speed-up: median time of a step in int8 here, and how many times less than float32 takes on its engine",
        f"fidelity, worst: PSNR between int8 and float pictures from the same noise, preset {results.preset}; mean and"
        f" least of {pictures}",
    ]
    if results.originals:
        lines.append(
            "SSIMULACRA2, PSNR, SSIM: by how much the means against the originals changed, preset " + results.preset
        )
    if any(row.plain for row in results.rows):
        plain = f"plain: the same fidelity for ddim with {PLAIN.steps} steps from pure noise, without any aid"
        count = len(results.originals[::PLAIN_EVERY])
        lines.append(f"{plain}; of {count} of the crops, at least one of each photograph" if count else plain)
    lines += [row.decoder.describe() for row in results.rows if row.decoder]
    return lines


def _change(drop: float | None, decimals: int) -> str:
    return "-" if drop is None else f"{-drop:+.{decimals}f}"


def report_from_results(results: Results) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "preset": results.preset,
        "float_bytes": results.float_bytes,
        "pictures": [original.name for original in results.originals],
        "photographs": count_of_photographs(results),
        "targets": {row.target: _json(row, results) for row in results.rows},
    }


def _json(row: TargetResult, results: Results) -> dict[str, Any]:
    return {
        "ranges": row.ranges,
        "layers": row.layers,
        "in_float": list(row.in_float),
        "share_of_multiplications_in_float": row.share_in_float,
        "bytes": row.bytes,
        "share_of_float_bytes": row.bytes / results.float_bytes,
        "seconds_per_step": {"float": row.seconds_float, "int8": row.seconds_int8} if runs_in_int8(row.target) else {},
        "preset": _fidelity(row.preset),
        "plain": _fidelity(row.plain) if row.plain else None,
        "decoder": row.decoder.as_json() if row.decoder else None,
    }


def _fidelity(found: Fidelity) -> dict[str, Any]:
    finite = [min(value, 200.0) for value in found.decibels]  # equal pictures are infinitely alike, JSON is not
    return {
        "mean": sum(finite) / len(finite),
        "worst": min(finite),
        "values": finite,
        "psnr_change": None if found.psnr_drop is None else -found.psnr_drop,
        "ssim_change": None if found.ssim_drop is None else -found.ssim_drop,
        "ssimulacra2_change": None if found.ssimulacra2_drop is None else -found.ssimulacra2_drop,
    }


def with_held_out_figures(bundle: Bundle, results: Results) -> Bundle:
    """The same bundle, whose manifest says for each target what the default preset's pictures lost."""
    quantization = bundle.manifest.quantization
    if quantization is None:
        return bundle
    held_out = {row.target: held_out_of_row(row, results) for row in results.rows}
    targets = {
        name: changed(target, held_out=held_out.get(name, target.held_out))
        for name, target in quantization.targets.items()
    }
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, quantization=quantization.with_targets(targets)))


def unmeasured(bundle: Bundle) -> bool:
    """Whether the bundle was quantized, but the command was stopped before it had measured what that costs."""
    quantization = bundle.manifest.quantization
    return quantization is not None and any(target.held_out is None for target in quantization.targets.values())


def beyond_budget(row: TargetResult, settings: QuantizeSettings) -> str:
    """How held-out pictures miss the budget that calibration pictures met, as a sentence; "" if they do not."""
    lost, worst = row.preset.psnr_drop, (row.plain or row.preset).worst
    misses = []
    if lost is not None and lost > settings.max_psnr_drop + 5e-4:  # 0.050 is within 0.05
        misses.append(f"{lost:.3f} dB are lost against the originals (at most {settings.max_psnr_drop:g} wanted)")
    if settings.min_fidelity is not None and worst < settings.min_fidelity - 5e-2:
        misses.append(f"the worst is {worst:.1f} dB from float (at least {settings.min_fidelity:g} wanted)")
    if not misses:
        return ""
    return (
        f"{row.target} met the budget on the calibration pictures, but on held-out ones {' and '.join(misses)}:"
        " calibrate on more pictures (--calib), or on such as the model is for"
    )


def held_out_of_row(row: TargetResult, results: Results) -> HeldOut:
    """What the bundle keeps of the figures of a target."""
    lost, worst, look = row.preset.psnr_drop, (row.plain or row.preset).worst, row.preset.ssimulacra2_drop
    return HeldOut(
        preset=results.preset,
        pictures=len(row.preset.decibels),
        psnr_drop=None if lost is None else round(lost, 4),
        fidelity_db=round(min(row.preset.mean, 200.0), 2),  # equal pictures are infinitely alike, JSON is not
        worst_db=round(min(worst, 200.0), 2),
        photographs=count_of_photographs(results),
        ssimulacra2_drop=None if look is None else round(look, 3),
    )
