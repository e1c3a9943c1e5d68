"""Backends that behave as others do, for the time of a test."""

from dataclasses import replace
from typing import Any

import pytest

from engines.backends import BACKENDS
from engines.contract import Engine
from tests.engines.following import follow


def change_backend(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """The record of one backend has these values in place of its own."""
    monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], **changes))


def carry_state(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The backend takes the state from step to step, as CUDA does, though through NumPy in between."""
    change_backend(monkeypatch, name, carries_state=True)
    monkeypatch.setattr(Engine, "follow", follow)
