"""Int8 graphs of whole denoisers, as calibration writes them for TensorRT, become int8 in the builder's own listing.

The scales here are made up: which layers are int8 depends on the form of the graph only. Needs TensorRT-RTX, no GPU.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.choose.quantizer import Form, Shifted, Symmetric
from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.observe.layers import CONV, layers_of, read_graph, weights_of
from calibration.targets.tensorrt import int8_graphs
from deploy.bundle import Bundle
from deploy.engine.profiles import default_sizes, profiles_of_graphs
from deploy.packaged.places import IDM_BUNDLE
from engines.plans.building import build
from engines.plans.half import write_half_graph
from engines.plans.tensorrt_builder import BuildRequest
from tests.calibration.int8_layers import stored
from tests.deploy.exported import exported, exported_latent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="TensorRT-RTX is not installed: pip install 'idm-deploy[tensorrt-rtx]'",
    ),
]


CAPABILITIES = ("8.0", "8.9", "12.0")


def silent(_doing: str, _fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def idm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    return exported_latent("latent_sr_tiny", tmp_path_factory.mktemp("latent"), sizes)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    """The packaged one, with trained weights."""
    return Bundle.open(IDM_BUNDLE)


def quantized(bundle: Bundle, form: Form, folder: Path) -> tuple[Path, int, int]:
    """The fp16 form of the denoiser's int8 graph, and how many convolutions and linear layers of it are int8.

    All layers but the first and the last, inputs between -0.28 and 5 as SiLU leaves them.
    """
    graph = bundle.graph("denoise", "group")
    model = read_graph(graph)
    layers = layers_of(model)[1:-1]
    told = []
    for layer in layers:
        weights = weights_of(model, graph.parent, layer)
        scales = np.abs(weights).reshape(len(weights), -1).max(axis=1) / 127 + 1e-6
        codes = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int8)
        inputs = (form.covering(-0.28, 5.0),)
        told.append(LayerRecipe(node=layer.node, codes=codes, weight_scales=scales.astype(np.float32), inputs=inputs))
    made = int8_graphs(model, graph.parent, Recipe(ranges=1, layers=tuple(told)))
    for file in graph.parent.glob("*.bin"):  # what stays in float
        shutil.copy(file, folder)
    path = stored(made, folder)
    write_half_graph(path, folder / "half.onnx")
    convolutions = sum(layer.kind == CONV for layer in layers)
    return folder / "half.onnx", convolutions, len(layers) - convolutions


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("form", [Symmetric(), Shifted()], ids=["symmetric", "shifted"])
@pytest.mark.parametrize("family", ["idm", "latent", "demo"])
def test_every_layer_that_is_meant_to_be_int8_is(
    family: str, form: Form, capability: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle: Bundle = request.getfixturevalue(family)
    graph, convolutions, products = quantized(bundle, form, tmp_path)
    onnx.checker.check_model(graph)
    formats = formats_built(graph, bundle, capability, tmp_path)
    # A 1x1 convolution may come out as a matrix product, so the two kinds are counted together.
    found = sum(formats.get(kind, {}).get("Int8", 0) for kind in ("convolution", "matmul"))
    assert found == convolutions + products, formats
    assert not float_layers(formats)


def formats_built(graph: Path, bundle: Bundle, capability: str, folder: Path) -> dict[str, dict[str, int]]:
    """The builder's count of a denoiser's layers by kind and number format."""
    request = BuildRequest(
        module="tensorrt_rtx",
        graph=str(graph),
        plan=str(folder / "plan"),
        profile=dict(profiles_of_graphs(bundle, default_sizes(bundle))["denoise"].axes),
        capability=capability,
    )
    return build(request, silent).formats


def float_layers(formats: dict[str, dict[str, int]]) -> list[str]:
    """The kinds of computing layers some of which run in float32."""
    return [kind for kind, counts in formats.items() if kind != "other" and "Float" in counts]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """The published IDM in full size, with made-up weights: 467 MB of checkpoint, 400 MB of bundle."""
    folder = tmp_path_factory.mktemp("full")
    yield exported("idm_ffhq_16_128", folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def full_int8(full: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int, int]]:
    folder = tmp_path_factory.mktemp("full-int8")
    yield quantized(full, Symmetric(), folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_full_idm_in_int8(full: Bundle, full_int8: tuple[Path, int, int], capability: str, tmp_path: Path) -> None:
    """107 convolutions: all of the step but the first and the last."""
    graph, convolutions, products = full_int8
    formats = formats_built(graph, full, capability, tmp_path)
    shutil.rmtree(tmp_path)
    assert (convolutions, products) == (107, 0)
    assert formats["convolution"] == {"Half": 2, "Int8": 107}
    assert not float_layers(formats)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_full_idm_in_fp16(full: Bundle, capability: str, tmp_path: Path) -> None:
    write_half_graph(full.graph("denoise", "group"), tmp_path / "half.onnx")
    formats = formats_built(tmp_path / "half.onnx", full, capability, tmp_path)
    shutil.rmtree(tmp_path)
    assert formats["convolution"]["Half"] > 50
    assert not float_layers(formats)
