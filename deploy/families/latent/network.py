"""The latent family: diffusion in the space of an auto-encoder whose decoder answers at any resolution.

Conditioning is by concatenation: the U-Net sees the noisy latent and, for super-resolution, the encoded
low-resolution image behind it. Shapes are (batch, channels, height, width), images in [-1, 1].
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.errors import ConfigError, SizeError
from deploy.families.cases import Trial
from deploy.families.compvis.unet import LatentUNet
from deploy.families.latent.config import LatentConfig
from deploy.families.latent.first_stage import FirstStage
from deploy.families.published import tensors_of
from deploy.images.coordinates import resize_index
from deploy.sampling.schedule import NoiseSchedule
from engines.arrays import Array


class DiffusionModel(nn.Module):
    """The level of nesting that the checkpoints have between the model and its U-Net."""

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        if config.unet is None:
            raise ConfigError(
                "A first-stage configuration has no diffusion U-Net; make a FirstStage from it, or read the "
                "checkpoint of a super-resolution or generation model."
            )
        self.diffusion_model = LatentUNet(config.unet)


class LatentNetwork(nn.Module):
    """A super-resolution or generation model, under the names its training code saves.

    Construct it under `torch.device("meta")` and load with `assign=True` to spend no time or memory on
    initial values. The EMA copy of the U-Net (`model_ema.*`) is not part of it: the checkpoint reader puts
    either set of weights under the U-Net's own names.
    """

    scale_factor: Tensor

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DiffusionModel(config)
        self.first_stage_model = FirstStage(config.first_stage)
        # What the authors call linear is linear in the square root.
        schedule = NoiseSchedule.from_kind("sqrtlinear", config.timesteps, config.linear_start, config.linear_end)
        for name, table in schedule.training_tables().items():
            self.register_buffer(name, torch.from_numpy(table.astype(np.float32)))
        # 1 / standard deviation of the first training batch's latents: only the checkpoint knows it (quirk 16).
        self.register_buffer("scale_factor", torch.ones(()))

    def latent_from_image(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> latent as the diffusion sees it: encoded, drawn (None: the mean), scaled."""
        first_stage = self.first_stage_model
        return self.scale_factor * first_stage.latent(first_stage.encode(image), noise)

    def resized(self, lr: Tensor, *, squash: bool = False) -> Tensor:
        """The encoder's input for a low-resolution image: enlarged to pixels of the training's size, then padded.

        The official code squashes every image to the training's square (quirk 6); `squash` does the same. The
        two agree on the training's square.
        """
        height, width = lr.shape[2:]
        size = self.config.resized_size(height, width, squash=squash)
        padded = size if squash else self.config.padded_size(height, width)
        rows, columns = (
            torch.from_numpy(resize_index(n, m)).to(lr.device) for n, m in zip((height, width), size, strict=True)
        )
        image = lr[:, :, rows][:, :, :, columns]
        below, right = padded[0] - size[0], padded[1] - size[1]
        return functional.pad(image, (0, right, 0, below), mode="replicate") if below or right else image

    def condition(self, lr: Tensor, noise: Tensor | None = None, *, squash: bool = False) -> Tensor:
        """(B, 3, h, w) -> (B, channels, zh, zw), made once per image and fixed over all steps.

        `noise` is that of the draw from the posterior, shaped like the result; None takes the mean. (The
        official code always draws, so its results vary even with fixed sampling noise, quirk 5.)
        """
        if self.config.kind != "super-resolution":
            raise ConfigError("A generation model has no condition; call denoise with cond=None.")
        return self.latent_from_image(self.resized(lr, squash=squash), noise)

    def denoise(self, z: Tensor, cond: Tensor | None, timestep: Tensor) -> Tensor:
        """(B, channels, h, w), the condition of that shape or None, (B,) -> the predicted noise."""
        unet = self.model.diffusion_model
        stride, (height, width) = unet.config.stride, z.shape[2:]
        if height % stride or width % stride:
            raise SizeError(
                f"Cannot denoise a latent of {width}x{height}: both sides must divide by {stride}; "
                "pad the encoder's input as `LatentConfig.padded_size` says."
            )
        if (cond is None) == (self.config.kind == "super-resolution"):
            needs = "the condition of its low-resolution image" if cond is None else "no condition"
            raise ConfigError(f"A {self.config.kind} model needs {needs} to denoise.")
        return unet(z if cond is None else torch.cat([z, cond], dim=1), timestep)

    def decode(self, z: Tensor, size: tuple[int, int], covered: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """Latent as the sampler leaves it -> (B, 3, H, W) for any size (H, W), not clamped.

        `covered`: the part of the latent that is not padding, see `LatentConfig.covered`.
        """
        return self.first_stage_model.decode(z / self.scale_factor, size, covered)


class PublishedLatent:
    """The latent family: the condition has been drawn; after the last step the latent is decoded."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._size = trial.size
        self._feeds = tensors_of(trial)
        self._timestep = self._feeds["timestep"].long().expand(len(self._feeds["x"]))
        self._cond: Tensor | None = None
        if network.config.kind == "super-resolution":
            with torch.inference_mode():
                self._cond = network.latent_from_image(self._feeds["image"], self._feeds["posterior_noise"])

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The predicted noise."""
        return self._network.denoise(self._feeds["x"], self._cond, self._timestep)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The decoded picture."""
        return self._network.decode(self._feeds["z"], self._size)

    def answers(self) -> dict[str, Array]:
        """The predicted noise and the decoded picture."""
        return {"noise": self.step().numpy(), "colours": self.finish().numpy()}
