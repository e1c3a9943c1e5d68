"""Configuration files as nested dictionaries: the authors' JSON with comments, and YAML."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.errors import ConfigError, MissingPackage
from deploy.foreign.places import refusal_of_address


def read_config(path: str | Path) -> dict[str, Any]:
    """The mapping in a .json, .yaml or .yml file.

    In JSON every line ends at its first `//`, as the authors' reader has it (IDM quirk 16), also within text.
    """
    path = Path(path)
    try:
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
    return dict(content)


def _json(path: Path, text: str) -> Any:
    without_comments = "\n".join(line.partition("//")[0] for line in text.splitlines())
    try:
        return json.loads(without_comments)
    except ValueError as error:
        raise ConfigError(f"The configuration {path} is not JSON (with // comments): {error}.") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingPackage(f"Reading {path} needs PyYAML: pip install 'idm-deploy[export]'.") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The configuration {path} is not YAML: {str(error).splitlines()[0]}.") from error
