"""The families of networks that can be deployed. Adding one is a module here and a line in `FAMILIES`.

Detection goes through the table in its order and takes the first family all of whose marks are among the
checkpoint's names. So a family never misses a checkpoint of its own, and one whose marks are a part of
another's has to stand behind it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from deploy.families.detection import Detection, Settings, Shape, Stored
from deploy.families.idm import detect as idm
from deploy.families.latent import detect as latent

if TYPE_CHECKING:
    from torch import nn


class Family(Protocol):
    """What a family's module provides."""

    NAME: str  # as in bundles and on the command line
    TITLE: str  # as a person would name it
    CONFIG: type[Any]  # the class of its configurations
    PARTS: Mapping[str, str]  # prefix of parameter names -> name of the part, for `inspect`
    LIVE_PREFIXES: tuple[str, ...]  # below these, a name that is not known means another network
    VALUE_RANGE: tuple[float, float]  # of the images that the network sees
    FIELDS: tuple[str, ...]  # the configuration's fields, as `Settings.values` names them

    def marks_of(self, names: Mapping[str, Shape], /) -> tuple[str, ...]:
        """The names by which a checkpoint is known: those of the variant that is nearest to `names`."""

    def detect(self, stored: Stored, settings: list[Settings], /) -> Detection:
        """The configuration and schedule, each value with its source."""

    def settings_from_mapping(self, mapping: Mapping[str, Any], label: str, /) -> Settings:
        """What the authors' configuration file says."""

    def settings_from_record(self, record: Mapping[str, Any], /) -> dict[str, Any]:
        """The fields of a configuration that `as_mapping` wrote."""

    def as_mapping(self, config: Any, /) -> dict[str, Any]:
        """The configuration in JSON's types."""

    def config_from_values(self, values: Mapping[str, Any], /) -> Any:
        """The configuration from the fields and values that a checkpoint's or a bundle's `configuration` lists."""

    def scale_range(self, config: Any, /) -> tuple[float, float] | None:
        """The magnifications seen in training; beyond them the network extrapolates. None: it magnifies nothing."""

    def build(self, config: Any, /) -> "nn.Module":
        """The network, with any weights."""

    def unused_shapes(self, config: Any, /) -> dict[str, Shape]:
        """What published checkpoints hold although no output depends on it."""

    def averaged_names(self, names: Mapping[str, Shape], /) -> dict[str, str]:
        """Live name -> name of its moving average in the same state dict."""


FAMILIES: Sequence[Family] = (latent, idm)


def recorded_config(family: str, configuration: Mapping[str, Mapping[str, Any]]) -> Any:
    """The configuration that a bundle records field by field, as the class of its family."""
    values = {name: entry["value"] for name, entry in configuration.items()}
    return next(module for module in FAMILIES if family == module.NAME).config_from_values(values)
