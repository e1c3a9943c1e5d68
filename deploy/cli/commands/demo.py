"""`idm-deploy demo`: the whole flow on the packaged model, in one folder to look at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.options import FIRST, Engine, Json, Precision, Seed, Threads
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result, text_from_cells
from deploy.cli.values import cells_of_candidates

EXAMPLES = (
    "idm-deploy demo",
    "idm-deploy demo --quick --scale 8 -o look",
)


def demo(
    output: Annotated[Path, FIRST("Folder for everything that is made.", "--output", "-o")] = Path("demo-output"),
    quick: Annotated[
        bool, FIRST("Show it on one picture and two originals: about a third of the time.", "--quick")
    ] = False,
    int8: Annotated[
        bool, FIRST("Quantize the model and show what that changes, or leave it out.", "--int8/--no-int8")
    ] = True,
    scale: Annotated[
        list[float], FIRST("Enlarge each side this many times; give it several times for several.", "--scale", "-s")
    ] = [4.0, 12.0],
    from_checkpoint: Annotated[
        bool,
        FIRST(
            "Begin by exporting the packaged checkpoint, not with the packaged bundle; needs the export extra.",
            "--from-checkpoint",
        ),
    ] = False,
    force: Annotated[bool, FIRST("Use the folder although other files are in it, and begin anew.", "--force")] = False,
    seed: Seed = 0,
    engine: Engine = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Quantize the packaged model, enlarge the packaged pictures 4 and 12 times, measure it on held-out photographs."""
    from deploy.demo.demo import DemoSettings, run_demo

    settings = DemoSettings(
        from_checkpoint=from_checkpoint,
        scales=tuple(scale),
        int8=int8,
        engine=engine,
        precision=precision,
        threads=threads,
        seed=seed,
    )
    with shown_progress("demo") as progress:
        state = run_demo(output, settings.quick() if quick else settings, force=force, say=say, progress=progress)
    print_result(state, lambda: _print(state, output), as_json=as_json)


def _print(state: dict[str, Any], output: Path) -> None:
    enlarged = state["steps"]["enlarge"]["result"]
    times = [["picture", "size", "evaluations", "seconds"]] + [
        [Path(row["output"]).name, f"{row['width']}x{row['height']}", str(row["evaluations"]), f"{row['seconds']:.1f}"]
        for row in enlarged["pictures"]
    ]
    figures, quantized = (state["steps"][name]["result"] for name in ("figures", "quantize"))
    steps = [["step", "seconds"]] + [[name, f"{step['seconds']:.1f}"] for name, step in state["steps"].items()]
    tables = [
        (f"Enlarged on {enlarged['engine']}, {enlarged['precision']}", times),
        (f"{len(figures['evaluation']['originals'])} crops of three held-out photographs at 4x", figures["table"]),
        ("Time", steps),
    ]
    if quantized["left_out"] is None:
        title = f"Quantized on {quantized['calibration_pictures']} pictures, report in {quantized['report']}"
        tables.insert(0, (title, quantized["table"]))
    choice = state["steps"]["engine"]["result"]
    if choice["left_out"] is None:
        title = f"One step on every engine here; chosen: {choice['engine']} {choice['precision']}"
        tables.insert(-2, (title, cells_of_candidates(choice["candidates"])))
    for title, cells in tables:
        typer.echo(text_from_cells(title, cells) + "\n")
    typer.echo(f"Look at the pictures in {output}")
