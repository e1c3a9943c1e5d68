"""The decoder of a latent model apart from its denoiser, as int8 calibrates and tries it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deploy.families.contract import Feeds, Float32
from deploy.images.sizes import Size

if TYPE_CHECKING:
    from deploy.families.latent.model import LatentModel

LARGEST_QUERY_BYTES = 64 << 20
"""One chunk of decoder queries takes at most this much: more is not faster, and less flat."""

RATIOS = (2, 4, 8, 16)
"""Output pixels per latent pixel and side that are queried for calibration."""

QUERIED = 2048
"""Output pixels of each latent and size that are queried for calibration: whole rows, evenly spread."""


class LatentDecoder:
    """The graphs `decode`, which runs once per picture, and `query`, which runs once per output pixel."""

    def __init__(self, model: "LatentModel") -> None:
        self._model = model

    @property
    def stride(self) -> int:
        """Output pixels per latent pixel and side, at the resolution of training."""
        return self._model.config.first_stage.stride

    def rows(self, state: Float32, size: Size) -> Iterator[Float32]:
        """The pictures of latents at `size` from top to bottom."""
        subject = self._model.subject_of_latents(state.shape[0], Size(*state.shape[2:]), size)
        yield from subject.picture_rows(state, LARGEST_QUERY_BYTES)

    def inputs(self, graph: str, states: Sequence[Float32]) -> Iterator[Feeds]:
        """Latents as the sampler leaves them for `decode`, and for `query` some rows of pictures of several sizes."""
        if graph == "decode":
            yield from ({"z": latent} for latent in states)
            return
        for latent in states:
            features = self._model.graphs.run("decode", {"z": latent})["features"]
            for ratio in RATIOS:
                latent_size = Size(*latent.shape[2:])
                size = Size(*(side * ratio for side in latent_size))
                subject = self._model.subject_of_latents(latent.shape[0], latent_size, size)
                every = max(1, size[0] * size[1] // QUERIED)
                # Whole rows lie on an odd lattice, so that all positions between two latent rows are met.
                yield subject.query_feeds(features, slice(0, size[0], every | 1), slice(0, size[1]))
