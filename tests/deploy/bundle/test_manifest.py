"""bundle.json: what is written is what is read, and everything else is refused with a sentence."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deploy
from deploy.bundle import SCHEMA, Bundle, FileRecord, Manifest
from deploy.errors import BundleError
from deploy.packaged.places import IDM_BUNDLE
from tests.deploy.bundle.small_bundle import manifest_of, settings
from tests.deploy.quantizations import int8_target, quantization

QUANTIZED = quantization(ort=int8_target())

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def as_json(**changes: Any) -> dict[str, Any]:
    return manifest_of().as_json() | changes


besides = st.dictionaries(st.text(max_size=9).map("x-{}".format) | st.just("besides"), st.just({}) | json_values)


@given(besides=besides)
def test_what_another_version_has_besides_is_kept(besides: dict[str, Any]) -> None:
    """In every object that may hold more than is declared, be it below another; nothing of it is looked at."""
    tensor = {"name": "x", "dtype": "float32", "shape": [1]} | besides
    data = settings(
        graphs={"denoise": {"forms": {}, "inputs": [tensor, tensor], "outputs": [], "weights": []} | besides},
        presets={"balanced": {"equation": "ddim", "steps": 1, "measured_taste": 3} | besides},
        placements={"ddim/1/noise": {"noise_levels": [0.5]} | besides},
        scale_range={"trained": [1, 8.0]} | besides,
        quantization=QUANTIZED.as_json(),
    )
    manifest = Manifest.from_json(data)
    written = (json.dumps(data, sort_keys=True, indent=1) + "\n").encode()
    assert manifest.as_bytes() == written and Manifest.from_json(json.loads(written)) == manifest
    assert manifest.presets["balanced"].measured("taste") == 3
    assert list(manifest.presets["balanced"].without_measured().besides) == list(besides)


def test_bundles_are_written_as_they_are_read(latent_gen: Bundle) -> None:
    """The packaged one has fitted rows and measured presets; one that generates has no scale of training."""
    for folder in (IDM_BUNDLE, latent_gen.path):
        written = (folder / "bundle.json").read_bytes()
        assert Manifest.from_json(json.loads(written)).as_bytes() == written


def test_the_bytes_do_not_depend_on_the_order_of_the_keys() -> None:
    turned = dict(reversed(list(settings().items())))
    assert Manifest.from_json(turned).as_bytes() == manifest_of().as_bytes()
    assert manifest_of().as_bytes().endswith(b"}\n")


def test_optional_keys_are_absent_until_they_say_something() -> None:
    assert "quantization" not in as_json()
    assert "calibration_images" not in as_json()
    quantized = replace(manifest_of(), quantization=QUANTIZED, calibration_images={"a.png": "0" * 64})
    assert quantized.as_json()["quantization"] == QUANTIZED.as_json()


def test_a_manifest_does_not_change_with_the_values_it_was_made_from() -> None:
    made = settings()
    manifest = Manifest.from_json(made)
    made["graphs"]["denoise"]["forms"]["later"] = "x"
    assert manifest.graphs["denoise"].forms == {}


def test_a_newer_schema_is_refused_with_both_versions() -> None:
    newer = as_json(schema=SCHEMA + 1, tool={"name": "idm-deploy", "version": "9.9"}, surprise=1)
    with pytest.raises(
        BundleError,
        match=rf"schema {SCHEMA + 1}, written by idm-deploy 9\.9; idm-deploy {deploy.__version__} .*schema {SCHEMA}",
    ):
        Manifest.from_json(newer)


def test_a_newer_schema_without_a_known_writer_is_refused_too() -> None:
    with pytest.raises(BundleError, match=r"written by idm-deploy \?"):
        Manifest.from_json({"schema": 99})


@pytest.mark.parametrize(
    ("trained", "usual", "only"), [([1, 8], 4, None), ([1, 3], 3, None), ([8, 8], 8, 8), (None, 4, None)]
)
def test_the_usual_scale_is_within_training(trained: list[float] | None, usual: float, only: float | None) -> None:
    manifest = manifest_of(scale_range={"trained": trained})
    assert (manifest.usual_scale, manifest.only_scale) == (usual, only)


@pytest.mark.parametrize("schema", [None, 0, -1, "1", 1.0, True])
def test_a_schema_that_is_no_version_is_refused(schema: object) -> None:
    with pytest.raises(BundleError, match=r"schema is .*, expected a number from 1"):
        Manifest.from_json(as_json(schema=schema))


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_json_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(BundleError, match="expected an object, found"):
        Manifest.from_json(data)


def test_unknown_and_missing_keys_are_named_at_once() -> None:
    data = as_json(famly="idm")
    del data["family"], data["files"]
    with pytest.raises(
        BundleError, match=r"unknown key 'famly' \(did you mean 'family'\?\).*missing key 'family'; missing key 'files'"
    ):
        Manifest.from_json(data)


GRAPH = settings()["graphs"]["denoise"]
PRESET = settings()["presets"]["balanced"]
MALFORMED: list[tuple[str, Any, str]] = [
    ("family", "", "family is '', expected a name"),
    ("weights", "best", "weights is 'best', expected one of raw, ema"),
    ("configuration", {"a": {"value": 1}}, "configuration.a lacks 'source'"),
    ("configuration", {"a": {"value": 1, "source": "guess"}}, "configuration.a.source is 'guess', expected one of"),
    ("configuration", {"a": {"value": 1, "source": "weights", "x": 1}}, "configuration.a has the unknown key 'x'"),
    ("value_range", [1, -1], r"value_range is \[1, -1\], expected \[low, high\]"),
    ("value_range", {"image": [0]}, "value_range.image is"),
    ("scale_range", {}, "scale_range lacks 'trained'"),
    ("scale_range", {"trained": [0, 0]}, r"scale_range.trained is \[0, 0\], expected \[low, high\]"),
    ("scale_range", {"trained": 8}, r"scale_range.trained is 8, expected \[low, high\]"),
    ("schedule", [1], r"schedule is \[1\], expected an object"),
    ("rewrites", "fold", "rewrites is 'fold', expected a list"),
    ("opset", 0, "opset is 0, expected a whole number above 0"),
    ("opset", 99, "opset is 99, this version of idm-deploy runs graphs up to opset 21"),
    ("graphs", {"denoise": GRAPH | {"forms": ["x"]}}, "graphs.denoise.forms is"),
    ("graphs", {"denoise": {"forms": {}}}, "graphs.denoise lacks 'inputs'"),
    (
        "graphs",
        {"denoise": GRAPH | {"inputs": [{"name": "x", "dtype": "f", "shape": [-1]}]}},
        r"graphs.denoise.inputs\[0\].shape\[0\] is -1, expected a whole number, not negative",
    ),
    ("graphs", {"denoise": GRAPH | {"weights": ["w"] * 1001}}, r"denoise.weights is \['w', .*, expected a list of le"),
    ("graphs", {"g" + str(number): GRAPH for number in range(65)}, "graphs has 65 entries, expected at most 64"),
    ("tables", {"t": 3}, "tables.t is 3, expected a text"),
    ("tables", {"": "x"}, "tables has the key '', expected a name"),
    ("presets", {"balanced": {"equation": "ddim", "steps": 0}}, "presets.balanced.steps is 0, expected a whole number"),
    ("presets", {"balanced": PRESET | {"placement": 3}}, "presets.balanced.placement is 3, expected"),
    ("presets", {"balanced": PRESET | {"start": 1.5}}, "presets.balanced.start is 1.5, expected a number <= 1.0"),
    ("presets", {"balanced": PRESET | {"measured_dists": "x"}}, "balanced.measured_dists is 'x', expected a number"),
    ("placements", {"ddim/1/noise": {"noise_levels": []}}, r"noise_levels is \[\], expected a list of length >= 1"),
    ("placements", {"a": {"noise_levels": [0.5], "rules": 3}}, "placements.a.rules is 3, expected an object or null"),
    ("default_preset", [], r"default_preset is \[\], expected a text"),
    ("default_preset", "best", r"default_preset 'best' is none of the presets \(balanced\)"),
    ("source", {"file": "/home/me/a.pt", "sha256": "0" * 64, "bytes": 1}, "file name without its folder"),
    (
        "source",
        {"file": "a.pt", "sha256": "0" * 63, "bytes": -1},
        "source.sha256 is '0.*, expected 64 hexadecimal digits",
    ),
    ("calibration_images", {"a.png": "x"}, "calibration_images.a.png is 'x'"),
    ("quantization", [], "quantization: expected `object`, got `array`"),
    ("quantization", {"targets": {}}, "quantization: .* missing required field `noise_levels`"),
    ("tool", {"name": "idm-deploy"}, "tool lacks 'version'"),
    ("schedule", {"kind": "linear"}, "schedule lacks 'timesteps'"),
    ("schedule", {"kind": "linear", "timesteps": 10**8}, "timesteps is 100000000, expected a whole number <= 100000"),
    ("schedule", {"kind": "linear", "timesteps": 10, "end": 10**400}, "schedule.end is .*, expected a number"),
    ("schedule", {"betas": [0.1, 2.0]}, r"schedule.betas\[1\] is 2.0, expected a number <= 1.0"),
    (
        "configuration",
        {"s_max": {"value": 10**400, "source": "weights"}},
        "s_max.value is a number of 1329 bits, expec",
    ),
    ("configuration", {"a": {"value": [1] * 65, "source": "weights"}}, "configuration.a.value is .* at most 64 values"),
    ("configuration", {"a": {"value": "x" * 201, "source": "weights"}}, "at most 200 letters"),
    ("schedule", {"start": float("nan")}, "schedule.start is nan, and JSON has no such number"),
    ("schedule", {"steps": np.int64(3)}, r"schedule.steps is np.int64\(3\) \(int64\), which JSON cannot hold"),
    ("schedule", {"a": ["x" * 99, {1: 2}]}, r"schedule.a\[1\] is \{1: 2\} \(dict\)"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), MALFORMED)
def test_a_malformed_value_is_named_with_its_place(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        manifest_of(**{key: value})


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(BundleError, match=r"family is .*opset is.*quantization: "):
        manifest_of(family="", opset=-3, quantization=[])
    with pytest.raises(BundleError, match=r"a0 is .*a4 is .*; and 995 more\.$"):
        manifest_of(tables={f"a{number}": 1 for number in range(1000)})


@pytest.mark.parametrize("trained", [None, [1, 8], [4.0, 4.0]])
def test_a_model_that_generates_has_no_trained_scale(trained: list[int] | None) -> None:
    assert manifest_of(scale_range={"trained": trained}).as_json()["scale_range"] == {"trained": trained}


NAME = "x-" + "0" * 16 + ".bin"


@pytest.mark.parametrize("name", ["../" + NAME, "/etc/" + NAME, "a/" + NAME, "..", "plain.bin", "bundle.json"])
def test_a_listed_name_cannot_leave_the_bundle(name: str) -> None:
    with pytest.raises(BundleError, match="is not the name of a file in the bundle"):
        Manifest.from_json(as_json(files={name: {"sha256": "0" * 64, "bytes": 1}}))


def test_a_listed_name_belongs_to_its_hash() -> None:
    with pytest.raises(BundleError, match="does not begin with the digits in its name"):
        Manifest.from_json(as_json(files={NAME: {"sha256": "1" * 64, "bytes": 1}}))


def test_a_record_has_a_hash_and_a_size() -> None:
    with pytest.raises(BundleError, match="bin lacks 'bytes'"):
        Manifest.from_json(as_json(files={NAME: {"sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="sha256 is 'x', expected 64 hexadecimal"):
        Manifest.from_json(as_json(files={NAME: {"sha256": "x"}}))


def test_a_needed_file_must_be_listed() -> None:
    graph = GRAPH | {"forms": {"plain": "g-" + NAME}, "weights": ["w-" + NAME]}
    manifest = manifest_of(graphs={"denoise": graph}, tables={"t": "t-" + NAME}, samples=["s-" + NAME])
    with pytest.raises(
        BundleError, match=r"graph denoise names g-.*graph denoise names w-.*table t .*samples names s-"
    ):
        manifest.require_files()


def test_a_file_mentioned_anywhere_is_kept() -> None:
    record = FileRecord(sha256="0" * 64, bytes=1)
    manifest = manifest_of(quantization=quantization(ort=int8_target(weights=(NAME,))).as_json())
    assert manifest.mentioned({NAME: record, "other-" + NAME: record}) == {NAME: record}
