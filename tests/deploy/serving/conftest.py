"""One service for all tests that leave it as it was."""

from collections.abc import Iterator

import pytest

from tests.deploy.serving.service import Service, served


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("served") / "tmp", options=("--max-pixels", "1000000")) as running:
        yield running
