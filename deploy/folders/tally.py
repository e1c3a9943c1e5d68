"""How many pictures of a run are made, there already, failed and left, and how fast it goes."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from deploy.folders.outcome import Outcome

RECENT = 30
"""Pictures whose pace counts for what is left: a few minutes of a slow model, a moment of a fast one."""

MOST_LISTED = 20
"""Failed pictures that are listed at the end on one line each; more of them are counted."""


class Tally:
    """The count of one run of `total` pictures. Times are by the clock of `began`."""

    def __init__(self, total: int, began: float) -> None:
        self.total = total
        self.made = self.skipped = self.failed = 0
        self.pixels = 0
        self._began = began
        self._failures: list[Outcome] = []
        self._finished: deque[float] = deque([began], maxlen=RECENT + 1)

    @property
    def left(self) -> int:
        """Pictures of which nothing is known yet."""
        return self.total - self.made - self.skipped - self.failed

    def count(self, outcome: Outcome, now: float) -> None:
        """Another one is known."""
        if outcome.state == "made":
            self.made += 1
            self._finished.append(now)
            self.pixels += outcome.size[0] * outcome.size[1] if outcome.size else 0
        elif outcome.state == "skipped":
            self.skipped += 1
        else:
            self.failed += 1
            if len(self._failures) < MOST_LISTED:
                self._failures.append(outcome)

    def rate(self) -> float | None:
        """Pictures made in a second, lately; None before the first."""
        spent = self._finished[-1] - self._finished[0]
        return (len(self._finished) - 1) / spent if spent > 0 else None

    def seconds_left(self) -> float | None:
        """At that rate, if all that are left are to be made."""
        rate = self.rate()
        return None if rate is None else self.left / rate

    def fraction(self, now: float) -> float:
        """The part of the run's time that is over, from 0 to 1."""
        left = self.seconds_left()
        elapsed = now - self._began
        return 0.0 if left is None or elapsed <= 0 else elapsed / (elapsed + left)

    def text(self, current: Path) -> str:
        """One line: done, failed, left, rate, and the picture in the making."""
        parts = [f"{self.made + self.skipped} done", f"{self.failed} failed", f"{self.left} left"]
        if (rate := self.rate()) is not None:
            parts.append(f"{rate:.2g}/s" if rate >= 1 else f"{1 / rate:.2g} s each")
        return ", ".join([*parts, shown(current.name)])

    def counts(self) -> dict[str, int]:
        """For JSON."""
        return {"made": self.made, "skipped": self.skipped, "failed": self.failed}

    def tell_failures(self, tell: Callable[[str], None]) -> None:
        """All that failed, once more, where that was not all there was."""
        if not self.failed or self.total == 1:
            return
        names = ", ".join(shown(outcome.shown_input) for outcome in self._failures)
        more = f" and {self.failed - len(self._failures)} more" if self.failed > len(self._failures) else ""
        tell(f"{self.failed} of {self.total} pictures failed: {names}{more}")


def shown(path: Path | str) -> str:
    """A path, or words about one, fit for one line of a terminal: line breaks, controls and bytes that are no text
    become escapes."""
    text = str(path)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text
    )
