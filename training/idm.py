"""Training of the demo IDM: published architecture and names, reduced width, continuous scales up to 8."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.families.idm.config import IdmConfig
from deploy.families.idm.network import IdmNetwork
from deploy.sampling.schedule import NoiseSchedule
from training.checks import ddim, figures, timesteps_from
from training.loop import Losses
from training.noising import NoiseLevels, noised, sums_by_third, weighted_error
from training.pictures import PictureStore, coloured, enlarged, low_resolution
from training.quick_networks import quicken

DEMO_IDM = IdmConfig(
    inner_channel=32,
    channel_multiplier=(1, 2, 4, 4),
    attn_res=(8,),
    res_blocks=1,
    norm_groups=16,
    image_size=64,
    n_resblocks=8,
    n_feats=64,
    s_max=8.0,
)
PUBLISHED_SCHEDULE = ("linear", 2000, 1e-6, 1e-2)
SQUARES = (64, 128)
"""Sides of most training pictures: few shapes, because each costs a compilation."""
SQUARE_SHARES = (0.5, 0.38)
"""Their shares of the batches; the others have any two sides, because users' pictures do."""
ANY_SIDE = (32, 256)
SMALLEST_SCALE = 1.5
SMALLEST_LOW_SIDE = 8
CLEAN_SHARE = 0.25
"""Extra draws of noise levels above 0.5: fast sampling starts there, from the noised enlargement."""
FOUR_SHARE = 0.3
"""Share of the batches at exactly 4x, the scale most asked for."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The sizes (height, width) of one batch, which all its pictures share."""

    size: tuple[int, int]
    low_size: tuple[int, int]
    count: int
    common: bool
    """Whether the size is one of the few that are worth compiling."""


@dataclass(frozen=True, kw_only=True)
class IdmBatches:
    """Which batches are drawn."""

    pixels: int = 128 * 64 * 64
    """High-resolution pixels of a batch, so that every batch costs about the same."""
    squares: tuple[int, ...] = SQUARES
    any_side: tuple[int, int] = ANY_SIDE

    def plan(self, rng: np.random.Generator, s_max: float) -> BatchPlan:
        """The sizes of the next batch."""
        which = int(np.searchsorted(np.cumsum(SQUARE_SHARES[: len(self.squares)]), rng.random(), side="right"))
        common = which < len(self.squares)
        if common:
            size = (self.squares[which], self.squares[which])
        else:
            height, width = (round(math.exp(rng.uniform(*np.log(self.any_side)))) for _ in range(2))
            size = (height, width)
        largest = max(SMALLEST_SCALE, min(s_max, min(size) / SMALLEST_LOW_SIDE))
        scale = math.exp(rng.uniform(math.log(SMALLEST_SCALE), math.log(largest)))
        if rng.random() < FOUR_SHARE:
            scale = min(4.0, largest)
        low = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
        return BatchPlan(size=size, low_size=low, count=max(1, self.pixels // (size[0] * size[1])), common=common)


class IdmTask:
    """The IDM's network, its batches and its loss, for the training loop."""

    part_names: tuple[str, ...] = ("loss", "clean", "middle", "noisy")

    def __init__(
        self,
        store: PictureStore,
        held_out: Tensor,
        *,
        config: IdmConfig = DEMO_IDM,
        batches: IdmBatches | None = None,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        """`held_out`: square pictures (N, 3, side, side) for `check`, on the device where training happens."""
        self.device = held_out.device
        self.config, self.batches, self.seed = config, batches or IdmBatches(), seed
        self.schedule = NoiseSchedule.from_kind(*PUBLISHED_SCHEDULE)
        self.levels = NoiseLevels.from_schedule(self.schedule, self.device, CLEAN_SHARE)
        torch.manual_seed(seed)
        network = quicken(IdmNetwork(config)).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        _calm_start(self.network)
        self.store, self.held_out, self.compiled = store, held_out, compiled
        self._compiled_unet = torch.compile(self.network.denoise_fn, dynamic=False) if compiled else None

    def losses(self, step: int, generator: torch.Generator) -> Losses:
        """The weighted L1 loss on the noise of one batch; its sizes depend on the seed and the step only."""
        plan = self.batches.plan(np.random.default_rng([self.seed, step]), self.config.s_max)
        picture = coloured(self.store.crops(plan.count, plan.size, generator), generator)
        low = low_resolution(picture, plan.low_size)
        timestep, level = self.levels.draw_levels(plan.count, generator)
        noise = torch.randn(picture.shape, generator=generator, device=self.device)
        x = noised(picture, noise, level)
        predicted = self._predicted(x, low, level, plan)
        per_item = weighted_error(predicted - noise, level)
        thirds = sums_by_third((predicted - noise).abs().mean(dim=(1, 2, 3)), timestep, self.schedule.timesteps)
        total = per_item.mean()
        own = torch.stack([total.detach() * plan.count, torch.full_like(total, plan.count)])
        return Losses(total=total, parts=torch.cat([own[None], thirds]), pictures=plan.count)

    def _predicted(self, x: Tensor, low: Tensor, level: Tensor, plan: BatchPlan) -> Tensor:
        unet: Callable[..., Tensor] = self.network.denoise_fn
        # `is not None`, since a compiled module has a length that it refuses to tell.
        if self.compiled and plan.common and self._compiled_unet is not None:
            unet = self._compiled_unet
        scaler = self._scaler(low, x)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            cond = self.network.encode(low, plan.size)
            layout = torch.channels_last
            inputs = x.contiguous(memory_format=layout), cond.contiguous(memory_format=layout)
            out = unet(*inputs, scaler, level[:, None])
        return out.float()

    def _scaler(self, low: Tensor, x: Tensor) -> Tensor:
        value = (x.shape[3] - low.shape[3]) / ((self.config.s_max - 1) * low.shape[3])
        return torch.full((x.shape[0], 1), value, device=x.device)

    def check(self) -> str:
        """Bicubic, plain DDIM in 20 steps, and 5 consistent steps from half noise, at 4x on held-out crops."""
        original = self.held_out
        side = original.shape[2]
        low = low_resolution(original, (side // 4, side // 4))
        bicubic = enlarged(low, (side, side))
        noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(7)).to(self.device)
        cond, scaler = self.network.encode(low, (side, side)), self._scaler(low, original)

        def predict(x: Tensor, timestep: int) -> Tensor:
            level = torch.full((x.shape[0], 1), self.schedule.noise_level(timestep), device=self.device)
            predicted: Tensor = self.network.denoise(x, cond, scaler, level)
            return predicted

        plain = ddim(predict, noise, self.schedule, timesteps_from(1999, 20), clip=True)
        start = self.schedule.nearest_timestep(0.5)
        begun = noised(bicubic, noise, torch.full((len(noise),), 0.5, device=self.device))
        aided = ddim(predict, begun, self.schedule, timesteps_from(start, 5), clip=True, low=low)
        named = (("bicubic", bicubic), ("plain DDIM-20", plain), ("5 from 0.5", aided))
        return "; ".join(figures(name, picture, original, low) for name, picture in named)

    def metadata(self) -> dict[str, Any]:
        """Family, configuration and schedule, for the checkpoint's metadata."""
        config = {key: value for key, value in dataclasses.asdict(self.config).items() if key != "s_max"}
        return {
            "family": "idm",
            "config": config | {"s_max": self.config.s_max},
            "schedule": self.schedule.as_dict(),
        }


def _calm_start(network: IdmNetwork) -> None:
    """Begins with residual blocks that add little and a prediction near zero, which needs no slow warm-up."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".block2.block.3." in name or name.startswith("denoise_fn.final_conv.block.3."):
                parameter.mul_(0.1)
