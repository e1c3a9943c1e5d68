"""What a configuration file, JSON with comments or YAML, and a checkpoint's own metadata say about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.bundle.records import ValueSource
from deploy.errors import ConfigError, MissingPackage
from deploy.families.contract import Family
from deploy.families.detection import Settings, plain, refuse_unknown, section
from deploy.foreign.places import refusal_of_address
from deploy.sampling.schedule import NoiseSchedule

METADATA_KEY = "idm_deploy"
RECORD_KEYS = ("family", "config", "schedule")

LARGEST_CONFIG_BYTES = 4 << 20
MOST_VALUES = 100_000
DEEPEST = 50
"""Of a configuration file: its values, those that YAML's aliases repeat counted each time, and objects in objects."""


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
    except RecursionError as error:
        raise ConfigError(f"{label} are damaged: key {METADATA_KEY} is nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"{label} are damaged: key {METADATA_KEY} is not JSON ({error}).") from error
    _refuse_endless(label, record)
    if not isinstance(record, dict):
        raise ConfigError(f"{label} are damaged: key {METADATA_KEY} holds {type(record).__name__}, expected an object.")
    return [_settings_from_record(family, record, label, "metadata")]


def _settings_from_record(family: Family, record: Mapping[str, Any], label: str, source: ValueSource) -> Settings:
    """What `metadata_for` wrote."""
    refuse_unknown(label, record, RECORD_KEYS)
    if record.get("family", family.name) != family.name:
        raise ConfigError(f"{label} says the family is {plain(record['family'])}, the weights are of {family.name!r}.")
    values = family.settings_from_record(section(label, record, "config"))
    refuse_unknown(label, values, family.fields)
    schedule = section(label, record, "schedule")
    schedules = {"schedule": NoiseSchedule.from_dict(schedule)} if schedule else {}
    return Settings(source=source, label=label, values=values, schedules=schedules)


def read_config(path: str | Path) -> dict[str, Any]:
    """The mapping in a .json, .yaml or .yml file.

    In JSON every line ends at its first `//`, as the authors' reader has it (IDM quirk 16), also within text.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_CONFIG_BYTES:
            raise ConfigError(
                f"The configuration {path} has more than {LARGEST_CONFIG_BYTES >> 20} MiB, which none needs. Name the "
                "file that belongs to the checkpoint."
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if (address := refusal_of_address(path)) is not None:
            raise ConfigError(address) from error
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"The configuration {path} cannot be read: {reason}. Name a .json or .yaml file.") from error
    content = _yaml(path, text) if path.suffix.lower() in {".yaml", ".yml"} else _json(path, text)
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"The configuration {path} holds {type(content).__name__}, expected a mapping of names to values."
        )
    _refuse_endless(f"The configuration {path}", content)
    return dict(content)


def _refuse_endless(what: str, content: object) -> None:
    """A few lines of YAML can say as much as a library, and whoever walks or prints that is never done."""
    waiting = [(content, 1)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MOST_VALUES or depth > DEEPEST:
            raise ConfigError(f"{what} is nested more than {DEEPEST} times or has more than {MOST_VALUES} values.")
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        waiting += [(part, depth + 1) for part in parts]


def _json(path: Path, text: str) -> Any:
    without_comments = "\n".join(line.partition("//")[0] for line in text.splitlines())
    try:
        return json.loads(without_comments)
    except RecursionError as error:
        raise ConfigError(f"The configuration {path} is nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is not JSON (with // comments): {error}.") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingPackage(f"Reading {path} needs PyYAML: pip install 'idm-deploy[export]'.") from error
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ConfigError(f"The configuration {path} is nested too deeply.") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"The configuration {path} is not YAML: {str(error).partition(chr(10))[0]}.") from error
