"""How many pictures of one size are made together: as many as were asked for, or as many as are faster here.

The trial costs little and changes nothing: after some pictures of a size, while many are left, the next ones are made
both ways. Together is chosen where it is faster and gives the same bytes.
"""

from collections import Counter, deque
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from deploy.folders.reading import Ready
from deploy.images.picture import Samples
from deploy.images.sizes import Size
from deploy.picture.layout import LARGEST_BATCH

TRIED_AFTER = 32
"""Pictures of a size that are made before a trial: a run that made so many has mostly many more of them."""
TRIED_WITH_LEFT = 256
"""Pictures that must be left for a trial, which makes 16 more: one in eighteen at most."""
FASTER_FROM = 0.95
"""Part of the time alone that together may take, to be chosen: less is lost in what other programs do meanwhile."""
LARGEST_WHOLE = 1 << 22
"""Pixels of a result from which pictures are not made together: each keeps an engine busy alone."""


class Kind(NamedTuple):
    """What pictures have in common that can be made together: sizes of inputs and of results, and samples."""

    lr: Size
    size: Size
    bits: int
    is_plain: bool
    keeps_bits: bool  # the result has as many
    has_alpha: bool = False

    @property
    def is_for_batches(self) -> bool:
        """Whether such pictures are made together at all."""
        return self.keeps_bits and prod(self.size) <= LARGEST_WHOLE


def kind_of(ready: Ready) -> Kind:
    """Pictures of the same kind can be made together."""
    bits = ready.source.picture.bits
    is_plain = ready.source.view.is_plain
    return Kind(ready.lr, ready.size, bits, is_plain, bits == ready.result.bits, ready.has_alpha)


class Batches:
    """The choice for each kind of picture. `asked`: how many together; None: as the trial shows."""

    def __init__(self, asked: int | None) -> None:
        self._asked = asked
        self._made: Counter[Kind] = Counter()
        self._chosen: dict[Kind, int] = {}

    @property
    def most(self) -> int:
        """Pictures that a run may ever want at once."""
        return LARGEST_BATCH if self._asked is None else self._asked

    def size(self, kind: Kind) -> int:
        """How many pictures of this kind to make together now."""
        if not kind.is_for_batches:
            return 1
        return self._asked if self._asked is not None else self._chosen.get(kind, 1)

    def is_to_be_tried(self, kind: Kind, left: int) -> bool:
        """Whether the next pictures of this kind, of which there are `left` jobs at most, should be made both ways."""
        return (
            self._asked is None
            and kind not in self._chosen
            and kind.is_for_batches
            and self._made[kind] >= TRIED_AFTER
            and left >= TRIED_WITH_LEFT
        )

    def count(self, kind: Kind, pictures: int) -> None:
        """So many more of them are made."""
        self._made[kind] += pictures

    def learn(
        self,
        kind: Kind,
        alone: Sequence[Samples],
        together: Sequence[Samples],
        *,
        alone_seconds: float,
        together_seconds: float,
    ) -> None:
        """What the same pictures came to, made alone and together, and what that took."""
        same = all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
        is_faster = together_seconds < FASTER_FROM * alone_seconds
        self._chosen[kind] = len(alone) if same and is_faster else 1

    def refuse(self, kind: Kind) -> None:
        """The trial failed: one by one is the way."""
        self._chosen[kind] = 1


class Waiting:
    """Pictures that are read and wait for others of their kind: a few at most."""

    def __init__(self) -> None:
        self._held: deque[Ready] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, ready: Ready) -> None:
        """Another one."""
        self._held.append(ready)

    def first(self) -> Ready:
        """The one that waits longest."""
        return self._held[0]

    def like_first(self) -> int:
        """How many are of the kind of the first."""
        return sum(kind_of(each) == kind_of(self._held[0]) for each in self._held)

    def take(self, count: int) -> list[Ready]:
        """So many of the kind of the first, itself included."""
        kind = kind_of(self._held[0])
        taken = [each for each in self._held if kind_of(each) == kind][:count]
        self._held = deque(each for each in self._held if all(each is not other for other in taken))
        return taken
