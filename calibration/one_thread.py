"""NumPy's matrix products on one thread, for code that keeps the other cores busy itself.

The threads of OpenBLAS, which NumPy's wheels bring, wait for the next product by spinning, for about 25 ms: beside an
engine's threads that takes the cores from the engine, and many small products are then slower on two threads than on
one. Another BLAS is left as it is.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

FOLDERS = (Path(np.__file__).parents[1] / "numpy.libs", Path(np.__file__).parent / ".dylibs")
"""Where wheels keep the libraries that NumPy was built with: on Linux and Windows, and on macOS."""

NAMES = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Products of all threads of this process run on the thread that asks for them, until the block is left."""
    found = _openblas()
    if found is None:
        yield
        return
    get, put = found
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """What tells and what sets the number of threads; None where NumPy has no OpenBLAS of its own."""
    for path in (path for folder in FOLDERS for path in sorted(folder.glob("*openblas*"))):
        library = ctypes.CDLL(str(path))  # the one that is loaded already
        for name in NAMES:
            if hasattr(library, name.format("set")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None
