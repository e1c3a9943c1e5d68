"""What commands say besides their results, on stderr: messages for people, and on request what the libraries log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from deploy.cli.values import text_of_error, text_with_options
from deploy.errors import readable

PACKAGES = ("deploy", "calibration", "engines")
"""Their records are the ones that --verbose shows first."""

_MESSAGES = logging.getLogger("idm-deploy")


def say(line: str) -> None:
    """Tell a person something on the way to the result; --quiet leaves it out."""
    _MESSAGES.info("%s", line)


def say_error(line: str) -> None:
    """Tell what failed, whatever was asked for."""
    _MESSAGES.error("%s", line)


def is_quiet() -> bool:
    """Whether only results and errors are wanted."""
    return not _MESSAGES.isEnabledFor(logging.INFO)


@contextmanager
def shown_messages(*, quiet: bool, verbose: int) -> Iterator[None]:
    """While the block runs, messages and log records go to stderr.

    Quiet: errors only. Otherwise messages and warnings; verbose 1: what the libraries log too, with time and module;
    2: also what they log for their authors (the packages of this tool only: others log every byte they read).
    """
    others = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    levels = {
        _MESSAGES: logging.ERROR if quiet else logging.INFO,
        logging.getLogger(): others,
        **{logging.getLogger(name): logging.DEBUG if verbose > 1 else others for name in PACKAGES},
    }
    before = {logger: logger.level for logger in levels}
    handler = _ToStderr()
    handler.setFormatter(_Format(datefmt="%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    for logger, level in levels.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
        logging.getLogger().removeHandler(handler)


def echo_error(text: str) -> None:
    """The text on stderr, where that takes it."""
    try:
        typer.echo(text, err=True)
    except BrokenPipeError:
        raise
    except OSError:  # a full disk: nowhere is left to tell of it
        return


class _ToStderr(logging.Handler):
    """Writes to what stderr is at that moment: progress bars and tests put something else there.

    A closed stderr is no error, nor is one on a full disk: what is asked for is made without a word. One whose reader
    has gone ends the command like a closed stdout.
    """

    def emit(self, record: logging.LogRecord) -> None:
        echo_error(self.format(record))


class _Format(logging.Formatter):
    """Messages as they are, errors with the name of the tool, log records with time and module."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        message = readable(record.message)
        if record.levelno >= logging.ERROR:
            return f"idm-deploy: {text_of_error(message)}"
        if record.name == _MESSAGES.name:
            return text_with_options(message)
        return f"{self.formatTime(record, self.datefmt)} {record.levelname.lower()} {record.name}: {message}"
