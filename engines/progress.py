"""How work tells whoever waits for it what it does and how much of it is done."""

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is done, from 0 to 1."""

Say = Callable[[str], None]
"""Called with a line for people."""


def silent(_doing: str, _share: float) -> None:
    """Nobody waits."""


def part_of(progress: Progress, number: int, count: int, title: str = "") -> Progress:
    """Progress of the part `number` of `count`, counted from 0, as that of the whole."""
    before = f"{title}, " if title else ""
    return lambda doing, share: progress(f"{before}{doing}", (number + share) / count)
