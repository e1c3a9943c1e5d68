"""What tests of several folders share; torch, which most tests do without, is imported by what needs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from tests.hub_server import Hub, running_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback that huggingface_hub asks, with caches in `tmp_path`/home.

    The package reads its variables when it is imported, which other tests of this process may have done.
    """
    import huggingface_hub
    from huggingface_hub import constants

    home = tmp_path / "home"
    with running_hub() as server:
        values = {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_URL_HOSTS": frozenset({"127.0.0.1"}),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_ASSETS_CACHE": str(home / "assets"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value, raising=False)  # earlier versions lack some
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
        huggingface_hub.close_session()


@pytest.fixture(scope="session")
def quantized_idm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny quantized bundle that no test may change; see tests.deploy.quantized."""
    from tests.deploy.quantized import quantized_micro

    return quantized_micro(tmp_path_factory.mktemp("quantized"))


@pytest.fixture(scope="session")
def idm_tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from tests.deploy.exported import exported

    return exported("idm_tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def sr3_tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from tests.deploy.exported import exported_sr3

    return exported_sr3(tmp_path_factory.mktemp("sr3"))


@pytest.fixture(scope="session")
def idm_micro(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from tests.deploy.exported import exported

    return exported("idm_micro", tmp_path_factory.mktemp("micro"), {"norm_groups": 8, "image_size": 16})


@pytest.fixture(scope="session")
def latent_sr(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from tests.deploy.exported import exported_latent

    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    return exported_latent("latent_sr_tiny", tmp_path_factory.mktemp("latent_sr"), sizes)


@pytest.fixture(scope="session")
def latent_gen(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from tests.deploy.exported import exported_latent

    sizes = {"image_size": 16, "default_output_size": 64}
    return exported_latent("latent_gen_tiny", tmp_path_factory.mktemp("latent_gen"), sizes)
