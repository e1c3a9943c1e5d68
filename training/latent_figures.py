"""What the latent demo model's auto-encoder keeps: `python -m training.latent_figures`. Needs the export extra."""

from itertools import combinations
from pathlib import Path

import torch
import typer

from deploy.checkpoint.load import load_checkpoint
from deploy.families.latent.model import VALUES
from deploy.families.latent.network import LatentNetwork
from deploy.images.values import network_from_pixels, pixels_from_network
from deploy.measure.evaluation.originals import Pixels, read_originals
from deploy.measure.evaluation.tables import text_from_interval
from deploy.measure.metrics import consistency_between_scales, mean_with_interval, psnr
from deploy.packaged.places import EVALUATION_IMAGES, LATENT_CHECKPOINT

app = typer.Typer(add_completion=False)

SCALES = (2, 4, 8)
"""Of the LR picture that goes with each original: half, the same and twice the original's size."""


@torch.inference_mode()
def decodings(network: LatentNetwork, original: Pixels) -> dict[int, Pixels]:
    """The original's latent (the mean of its posterior), decoded at every scale of SCALES."""
    image = torch.from_numpy(network_from_pixels(original, VALUES))[None]
    latent = network.latent_from_image(image)
    height, width = original.shape[:2]
    sizes = {scale: (height * scale // 4, width * scale // 4) for scale in SCALES}
    return {s: pixels_from_network(network.decode(latent, size).numpy(), VALUES)[0] for s, size in sizes.items()}


def latent_figures(checkpoint: Path, originals: list[Pixels]) -> dict[str, list[float]]:
    """Per original: PSNR of the reconstruction, and between the decodings of one latent, the larger one reduced."""
    network = load_checkpoint(checkpoint).network
    figures: dict[str, list[float]] = {}
    for original in originals:
        decoded = decodings(network, original)
        figures.setdefault("reconstruction", []).append(psnr(decoded[4], original))
        for small, large in combinations(SCALES, 2):
            agreement = consistency_between_scales(decoded[large], decoded[small])
            figures.setdefault(f"{large}x against {small}x", []).append(agreement)
    return figures


@app.command()
def main(
    folder: Path = typer.Argument(EVALUATION_IMAGES, help="Originals."),
    checkpoint: Path = typer.Option(LATENT_CHECKPOINT, help="A latent super-resolution checkpoint."),
    threads: int = typer.Option(2, help="Threads of PyTorch."),
) -> None:
    """Print PSNR of reconstruction at the original's size, and agreement of one latent decoded at three sizes."""
    torch.set_num_threads(threads)
    originals = [one.pixels for one in read_originals(folder, 16.0)]  # latents need sides that divide by 16
    for name, values in latent_figures(checkpoint, originals).items():
        typer.echo(f"{name}: {text_from_interval(mean_with_interval(values), 2)} dB, least {min(values):.2f} dB")


if __name__ == "__main__":
    app()
