"""Progress on stderr: a bar on a terminal, a line every few seconds in a pipe, nothing with --quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.cli.messages import is_quiet, say
from engines.progress import Progress

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def shown_progress(title: str) -> Iterator[Progress]:
    """A function to report progress to while the block runs."""
    if sys.stderr is not None and sys.stderr.isatty() and not is_quiet():
        with _bar(title) as report:
            yield report
    else:
        yield _lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    # Words give way to the rest where the line is too short; brackets in names of files are no markup.
    words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
    rest = Column(no_wrap=True)
    columns = (
        words,
        BarColumn(bar_width=8, table_column=rest),
        TaskProgressColumn(table_column=rest.copy()),
        TimeRemainingColumn(table_column=rest.copy()),
    )
    # What goes to stdout meanwhile stays there: rich would send it after the bar, to stderr.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, expand=True) as progress:
        task = progress.add_task(title, total=1.0)

        def report(doing: str, fraction: float) -> None:
            progress.update(task, completed=fraction, description=f"{title}: {doing}")

        yield report


def _lines(title: str) -> Progress:
    started = last = time.monotonic()

    def report(doing: str, fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        seconds_left = (now - started) * (1.0 - fraction) / fraction if fraction > 0 else None
        tail = "" if seconds_left is None else f", about {seconds_left:.0f} s left"
        say(f"{title}: {doing}, {fraction:.0%}{tail}")

    return report
