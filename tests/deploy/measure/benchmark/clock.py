"""A clock that only work moves."""

from collections.abc import Callable, Iterator


class FakeClock:
    """Time passes only when a contender works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def worker(self, seconds: Iterator[float]) -> Callable[[], None]:
        def step() -> None:
            self.now += next(seconds)

        return step


def silent(_doing: str, _fraction: float) -> None:
    pass
