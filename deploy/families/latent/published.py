"""The published latent model on one trial."""

from typing import Any

import torch
from torch import Tensor

from deploy.families.cases import Array, Trial
from deploy.families.published import tensors_of


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
        noise: Tensor = self._network.denoise(self._feeds["x"], self._cond, self._timestep)
        return noise

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The decoded picture."""
        colours: Tensor = self._network.decode(self._feeds["z"], self._size)
        return colours

    def answers(self) -> dict[str, Array]:
        """The predicted noise and the decoded picture."""
        return {"noise": self.step().numpy(), "colours": self.finish().numpy()}
