"""What a configuration file and a checkpoint's own metadata say about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.checkpoint.config_files import read_config
from deploy.errors import ConfigError
from deploy.families.contract import Family
from deploy.families.detection import Settings, Source, refuse_unknown, section
from deploy.sampling.schedule import NoiseSchedule

METADATA_KEY = "idm_deploy"
RECORD_KEYS = ("family", "config", "schedule")


def settings_of(
    family: Family, config: str | Path | Mapping[str, Any] | None, path: Path, metadata: Mapping[str, str]
) -> list[Settings]:
    """The configuration's values, if one is given, and then those of the safetensors metadata, if there are any."""
    return [*_settings_from_config(family, config), *_settings_from_metadata(family, path, metadata)]


def _settings_from_config(family: Family, config: str | Path | Mapping[str, Any] | None) -> list[Settings]:
    if config is None:
        return []
    label = "the configuration given" if isinstance(config, Mapping) else str(config)
    mapping = config if isinstance(config, Mapping) else read_config(config)
    if "model" in mapping:
        return [family.settings_from_mapping(mapping, label)]
    record = mapping if "config" in mapping else {"config": mapping}
    return [_settings_from_record(family, record, label, "config")]


def _settings_from_metadata(family: Family, path: Path, metadata: Mapping[str, str]) -> list[Settings]:
    if METADATA_KEY not in metadata:
        return []
    label = f"the metadata of {path}"
    try:
        record = json.loads(metadata[METADATA_KEY])
    except ValueError as error:
        raise ConfigError(f"{label} are damaged: key {METADATA_KEY} is not JSON ({error}).") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{label} are damaged: key {METADATA_KEY} holds {type(record).__name__}, expected an object.")
    return [_settings_from_record(family, record, label, "metadata")]


def _settings_from_record(family: Family, record: Mapping[str, Any], label: str, source: Source) -> Settings:
    """What `metadata_for` wrote."""
    refuse_unknown(label, record, RECORD_KEYS)
    if record.get("family", family.name) != family.name:
        raise ConfigError(f"{label} says the family is {record['family']!r}, the weights are of {family.name!r}.")
    values = family.settings_from_record(section(label, record, "config"))
    refuse_unknown(label, values, family.fields)
    schedule = section(label, record, "schedule")
    schedules = {"schedule": NoiseSchedule.from_dict(schedule)} if schedule else {}
    return Settings(source=source, label=label, values=values, schedules=schedules)
