"""Which Python packages are installed, asked without importing them."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution (the name that pip knows); None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def is_importable(module: str) -> bool:
    """Whether the top-level module can be found; finding it runs none of its code."""
    return find_spec(module) is not None
