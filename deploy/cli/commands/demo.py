"""`idm-deploy demo`: the whole flow on the packaged model, in one folder to look at."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

from deploy.cli.engine_values import cells_of_candidates
from deploy.cli.progress import shown_progress
from deploy.cli.tables import text_from_cells


def demo(
    output: Path = typer.Option(Path("demo-output"), "--output", "-o", help="Folder for everything that is made."),
    force: bool = typer.Option(False, "--force", help="Use the folder although it is not empty."),
    from_checkpoint: bool = typer.Option(
        False, "--from-checkpoint", help="Export the packaged checkpoint first; needs the export extra."
    ),
    quick: bool = typer.Option(False, "--quick", help="One picture and two originals, about a third of the time."),
    int8: bool = typer.Option(True, "--int8/--no-int8", help="Quantize the model and show what that changes."),
    scale: list[float] = typer.Option([4.0, 12.0], "--scale", "-s", help="How many times larger; repeatable."),
    engine: str = typer.Option("auto", "--engine", help="auto, or one that `doctor` lists."),
    precision: str = typer.Option("auto", "--precision", help="auto, fp32, bf16, fp16 or int8."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    seed: int = typer.Option(0, "--seed", help="Another number, other pictures."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
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
        state = run_demo(output, settings.quick() if quick else settings, force=force, say=_say, progress=progress)
    if as_json:
        typer.echo(json.dumps(state, indent=1, sort_keys=True))
    else:
        _print(state)
        typer.echo(f"Look at the pictures in {output}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(state: dict[str, Any]) -> None:
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
    chosen = state["steps"]["engine"]["result"]
    if chosen["left_out"] is None:
        title = f"One step on every engine here; chosen: {chosen['engine']} {chosen['precision']}"
        tables.insert(-2, (title, cells_of_candidates(chosen["candidates"])))
    for title, cells in tables:
        typer.echo(text_from_cells(title, cells) + "\n")
