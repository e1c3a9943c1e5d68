"""What int8 costs in held-out pictures goes into the bundle: `build-engine` holds it against the budget."""

from dataclasses import replace

from deploy.bundle import Bundle, BundleWriter
from deploy.quantization.results import Results, TargetResult


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


def figures_of_row(row: TargetResult, results: Results) -> dict[str, float | int | str | None]:
    """psnr_drop: dB of mean PSNR lost against the originals, None without any; fidelity_db: mean dB from float."""
    lost = row.preset.psnr_drop
    return {
        "preset": results.preset,
        "pictures": len(row.preset.decibels),
        "psnr_drop": None if lost is None else round(lost, 4),
        "fidelity_db": round(min(row.preset.mean, 200.0), 2),  # equal pictures are infinitely alike, JSON is not
    }
