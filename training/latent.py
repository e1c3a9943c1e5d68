"""Training of the demo's latent diffusion for super-resolution, on a finished auto-encoder that stays fixed."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from deploy.errors import CheckpointError
from deploy.families.compvis.config import UNetConfig
from deploy.families.latent.config import FirstStageConfig, LatentConfig
from deploy.families.latent.network import LatentNetwork
from deploy.sampling.schedule import NoiseSchedule
from training.checks import ddim, figures, psnr, timesteps_from
from training.first_stage import DEMO_FIRST_STAGE
from training.loop import METADATA_KEY, Losses
from training.noising import NoiseLevels, noised, sums_by_third, weighted_error
from training.pictures import PictureStore, coloured, enlarged, low_resolution

DEMO_UNET = UNetConfig(
    image_size=32,
    in_channels=16,
    out_channels=8,
    model_channels=64,
    attention_resolutions=(4,),
    num_res_blocks=1,
    channel_mult=(1, 2, 2),
    num_head_channels=32,
    norm_groups=16,
)
DEMO_LATENT = LatentConfig(
    kind="super-resolution",
    first_stage=DEMO_FIRST_STAGE,
    unet=DEMO_UNET,
    image_size=32,
    channels=8,
    inp_size=128,
    lr_size=32,
    default_output_size=128,
    conditioning_key="concat",
    linear_start=0.0015,
    linear_end=0.0155,
)
COARSE_LATENT_SIDES = (2, 8)
ANY_SIDE = (64, 256)


@dataclass(frozen=True, kw_only=True)
class LatentPlan:
    """The size (height, width) of one batch's pictures."""

    size: tuple[int, int]
    count: int
    common: bool


@dataclass(frozen=True, kw_only=True)
class LatentBatches:
    """Which batches are drawn: mostly the training square, some of half its side, some of any size."""

    pixels: int = 96 * 128 * 128
    any_side: tuple[int, int] = ANY_SIDE

    def plan(self, rng: np.random.Generator, side: int, step: int) -> LatentPlan:
        """The size of the next batch; sides divide by `step`, so that latents need no padding."""
        kind = rng.random()
        if kind < 0.85:
            size = (side, side) if kind < 0.75 else (side // 2, side // 2)
        else:
            low, high = np.log(self.any_side)
            height, width = (max(1, round(float(np.exp(rng.uniform(low, high))) / step)) * step for _ in range(2))
            size = (height, width)
        return LatentPlan(size=size, count=max(1, self.pixels // (size[0] * size[1])), common=kind < 0.75)


class LatentTask:
    """The latent U-Net, its batches and its loss, for the training loop. The auto-encoder is fixed."""

    part_names: tuple[str, ...] = ("loss", "clean", "middle", "noisy")

    def __init__(
        self,
        store: PictureStore,
        held_out: Tensor,
        first_stage: Path,
        *,
        config: LatentConfig = DEMO_LATENT,
        batches: LatentBatches | None = None,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        """`held_out`: square pictures for `check`; `first_stage`: weights that its own training wrote."""
        assert config.inp_size is not None and config.lr_size is not None
        self.device = held_out.device
        self.config, self.batches, self.seed = config, batches or LatentBatches(), seed
        self.side, self.enlargement = config.inp_size, config.inp_size // config.lr_size
        self.schedule = NoiseSchedule.from_kind("sqrtlinear", config.timesteps, config.linear_start, config.linear_end)
        self.levels = NoiseLevels.from_schedule(self.schedule, self.device)
        torch.manual_seed(seed)
        network = LatentNetwork(config)
        network.first_stage_model.load_state_dict(read_first_stage(first_stage, config.first_stage))
        network.first_stage_model.requires_grad_(False)
        network = network.to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.store, self.held_out, self.compiled = store, held_out, compiled
        unet, encoder = self.network.model.diffusion_model, self.network.first_stage_model.encoder
        self._compiled = tuple(torch.compile(part, dynamic=False) for part in (unet, encoder)) if compiled else None
        self._measure_scale()

    def _measure_scale(self) -> None:
        """Sets the scale factor to 1 / standard deviation of the first batch's latents, as published."""
        generator = torch.Generator(self.device).manual_seed(self.seed)
        pictures = coloured(self.store.crops(64, (self.side, self.side), generator), generator)
        with torch.no_grad():
            self.network.scale_factor.copy_(1 / self.network.latent_from_image(pictures).std())

    def losses(self, step: int, generator: torch.Generator) -> Losses:
        """The weighted L1 loss on the noise of one batch; its size depends on the seed and the step only."""
        unet_stride = self.network.model.diffusion_model.config.stride
        stride = self.config.first_stage.stride * unet_stride
        plan = self.batches.plan(np.random.default_rng([self.seed, step]), self.side, stride)
        picture = coloured(self.store.crops(plan.count, plan.size, generator), generator)
        low = low_resolution(picture, (plan.size[0] // self.enlargement, plan.size[1] // self.enlargement))
        run = self._compiled if self.compiled and plan.common else None
        unet, encoder = run or (self.network.model.diffusion_model, self.network.first_stage_model.encoder)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            with torch.no_grad():
                shown = functional.interpolate(low, size=plan.size, mode="nearest")
                maps = encoder(torch.cat([picture, shown]).contiguous(memory_format=torch.channels_last)).float()
                z, cond = self._drawn(maps, generator).chunk(2)
            timestep = self.levels.draw_timesteps(plan.count, generator)
            level = self.levels.borders[timestep + 1]
            noise = torch.randn(z.shape, generator=generator, device=self.device)
            inputs = torch.cat([noised(z, noise, level), cond], dim=1).contiguous(memory_format=torch.channels_last)
            predicted = unet(inputs, timestep).float()
        per_item = weighted_error(predicted - noise, level, COARSE_LATENT_SIDES)
        thirds = sums_by_third((predicted - noise).abs().mean(dim=(1, 2, 3)), timestep, self.schedule.timesteps)
        total = per_item.mean()
        own = torch.stack([total.detach() * plan.count, torch.full_like(total, plan.count)])
        return Losses(total=total, parts=torch.cat([own[None], thirds]), pictures=plan.count)

    def _drawn(self, maps: Tensor, generator: torch.Generator) -> Tensor:
        """Latents drawn from the posterior, times the scale factor."""
        noise = torch.randn(
            (maps.shape[0], self.config.first_stage.z_channels, *maps.shape[2:]),
            generator=generator,
            device=self.device,
        )
        drawn: Tensor = self.network.first_stage_model.latent(maps, noise)
        scaled: Tensor = self.network.scale_factor * drawn
        return scaled

    def check(self) -> str:
        """The auto-encoder's limit, bicubic, and DDIM in 20 steps, on held-out crops."""
        original = self.held_out
        side = original.shape[2]
        low = low_resolution(original, (side // self.enlargement, side // self.enlargement))
        cond = self.network.condition(low)
        limit = self.network.decode(self.network.latent_from_image(original), (side, side))
        noise = torch.randn(cond.shape, generator=torch.Generator().manual_seed(7)).to(self.device)

        def predict(z: Tensor, timestep: int) -> Tensor:
            predicted: Tensor = self.network.denoise(z, cond, torch.full((len(z),), timestep, device=self.device))
            return predicted

        steps = timesteps_from(self.config.timesteps - 1, 20)
        sampled = self.network.decode(ddim(predict, noise, self.schedule, steps, clip=False), (side, side))
        named = (("bicubic", enlarged(low, (side, side))), ("DDIM-20", sampled))
        limits = f"auto-encoder's limit {psnr(limit, original):.2f} dB; "
        return limits + "; ".join(figures(name, picture, original, low) for name, picture in named)

    def metadata(self) -> dict[str, Any]:
        """Family, configuration and schedule, for the checkpoint's metadata."""
        return {"family": "latent", "config": self.config.as_mapping(), "schedule": self.schedule.as_dict()}


def read_first_stage(path: Path, config: FirstStageConfig) -> dict[str, Tensor]:
    """The auto-encoder's weights in float32, once their configuration is the one expected."""
    if not path.is_file():
        raise CheckpointError(
            f"There are no auto-encoder weights at {path}; train them with first-stage before latent."
        )
    with safe_open(path, framework="pt") as file:
        stored = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    expected = json.loads(json.dumps(dataclasses.asdict(config)))
    if stored.get("config", {}).get("first_stage") != expected:
        raise CheckpointError(
            f"The auto-encoder in {path} has another configuration than the latent model expects; "
            "train both with the same version."
        )
    return {name: tensor.float() for name, tensor in load_file(path).items()}
