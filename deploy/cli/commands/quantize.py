"""`idm-deploy quantize`: int8 graphs, calibrated per timestep range, in the bundle of a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deploy.cli.messages import say
from deploy.cli.models import NamesModel
from deploy.cli.options import ENGINE, FIRST, Config, Json, Panel, Sample, Threads, Weights, one_of
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result, text_from_cells

if TYPE_CHECKING:
    from deploy.int8.command import Outcome


CALIBRATION, BUDGET = Panel("Calibration pictures"), Panel("What may be lost")
METHOD = Panel("How int8 is made")
EXAMPLES = (
    "idm-deploy quantize ckpt.bundle",
    "idm-deploy quantize ckpt.pt --calib photographs --max-psnr-drop 0.1",
)


def quantize(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A bundle, or a checkpoint, which is exported first. If left out, the one bundle in this folder."
        ),
        NamesModel(changes_bundle=True),
    ] = None,
    output: Annotated[
        Path | None,
        FIRST(
            "Folder for the bundle of a checkpoint. If left out, <checkpoint>.bundle in this folder.", "--output", "-o"
        ),
    ] = None,
    report: Annotated[
        Path | None, FIRST("Folder for tables, plots and pictures of the result. If left out, <bundle>-report.")
    ] = None,
    sample: Sample = [],
    only: Annotated[
        Literal["int8"] | None, FIRST("int8: take the float denoiser out of the bundle, which makes it smaller.")
    ] = None,
    force: Annotated[bool, FIRST("Quantize a bundle anew that is quantized already.", "--force")] = False,
    config: Config = None,
    weights: Weights = "raw",
    calib: Annotated[
        Path | None,
        CALIBRATION("Folder of pictures like those that the model was trained on. If left out, packaged photographs."),
    ] = None,
    pictures: Annotated[int | None, CALIBRATION("Use only the first so many of these pictures.")] = None,
    strict: Annotated[
        bool, CALIBRATION("Stop, instead of warning, where these pictures are too few or too much alike.", "--strict")
    ] = False,
    scale: Annotated[
        list[float],
        CALIBRATION("How many times the calibration pictures are enlarged, one after the other; repeatable."),
    ] = [4.0, 8.0, 2.0],
    crop: Annotated[int, CALIBRATION("Side in pixels of the enlarged pictures in the calibration.")] = 128,
    seed: Annotated[int, CALIBRATION("Which random noise the calibration pictures begin with, from 0.")] = 0,
    max_psnr_drop: Annotated[
        float, BUDGET("How many dB of PSNR against originals may be lost; layers go back to float until that is kept.")
    ] = 0.05,
    min_fidelity: Annotated[
        float | None,
        BUDGET("How near, in dB of PSNR, the worst int8 picture must come to the float one, in plain sampling."),
    ] = None,
    float_share: Annotated[
        float,
        BUDGET("Share of the arithmetic that the most sensitive layers may do in float in any case: 0.03 is 3 %."),
    ] = 0.03,
    targets: Annotated[
        str | None,
        METHOD(
            "Which engines to make int8 graphs for: ort, openvino and tensorrt, separated by commas. If left out, all "
            "that can be tried here."
        ),
    ] = None,
    ranges: Annotated[
        int | None,
        METHOD("Into how many timestep ranges to divide, each with scales of its own. If left out, as many as pay."),
    ] = None,
    clipping: Annotated[
        str,
        METHOD(
            "How the largest value that int8 holds is chosen: mse (least squared error), percentile, entropy or "
            "minmax (nothing is cut off).",
            complete=one_of("mse", "percentile", "entropy", "minmax"),
        ),
    ] = "mse",
    scales: Annotated[
        str,
        METHOD(
            "Where the scales of the layers' inputs come from: calibrated here, or checkpoint, which takes those that"
            " another quantizer left in it.",
            complete=one_of("calibrated", "checkpoint"),
        ),
    ] = "calibrated",
    rounding: Annotated[
        str,
        METHOD(
            "How weights are rounded: second-order, so that errors of a layer cancel on the calibration pictures, or "
            "nearest, which is quicker.",
            complete=one_of("second-order", "nearest"),
        ),
    ] = "second-order",
    equalise: Annotated[
        bool,
        METHOD(
            "Bring the channels of a layer's input to one size before coding, or leave them as they are.",
            "--equalise/--no-equalise",
        ),
    ] = True,
    correct_bias: Annotated[
        bool,
        METHOD("Take the mean error of each layer out again, in each range; takes one more pass.", "--correct-bias"),
    ] = False,
    threads: Threads = None,
    max_memory: Annotated[
        str | None, ENGINE("Most memory that the process may take, such as 4GiB. If left out, 60 % of what is free.")
    ] = None,
    cache_dir: Annotated[
        Path | None,
        ENGINE(
            "Folder for partial results, from which the same command goes on after it was stopped. If left out, in the"
            " user's cache."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add int8 graphs to a bundle, calibrated on real trajectories; ends with what that costs and gains."""
    from deploy.bundle import discover
    from deploy.int8.installed import refuse_without_onnx, targets_here

    refuse_without_onnx()
    from deploy.cli.values import checked_usage
    from deploy.int8.command import Source
    from deploy.int8.command import quantize as quantized
    from deploy.int8.settings import Places, QuantizeSettings
    from deploy.picture.memory import bytes_from_text

    target_names = None if targets is None else tuple(name.strip() for name in targets.split(",") if name.strip())
    here = targets_here(target_names, say)
    with checked_usage():
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
            targets=here,
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
    origin = Source(path=source or discover(), output=output, config=config, weights=weights, samples=tuple(sample))
    with shown_progress("quantize") as progress:
        outcome = quantized(origin, settings, places, only_int8=only == "int8", force=force, say=say, progress=progress)
    print_result(outcome.report, lambda: typer.echo(text_from_outcome(outcome)), as_json=as_json)


def text_from_outcome(outcome: "Outcome") -> str:
    """The table that a person reads."""
    from deploy.int8.telling.results import pictures_of, table_from_results

    title = f"{outcome.bundle}, preset {outcome.results.preset}, {pictures_of(outcome.results)}"
    return f"{text_from_cells(title, table_from_results(outcome.results))}\nreport: {outcome.folder}"
