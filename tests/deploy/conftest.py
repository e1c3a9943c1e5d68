"""What tests of several folders share."""

import pytest

from deploy.bundle import Bundle


@pytest.fixture(scope="session")
def quantized_idm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny quantized bundle that no test may change; see tests.deploy.quantized."""
    from tests.deploy.quantized import quantized_micro  # imports torch, which most tests do without

    return quantized_micro(tmp_path_factory.mktemp("quantized"))
