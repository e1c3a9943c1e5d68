"""A bundle of LDM-SR at run time: the diffusion runs at the input's size, beside the input; the decoder enlarges."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from deploy.errors import PlanError
from deploy.families.compvis.config import PASSES
from deploy.families.compvis.memory import TAKEN, unet_bytes
from deploy.families.contract import Feeds, Graphs, NoiseOfShape
from deploy.families.ldm.config import LR_CHANNELS, LdmConfig, config_from_values
from deploy.families.model import Model
from deploy.images.back_projection import back_projected_rows, back_projection_bytes
from deploy.images.resize import resize, resize_region
from deploy.images.sizes import Size
from deploy.images.tiles import Window, strips_of_rows
from deploy.images.values import NetworkValues, ValueRule
from deploy.sampling.plan import PlanRow, SamplingRules
from engines.arrays import Array, Float32
from engines.contract import Memory


def _levels() -> NetworkValues:
    return np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(2) - np.float32(1)


def _level_from_value(values: NetworkValues) -> NetworkValues:
    unit = np.clip(values, -1.0, 1.0) / np.float32(2) + np.float32(0.5)
    return np.asarray(np.rint(unit * np.float32(255)), np.float32)


VALUES = ValueRule(levels=_levels(), level_from_value=_level_from_value)
"""As diffusers' pipeline reads and writes pictures."""


def published_timesteps(timesteps: int, count: int) -> list[int]:
    """The authors' DDIM grid and the 0 its last step leads to.

    With T = 1000 and 4: 751, 501, 251, 1, then alpha_bar[0].
    """
    if count > timesteps:
        raise PlanError(f"A schedule of {timesteps} timesteps has no grid of {count} steps.")
    table = [timestep + 1 for timestep in range(0, timesteps, timesteps // count)]
    if table[-1] >= timesteps:
        raise PlanError(
            f"The published grid of {count} steps asks for timestep {table[-1]} of a schedule that ends at "
            f"{timesteps - 1}, and the authors' sampler fails there; choose a number of steps that divides {timesteps}."
        )
    return [*table[::-1], 0]


SAMPLING = SamplingRules(integer_timesteps=True, clip=False, published_grid=published_timesteps)
"""The network is conditioned on the timestep, and its estimate is a latent without limits."""

BLOCK_BYTES = 8 << 20
"""What one array of a block may take, of distances to codes; of attention twice as much, where fewer are slower."""

ARRAYS = 8
"""Blocks' arrays that a backend holds at once, at most."""

TAKEN_BY_PICTURE = {Memory.LEAN: 8.5, Memory.ROOMY: 16.0}
"""Multiples of 4 bytes per pixel and channel of the finest level: 7.5 and 13.5 were seen, less when encoding."""


class LdmModel(Model):
    """A bundle's networks on an engine. Latents have the input's size, padded to what the U-Net can halve."""

    values = VALUES
    sampling = SAMPLING
    agrees_when_decoded = True

    def __init__(self, graphs: Graphs) -> None:
        manifest = graphs.bundle.manifest
        self.config: LdmConfig = config_from_values(manifest.configured)
        super().__init__(graphs, training_pixels=self.config.image_size**2)
        self.channels = self.config.first_stage.embed_dim
        self.usual_lr = self.config.image_size
        self._memory = graphs.choice.record.memory
        self._taken = TAKEN[self._memory]
        self._again = int(self._taken.weights_again * sum(record.bytes for record in manifest.files.values()))

    @property
    def stride(self) -> int:
        """Windows of the latent must start at multiples of this."""
        return self.config.unet.stride

    @property
    def decoder(self) -> "LdmDecoder":
        """The graphs that make a picture of a latent."""
        return LdmDecoder(self)

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "LdmSubject":
        """The pictures on their way to `size`; the condition is the input itself."""
        del posterior
        return LdmSubject(self, lr, size)

    def state_size(self, lr: Size, size: Size) -> Size:
        """The input's, padded."""
        del size
        return self.config.padded(lr)

    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        """What each step feeds besides state and condition: the timestep alone."""
        timesteps = np.array([row.timestep for row in rows], dtype=np.float32)
        return self.tabulated_feeds("timestep", timesteps, "time_row")

    def condition_of_window(self, lr: Float32, window: Window) -> dict[str, Array]:
        """What the U-Net is fed of the padded input; the hoisted convolution sees one pixel beyond the window."""
        if "condition" not in self.graphs:
            return {"lr": np.ascontiguousarray(lr[:, :, window.rows, window.columns])}
        top, left = max(window.top - 1, 0), max(window.left - 1, 0)
        wider = np.ascontiguousarray(lr[:, :, top : window.bottom + 1, left : window.right + 1])
        first = self.graphs.run("condition", {"lr": wider})["first"]
        rows = slice(window.top - top, window.bottom - top)
        columns = slice(window.left - left, window.right - left)
        return {"first": np.ascontiguousarray(first[:, :, rows, columns])}

    def blank_condition(self, lr: Size, size: Size, window: Window) -> Feeds:
        """The condition of a grey picture."""
        del size
        return self.condition_of_window(np.zeros((1, LR_CHANNELS, *self.config.padded(lr)), np.float32), window)

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        """The rows of the picture that an empty latent decodes to."""
        subject = LdmSubject(self, np.zeros((1, LR_CHANNELS, *lr), np.float32), size)
        yield from subject.picture_rows(np.zeros(subject.state_shape, np.float32), 0)

    def decoded(self, state: Float32) -> Float32:
        """The pictures of latents as the sampler leaves them, (batch, 3, height, width) of `scale` times their size."""
        features = self.graphs.run("features", {"quantized": self.quantized(state)})
        mixed = self.mixed(features)
        return np.asarray(self.graphs.run("decode", {"features": features["features"], "mixed": mixed})["picture"])

    def quantized(self, state: Float32) -> Float32:
        """The nearest vectors of the codebook, in blocks of pixels."""
        pixels = np.moveaxis(state, 1, -1)
        vectors = np.ascontiguousarray(pixels.reshape(-1, state.shape[1]))
        block = max(1, BLOCK_BYTES // (4 * self.config.first_stage.n_embed))
        starts = range(0, len(vectors), block)
        codes = [self.graphs.run("codes", {"vectors": vectors[start : start + block]})["codes"] for start in starts]
        maps = np.concatenate(codes).reshape(*pixels.shape[:-1], -1)
        return np.ascontiguousarray(np.moveaxis(maps, -1, 1))

    def mixed(self, features: Feeds) -> Float32:
        """What the decoder's attention makes of its queries, in blocks of pixels that ask."""
        keys, values, queries = features["keys"], features["values"], features["queries"]
        block = max(1, 2 * BLOCK_BYTES // (4 * keys.shape[0] * keys.shape[2]))
        parts = []
        for start in range(0, queries.shape[2], block):
            asking = np.ascontiguousarray(queries[:, :, start : start + block])
            parts.append(self.graphs.run("attend", {"queries": asking, "keys": keys, "values": values})["mixed"])
        return np.concatenate(parts, axis=2)

    def working_bytes(self, window: Size, batch: int) -> int:
        """Memory of the U-Net for one window of the latent."""
        return unet_bytes(self.config.unet, self._taken, window, batch) + self._again

    def condition_bytes(self, window: Size, batch: int) -> int:
        """The condition's half of the first convolution."""
        return 4 * batch * self.config.unet.model_channels * prod(window)

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """Decoding, or encoding the enlarged input: the finest level works on the pixels of the enlarged picture."""
        del size
        first_stage, latent = self.config.first_stage, prod(self.config.padded(lr))
        finest = 4 * batch * first_stage.ch * latent * first_stage.stride**2
        return int(TAKEN_BY_PICTURE[self._memory] * finest) + ARRAYS * BLOCK_BYTES

    def consistency_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """The rows of the decoded picture that wait for those below them, and what differs from the input."""
        return back_projection_bytes(lr, size, batch, PASSES)

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """What is done for sizes that the model does not make itself."""
        own = self.config.enlarged(lr)
        if own == size:
            return None
        return (
            f"this model makes {self.config.scale}x only: decoded at {own}, then resized to {size} with the "
            "antialiased filter"
        )


@dataclass(eq=False)
class LdmSubject:
    """Pictures on their way to `size`. They are padded on the right and below by repetition, which is cut off again."""

    _model: LdmModel
    _lr: Float32
    _size: Size

    def __post_init__(self) -> None:
        height, width = self._lr.shape[2:]
        padded = self._model.config.padded(Size(height, width))
        below, right = padded.height - height, padded.width - width
        self._padded = np.pad(self._lr, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")
        self.state_shape = (self._lr.shape[0], self._model.channels, padded.height, padded.width)

    def condition(self, window: Window) -> dict[str, Array]:
        """The input, for one window of the latent."""
        return self._model.condition_of_window(self._padded, window)

    def first_guess(self, rows: slice) -> Float32:
        """Rows of the latent of the enlarged input."""
        if not hasattr(self, "_guess"):
            enlarged = self._model.config.enlarged(Size(*self._padded.shape[2:]))
            image = np.clip(resize(self._padded, enlarged), -1.0, 1.0)
            self._guess: Float32 = self._model.graphs.run("guess", {"image": image})["guess"]
        return self._guess[:, :, rows]

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        """The estimate is a latent, and there is no cheap way back from pixels: see `picture_rows`."""
        del estimate, strength, trim

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """The pictures from top to bottom, decoded whole, resized where another size than the model's is wanted."""
        del room
        rows = self._rows(np.ascontiguousarray(state))
        if consistency:
            rows = back_projected_rows(rows, self._lr, self._size, strength=consistency, passes=PASSES)
        yield from rows

    def _rows(self, state: Float32) -> Iterator[Float32]:
        height, width = self._model.config.enlarged(Size(*self._lr.shape[2:]))
        picture = self._model.decoded(state)[:, :, :height, :width]
        for rows in strips_of_rows((*picture.shape[:2], *self._size)):
            if (height, width) == self._size:
                yield np.ascontiguousarray(picture[:, :, rows])
            else:
                yield resize_region(picture, self._size, (rows.start, rows.stop), (0, self._size.width))


@dataclass(eq=False)
class LdmDecoder:
    """The graphs behind the last step; `decode` has nearly all of their work."""

    _model: LdmModel

    @property
    def stride(self) -> int:
        """Output pixels per latent pixel and side."""
        return self._model.config.scale

    def rows(self, state: Float32, size: Size) -> Iterator[Float32]:
        """The pictures of latents at `size` from top to bottom."""
        lr = np.zeros((state.shape[0], LR_CHANNELS, *state.shape[2:]), np.float32)
        yield from LdmSubject(self._model, lr, size).picture_rows(state, 0)

    def inputs(self, graph: str, states: Sequence[Float32]) -> Iterator[Feeds]:
        """What `decode` is fed for these latents."""
        del graph
        for state in states:
            features = self._model.graphs.run("features", {"quantized": self._model.quantized(state)})
            yield {"features": features["features"], "mixed": self._model.mixed(features)}
