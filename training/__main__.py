"""The command line of the demo's training: which network, from which pictures, for how long."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.loop import Settings, Task
    from training.pictures import PictureStore

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains the demo checkpoints. Nothing is downloaded.",
)

Out = Annotated[Path, typer.Option(help="Folder for weights, state and log.")]
Minutes = Annotated[float | None, typer.Option(help="Time to train; the learning rate ends with it.")]
Steps = Annotated[int | None, typer.Option(help="Steps to train, instead of or beside the minutes.")]
Resume = Annotated[bool, typer.Option(help="Go on with the training in the folder.")]
Seed = Annotated[int, typer.Option(help="Of the first weights and of every batch.")]
Device = Annotated[str, typer.Option(help="cuda, cpu, or auto.")]
Compile = Annotated[bool | None, typer.Option(help="Compile the common sizes; unset: on a GPU.")]
Pixels = Annotated[
    int | None, typer.Option(help="Pixels of a batch; the default is for a large GPU, 65536 suits a CPU.")
]
Leaves = Annotated[int, typer.Option(help="Number of dead-leaves pictures.")]
Processes = Annotated[int, typer.Option(help="Processes that paint them.")]
LearningRate = Annotated[float, typer.Option(help="Largest learning rate.")]
Photographs = Annotated[Path | None, typer.Option(help="Folder with the photographs' files, if not in the packages.")]
FirstStageFile = Annotated[Path | None, typer.Option(help="Weights that first-stage has written.")]
CheckSeconds = Annotated[float | None, typer.Option(help="Time between two looks at held-out photographs.")]

Network = Literal["idm", "first-stage", "latent"]
CHECK_SECONDS: dict[Network, float] = {"idm": 240.0, "first-stage": 120.0, "latent": 180.0}

PROCESSES = os.cpu_count() or 1
LEAF_SIZE = 256
CHECK_SIDE = 128


@app.command()
def train(
    network: Annotated[Network, typer.Argument(help="What to train; latent needs a finished first-stage.")],
    out: Out,
    first_stage: FirstStageFile = None,
    minutes: Minutes = None,
    steps: Steps = None,
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "auto",
    compile: Compile = None,
    pixels: Pixels = None,
    leaves: Leaves = 3072,
    processes: Processes = PROCESSES,
    learning_rate: LearningRate = 6e-4,
    photographs: Photographs = None,
    check_seconds: CheckSeconds = None,
) -> None:
    """idm: encoder and U-Net with implicit layers; first-stage: the latent model's auto-encoder; latent: its U-Net."""
    from training.loop import Settings, claim_folder

    if (network == "latent") == (first_stage is None):
        raise typer.BadParameter("--first-stage names the auto-encoder for latent, and for latent alone.")
    settings = Settings(
        out=out,
        minutes=minutes,
        steps=steps,
        resume=resume,
        seed=seed,
        learning_rate=learning_rate,
        check_seconds=CHECK_SECONDS[network] if check_seconds is None else check_seconds,
    )
    claim_folder(settings)  # before the minutes that painting the pictures takes
    where, compiled = _place(device, compile)
    store, held_out = _pictures(where, leaves, processes, photographs)
    _run(_task(network, store, held_out, pixels, seed, compiled, first_stage), settings)


def _task(
    network: Network,
    store: "PictureStore",
    held_out: "Tensor",
    pixels: int | None,
    seed: int,
    compiled: bool,
    first_stage: Path | None,
) -> "Task":
    if network == "idm":
        from training.idm import IdmBatches, IdmTask

        images = IdmBatches() if pixels is None else IdmBatches(pixels=pixels)
        return IdmTask(store, held_out, batches=images, seed=seed, compiled=compiled)
    if first_stage is None:
        from training.first_stage import FirstStageTask, ReconstructionBatches

        batches = ReconstructionBatches() if pixels is None else ReconstructionBatches(pixels=pixels)
        return FirstStageTask(store, held_out, batches=batches, seed=seed, compiled=compiled)
    from training.latent import LatentBatches, LatentTask

    latents = LatentBatches() if pixels is None else LatentBatches(pixels=pixels)
    return LatentTask(store, held_out, first_stage, batches=latents, seed=seed, compiled=compiled)


def _place(device: str, compiled: bool | None) -> "tuple[torch.device, bool]":
    """The device to train on and whether to compile there."""
    import torch

    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    return torch.device(name), name.startswith("cuda") if compiled is None else compiled


def _pictures(
    device: "torch.device", leaves: int, processes: int, folder: Path | None
) -> "tuple[PictureStore, Tensor]":
    """The training pictures and the held-out crops, on the device."""
    from training.checks import held_out_crops
    from training.pictures import training_store

    store = training_store(leaves, LEAF_SIZE, device, processes=processes, folder=folder)
    return store, held_out_crops(CHECK_SIDE, device, folder)


def _run(task: "Task", settings: "Settings") -> None:
    """Trains and says so."""
    from training.loop import train as train_task

    train_task(task, settings, lambda line: typer.echo(line))


def main() -> None:
    """Runs the command line; what the tool refuses is one message and exit code 1, Ctrl-C is 130."""
    from deploy.errors import DeployError

    try:
        app()
    except DeployError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    except SystemExit as ended:
        if ended.code == 130:  # what typer makes of Ctrl-C, without a word
            typer.echo("interrupted; --resume goes on from the last saved state", err=True)
        raise


if __name__ == "__main__":
    main()
