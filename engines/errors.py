"""Everything that engines refuses, as exceptions with a sentence for the user.

EngineError      a backend that is unknown or not installed, a graph that cannot be opened, inputs that do not fit
 |               it, or a run that failed
 |- OutOfMemory  a run needed more memory than it could get; the engine still works for smaller inputs
 `- FileError    a file could not be written; nothing of it is left

The message says what was being done with which graph or tensor, what was expected and found, and what to do
next. A backend's own words are quoted shortened; the whole text is the exception's __cause__.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class EngineError(Exception):
    """Base of every error that engines raises on purpose."""


class OutOfMemory(EngineError):  # noqa: N818  a state of the machine; "Error" would add nothing
    """A run needed more memory than it could get; the engine still works for smaller inputs."""


class FileError(EngineError):
    """A file could not be written; nothing of it is left."""


STRANGE_FAILURES = (ValueError, OSError, TypeError, LookupError, ArithmeticError)
"""What the bindings of engines raise, beside RuntimeError and their own, of graphs that nobody thought of: a name that
is no text (UnicodeDecodeError is a ValueError), a path that no system takes."""

NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:"
    r"|Exception from\s|Check '[^']*' failed at\s|FrontEnd API failed with \w+:|\S+\.(?:cc|cpp|h|hpp):\d+:?(?=\s|$)"
)
"""What both backends put around the words that help: error codes and the places in their own sources."""


def short_words(error: BaseException, limit: int = 200) -> str:
    """What a backend said, on one line of at most `limit` characters; of a longer text the middle is left out."""
    text = " ".join(NOISE.sub("", str(error)).split()) or type(error).__name__
    if len(text) <= limit:
        return text
    tail = 2 * limit // 3  # the cause comes last
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend's exception says that memory could not be had.

    Neither backend has a type for it: both were seen to say "Failed to allocate ..." (ONNX Runtime 1.31, OpenVINO
    2026.4), and std::bad_alloc passes through as its name.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _MEMORY_WORDS)


_MEMORY_WORDS = ("failed to allocate", "bad_alloc", "out of memory")
"""The last is CUDA's own text for its error 2, which GPU backends pass on."""


def failed_opening(graph: "Path", name: str, error: Exception) -> EngineError:
    """What to raise for a backend's exception while it opened a graph."""
    if is_out_of_memory(error):
        return OutOfMemory(f"Opening {graph}: {name} ran out of memory ({short_words(error)}). Close other programs.")
    return EngineError(f"Opening {graph}: {name} refuses it: {short_words(error)}")
