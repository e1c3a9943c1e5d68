"""What a family says of folders that hold its networks part by part, as diffusers saves a pipeline.

The checkpoint room reads such a folder; nothing of it is imported or run. `deploy.checkpoint.folders` does the reading.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from deploy.families.detection import Settings, Shape

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A tensor under its published name, which a folder stores under another name or in several pieces."""

    pieces: tuple[str, ...]
    """Names in the folder, the part's name in front: `unet.conv_in.weight`."""
    shape: Shape
    make: Callable[[Sequence[Array]], Array]
    """The tensor, from its pieces."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One sub-folder of a pipeline. classes: what it may be, by the names in `model_index.json`; empty: anything."""

    classes: tuple[str, ...] = ()
    config: str = "config.json"
    weights: bool = True


@dataclass(frozen=True, kw_only=True)
class PipelineFolder:
    """How a family's networks lie in a folder of diffusers."""

    pipeline: str
    """The class that `model_index.json` names."""
    parts: Mapping[str, Part]
    """By the names of their sub-folders."""
    settings: Callable[[Mapping[str, Mapping[str, Any]], str], Settings]
    """(configuration of each part, the folder as messages name it) -> what they say of the family's configuration."""
    assembled: Callable[[Mapping[str, Shape], Settings], dict[str, Assembled]]
    """(shapes in the folder, its settings) -> the tensors that the published network has, by name."""
