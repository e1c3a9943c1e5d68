"""What int8 costs in held-out pictures goes into the bundle: `build-engine` holds it against the budget."""

from dataclasses import replace

from msgspec.structs import replace as changed

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import HeldOut
from deploy.int8.settings import QuantizeSettings
from deploy.int8.telling.results import Results, TargetResult


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
    found = []
    if lost is not None and lost > settings.max_psnr_drop + 5e-4:  # 0.050 is within 0.05
        found.append(f"{lost:.3f} dB are lost against the originals (at most {settings.max_psnr_drop:g} wanted)")
    if settings.min_fidelity is not None and worst < settings.min_fidelity - 5e-2:
        found.append(f"the worst is {worst:.1f} dB from float (at least {settings.min_fidelity:g} wanted)")
    if not found:
        return ""
    return (
        f"{row.target} met the budget on the calibration pictures, but on held-out ones {' and '.join(found)}:"
        " calibrate on more pictures (--calib), or on such as the model is for"
    )


def held_out_of_row(row: TargetResult, results: Results) -> HeldOut:
    """What the bundle keeps of the figures of a target."""
    lost, worst = row.preset.psnr_drop, (row.plain or row.preset).worst
    return HeldOut(
        preset=results.preset,
        pictures=len(row.preset.decibels),
        psnr_drop=None if lost is None else round(lost, 4),
        fidelity_db=round(min(row.preset.mean, 200.0), 2),  # equal pictures are infinitely alike, JSON is not
        worst_db=round(min(worst, 200.0), 2),
    )
