"""A bundle of the latent family at run time: the diffusion runs once in the latent, which decodes to any size."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from deploy.errors import PlanError
from deploy.families.compvis.config import PASSES, UNetConfig
from deploy.families.contract import Feeds, Generated, Graphs, NoiseOfShape
from deploy.families.latent.config import LatentConfig
from deploy.families.latent.detect import config_from_values
from deploy.families.latent.memory import LatentMemory
from deploy.families.model import Model
from deploy.images.back_projection import back_projected_rows, back_projection_bytes
from deploy.images.coordinates import (
    AxisLookup,
    covered_centres,
    nearest_index,
    relative_cell,
    relative_coordinates,
    resize_index,
    shifted_lookup,
)
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.images.values import NetworkValues, ValueRule
from deploy.sampling.plan import PlanRow, SamplingRules
from engines.arrays import Array, Float32


def _levels() -> NetworkValues:
    return (np.arange(256) / 127.5 - 1.0).astype(np.float32)


def _level_from_value(values: NetworkValues) -> NetworkValues:
    unit = np.clip(values * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(unit * np.float32(255), np.float32)  # the conversion to uint8 truncates


VALUES = ValueRule(levels=_levels(), level_from_value=_level_from_value)
"""A picture that goes in and straight out again may be a level darker by float32 rounding: published so, and kept."""


def published_timesteps(timesteps: int, count: int) -> list[int]:
    """The latent repository's own DDIM grid, which drops its largest entry, and the 0 its last step leads to.

    With T = 1000 and 4: the table is 1, 251, 501, 751; run are 501, 251, 1, then alpha_bar[0].
    """
    table = [timestep + 1 for timestep in range(0, timesteps, timesteps // count)]
    if table[-1] >= timesteps:
        raise PlanError(
            f"The published grid of {count} steps asks for timestep {table[-1]} of a schedule that ends at "
            f"{timesteps - 1}, and the authors' sampler fails there; choose a number of steps that divides {timesteps}."
        )
    return [*table[:-1][::-1], 0]


SAMPLING = SamplingRules(integer_timesteps=True, clip=False, published_grid=published_timesteps)
"""The network is conditioned on the timestep, and its estimate is a latent without limits."""

PIXELS_PER_THREAD = 4096
"""Output pixels of one chunk where a CPU's cache decides; elsewhere memory decides (docs/measurements.md)."""

LARGEST_QUERY_BYTES = 64 << 20
"""One chunk of decoder queries takes at most this much: more is not faster, and less flat."""

RATIOS = (2, 4, 8, 16)
"""Output pixels per latent pixel and side that are queried for calibration."""

QUERIED = 2048
"""Output pixels of each latent and size that are queried for calibration: whole rows, evenly spread."""


class LatentModel(Model):
    """A latent bundle's networks: super-resolution or generation. Latents are as the sampler sees them."""

    values = VALUES
    sampling = SAMPLING
    agrees_when_decoded = True

    def __init__(self, graphs: Graphs) -> None:
        manifest = graphs.bundle.manifest
        self.config: LatentConfig = config_from_values(manifest.configured)
        super().__init__(graphs, training_pixels=(self.config.image_size or 1) ** 2)
        if self.config.unet is None or self.config.channels is None:
            raise PlanError(f"{graphs.bundle.path} holds an auto-encoder alone, which has nothing to sample with.")
        self.unet: UNetConfig = self.config.unet
        self.channels = self.config.channels
        weight_bytes = sum(record.bytes for record in manifest.files.values())
        self.memory = LatentMemory(self.config, graphs.choice.record.memory, weight_bytes)
        self._trained = manifest.scale_range.trained
        # A latent grows with the input, and attention with the square of its pixels.
        self.usual_lr = self.config.lr_size
        self.generates = self.config.kind == "generation"

    @property
    def stride(self) -> int:
        """Windows of the latent must start at multiples of this."""
        return self.unet.stride

    @property
    def decoder(self) -> "LatentDecoder":
        """The two graphs that make a picture of a latent."""
        return LatentDecoder(self)

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "LatentSubject":
        """The pictures on their way to `size`, encoded; where the encoder draws, `posterior` gives the noise."""
        if self.generates:
            raise PlanError("This model makes pictures from noise and has no input to enlarge; use `generate`.")
        lr_size = (lr.shape[2], lr.shape[3])
        maps = self.graphs.run("encode", {"image": resized(lr, self.config)})
        condition = maps["mean"]
        batch, channels, height, width = condition.shape
        shape = (batch, channels, height, width)
        if "deviation" in maps:
            condition = condition + maps["deviation"] * posterior(shape)
        return LatentSubject(self, condition, shape, size, self.config.covered(*lr_size), lr)

    def generation(self, count: int, state: Size | None, size: Size | None) -> Generated:
        """`count` pictures to be made from latents of that size."""
        if not self.generates:
            return super().generation(count, state, size)
        state = state or Size.square(self.config.image_size or 0)
        size = size or Size.square(self.config.default_output_size or 0)
        return Generated(subject=self.subject_of_latents(count, state, size), state=state, size=size)

    def subject_of_latents(self, count: int, latent: Size, size: Size) -> "LatentSubject":
        """Latents of that size without a condition, on their way to `size`."""
        return LatentSubject(self, None, (count, self.channels, *latent), size, (1.0, 1.0))

    def state_size(self, lr: Size, size: Size) -> Size:
        """The latent of the resized and padded input; the output size has no part in it.

        A generation model has no input: there, `lr` is the size of the latent itself.
        """
        del size
        if self.generates:
            return lr
        return Size(*(side // self.config.first_stage.stride for side in self.config.padded_size(*lr)))

    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        """What each step feeds besides state and condition: this family looks at the timestep only."""
        timesteps = np.array([row.timestep for row in rows], dtype=np.float32)
        return self.tabulated_feeds("timestep", timesteps, "time_row")

    def condition_of_window(self, condition: Float32, window: Window) -> dict[str, Array]:
        """What the U-Net is fed of the encoded input; the hoisted convolution sees one pixel beyond the window."""
        if "condition" not in self.graphs:
            return {"cond": condition[:, :, window.rows, window.columns]}
        top, left = max(window.top - 1, 0), max(window.left - 1, 0)
        wider = np.ascontiguousarray(condition[:, :, top : window.bottom + 1, left : window.right + 1])
        first = self.graphs.run("condition", {"cond": wider})["first"]
        rows = slice(window.top - top, window.bottom - top)
        columns = slice(window.left - left, window.right - left)
        return {"first": np.ascontiguousarray(first[:, :, rows, columns])}

    def blank_condition(self, lr: Size, size: Size, window: Window) -> dict[str, Array]:
        """The condition of an empty latent."""
        del lr, size
        if self.generates:
            return {}
        return self.condition_of_window(np.zeros((1, self.channels, *window.size), np.float32), window)

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        """The rows of the picture that an empty latent decodes to."""
        latent = self.state_size(lr, size)
        subject = self.subject_of_latents(1, latent, size)
        yield from subject.picture_rows(np.zeros(subject.state_shape, np.float32), LARGEST_QUERY_BYTES)

    def working_bytes(self, window: Size, batch: int) -> int:
        """Memory of the U-Net for one window of the latent."""
        return self.memory.denoise_bytes(window, batch)

    def condition_bytes(self, window: Size, batch: int) -> int:
        """The condition's half of the first convolution."""
        return 0 if self.generates else 4 * batch * self.unet.model_channels * prod(window)

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """Encoding and decoding the latent, which attention keeps from being cut, and one chunk of queries."""
        latent = self.state_size(lr, size)
        return self.memory.encode_bytes(latent, batch) + self.memory.decode_bytes(latent, batch) + LARGEST_QUERY_BYTES

    def consistency_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """The rows of the decoded picture that wait for those below them, and what differs from the input."""
        return back_projection_bytes(lr, size, batch, PASSES)

    def refusal_of_consistency(self) -> str | None:
        """A picture made from noise alone has nothing to agree with."""
        if not self.generates:
            return None
        return "A picture made from noise alone has no input to be consistent with; leave out `consistency`."

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """What to say of a magnification past the largest of training; None up to it."""
        scale = size[1] / lr[1]
        if self._trained is None or scale <= self._trained[1]:
            return None
        return f"scale {scale:.4g} is beyond the trained 1 to {self._trained[1]:g}: the decoder extrapolates"


@dataclass(eq=False)
class LatentSubject:
    """Encoded pictures, or none at all, on their way to `size`. `covered` is the part of the latent that is picture."""

    _model: LatentModel
    _condition: Float32 | None
    state_shape: tuple[int, int, int, int]
    _size: Size
    _covered: tuple[float, float]
    _lr: Float32 | None = None

    def condition(self, window: Window) -> dict[str, Array]:
        """What does not change from step to step, for one window of the latent."""
        return {} if self._condition is None else self._model.condition_of_window(self._condition, window)

    def first_guess(self, rows: slice) -> Float32:
        """Rows of the encoded input, which is the latent of a blurred picture."""
        if self._condition is None:
            raise PlanError("A picture made from noise alone has no input to begin from; leave out the start.")
        return self._condition[:, :, rows]

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        """The estimate is a latent, and there is no cheap way back from pixels: see `picture_rows`."""
        del estimate, strength, trim

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """The pictures from top to bottom, queried in chunks whose memory does not depend on the output size."""
        features = self._model.graphs.run("decode", {"z": np.ascontiguousarray(state)})["features"]
        rows = self.rows_of_features(features, room)
        if consistency and self._lr is not None:
            rows = back_projected_rows(rows, self._lr, self._size, strength=consistency, passes=PASSES)
        yield from rows

    def rows_of_features(self, features: Float32, room: int) -> Iterator[Float32]:
        """The rows of the pictures, from the features that `decode` made of the state."""
        batch, (height, width) = features.shape[0], self._size
        pixels = self._pixels_at_once(room)
        columns = min(width, pixels)
        rows = max(1, pixels // columns)
        for top in range(0, height, rows):
            block = np.empty((batch, 3, min(rows, height - top), width), np.float32)
            for left in range(0, width, columns):
                feeds = self.query_feeds(features, slice(top, top + rows), slice(left, left + columns))
                block[:, :, :, left : left + columns] = self._model.graphs.run("query", feeds)["colours"]
            yield block

    def query_feeds(self, features: Float32, rows: slice, columns: slice) -> dict[str, Array]:
        """What `query` is fed for some rows and columns of the pictures."""
        feeds: dict[str, Array] = {"features": features, **self._tables["cell"]}
        for axis, part in (("row", rows), ("column", columns)):
            feeds |= {name: table[part] for name, table in self._tables[axis].items()}
        return feeds

    def _pixels_at_once(self, room: int) -> int:
        """Output pixels of one chunk and picture: what fits, and of all pictures together what runs fastest."""
        model, batch = self._model, self.state_shape[0]
        within = min(room, LARGEST_QUERY_BYTES) // (model.memory.query_bytes_per_pixel * batch)
        choice = model.graphs.choice
        if choice.record.small_chunks:
            within = min(within, PIXELS_PER_THREAD * (choice.threads or os.cpu_count() or 1) // batch)
        return max(1, within)

    @cached_property
    def _tables(self) -> dict[str, dict[str, Array]]:
        """The look-ups along each axis, whole, and the cell."""
        first_stage = self._model.config.first_stage
        tables: dict[str, dict[str, Array]] = {"cell": {}}
        sizes = list(zip(self.state_shape[2:], self._size, self._covered, strict=True))
        for axis, (count_in, count_out, covered) in zip(("row", "column"), sizes, strict=True):
            tables[axis] = {}
            sides = _sides(count_in, count_out, covered, ensemble=first_stage.local_ensemble)
            for side, lookup in sides.items():
                tables[axis][f"{axis}_index{side}"] = lookup.index
                tables[axis][f"{axis}_offset{side}"] = lookup.relative
        if first_stage.cell_decode:
            tables["cell"]["cell"] = np.array([relative_cell(*sides) for sides in sizes], dtype=np.float32)
        return tables


def resized(lr: Float32, config: LatentConfig) -> Float32:
    """The encoder's input: enlarged by the training's factor (nearest, float32 rule), padded by replication."""
    height, width = lr.shape[2:]
    size, padded = config.resized_size(height, width), config.padded_size(height, width)
    rows, columns = (resize_index(n, m) for n, m in zip((height, width), size, strict=True))
    below, right = padded[0] - size[0], padded[1] - size[1]
    rows, columns = np.pad(rows, (0, below), mode="edge"), np.pad(columns, (0, right), mode="edge")
    return np.ascontiguousarray(lr[:, :, rows][:, :, :, columns])


def _sides(count_in: int, count_out: int, covered: float, *, ensemble: bool) -> dict[str, AxisLookup]:
    """The look-ups of one axis by the ending of their names: two with the local ensemble, else one."""
    if ensemble:
        lookup = shifted_lookup(count_in, count_out, covered)
        return {"_minus": lookup.minus, "_plus": lookup.plus}
    centres = covered_centres(count_out, covered)
    index = nearest_index(centres, count_in)
    return {"": AxisLookup(index=index, relative=relative_coordinates(centres, index, count_in))}


@dataclass(eq=False)
class LatentDecoder:
    """The graphs `decode`, which runs once per picture, and `query`, which runs once per output pixel."""

    _model: LatentModel

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
