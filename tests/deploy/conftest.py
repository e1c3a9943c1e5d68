"""What tests of several folders share; torch, which most tests do without, is imported by what needs it."""

import pytest

from deploy.bundle import Bundle


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
