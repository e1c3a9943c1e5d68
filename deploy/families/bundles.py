"""Whether what a bundle records fits the family that it names: configuration, schedule and presets, before any is used.

`deploy.bundle` has checked by then that each is of its declared kind; what numbers mean, only a family knows.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from deploy.bundle import Bundle, Manifest
from deploy.bundle.checks import problem_of_kind
from deploy.errors import BundleError, DeployError, nearest_name
from deploy.families.contract import Family
from deploy.families.table import family_named
from deploy.sampling.choices import Choices, sampling_from
from deploy.sampling.schedule import NoiseSchedule

_SAME = 1e-9
"""Between two numbers that were written from one."""


def recorded_config(manifest: Manifest) -> Any:
    """The configuration that a bundle records field by field, as the class of its family.

    A BundleError tells what in it is of another kind, beyond the family's limits, or does not go together.
    """
    family = family_named(manifest.family)
    problems = list(_problems_of_values(family, manifest.configured))
    if problems:
        raise BundleError(f"The configuration of this {family.name} bundle is not valid: {'; '.join(problems[:5])}.")
    config = family.config_from_values(manifest.configured)
    problems = list(_problems_of_limits(family, config))
    if problems:
        raise BundleError(f"The configuration of this {family.name} bundle is not valid: {'; '.join(problems[:5])}.")
    return config


def check_bundle(bundle: Bundle) -> None:
    """The bundle can be run as its family says; otherwise a BundleError names what does not fit."""
    try:
        problems = list(_problems(bundle.manifest))
    except DeployError as error:
        problems = [str(error).rstrip(".")]
    if problems:
        raise BundleError(
            f"{bundle.path} cannot be used: {'; '.join(problems[:5])}. Export the checkpoint again with this version."
        )


def _problems(manifest: Manifest) -> Iterator[str]:
    family = family_named(manifest.family)
    config = recorded_config(manifest)
    told, meant = manifest.scale_range.trained, family.scale_range(config)
    both = zip(told or (), meant or (), strict=False)
    if (told is None) != (meant is None) or any(abs(a - b) > _SAME * abs(b) for a, b in both):
        yield f"its scale_range says {told and list(told)}, its configuration {meant and list(meant)}"
    NoiseSchedule.from_record(manifest.schedule)
    for name in manifest.presets:
        try:
            sampling_from(manifest, Choices(preset=name))
        except DeployError as error:
            yield f"its preset {name}: {str(error).rstrip('.')}"


def _problems_of_values(family: Family, values: Mapping[str, Any]) -> Iterator[str]:
    """Fields that the family does not know, and values of another kind than it declares."""
    for name, value in values.items():
        if name not in family.fields:
            yield f"there is no {name!r} (did you mean {nearest_name(name, family.fields)!r}?)"
        elif (problem := problem_of_kind(name, value, _kind_of_field(family.config, name))) is not None:
            yield problem


def _kind_of_field(config: type[Any], name: str) -> Any:
    """The declared kind of a field, or of one of a part: `unet.model_channels`."""
    first, _, rest = name.partition(".")
    kind = get_type_hints(config, include_extras=True)[first]
    if not rest:
        return kind
    parts = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and dataclasses.is_dataclass(each)]
    return _kind_of_field(parts[0], rest)


def _problems_of_limits(family: Family, config: Any) -> Iterator[str]:
    for name, (least, most) in family.limits.items():
        value = config
        for part in name.split("."):
            value = getattr(value, part, None)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not least <= number <= most:
                yield f"{name} is {number:g}, expected {least:g} to {most:g}"
