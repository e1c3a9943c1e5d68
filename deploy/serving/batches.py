"""How many pictures of one kind a worker is given together: as many as was said, or as many as are faster here.

Like `deploy.folders.batches`, which knows its pictures beforehand: after some of a kind, while several wait, they are
made both ways. Together is chosen where it is faster and gives the same values to the last bit. That holds for the
number that was tried: engines may add up in another order from some size on. So pictures are made eight, four or two at
once, as each was tried, and never seven.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

TRIED_AFTER = 8
"""Pictures of a kind that are made before a trial: whoever asked for so many mostly asks for more."""

SIZES = (8, 4, 2)
"""Pictures together, each tried by itself: beyond, nothing is gained, and each waits for all."""

TRIED_AGAIN = 16
"""Times as many pictures until the next trial, where one has shown less than it might: others may have spoilt it."""

ENOUGH = 4
"""Pictures that must wait for a trial."""

MOST_KINDS = 1000
"""Kinds that are counted: a service that runs for months forgets the others."""

Item = TypeVar("Item")


def parted(items: Sequence[Item], most: int, *, is_tried: bool) -> list[Sequence[Item]]:
    """The items in parts of so many at most; is_tried: and of one of SIZES, or of one item. (7, 8: 4, 2 and 1.)"""
    parts = []
    while items:
        sizes = [size for size in SIZES if size <= min(most, len(items))] if is_tried else [min(most, len(items))]
        count = sizes[0] if sizes else 1
        parts.append(items[:count])
        items = items[count:]
    return parts


class Batches:
    """The choice for each kind of picture. asked: how many together, whatever comes of it; None: as trials show."""

    def __init__(self, asked: int | None) -> None:
        self._asked = asked
        self._made: Counter[str] = Counter()
        self._chosen: dict[str, int] = {}
        self._tried_at: dict[str, int] = {}

    @property
    def most(self) -> int:
        """Pictures that may ever be made at once."""
        return SIZES[0] if self._asked is None else self._asked

    @property
    def is_tried(self) -> bool:
        """Whether pictures are made together only as many at once as was tried."""
        return self._asked is None

    def size(self, kind: str) -> int:
        """How many pictures of this kind to make together now, at most."""
        return self._asked if self._asked is not None else self._chosen.get(kind, 1)

    def parts(self, kind: str, pictures: Sequence[Item]) -> list[Sequence[Item]]:
        """Pictures of this kind as they are made: together or alone."""
        return parted(pictures, self.size(kind), is_tried=self.is_tried)

    def is_to_be_tried(self, kind: str, waiting: int) -> bool:
        """Whether the next pictures of this kind, of which so many wait, should be made both ways."""
        is_open = self._asked is None and self.size(kind) < self.most
        return is_open and self._made[kind] >= self._tried_at.get(kind, TRIED_AFTER) and waiting >= ENOUGH

    def count(self, kind: str) -> None:
        """Another one is made."""
        if len(self._made) > MOST_KINDS:
            self._made.clear()
            self._chosen.clear()
            self._tried_at.clear()
        self._made[kind] += 1

    def learn(self, kind: str, count: int) -> None:
        """What a trial has shown: how many to make together; 1: nothing is gained, or bytes would differ."""
        self._chosen[kind] = count
        self._tried_at[kind] = TRIED_AGAIN * self._made[kind]
