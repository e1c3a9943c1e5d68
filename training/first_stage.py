"""Training of the demo's auto-encoder: one latent, pictures at any resolution."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deploy.families.latent.config import FirstStageConfig
from deploy.families.latent.first_stage import FirstStage
from training.checks import psnr
from training.loop import Losses
from training.pictures import PictureStore, coloured, reduced
from training.quick_decoder import GridTables, grid_tables, quick_picture

DEMO_FIRST_STAGE = FirstStageConfig(
    double_z=True,
    z_channels=8,
    resolution=128,
    ch=40,
    ch_mult=(1, 2, 2),
    num_res_blocks=1,
    hidden_list=(128, 128, 128, 128),
    norm_groups=8,
)
SLOPE_SHARE = 0.3
AGREEMENT_SHARE = 0.5
DIVERGENCE_SHARE = 1e-4
"""Small, as published: enough to keep the latent from hiding anything in its last bits."""
ANY_SIDE = (48, 224)


@dataclass(frozen=True, kw_only=True)
class ReconstructionPlan:
    """Sizes (height, width) of one batch: the crops, the encoder's input, and the pictures asked for."""

    source: tuple[int, int]
    encoded: tuple[int, int]
    outputs: tuple[tuple[int, int], ...]
    count: int
    common: bool


@dataclass(frozen=True, kw_only=True)
class ReconstructionBatches:
    """Which batches are drawn: two common shapes, and any others in a fifth of the batches."""

    pixels: int = 48 * 128 * 128
    """Output pixels of a batch."""
    side: int = 128
    any_side: tuple[int, int] = ANY_SIDE

    def plan(self, rng: np.random.Generator, stride: int) -> ReconstructionPlan:
        """The sizes of the next batch."""
        kind, side = rng.random(), self.side
        sides: tuple[int, int, tuple[int, ...]]
        if kind < 0.45:
            sides = (side, side // 2, (side, side // 2, side // 4))
        elif kind < 0.8:
            sides = (side, side, (side, side // 2))
        else:
            return self._any_plan(rng, stride)
        source, encoded, outputs = (sides[0],) * 2, (sides[1],) * 2, tuple((s, s) for s in sides[2])
        return ReconstructionPlan(
            source=source, encoded=encoded, outputs=outputs, count=self._count(outputs), common=True
        )

    def _any_plan(self, rng: np.random.Generator, stride: int) -> ReconstructionPlan:
        height, width = (round(math.exp(rng.uniform(*np.log(self.any_side)))) for _ in range(2))
        shrink = 1.0 if rng.random() < 0.3 else rng.uniform(1.0, 3.0)
        encoded = (max(4, round(height / shrink / stride)) * stride, max(4, round(width / shrink / stride)) * stride)
        source = (max(height, encoded[0]), max(width, encoded[1]))
        part = rng.uniform(min(0.4 * encoded[0] / source[0], 1.0), 1.0)
        outputs = (source, (max(8, round(source[0] * part)), max(8, round(source[1] * part))))
        return ReconstructionPlan(
            source=source, encoded=encoded, outputs=outputs, count=self._count(outputs), common=False
        )

    def _count(self, outputs: tuple[tuple[int, int], ...]) -> int:
        return max(1, self.pixels // sum(height * width for height, width in outputs))


class FirstStageTask:
    """The auto-encoder, its batches and its loss, for the training loop."""

    part_names: tuple[str, ...] = ("loss", "pixel", "agreement", "divergence")

    def __init__(
        self,
        store: PictureStore,
        held_out: Tensor,
        *,
        config: FirstStageConfig = DEMO_FIRST_STAGE,
        batches: ReconstructionBatches | None = None,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        """`held_out`: square pictures (N, 3, side, side) for `check`, on the device where training happens."""
        self.device = held_out.device
        self.config, self.batches, self.seed = config, batches or ReconstructionBatches(), seed
        torch.manual_seed(seed)
        network = FirstStage(config).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.store, self.held_out, self.compiled = store, held_out, compiled
        self._compiled_pictures = torch.compile(self._pictures, dynamic=False) if compiled else None

    def losses(self, step: int, generator: torch.Generator) -> Losses:
        """L1 of pictures and their slopes at several resolutions, agreement between them, and divergence."""
        plan = self.batches.plan(np.random.default_rng([self.seed, step]), self.config.stride)
        source = coloured(self.store.crops(plan.count, plan.source, generator), generator)
        image = reduced(source, plan.encoded).contiguous(memory_format=torch.channels_last)
        low = (plan.encoded[0] // self.config.stride, plan.encoded[1] // self.config.stride)
        noise = torch.randn((plan.count, self.config.z_channels, *low), generator=generator, device=self.device)
        tables = tuple(grid_tables(low, size, self.device) for size in plan.outputs)
        run = self._compiled_pictures if self.compiled and plan.common and self._compiled_pictures else self._pictures
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            pictures, mean, log_variance = run(image, noise, tables)
        mean, log_variance = mean.float(), log_variance.float()
        wanted = [source if size == plan.source else reduced(source, size) for size in plan.outputs]
        pixel = _mean([_picture_error(p, w) for p, w in zip(pictures, wanted, strict=True)])
        agreement = _mean(
            [
                (reduced(pictures[0], size) - picture).abs().mean()
                for picture, size in zip(pictures[1:], plan.outputs[1:], strict=True)
            ]
        )
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        total = pixel + AGREEMENT_SHARE * agreement + DIVERGENCE_SHARE * divergence
        sums = torch.stack([total, pixel, agreement, divergence]).detach()
        return Losses(total=total, parts=torch.stack([sums, torch.ones_like(sums)], dim=1), pictures=plan.count)

    def _pictures(
        self, image: Tensor, noise: Tensor, tables: tuple[GridTables, ...]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """The pictures decoded from one draw, and the posterior's mean and log-variance."""
        mean, log_variance = self.network.posterior(self.network.encode(image))
        z = mean + torch.exp(0.5 * log_variance) * noise
        features = self.network.decoder_features(z)
        return [quick_picture(self.network.decoder.inr, features, table) for table in tables], mean, log_variance

    def check(self) -> str:
        """Reconstruction at the own size, and how far one latent's pictures at 1/2, 1 and 2 times it agree."""
        original = self.held_out
        side = original.shape[2]
        features = self.network.decoder_features(self.network.latent(self.network.encode(original)))
        low = (features.shape[2], features.shape[3])
        half, own, double = (
            quick_picture(self.network.decoder.inr, features, grid_tables(low, (n, n), self.device))
            for n in (side // 2, side, 2 * side)
        )
        pairs = ((own, half), (double, half), (double, own))
        agreement = ", ".join(f"{psnr(reduced(big, (s.shape[2], s.shape[3])), s.clamp(-1, 1)):.1f}" for big, s in pairs)
        return f"reconstruction {psnr(own, original):.2f} dB; agreement 1:1/2, 2:1/2, 2:1 {agreement} dB"

    def metadata(self) -> dict[str, Any]:
        """Family and configuration, for the checkpoint's metadata."""
        config = {"kind": "first-stage", "first_stage": dataclasses.asdict(self.config)}
        return {"family": "latent", "config": config}


def _picture_error(picture: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the pixels and, with less weight, of the differences between neighbours, which keeps edges sharp."""
    error = picture - wanted
    slopes = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return functional.l1_loss(picture, wanted) + SLOPE_SHARE * slopes


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
