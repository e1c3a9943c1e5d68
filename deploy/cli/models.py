"""Models that are named by hf:// addresses: fetched before a command runs, which sees the paths of their files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

from deploy.cli.messages import say
from deploy.cli.progress import shown_progress
from deploy.errors import HubError


@dataclass(frozen=True, kw_only=True)
class NamesModel:
    """Marks a parameter that names a checkpoint or a bundle, by a path or by hf://OWNER/NAME[@REVISION][/FILE].

    `changes_bundle`: the command writes into the bundle, which one that was fetched is not for.
    """

    changes_bundle: bool = False


def with_fetched_models(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a command's parameters, with paths of this machine in place of addresses of models."""
    result = dict(values)
    for name, parameter in parameters.items():
        marks = [mark for mark in parameter.annotation.__metadata__ if isinstance(mark, NamesModel)]
        value = result.get(name)
        if marks and isinstance(value, Path):
            result[name] = _fetched(value, marks[0])
        elif marks and isinstance(value, list):
            result[name] = [_fetched(path, marks[0]) for path in value]
    return result


def _fetched(path: Path, mark: NamesModel) -> Path:
    from deploy.checkpoint.folders import known_pipelines
    from deploy.hub import hub_address, local_path

    address = None if os.path.lexists(path) else hub_address(path)
    if address is None:
        return path
    with shown_progress(f"pull {address.repository}") as progress:
        place = local_path(path, progress, say, known_pipelines())
    if mark.changes_bundle and (place / "bundle.json").exists():
        raise HubError(
            f"{address} is a bundle, which this command would change; the one that was fetched stays as it is. Type "
            f"`idm-deploy pull {address} -o {address.name}` and name the copy, {address.name}."
        )
    return place
