"""How much memory the latent family's networks take, from their configuration and what backends were seen to take."""

from dataclasses import dataclass
from math import prod

from deploy.families.latent.config import LatentConfig
from deploy.images.tiles import Size
from engines.contract import Memory


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Multiples of 4 bytes per pixel and channel of the finest level, by graph; see LatentMemory for the pixels.

    Rounded up from what was seen: docs/measurements.md, working memory of networks.
    """

    encode: float
    denoise: float
    decode: float
    query: float
    attention: float  # maps of 4 bytes per pair of tokens and head
    weights_again: float  # share of the weights that the first run copies into the backend's own layout


TAKEN = {
    Memory.LEAN: Taken(encode=8.0, denoise=26.0, decode=12.0, query=5.0, attention=2.2, weights_again=0.1),
    Memory.ROOMY: Taken(encode=12.0, denoise=45.0, decode=36.0, query=8.5, attention=5.5, weights_again=1.0),
}


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
        finest = min([level for level in range(len(unet.channel_mult)) if unet.has_attention(level)], default=None)
        finest = len(unet.channel_mult) - 1 if finest is None else finest
        heads = unet.level_channels[finest] // unet.num_head_channels
        tokens = prod(-(-side // 2**finest) for side in latent)
        linear = self._taken.denoise * unet.model_channels * prod(latent)
        return int(4 * batch * (linear + self._taken.attention * heads * tokens**2)) + self._again

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
