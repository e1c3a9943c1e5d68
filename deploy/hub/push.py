"""Files of this machine -> a repository on a hub: all of them in one commit, or none."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import HubError
from deploy.hub.address import MAIN, Address
from deploy.hub.client import LIBRARY, endpoint, hub_package, refusals

CARD = "README.md"
"""What a hub shows of a repository."""

LICENCES = {
    "apache-2.0": "Apache License 2.0",
    "mit": "MIT License",
    "bsd-2-clause": "BSD, two clauses",
    "bsd-3-clause": "BSD, three clauses",
    "cc0-1.0": "Creative Commons Zero",
    "cc-by-4.0": "Creative Commons, attribution",
    "cc-by-sa-4.0": "Creative Commons, attribution, share alike",
    "cc-by-nc-4.0": "Creative Commons, attribution, not commercial",
    "cc-by-nc-sa-4.0": "Creative Commons, attribution, not commercial, share alike",
    "creativeml-openrail-m": "CreativeML Open RAIL-M",
    "openrail": "Open RAIL",
    "gpl-3.0": "GNU General Public License 3",
    "agpl-3.0": "GNU Affero General Public License 3",
    "unknown": "not known to who uploads",
    "other": "another one",
}
"""The hub's names for licences that models have, and what they are."""

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{1,38}")


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was uploaded, and where a person sees it."""

    address: Address
    page: str
    files: int
    bytes: int


def check_licence(name: str) -> None:
    """A HubError unless it has the form of a hub's names of licences, of which the hub knows more than are listed."""
    if not _LICENCE.fullmatch(name):
        raise HubError(f"{name[:40]!r} is no name of a licence as hubs write them. Usual ones: {', '.join(LICENCES)}.")


def push(address: Address, files: Mapping[str, Path], card: str, *, private: bool, title: str, bars: bool) -> Pushed:
    """The commit that holds exactly these files and the card beside what else the repository has.

    The repository is made if there is none. `bars`: the library shows its progress on stderr.
    """
    package = hub_package()
    if address.file is not None or address.commit is not None:
        raise HubError(f"{address} is not where a model can be pushed to; name OWNER/NAME or OWNER/NAME@BRANCH.")
    content = card.encode()
    additions = [package.CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=content)]
    additions += [
        package.CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in sorted(files.items())
    ]
    api = package.HfApi(library_name=LIBRARY)
    with refusals(address, "uploading"), _bars(bars):
        api.create_repo(address.repository, private=private, exist_ok=True)
        try:
            commit = api.create_commit(
                address.repository, additions, commit_message=title, revision=address.revision or MAIN
            )
        except (RuntimeError, ValueError) as error:  # what the library makes of an upload that a store refused
            cause = error.__cause__ or error
            if isinstance(cause, OSError):
                raise cause from error
            words = " ".join(str(cause).split())[:160]
            raise HubError(
                f"uploading {address} failed: {words}. Nothing of it is to be seen there; try again."
            ) from error
    if not isinstance(commit.oid, str) or not re.fullmatch(r"[0-9A-Za-z]{6,64}", commit.oid):
        raise HubError(f"uploading {address}: {endpoint()} names no commit; look there whether it has come.")
    return Pushed(
        address=Address(repository=address.repository, revision=commit.oid),
        page=f"{endpoint()}/{address.repository}",
        files=len(files),
        bytes=sum(path.stat().st_size for path in files.values()),
    )


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """The library's progress bars while the block runs, or none."""
    from huggingface_hub import utils

    bars: Any = utils  # which names its parts in a way that mypy does not follow
    if shown or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()
