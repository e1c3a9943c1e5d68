"""The words of a backend, shortened; and what counts as out of memory."""

import pytest

from engines import errors
from engines.errors import is_out_of_memory, short_words


def test_the_docstring_lists_every_exception() -> None:
    defined = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert defined == {"EngineError", "FileError", "OutOfMemory"}
    for name in defined:
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("one line", "one line"),
        ("Exception from src/a.cpp:1:\nCheck 'x' failed at src/b.cpp:2:\nno rule\n-- for it\n\n", "no rule -- for it"),
        (
            "[ONNXRuntimeError] : 1 : FAIL : In /o/x_y.cc:79 void f() [ONNXRuntimeError] : 6 : FAIL : no",
            "In void f() no",
        ),
        ("Exception from src/a.cpp:1:\n", "ValueError"),
        ("", "ValueError"),
        ("a" * 200, "a" * 200),
        ("a" * 100 + "b" * 101, "a" * 66 + "…" + "a" * 32 + "b" * 101),
    ],
)
def test_short_words(words: str, short: str) -> None:
    assert short_words(ValueError(words)) == short


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("bfc_arena.cc Failed to allocate memory for requested buffer of size 9"), True),
        (RuntimeError("Memory layout is unknown"), False),
    ],
)
def test_out_of_memory_is_recognised(error: Exception, full: bool) -> None:
    assert is_out_of_memory(error) == full
