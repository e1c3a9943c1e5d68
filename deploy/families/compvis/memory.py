"""How much memory the networks take, from their configuration and what backends were seen to take."""

from dataclasses import dataclass
from math import prod

from deploy.families.compvis.config import UNetConfig
from deploy.images.sizes import Size
from engines.contract import Memory


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Multiples of 4 bytes per pixel and channel of the finest level, by graph.

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


def unet_bytes(unet: UNetConfig, taken: Taken, latent: Size, batch: int) -> int:
    """The U-Net, with the attention of its finest level that has any."""
    finest = min([level for level in range(len(unet.channel_mult)) if unet.has_attention(level)], default=None)
    finest = len(unet.channel_mult) - 1 if finest is None else finest
    heads = unet.level_channels[finest] // unet.num_head_channels
    tokens = prod(-(-side // 2**finest) for side in latent)
    linear = taken.denoise * unet.model_channels * prod(latent)
    return int(4 * batch * (linear + taken.attention * heads * tokens**2))
