"""The queue of a service: whose turn it is, so that clients share the time and large pictures stop no small one.

Start-time fair queuing (Goyal, Vin, Cheng, "Start-time fair queuing", 1996): a job starts, in virtual time, when its
client's last one ends, or now; its cost in seconds is added. Who asked for little lately comes first. In numbers: A
asks for three pictures of 2 s and then B for one; they start at 0, 2, 4 and 0, so B waits for one of A's, not three.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, Protocol, TypeVar


class Costs(Protocol):
    """What the queue must know of a job."""

    @property
    def client(self) -> str:
        """Who asked."""

    @property
    def cost(self) -> float:
        """Seconds that it will take."""


Item = TypeVar("Item", bound=Costs)


class Waiting(Generic[Item]):
    """Jobs by their turn. `pop` takes the first that a place is fit for; virtual time is that of the last one taken."""

    def __init__(self) -> None:
        self._held: list[tuple[float, int, Item]] = []
        self._ends: dict[str, float] = {}
        self._now = 0.0
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Item]:
        return (item for _, _, item in self._held)

    def push(self, item: Item) -> None:
        """The job has its turn among the others."""
        start = max(self._now, self._ends.get(item.client, 0.0))
        self._ends[item.client] = start + item.cost
        self._held.append((start, next(self._numbers), item))
        self._held.sort(key=lambda held: held[:2])

    def peek(self, is_fit: Callable[[Item], bool] = lambda _: True) -> Item | None:
        """The first one that is fit, which stays; None if there is none."""
        return next((item for item in self if is_fit(item)), None)

    def pop(self, is_fit: Callable[[Item], bool] = lambda _: True) -> Item | None:
        """The first one that is fit; None if there is none."""
        for held in self._held:
            if is_fit(held[2]):
                self._held.remove(held)
                self._now = max(self._now, held[0])
                self._forget()
                return held[2]
        return None

    def remove(self, item: Item) -> bool:
        """The job is not wanted any more; whether it was here."""
        before = len(self._held)
        self._held = [held for held in self._held if held[2] is not item]
        return len(self._held) < before

    def place(self, item: Item) -> int:
        """How many come before it; the length where it is not here."""
        return next((place for place, held in enumerate(self._held) if held[2] is item), len(self._held))

    def seconds(self) -> float:
        """The cost of all."""
        return sum(item.cost for item in self)

    def _forget(self) -> None:
        """Clients whose time has passed are as new ones."""
        if len(self._ends) > 1000:
            self._ends = {client: end for client, end in self._ends.items() if end > self._now}
