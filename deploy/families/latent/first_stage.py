"""The latent family's auto-encoder, with the published parameter names: encoder, decoder, implicit decoder.

Shapes are (batch, channels, height, width), images in [-1, 1]. The latents here are those of the auto-encoder
itself: `scale_factor`, which belongs to the diffusion, is applied in `deploy.families.latent.network`.
"""

import torch
from torch import Tensor, nn

from deploy.families.compvis.autoencoder import Encoder, Level, Middle
from deploy.families.latent.config import FirstStageConfig
from deploy.families.latent.implicit_decoder import ImplicitDecoder
from engines.arrays import Float32

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Limits on the encoder's log-variance maps before they become a standard deviation."""


class FeatureDecoder(nn.Module):
    """Latent -> features of the same size: no upsampling, no normalisation or convolution at the end."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        groups, levels = config.norm_groups, config.level_channels
        channels = levels[-1]
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = Middle(channels, groups)
        # All levels work at the latent's size, hence attention everywhere or nowhere.
        attention = config.has_attention(len(levels) - 1)
        parts = []
        for level_channels in reversed(levels):
            parts.append(Level(channels, level_channels, config.num_res_blocks + 1, groups, attention=attention))
            channels = level_channels
        self.up = nn.ModuleList(reversed(parts))

    def forward(self, z: Tensor) -> Tensor:
        h: Tensor = self.mid(self.conv_in(z))
        for part in reversed(list(self.up)):
            h = part(h)
        return h


class Decoder(nn.Module):
    """Latent -> features (`decoder`), features -> colours at any coordinate (`inr`)."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        channels = config.z_channels
        self.decoder = nn.Sequential(nn.Conv2d(channels, channels, 1), FeatureDecoder(config))
        self.inr = ImplicitDecoder(config)


class FirstStage(nn.Module):
    """The whole auto-encoder, as a first-stage checkpoint holds it."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        self.config = config
        maps = config.map_channels
        self.encoder = nn.Sequential(Encoder(config), nn.Conv2d(maps, maps, 1))
        self.decoder = Decoder(config)

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> maps (B, map_channels, H // stride, W // stride): mean and log-variance, or the latent."""
        return self.encoder(image)

    def posterior(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent given the encoder's maps; only with `double_z`."""
        mean, log_variance = maps.chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def latent(self, maps: Tensor, noise: Tensor | None = None) -> Tensor:
        """mean + standard deviation * noise, the mean without noise, or the maps where there is no posterior."""
        if not self.config.double_z:
            return maps
        mean, log_variance = self.posterior(maps)
        return mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise

    def decoder_features(self, z: Tensor) -> Tensor:
        """(B, z_channels, h, w) -> features (B, ch, h, w), once per latent whatever the output sizes."""
        return self.decoder.decoder(z)

    def query(self, features: Tensor, coordinates: Float32, cells: Float32) -> Tensor:
        """Colours (B, Q, 3) at coordinates and cells (Q, 2) or (B, Q, 2); see `ImplicitDecoder.query`."""
        return self.decoder.inr.query(features, coordinates, cells)

    def decode(self, z: Tensor, size: tuple[int, int], covered: tuple[float, float] = (1.0, 1.0)) -> Tensor:
        """(B, z_channels, h, w) -> (B, 3, H, W) for any size (H, W), not clamped; see `ImplicitDecoder.picture`."""
        return self.decoder.inr.picture(self.decoder_features(z), size, covered)
