"""What the latent decoder is really fed: latents as the sampler leaves them, queried for several output sizes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from deploy.families.contract import Float32
from deploy.families.latent.model import LatentModel

Feeds = Mapping[str, NDArray[Any]]

RATIOS = (2, 4, 8, 16)
"""Output pixels per latent pixel and side that are queried."""

QUERIED = 2048
"""Output pixels of each latent and size that are queried: whole rows, evenly spread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DecoderInputs:
    """Latents (batch, channels, height, width) each, of a float model."""

    model: LatentModel
    latents: Sequence[Float32]

    def of_decode(self) -> Iterator[Feeds]:
        """What `decode` is fed."""
        for latent in self.latents:
            yield {"z": latent}

    def of_query(self) -> Iterator[Feeds]:
        """What `query` is fed: for each latent some rows of pictures of several sizes."""
        for latent in self.latents:
            features = self.model.graphs.run("decode", {"z": latent})["features"]
            for ratio in RATIOS:
                size = (latent.shape[2] * ratio, latent.shape[3] * ratio)
                subject = self.model.generation(latent.shape[0], (latent.shape[2], latent.shape[3]), size)
                every = max(1, size[0] * size[1] // QUERIED)
                # Whole rows lie on an odd lattice, so that all positions between two latent rows are met.
                yield subject.query_feeds(features, slice(0, size[0], every | 1), slice(0, size[1]))
