"""A pixel-space denoiser of three convolutions, conditioned on the enlarged input and on the noise level."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.families.cases import NOISE_LEVEL, Trial
from deploy.families.contract import Array, Family, Float32, Graphs, NoiseOfShape, Rewrite
from deploy.families.detection import Detection, Settings, Shape, Stored, resolve
from deploy.families.idm.model import SAMPLING, VALUES
from deploy.families.model import Model
from deploy.families.sizes import STEPS, Axes, EngineSizes
from deploy.images.resize import data_consistency, resize_region
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.sampling.plan import PlanRow
from deploy.sampling.schedule import NoiseSchedule
from engines.contract import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deploy.families.rewriting.ops import Ops, Part

SAME = (1, 1, 1, 1)
SCHEDULE = NoiseSchedule.from_kind("linear", 100, 1e-4, 2e-1)


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Channels between the convolutions."""

    width: int = 8


# A checkpoint and its configuration


def marks_of(names: Mapping[str, Shape]) -> tuple[str, ...]:
    del names
    return ("enter.weight", "middle.weight", "leave.weight")


def detect(stored: Stored, settings: list[Settings]) -> Detection:
    found = resolve(stored, {"width": stored.shape("enter.weight", 4)[0]}, settings, {})
    return Detection(
        config=ToyConfig(**found.values), sources={**found.sources, "schedule": "assumed"}, schedule=SCHEDULE
    )


def settings_from_mapping(mapping: Mapping[str, Any], label: str) -> Settings:
    return Settings(source="config", label=label, values=dict(mapping))


# The network, and its graph


def build(config: ToyConfig) -> "nn.Module":
    from torch import nn

    network = nn.Module()
    network.enter = nn.Conv2d(7, config.width, 3, padding=1)
    network.middle = nn.Conv2d(config.width, config.width, 3, padding=1)
    network.leave = nn.Conv2d(config.width, 3, 3, padding=1)
    return network


def graphs_of(config: ToyConfig, weights: Mapping[str, Array], chosen: frozenset[str]) -> "list[Part]":
    from deploy.families.rewriting.ops import Part

    del config, chosen
    picture = ("batch", 3, "height", "width")

    def forward(ops: "Ops[Any]", feeds: Mapping[str, Any]) -> dict[str, Any]:
        level = ops.add(ops.scale(feeds["x"], 0.0, "plane"), feeds["noise_level"], "plane")
        level = ops.split(level, (1, 2), "plane", axis=1)[0]
        h = ops.concat([feeds["x"], feeds["cond"], level], "joined", axis=1)
        h = ops.silu(ops.conv(h, "enter", padding=SAME), "enter.silu")
        h = ops.silu(ops.conv(h, "middle", padding=SAME), "middle.silu")
        return {"noise": ops.conv(h, "leave", padding=SAME)}

    return [
        Part(
            name="denoise",
            inputs=(
                TensorSpec("x", "float32", picture),
                TensorSpec("cond", "float32", picture),
                TensorSpec("noise_level", "float32", ("rows", 1, 1, 1)),
            ),
            outputs=(TensorSpec("noise", "float32", picture),),
            weights=weights,
            forward=forward,
        )
    ]


def trial(config: ToyConfig, size: Size, batch: int) -> Trial:
    del config
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {
        "x": rng.standard_normal((batch, 3, *size)).astype(np.float32),
        "cond": rng.uniform(-1, 1, (batch, 3, *size)).astype(np.float32),
        "noise_level": np.full((1, 1, 1, 1), NOISE_LEVEL, np.float32),
    }
    return Trial(size=size, feeds=feeds, between=lambda _graph, _feeds: None)


class PublishedToy:
    """The network in PyTorch, layer by layer."""

    def __init__(self, network: Any, case: Trial) -> None:
        self._network, self._case = network, case

    def step(self) -> "Tensor":
        import torch
        from torch.nn.functional import silu

        feeds = {name: torch.from_numpy(value) for name, value in self._case.feeds.items()}
        level = feeds["noise_level"].expand(feeds["x"].shape[0], 1, *feeds["x"].shape[2:])
        h = silu(self._network.enter(torch.cat([feeds["x"], feeds["cond"], level], 1)))
        noise: Tensor = self._network.leave(silu(self._network.middle(h)))
        return noise

    def finish(self) -> None:
        """Nothing follows."""

    def answers(self) -> dict[str, Array]:
        return {"noise": self.step().detach().numpy()}


# At run time


class ToyModel(Model):
    """The network on an engine."""

    values = VALUES
    sampling = SAMPLING
    channels = 3
    stride = 1

    def __init__(self, graphs: Graphs) -> None:
        super().__init__(graphs, training_pixels=32**2)

    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        return [{"noise_level": np.full((1, 1, 1, 1), row.noise_level, np.float32)} for row in rows]

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "ToySubject":
        del posterior
        return ToySubject(lr, size)

    def working_bytes(self, window: Size, batch: int) -> int:
        return 4 * 40 * 8 * batch * prod(window)

    def condition_bytes(self, window: Size, batch: int) -> int:
        return 12 * batch * prod(window)

    def blank_condition(self, lr: Size, size: Size, window: Window) -> dict[str, Array]:
        return {"cond": np.zeros((1, 3, *window.size), np.float32)}

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        return None


class ToySubject:
    """Pictures on their way to a size; the condition is the bicubically enlarged input."""

    def __init__(self, lr: Float32, size: Size) -> None:
        self._lr, self._size = lr, size

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        return self._lr.shape[0], 3, *self._size

    def condition(self, window: Window) -> dict[str, Array]:
        rows, columns = (window.top, window.bottom), (window.left, window.right)
        return {"cond": np.ascontiguousarray(resize_region(self._lr, self._size, rows, columns), dtype=np.float32)}

    def first_guess(self, rows: slice) -> Float32:
        return resize_region(self._lr, self._size, (rows.start, rows.stop), (0, self._size[1]))

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        estimate[:] = data_consistency(estimate, self._lr, strength)
        trim()

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        del room, consistency
        yield state


def _axes(config: ToyConfig, sizes: EngineSizes) -> Axes:
    del config
    heights, widths = ([size[axis] for size in sizes.sizes] for axis in (0, 1))
    axes = {"height": tuple(heights), "width": tuple(widths), "batch": sizes.batch, "rows": (1, 1, 1)}
    return lambda graph: axes | ({"rows": STEPS} if graph == "tabulate" else {})  # type: ignore[return-value]


TOY = Family(
    name="toy",
    title="a toy of three convolutions",
    config=ToyConfig,
    fields=("width",),
    parts={"": "denoiser"},
    live_prefixes=("enter.", "middle.", "leave."),
    value_range=(-1.0, 1.0),
    marks_of=marks_of,
    detect=detect,
    settings_from_mapping=settings_from_mapping,
    config_from_values=lambda values: ToyConfig(**values),
    scale_range=lambda config: (1.0, 4.0),
    build=build,
    rewrites={"nothing": Rewrite(title="Nothing", what="Nothing is rewritten.", saves="nothing")},
    graphs=graphs_of,
    trial=trial,
    published=PublishedToy,
    parity_cases=((Size(16, 16), 1), (Size(9, 14), 2)),
    values=VALUES,
    sampling=SAMPLING,
    published_equations=("ddim",),
    model=ToyModel,
    decodes=False,
    usual_side=lambda config: 32,
    least_scale=lambda smallest, largest: smallest,
    axes=_axes,
)
