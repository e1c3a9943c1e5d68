"""How many pictures of one kind a worker is given together: as many as was said, or as many as are faster here.

Like `deploy.folders.batches`, which knows its pictures beforehand: after some of a kind, while several wait, they are
made both ways. Together is chosen where it is faster and gives the same bytes.
"""

from collections import Counter

TRIED_AFTER = 8
"""Pictures of a kind that are made before a trial: whoever asked for so many mostly asks for more."""

MOST = 8
"""Pictures together: beyond, nothing is gained, and each waits for all."""

TRIED_AGAIN = 16
"""Times as many pictures until the next trial, where one has shown no gain: other programs may have spoilt it."""

ENOUGH = 4
"""Pictures that must wait for a trial."""

MOST_KINDS = 1000
"""Kinds that are counted: a service that runs for months forgets the others."""


class Batches:
    """The choice for each kind of picture. asked: how many together; None: as the trial shows."""

    def __init__(self, asked: int | None) -> None:
        self._asked = asked
        self._made: Counter[str] = Counter()
        self._chosen: dict[str, int] = {}
        self._tried_at: dict[str, int] = {}

    @property
    def most(self) -> int:
        """Pictures that may ever be made at once."""
        return MOST if self._asked is None else self._asked

    def size(self, kind: str) -> int:
        """How many pictures of this kind to make together now."""
        return self._asked if self._asked is not None else self._chosen.get(kind, 1)

    def is_to_be_tried(self, kind: str, waiting: int) -> bool:
        """Whether the next pictures of this kind, of which so many wait, should be made both ways."""
        is_open = self._asked is None and kind not in self._chosen
        return is_open and self._made[kind] >= self._tried_at.get(kind, TRIED_AFTER) and waiting >= ENOUGH

    def count(self, kind: str) -> None:
        """Another one is made."""
        if len(self._made) > MOST_KINDS:
            self._made.clear()
            self._chosen.clear()
            self._tried_at.clear()
        self._made[kind] += 1

    def learn(self, kind: str, *, pays: bool | None) -> None:
        """What a trial has shown. None: together gives other bytes, so these are never made together."""
        if pays is None:
            self._chosen[kind] = 1
        elif pays:
            self._chosen[kind] = MOST
        else:
            self._tried_at[kind] = TRIED_AGAIN * self._made[kind]
