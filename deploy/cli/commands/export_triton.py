"""`idm-deploy export-triton`: a bundle becomes a model repository for Triton Inference Server."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.models import NamesModel
from deploy.cli.options import ENGINE, FIRST, Engine, Json, MaxMemory, Panel, Precision, Threads
from deploy.cli.tables import print_result
from deploy.cli.values import batch_from_text, checked_usage

EXAMPLES = (
    "idm-deploy export-triton photos.bundle -o repository",
    "idm-deploy export-triton photos.bundle -o repository --gpus 0,1 --instances 2",
    "idm-deploy export-triton photos.bundle -o repository --name photos --graphs",
)

WAITING = Panel("Requests that wait")


def export_triton(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle."), NamesModel()],
    output: Annotated[Path, FIRST("Folder of the repository, new or empty.", "--output", "-o")],
    name: Annotated[
        str | None, FIRST("What Triton's clients call the model. If left out, the bundle's folder without .bundle.")
    ] = None,
    model_version: Annotated[int, FIRST("Number of the model's version: the name of its folder.", least=1)] = 1,
    gpus: Annotated[
        str | None,
        FIRST("Numbers of the GPUs that run it, such as 0 or 0,1. If left out, the processor.", metavar="N,..."),
    ] = None,
    instances: Annotated[
        int, FIRST("So many at a time, on each GPU or on the processor; each has the networks in memory.", least=1)
    ] = 1,
    graphs: Annotated[
        bool,
        FIRST(
            "Also each network by itself, as a model of Triton's own backend (ONNX Runtime or TensorRT), for programs "
            "that take the steps themselves.",
            "--graphs",
        ),
    ] = False,
    max_batch: Annotated[int, WAITING("Most pictures that Triton hands over at once.", least=1)] = 8,
    delay_ms: Annotated[
        float, WAITING("How many milliseconds Triton waits for more pictures before it hands them over.", least=0)
    ] = 2.0,
    max_queue: Annotated[
        int, WAITING("Most requests that wait; of more, clients are told that the model is unavailable.", least=1)
    ] = 64,
    queue_seconds: Annotated[
        float | None, WAITING("Refuse a request that has waited for so long. If left out, it waits on.", least=0)
    ] = None,
    batch: Annotated[
        str,
        ENGINE(
            "How many pictures of one kind are made together. auto: what is faster, by trying it, where that changes "
            "no byte."
        ),
    ] = "auto",
    max_pixels: Annotated[
        int, ENGINE("Most pixels of an input or output; pictures beyond it are refused.", least=1)
    ] = 64_000_000,
    engine: Engine = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Write a model repository for Triton Inference Server: the whole sampler, with bundle and run time beside it."""
    from deploy.bundle import Bundle, discover
    from deploy.picture.memory import bytes_from_text
    from deploy.triton.repository import refuse_filled, write_repository
    from deploy.triton.settings import RepositorySettings, RunSettings

    opened = Bundle.open(discover(explicit=bundle))
    with checked_usage():
        run = RunSettings(
            engine=engine,
            precision=precision,
            threads=threads,
            max_memory=None if max_memory is None else bytes_from_text(max_memory),
            max_pixels=max_pixels,
            batch=batch_from_text(batch),
        )
        settings = RepositorySettings(
            name=name if name is not None else _name_of(opened.path),
            version=model_version,
            gpus=() if gpus is None else _numbers(gpus),
            instances=instances,
            max_batch=max_batch,
            max_queue=max_queue,
            delay_ms=delay_ms,
            queue_seconds=queue_seconds,
            graphs=graphs,
            run=run,
        )
    refuse_filled(output)
    report = write_repository(opened, output, settings).as_json()
    print_result(report, lambda: typer.echo(text_from_report(report)), as_json=as_json)


def text_from_report(report: dict[str, Any]) -> str:
    """The lines that a person reads."""
    return (
        f"{report['repository']}: {', '.join(report['models'])}, {report['files']} files, "
        f"{report['bytes'] / 1e6:.1f} MB\n"
        f"next: pip install -r {report['repository']}/requirements.txt in Triton's Python, then tritonserver "
        f"--model-repository {report['repository']}"
    )


def _name_of(bundle: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", bundle.resolve().name.removesuffix(".bundle")).strip("-.") or "model"


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,4}\s*", part) for part in parts):
        raise typer.BadParameter(
            f"numbers of GPUs with commas between them, such as 0,1; found {text!r}.", param_hint="--gpus"
        )
    return tuple(map(int, parts))
