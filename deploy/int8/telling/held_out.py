"""What int8 costs in held-out pictures goes into the bundle: `build-engine` holds it against the budget."""

from dataclasses import replace

from deploy.bundle import Bundle, BundleWriter
from deploy.int8.settings import QuantizeSettings
from deploy.int8.telling.results import Results, TargetResult


def with_held_out_figures(bundle: Bundle, results: Results) -> Bundle:
    """The same bundle, whose manifest says for each target what the default preset's pictures lost."""
    quantization = dict(bundle.manifest.quantization or {})
    rows = {row.target: row for row in results.rows}
    quantization["targets"] = {
        target: described | ({"held_out": figures_of_row(rows[target], results)} if target in rows else {})
        for target, described in quantization["targets"].items()
    }
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, quantization=quantization))


def unmeasured(bundle: Bundle) -> bool:
    """Whether the bundle was quantized, but the command was stopped before it had measured what that costs."""
    targets = (bundle.manifest.quantization or {}).get("targets", {})
    return any("held_out" not in described for described in targets.values())


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


def figures_of_row(row: TargetResult, results: Results) -> dict[str, float | int | str | None]:
    """psnr_drop: dB of mean PSNR lost against the originals, None without any; fidelity_db: mean dB from float.

    worst_db: of the worst picture, in plain sampling where that is not the preset.
    """
    lost, worst = row.preset.psnr_drop, (row.plain or row.preset).worst
    return {
        "preset": results.preset,
        "pictures": len(row.preset.decibels),
        "psnr_drop": None if lost is None else round(lost, 4),
        "fidelity_db": round(min(row.preset.mean, 200.0), 2),  # equal pictures are infinitely alike, JSON is not
        "worst_db": round(min(worst, 200.0), 2),
    }
