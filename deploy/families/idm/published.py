"""The published IDM on one trial."""

from typing import Any

import torch
from torch import Tensor

from deploy.families.cases import Array, Trial
from deploy.families.published import tensors_of


class PublishedIdm:
    """IDM: the encoder has run, each step evaluates the whole U-Net, and its state is the picture."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._feeds = tensors_of(trial)
        self._feeds["noise_level"] = self._feeds["noise_level"].expand(len(self._feeds["x"]), 1)
        with torch.inference_mode():
            self._cond = network.encode(self._feeds["lr"], trial.size)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The predicted noise."""
        feeds = self._feeds
        noise: Tensor = self._network.denoise(feeds["x"], self._cond, feeds["scaler"], feeds["noise_level"])
        return noise

    def finish(self) -> None:
        """Nothing follows."""

    def answers(self) -> dict[str, Array]:
        """The predicted noise."""
        return {"noise": self.step().numpy()}
