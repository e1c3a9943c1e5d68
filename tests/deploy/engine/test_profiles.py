"""Sizes that a user gives -> every axis of every graph; expected values by hand."""

import pytest

from deploy.bundle import Bundle
from deploy.engine.profiles import default_sizes, profiles_of_graphs
from deploy.errors import SizeError
from deploy.families.sizes import EngineSizes
from deploy.images.sizes import Size
from tests.deploy.exported import exported, exported_latent

SIZES = EngineSizes(sizes=(Size(16, 16), Size(77, 32), Size(128, 96)), scales=(2.0, 4.0, 8.0), batch=(1, 1, 4))


@pytest.fixture(scope="module")
def idm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


@pytest.fixture(scope="module")
def latent_sr(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    return exported_latent("latent_sr_tiny", tmp_path_factory.mktemp("latent"), sizes)


@pytest.fixture(scope="module")
def latent_gen(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes = {"image_size": 16, "default_output_size": 64}
    return exported_latent("latent_gen_tiny", tmp_path_factory.mktemp("generation"), sizes)


def test_levels_of_idm_are_halves_rounded_up(idm: Bundle) -> None:
    axes = profiles_of_graphs(idm, SIZES)["denoise"].axes
    assert axes["height"] == (16, 77, 128)
    assert axes["height_1"] == (8, 39, 64)
    assert axes["height_2"] == (4, 20, 32)
    assert axes["width_2"] == (4, 8, 24)
    assert axes["batch"] == (1, 1, 4)
    assert axes["rows"] == (1, 1, 1)


def test_inputs_of_idm_follow_from_output_and_scale(idm: Bundle) -> None:
    """16 / 8, 77 / 4 to the nearest, 128 / 2."""
    profiles = profiles_of_graphs(idm, SIZES)
    assert profiles["encode"].axes["lr_height"] == (2, 19, 64)
    assert profiles["encode"].axes["lr_width"] == (2, 8, 48)
    assert profiles["tabulate"].axes["rows"][2] > 100


def test_every_axis_of_every_graph_has_its_sizes(idm: Bundle, latent_sr: Bundle, latent_gen: Bundle) -> None:
    for bundle in (idm, latent_sr, latent_gen):
        profiles = profiles_of_graphs(bundle, default_sizes(bundle))
        assert set(profiles) == set(bundle.manifest.graphs)
        for name, graph in bundle.manifest.graphs.items():
            named = {axis for tensor in graph.inputs for axis in tensor.shape if isinstance(axis, str)}
            assert set(profiles[name].axes) == named


def test_latents_are_those_of_the_padded_input(latent_sr: Bundle) -> None:
    """The input is enlarged 32/8 times, its latent has half of that, in multiples of the U-Net's stride (4)."""
    sizes = EngineSizes(sizes=(Size(16, 16), Size(64, 64), Size(128, 128)), scales=(4.0, 8.0, 8.0))
    profiles = profiles_of_graphs(latent_sr, sizes)
    assert profiles["denoise"].axes["height"] == (4, 16, 64)  # inputs of 2, 8 and 32 pixels
    assert profiles["encode"].axes["height"] == (8, 32, 128)
    assert profiles["query"].axes["columns"] == (16, 64, 128)
    assert profiles["query"].axes["rows"] == (1, 64, 128)  # chunks


def test_generated_latents_must_suit_the_u_net(latent_gen: Bundle) -> None:
    good = EngineSizes(sizes=(Size(64, 64), Size(64, 64), Size(128, 64)), scales=(1.0, 1.0, 1.0))
    assert profiles_of_graphs(latent_gen, good)["denoise"].axes["height"][2] % 4 == 0
    odd = EngineSizes(sizes=(Size(60, 64), Size(64, 64), Size(128, 64)), scales=(1.0, 1.0, 1.0))
    with pytest.raises(SizeError, match=r"64x60 means a latent of \d+x\d+, whose sides must be multiples of 4"):
        profiles_of_graphs(latent_gen, odd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ((16, 16), (8, 16), (32, 32))}, r"heights \[16, 8, 32\]: give the smallest, the usual"),
        ({"sizes": ((16, 0), (16, 16), (32, 32))}, r"widths \[0, 16, 32\]"),
        ({"scales": (4.0, 2.0, 8.0)}, r"scales \[4\.0, 2\.0, 8\.0\]"),
        ({"scales": (0.0, 2.0, 8.0)}, r"scales \[0\.0"),
        ({"batch": (0, 1, 1)}, r"batch \[0, 1, 1\]"),
    ],
)
def test_impossible_sizes(change: dict[str, object], message: str) -> None:
    fine: dict[str, object] = {"sizes": SIZES.sizes, "scales": SIZES.scales, "batch": SIZES.batch}
    with pytest.raises(SizeError, match=message):
        EngineSizes(**(fine | change))  # type: ignore[arg-type]


def test_the_defaults_hold_the_trained_size(idm: Bundle) -> None:
    sizes = default_sizes(idm)
    assert sizes.sizes == ((8, 8), (16, 16), (64, 64))
    assert sizes.scales == (1.0, 8.0, 8.0)
    assert sizes.lr_size(1) == (2, 2)
