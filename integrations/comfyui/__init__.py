"""Nodes for ComfyUI: a bundle of idm-deploy is opened, and enlarges pictures by any factor.

ComfyUI finds this folder in its `custom_nodes`. The classes have what it asks of a node: INPUT_TYPES, RETURN_TYPES,
FUNCTION and CATEGORY. Pictures are tensors [B, H, W, C] of floats from 0 to 1.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from deploy import Progress, Upscaler

CATEGORY = "image/upscaling"
UPSCALER = "IDM_DEPLOY_UPSCALER"
"""The type of the line between the two nodes."""

USUAL = "default"
"""Stands for what the bundle says."""
LARGEST_SEED = 2**53 - 1
"""Beyond it, ComfyUI's page no longer knows a whole number exactly."""


class IdmDeployBundle:
    """Opens a bundle on an engine, once for all runs of a workflow."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Opens a bundle of idm-deploy: a folder, or hf://OWNER/NAME. If empty, the packaged demo model."
    RETURN_TYPES = (UPSCALER,)
    RETURN_NAMES = ("upscaler",)
    FUNCTION = "open"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        """What can be set, and how."""
        from engines.backends import BACKENDS

        return {
            "required": {
                "bundle": ("STRING", {"default": "", "tooltip": cls.DESCRIPTION}),
                "engine": (["auto", *BACKENDS], {"tooltip": "auto: what `idm-deploy build-engine` found fastest."}),
                "precision": (["auto", "fp32", "bf16", "fp16", "int8"], {}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, bundle: str) -> bool | str:  # noqa: N802  ComfyUI's name
        """True, or why the folder is no bundle: known before anything of the workflow runs."""
        from deploy import Bundle
        from deploy.errors import DeployError

        try:
            Bundle.open(_place(bundle), verify="sizes")
        except DeployError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, bundle: str, engine: str, precision: str) -> str:  # noqa: N802  ComfyUI's name
        """Something else once the bundle was written again: then ComfyUI opens it anew."""
        from deploy import Bundle

        weights = Bundle.open(_place(bundle), verify="sizes").manifest.files
        return f"{engine} {precision} {sorted(record.sha256 for record in weights.values())}"

    def open(self, bundle: str, engine: str, precision: str) -> "tuple[Upscaler]":
        """The networks, ready to run."""
        from deploy import Bundle, Upscaler

        return (Upscaler(Bundle.open(_place(bundle)), engine, precision),)


class IdmDeployUpscale:
    """Enlarges pictures, with a bar for the steps; ComfyUI's cancel stops it within one step."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Enlarges pictures by any factor from 1."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        """What can be set, and how."""
        return {
            "required": {
                "upscaler": (UPSCALER,),
                "image": ("IMAGE",),
                "scale": ("FLOAT", {"default": 4.0, "min": 1.0, "max": 64.0, "step": 0.01}),
                "preset": ([USUAL, "draft", "balanced", "best"], {"tooltip": "How much work to spend."}),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True}),
            }
        }

    def upscale(
        self, upscaler: "Upscaler", image: "torch.Tensor", scale: float, preset: str, seed: int
    ) -> "tuple[torch.Tensor]":
        """The enlarged pictures, [B, H, W, C] floats from 0 to 1 on the processor."""
        import torch

        pictures = [np.ascontiguousarray(picture) for picture in image.cpu().numpy().astype(np.float32).clip(0, 1)]
        larger = upscaler.upscale(
            pictures, scale, seed=seed, preset=None if preset == USUAL else preset, progress=_progress()
        )
        return (torch.from_numpy(np.stack(larger)).clamp(0, 1),)


def _place(bundle: str) -> str | Path:
    from deploy.packaged.places import IDM_BUNDLE

    return bundle.strip() or IDM_BUNDLE


def _progress() -> "Callable[[Progress], None]":
    """Moves ComfyUI's bar, and raises what it raises where its user has cancelled."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bar = ProgressBar(100)

    def show(done: "Progress") -> None:
        throw_exception_if_processing_interrupted()
        bar.update_absolute(round(100 * done.fraction), 100)

    return show


NODE_CLASS_MAPPINGS = {"IdmDeployBundle": IdmDeployBundle, "IdmDeployUpscale": IdmDeployUpscale}
NODE_DISPLAY_NAME_MAPPINGS = {"IdmDeployBundle": "Open bundle (idm-deploy)", "IdmDeployUpscale": "Upscale (idm-deploy)"}
