"""What bundle.json says of int8: the record is what is written and read, and anything else is refused by its place."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import Quantization
from deploy.errors import BundleError
from tests.deploy.bundle.small_bundle import manifest_of, write_bundle

ARRAYS = {name: f"{name}.npy" for name in ("shape", "sizes", "factors", "slopes", "constants")}

PLAIN: dict[str, Any] = {
    "graph": "a.onnx",
    "edges": [0.0, 0.6, 1.0],
    "rows": {"range_numbers": ARRAYS},
    "constants": {},
    "weights": ["w.bin"],
    "noise_corrections": [],
}
"""As of a calibration's trial: nothing more is known."""

WHOLE: dict[str, Any] = {
    **PLAIN,
    "rows": {},
    "constants": {"range_channels": {"names": ["m.scale"], "rows": {**ARRAYS, "corrections": "c.npy"}}},
    "noise_corrections": [
        {"noise_level": level, "gain": [1.0, 0.5], "offset": [0.0, -0.25], "estimate_variance": 0.125}
        for level in (0.25, 0.5)
    ],
    "decoder": {"graphs": {"decode": "d.onnx"}, "weights": ["d.bin"]},
    "held_out": {"preset": "best", "pictures": 6, "psnr_drop": None, "fidelity_db": 50.0, "worst_db": 44.5},
}


def as_json(**changes: Any) -> dict[str, Any]:
    told = {"targets": {"ort": PLAIN, "tensorrt": WHOLE}, "noise_levels": [0.25, 0.5], "equations": ["ddim"]}
    settings = {"max_psnr_drop": 0, "min_fidelity": None, "scales": [4, 2.5], "strict": False, "clipping": "mse"}
    return json.loads(json.dumps({**told, "settings": settings, "calibration_sha256": "0" * 64, **changes}))  # type: ignore[no-any-return]


def read(told: Any) -> Quantization:
    quantization = manifest_of(quantization=told).quantization
    assert quantization is not None
    return quantization


def test_the_same_json_comes_back_whatever_is_left_out() -> None:
    for told in (as_json(), {"targets": {"ort": PLAIN}, "noise_levels": []}):
        assert json.dumps(read(told).as_json(), sort_keys=True) == json.dumps(told, sort_keys=True)


def test_every_file_that_is_needed_is_named() -> None:
    needed = {file for _, file in read(as_json()).files}
    assert needed == {"a.onnx", "w.bin", "c.npy", "d.onnx", "d.bin", *ARRAYS.values()}


def target(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    told = as_json()
    change(told["targets"]["tensorrt"])
    return told


REFUSED: list[tuple[Any, str]] = [
    ([], r"quantization is \[\], expected an object"),
    (as_json(targets=[]), r"quantization\.targets is \[\], expected an object"),
    (as_json(surprise=1), "quantization has the unknown key 'surprise'"),
    (as_json(noise_levels=[0.5, 1.5]), r"quantization\.noise_levels\[1\] is 1\.5, expected a number <= 1\.0"),
    (as_json(noise_levels=[True]), r"quantization\.noise_levels\[0\] is True, expected a number"),
    (as_json(calibration_sha256="x"), r"quantization\.calibration_sha256 is 'x', expected 64 hexadecimal digits"),
    (as_json(settings={"max_psnr_drop": "all"}), "quantization: max_psnr_drop of settings is a number of dB"),
    (as_json(settings={"a": {"b": 1}}), r"quantization\.settings\[\.\.\.\] is .*, expected true or false or a whole"),
    (target(lambda told: told.pop("constants")), r"quantization\.targets\.tensorrt lacks 'constants'"),
    (target(lambda told: told.update(later=1)), r"targets\.tensorrt has the unknown key 'later'"),
    (target(lambda told: told.update(graph="")), r"targets\.tensorrt\.graph is '', expected a name"),
    (target(lambda told: told.update(graph=["a"])), r"targets\.tensorrt\.graph is \['a'\], expected a text"),
    (target(lambda told: told.update(edges=[0.0, 0.6, 0.3, 1.0])), "edges rising from 0.0 to 1.0 were expected"),
    (target(lambda told: told["noise_corrections"][1].pop("gain")), r"tensorrt\.noise_corrections\[1\] lacks 'gain'"),
    (target(lambda told: told["noise_corrections"][1].update(gain=[1.0])), "differ in their number of channels"),
    (target(lambda told: told["noise_corrections"].reverse()), "the noise levels of noise_corrections do not rise"),
    (
        target(lambda told: told["noise_corrections"][0].update(estimate_variance=-1.0)),
        r"estimate_variance is -1\.0, expected a number >= 0\.0",
    ),
    (
        target(lambda told: told["held_out"].update(pictures=6.5)),
        r"held_out\.pictures is 6\.5, expected a whole number",
    ),
    (target(lambda told: told["held_out"].update(fidelity_db="x")), r"held_out\.fidelity_db is 'x', expected a number"),
    (
        target(lambda told: told["decoder"]["graphs"].update(query=None)),
        r"decoder\.graphs\[\.\.\.\] is .*, expected a text",
    ),
]


@pytest.mark.parametrize(("told", "sentence"), REFUSED)
def test_what_is_not_as_declared_is_refused_by_its_place(told: Any, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        read(told)


def test_a_bundle_is_not_opened_whose_int8_makes_no_sense(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path / "bundle.json"
    for told, sentence in (
        (as_json(targets={"ort": {**PLAIN, "edges": [0.5]}}), r"cannot open .*: quantization\.targets\.ort: making"),
        (as_json(noise_levels=[float("nan")]), r"quantization\.noise_levels\[0\] is nan, and JSON has no such number"),
        (as_json(), "int8 for ort names a.onnx.* int8 for tensorrt names d.bin.* which its files do not list"),
    ):
        path.write_text(json.dumps({**json.loads(path.read_text()), "quantization": told}))
        with pytest.raises(BundleError, match=sentence):
            Bundle.open(tmp_path / "a.bundle")


def test_what_is_written_is_checked_as_what_is_read(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    wrong = Quantization(targets={}, noise_levels=(2.0,))
    with (
        BundleWriter.update(bundle) as writer,
        pytest.raises(BundleError, match=r"noise_levels\[0\] is 2\.0, expected"),
    ):
        writer.commit(replace(bundle.manifest, quantization=wrong))
