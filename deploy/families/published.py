"""The networks as published, in PyTorch eager: the reference of every comparison and the baseline of every bench."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deploy.families.cases import Array, Trial


class Published(Protocol):
    """A published network on one trial."""

    def step(self) -> Tensor:
        """One evaluation of the denoiser, as the authors' sampler makes it."""

    def finish(self) -> Tensor | None:
        """What follows once per picture after the last step; None if nothing does."""

    def answers(self) -> dict[str, Array]:
        """The results under the names of the graphs' outputs."""


class PublishedIdm:
    """IDM: the encoder has run, each step evaluates the whole U-Net, and its state is the picture."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._feeds = _tensors(trial)
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


class PublishedLatent:
    """The latent family: the condition has been drawn; after the last step the latent is decoded."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._size = trial.size
        self._feeds = _tensors(trial)
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


PUBLISHED: Mapping[str, Callable[[Any, Trial], Published]] = {"idm": PublishedIdm, "latent": PublishedLatent}


def stand_in_network(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with random weights, for timing without the checkpoint: the time does not depend on them."""
    torch.manual_seed(0)
    return build().eval().requires_grad_(False)


def _tensors(trial: Trial) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in trial.feeds.items()}
