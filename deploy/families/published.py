"""The networks as published, in PyTorch eager: the reference of every comparison and the baseline of every bench."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from deploy.families.cases import Trial
from engines.arrays import Array


class Published(Protocol):
    """A published network on one trial."""

    def step(self) -> Tensor:
        """One evaluation of the denoiser, as the authors' sampler makes it."""

    def finish(self) -> Tensor | None:
        """What follows once per picture after the last step; None if nothing does."""

    def answers(self) -> dict[str, Array]:
        """The results under the names of the graphs' outputs."""


def stand_in_network(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with random weights, for timing without the checkpoint: the time does not depend on them."""
    torch.manual_seed(0)
    return build().eval().requires_grad_(False)


def tensors_of(trial: Trial) -> dict[str, Tensor]:
    """What a trial feeds, as tensors."""
    return {name: torch.from_numpy(value) for name, value in trial.feeds.items()}
