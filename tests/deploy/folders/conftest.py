"""One open upscaler for all tests of folders."""

from collections.abc import Iterator

import pytest

from deploy import Bundle, Upscaler


@pytest.fixture(scope="session")
def upscaler(idm_micro: Bundle) -> Iterator[Upscaler]:
    with Upscaler(idm_micro, engine="onnxruntime-cpu", precision="fp32", threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times that runs keep are those of tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
