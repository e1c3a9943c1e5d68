"""How much memory the latent family's networks take, from their configuration and what backends were seen to take."""

from math import prod

from deploy.families.compvis.memory import TAKEN, unet_bytes
from deploy.families.latent.config import LatentConfig
from deploy.images.sizes import Size
from engines.contract import Memory


class LatentMemory:
    """Bytes for latents of a size. Pixels are latent ones, except those of `query`, which are output ones."""

    def __init__(self, config: LatentConfig, memory: Memory, weight_bytes: int) -> None:
        self._config = config
        self._taken = TAKEN[memory]
        self._again = int(self._taken.weights_again * weight_bytes)

    def denoise_bytes(self, latent: Size, batch: int) -> int:
        """The U-Net, with the attention of its finest level that has any."""
        unet = self._config.unet
        assert unet is not None
        return unet_bytes(unet, self._taken, latent, batch) + self._again

    def encode_bytes(self, latent: Size, batch: int) -> int:
        """The encoder, whose finest level works on stride^2 pixels per latent pixel."""
        first_stage = self._config.first_stage
        if self._config.kind == "generation":
            return 0
        pixels = prod(latent) * first_stage.stride**2
        return int(
            4 * batch * (self._taken.encode * first_stage.ch * pixels + self._taken.attention * prod(latent) ** 2)
        )

    def decode_bytes(self, latent: Size, batch: int) -> int:
        """The convolutional decoder, all of whose levels work at the latent's size."""
        channels = max(self._config.first_stage.level_channels)
        return int(
            4 * batch * (self._taken.decode * channels * prod(latent) + self._taken.attention * prod(latent) ** 2)
        )

    @property
    def query_bytes_per_pixel(self) -> int:
        """The decoder's MLP for one output pixel."""
        return int(4 * self._taken.query * max(self._config.first_stage.hidden_list))
