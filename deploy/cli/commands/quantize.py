"""`idm-deploy quantize`: int8 graphs, calibrated per timestep range, in the bundle of a checkpoint."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from deploy.cli.progress import shown_progress
from deploy.cli.tables import text_from_cells

if TYPE_CHECKING:
    from deploy.int8.command import Outcome


def quantize(
    source: Path | None = typer.Argument(None, help="A checkpoint or a bundle; a bundle found here if not given."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Where a checkpoint's bundle goes; ./<name>.bundle."
    ),
    config: Path | None = typer.Option(None, "--config", help="The authors' configuration file, for a checkpoint."),
    weights: Literal["raw", "ema"] = typer.Option("raw", "--weights", help="ema: the checkpoint's moving average."),
    sample: list[Path] = typer.Option(
        [], "--sample", help="A low-resolution picture to put into the bundle; repeatable, packaged ones if absent."
    ),
    calib: Path | None = typer.Option(None, "--calib", help="Folder of pictures like the training's; else packaged."),
    pictures: int | None = typer.Option(None, "--pictures", help="The first so many calibration pictures only."),
    scale: list[float] = typer.Option([4.0, 8.0, 2.0], "--scale", help="Magnifications to record; repeatable."),
    crop: int = typer.Option(128, "--crop", help="Side of the recorded outputs in pixels."),
    ranges: int | None = typer.Option(None, "--ranges", help="Timestep ranges; as many as pay if not given."),
    clipping: str = typer.Option("mse", "--clipping", help="mse, percentile, entropy or minmax."),
    scales: str = typer.Option(
        "calibrated", "--scales", help="calibrated, or checkpoint: the input scales that a quantizer left in it."
    ),
    rounding: str = typer.Option("second-order", "--rounding", help="second-order or nearest, of the weights."),
    equalise: bool = typer.Option(
        True, "--equalise/--no-equalise", help="Bring the channels of an activation to one size before coding."
    ),
    correct_bias: bool = typer.Option(
        False, "--correct-bias", help="Take back each layer's mean error per range; one more pass."
    ),
    targets: str | None = typer.Option(
        None, "--targets", help="Whose graphs to write, of ort,openvino,tensorrt; all that can be tried here."
    ),
    max_psnr_drop: float = typer.Option(0.05, "--max-psnr-drop", help="dB that may be lost against originals."),
    min_fidelity: float | None = typer.Option(
        None, "--min-fidelity", help="dB between int8 and float that the worst picture must reach, in plain sampling."
    ),
    float_share: float = typer.Option(0.03, "--float-share", help="Of the arithmetic, for the most sensitive layers."),
    only: Literal["int8"] | None = typer.Option(None, "--only", help="int8: leave the float denoiser out."),
    strict: bool = typer.Option(False, "--strict", help="Refuse calibration sets that are not representative."),
    seed: int = typer.Option(0, "--seed", help="Another number, other noise."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engines."),
    max_memory: str | None = typer.Option(None, "--max-memory", help="How much may be resident, such as 4GiB."),
    cache_dir: Path | None = typer.Option(None, "--cache-dir", help="Where partial results are kept."),
    report: Path | None = typer.Option(None, "--report", help="Folder of the report; ./<name>-report."),
    force: bool = typer.Option(False, "--force", help="Quantize a bundle that is quantized already."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Add int8 graphs to a bundle, calibrated on real trajectories; ends with what that costs and gains."""
    from deploy.bundle import discover
    from deploy.int8.installed import refuse_without_onnx, targets_here

    refuse_without_onnx()
    from deploy.int8.command import Source
    from deploy.int8.command import quantize as quantized
    from deploy.int8.settings import Places, QuantizeSettings
    from deploy.picture.memory import bytes_from_text

    named = None if targets is None else tuple(name.strip() for name in targets.split(",") if name.strip())
    settings = QuantizeSettings(
        scales=tuple(scale),
        crop=crop,
        pictures=pictures,
        seed=seed,
        ranges=ranges,
        clipping=clipping,
        activation_scales=scales,
        rounding=rounding,
        equalise=equalise,
        correct_bias=correct_bias,
        targets=targets_here(named, _say),
        max_psnr_drop=max_psnr_drop,
        min_fidelity=min_fidelity,
        float_share=float_share,
        strict=strict,
    )
    places = Places(
        calibration=calib,
        cache=cache_dir,
        report=report,
        max_memory=bytes_from_text(max_memory) if max_memory else None,
        threads=threads,
    )
    told = Source(path=source or discover(), output=output, config=config, weights=weights, samples=tuple(sample))
    with shown_progress("quantize") as progress:
        outcome = quantized(told, settings, places, only_int8=only == "int8", force=force, say=_say, progress=progress)
    if as_json:
        typer.echo(json.dumps(outcome.report, indent=1, sort_keys=True))
    else:
        typer.echo(text_from_outcome(outcome))


def text_from_outcome(outcome: "Outcome") -> str:
    """The table that a person reads."""
    from deploy.int8.telling.results import table_from_results

    crops = len(outcome.results.originals)
    measured = f"{crops} crops of held-out photographs" if crops else "generated pictures"
    title = f"{outcome.bundle}, preset {outcome.results.preset}, {measured}"
    return f"{text_from_cells(title, table_from_results(outcome.results))}\nreport: {outcome.folder}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
