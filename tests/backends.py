"""Backends that behave as others do, for the time of a test."""

from dataclasses import replace
from typing import Any

import pytest

from engines.backends import BACKENDS


def change_backend(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """The record of one backend has these values in place of its own."""
    monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], **changes))
