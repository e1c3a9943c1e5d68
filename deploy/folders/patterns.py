"""Which files of a folder are meant, by patterns as shells have them.

    *.jpg          any file of that name, in whatever folder
    2024/*.jpg     from the folder that was named: those directly in 2024
    **/raw/*.png   in any folder raw
    draft*         as an exclusion also whole folders

`*` and `?` stop at slashes, `**/` is any number of folders, `[a-c]` one of a few characters. Upper and lower case are
the same, as cameras write IMG_1.JPG.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Self

from deploy.errors import ImageError

_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


@dataclass(frozen=True)
class Patterns:
    """Files that fit one of `include`, or all of them where there is none, but for what fits one of `exclude`."""

    include: tuple[re.Pattern[str], ...] = field(default=())
    exclude: tuple[re.Pattern[str], ...] = field(default=())

    @classmethod
    def of(cls, include: Iterable[str], exclude: Iterable[str]) -> Self:
        """Those that were typed; ImageError for one that cannot fit anything."""
        return cls(tuple(map(_expression, include)), tuple(map(_expression, exclude)))

    def takes(self, place: PurePath) -> bool:
        """Whether a file is meant; `place` is its path from the folder that was named."""
        return not self.leaves_out(place) and (not self.include or _fits(self.include, place))

    def leaves_out(self, place: PurePath) -> bool:
        """Whether a file, or a folder with all that is in it, is excluded."""
        return _fits(self.exclude, place)


def _fits(expressions: tuple[re.Pattern[str], ...], place: PurePath) -> bool:
    path = place.as_posix()
    return any(expression.fullmatch(path) for expression in expressions)


def _expression(pattern: str) -> re.Pattern[str]:
    if not pattern.strip("/"):
        raise ImageError(f"The pattern {pattern!r} names no file; write it like *.jpg or 2024/*.")
    name_alone = "/" not in pattern.rstrip("/")
    parts = _PIECE.findall((f"**/{pattern}" if name_alone else pattern).strip("/"))
    try:
        return re.compile("".join(map(_part, parts)), re.DOTALL | re.IGNORECASE)
    except re.error as error:
        raise ImageError(f"The pattern {pattern!r} cannot be read: {error}.") from error


def _part(piece: str) -> str:
    match piece:
        case "**/":
            return "(?:.*/)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
    if len(piece) > 2 and piece.startswith("["):
        inner = piece[1:-1].replace("\\", "\\\\")
        return f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(piece)
