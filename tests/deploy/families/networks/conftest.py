"""Networks are compared, not trained, unless a test says otherwise."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """Runs the test without recording operations for a backward pass."""
    with torch.no_grad():
        yield
