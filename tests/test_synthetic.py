"""The weights that the recordings rest on are rebuilt to the last bit."""

import zlib
from typing import Any

import numpy as np
import pytest

from tests.recordings import manifest, recorded_json
from tests.synthetic import make

CHECK = recorded_json("manifests/weights_check.json")
SMALL = ("idm_micro", "latent_gen_tiny", "latent_sr_tiny")


@pytest.mark.parametrize("tensor", CHECK["tensors"], ids=lambda tensor: tensor["name"])
def test_single_tensors_equal_the_recorded_ones(tensor: dict[str, Any]) -> None:
    made = make(tensor["name"], tensor["shape"])
    assert made.ravel()[: len(tensor["first"])].tolist() == tensor["first"]
    assert made.sum(dtype=np.float64) == pytest.approx(tensor["sum_float64"], rel=1e-12)
    assert zlib.crc32(made.tobytes()) == tensor["crc32"]


@pytest.mark.parametrize(
    "name",
    [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in CHECK["configurations"]],
)
def test_all_parameters_of_a_configuration_equal_the_recorded_ones(name: str) -> None:
    buffers = set(recorded_json("manifests/buffers.json")[name])
    checksum, count = 0, 0
    for tensor, (shape, _) in manifest(name).items():
        if tensor not in buffers:
            made = make(tensor, shape)
            checksum = zlib.crc32(made.tobytes(), checksum)
            count += made.size
    expected = CHECK["configurations"][name]
    assert (count, checksum) == (expected["parameters"], expected["crc32"])
