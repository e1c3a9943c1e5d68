"""How a model on a hub is named: OWNER/NAME[@REVISION][/FILE], with hf:// before it where a path could stand."""

import re
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import HubError

SCHEME = "hf://"
MAIN = "main"
"""The revision that is meant where none is named."""

_SCHEME = re.compile(r"hf:/+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)  # a Path keeps one slash of two
_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?", re.IGNORECASE)
_PAGE_OF_FILE = re.compile(r"/(?:tree|blob|resolve)/(?P<revision>[^/]+)(?P<file>/.*)?")
_WHOLE = re.compile(
    r"(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<file>.*))?", re.DOTALL
)
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A model repository, at some revision, or one file or folder in it."""

    repository: str
    """OWNER/NAME."""
    revision: str | None = None
    """A branch, a tag or a commit; None: the main branch."""
    file: str | None = None

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repository.partition("/")[2]

    @property
    def commit(self) -> str | None:
        """The revision, where it is a commit, which never changes."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}{'/' + self.file if self.file else ''}"


def hub_address(path: str | Path) -> Address | None:
    """The address that was typed where a path could stand; None where it does not begin with hf://."""
    text = path.as_posix() if isinstance(path, Path) else path
    match = _SCHEME.fullmatch(text)
    return None if match is None else _checked(text, match["rest"])


def address_from_text(text: str) -> Address:
    """The address in OWNER/NAME[@REVISION][/FILE], with or without hf://, or in that of its page on huggingface.co."""
    if (match := _SCHEME.fullmatch(text)) is not None:
        return _checked(text, match["rest"])
    page = _PAGE.fullmatch(text.partition("?")[0].rstrip("/"))
    if page is None:
        return _checked(text, text)
    file = _PAGE_OF_FILE.fullmatch(page["rest"] or "")
    if file is None:
        return _checked(text, page["name"])
    return _checked(text, f"{page['name']}@{file['revision']}{file['file'] or ''}")


def is_plain_path(name: str) -> bool:
    """Whether a name that a stranger gave is a path that stays where it is put, on every system."""
    parts = name.split("/")
    return (
        0 < len(name) <= 1000
        and name.isprintable()
        and not set(name) & set('\\:*?"<>|')
        and not any(part in ("", ".", "..") or part.endswith((".", " ")) for part in parts)
    )


def _checked(typed: str, rest: str) -> Address:
    match = _WHOLE.fullmatch(rest.rstrip("/"))
    problem = "expected OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME/FILE"
    if match is not None:
        owner, _, name = match["name"].partition("/")
        odd = [part for part in (owner, name) if not _NAME.fullmatch(part) or ".." in part or "--" in part]
        revision, file = match["revision"], match["file"]
        if odd:
            problem = f"{odd[0][:60]!r} is no name there: letters, digits, '-', '_' and single dots"
        elif revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
            problem = f"{revision[:60]!r} is no revision: a branch, a tag or a commit"
        elif file is not None and not is_plain_path(file):
            problem = f"{file[:60]!r} is no path of a file in it"
        else:
            return Address(repository=match["name"], revision=revision, file=file or None)
    raise HubError(f"{typed[:120]!r} does not name a model on a hub: {problem}.")
