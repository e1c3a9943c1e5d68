"""Bundles of the published sizes with random weights, for timing: `python -m benchmarks.full_size NAME FOLDER`.

Their pictures mean nothing, but time, memory and size do not depend on the values. NAME is a configuration of
tests/reference/configs.json, such as idm_ffhq_16_128, sr3_16_128 or latent_sr_ffhq_16_128, or ldm_64_256; FOLDER gets
the checkpoint as its training code saves it (of the last, the folder of diffusers), and the bundle beside it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from deploy.checkpoint.load import load_checkpoint
from deploy.errors import DeployError
from deploy.export.export import export_bundle
from tests.checkpoints import save_idm, save_sr3
from tests.latent_checkpoints import latent_state
from tests.ldm_models import FULL, networks, save_folder
from tests.recordings import recorded_json


def save_latent(folder: Path, name: str) -> Path:
    """A Lightning checkpoint with the moving average that every published one has."""
    path = folder / f"{name}.ckpt"
    torch.save({"state_dict": latent_state(name), "epoch": 1}, path)
    return path


def save_ldm(folder: Path, name: str) -> Path:
    """The folder of the published LDM-SR."""
    return save_folder(folder / name, *networks(FULL))


SAVERS: dict[str, Callable[[Path, str], Path]] = {
    "idm": save_idm,
    "latent": save_latent,
    "ldm": save_ldm,
    "sr3": save_sr3,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the bundle's path goes to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", choices=published_names())
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    asked = parser.parse_args(arguments)
    try:
        asked.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = SAVERS[asked.name.partition("_")[0]](asked.folder, asked.name)
        bundle = export_bundle(load_checkpoint(checkpoint), asked.folder / f"{asked.name}.bundle")
    except (DeployError, OSError) as error:
        print(f"full_size: {error}", file=sys.stderr)
        return 1
    print(bundle.path)
    return 0


def published_names() -> list[str]:
    """The configurations whose checkpoints can be made and exported."""
    recorded = (name for name in recorded_json("configs.json") if name.startswith(("idm_", "latent_sr_ffhq", "sr3_")))
    return sorted([*recorded, "ldm_64_256"])


if __name__ == "__main__":
    sys.exit(main())
