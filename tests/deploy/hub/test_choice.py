import json
from collections.abc import Mapping

import pytest

from deploy.errors import HubError
from deploy.hub.address import address_from_text
from deploy.hub.choice import Choice, choose

PIPELINE = json.dumps(
    {"_class_name": "P", "unet": ["diffusers", "A"], "scheduler": ["diffusers", "B"], "x": [None, None]}
)
FP16 = "unet has weights as fp16 only"
WEIGHTS = "unet/diffusion_pytorch_model"


def chosen(names: str, contents: Mapping[str, str], typed: str = "a/b") -> Choice:
    return choose(address_from_text(typed), names.split(), lambda name: contents[name].encode())


@pytest.mark.parametrize(
    ("there", "taken", "note"),
    [
        # One form: safetensors before .bin, in full before a variant, one file before pieces.
        (f"{WEIGHTS}.bin {WEIGHTS}.safetensors {WEIGHTS}.fp16.safetensors unet/model.onnx unet/flax_model.msgpack",
         f"{WEIGHTS}.safetensors", ()),
        (f"{WEIGHTS}.bin {WEIGHTS}.fp16.safetensors", f"{WEIGHTS}.bin", ()),
        (f"{WEIGHTS}.fp16.bin {WEIGHTS}.fp16.safetensors", f"{WEIGHTS}.fp16.safetensors", (FP16,)),
        (f"{WEIGHTS}.safetensors.index.json {WEIGHTS}-00001-of-00002.safetensors {WEIGHTS}-00002-of-00002.safetensors "
         f"{WEIGHTS}.fp16.safetensors {WEIGHTS}.bin.index.json {WEIGHTS}-00001-of-00001.bin",
         f"{WEIGHTS}-00001-of-00002.safetensors {WEIGHTS}-00002-of-00002.safetensors "
         f"{WEIGHTS}.safetensors.index.json", ()),
        (f"{WEIGHTS}.safetensors.index.fp16.json {WEIGHTS}.fp16-00001-of-00001.safetensors",
         f"{WEIGHTS}.fp16-00001-of-00001.safetensors {WEIGHTS}.safetensors.index.fp16.json",
         (FP16,)),
    ],
)  # fmt: skip
def test_of_a_pipeline_one_form_of_weights_is_taken(there: str, taken: str, note: tuple[str, ...]) -> None:
    common = "model_index.json scheduler/scheduler_config.json unet/config.json"
    choice = chosen(
        f"{common} README.md .gitattributes safety/config.json unet/deep/x.json {there}", {"model_index.json": PIPELINE}
    )
    assert choice.kind == "pipeline" and choice.notes == note
    assert choice.files == tuple(sorted(f"{common} {taken}".split()))


BUNDLE = json.dumps({"files": {"a-1.onnx": {"sha256": "0" * 64, "bytes": 1}}})


def test_of_a_bundle_what_it_lists_is_taken() -> None:
    choice = chosen("bundle.json a-1.onnx README.md b-2.onnx", {"bundle.json": BUNDLE})
    assert (choice.kind, choice.files, choice.sha256) == ("bundle", ("a-1.onnx", "bundle.json"), {"a-1.onnx": "0" * 64})
    inside = chosen("x/bundle.json x/a-1.onnx README.md", {"x/bundle.json": BUNDLE})
    assert (inside.root, inside.files) == ("x/", ("x/a-1.onnx", "x/bundle.json"))
    assert chosen("x/bundle.json x/a-1.onnx y.pt", {"x/bundle.json": BUNDLE}, "a/b/x") == inside


def test_of_checkpoints_the_one_is_taken_or_the_one_that_is_named() -> None:
    assert chosen("README.md w/a.ckpt w/a.safetensors", {}).files == ("w/a.safetensors",)
    assert chosen("a.pt b.pt", {}, "a/b/b.pt").files == ("b.pt",)


@pytest.mark.parametrize(
    ("names", "contents", "typed", "message"),
    [
        ("a.pt x/bundle.json b.pt", {}, "a/b@v1", r"holds 3 models: a.pt, b.pt, x. Name one .* hf://a/b@v1/a.pt\.$"),
        ("README.md", {}, "a/b", r"holds no bundle .*It has README.md\.$"),
        ("a.pt", {}, "a/b/c.pt", r"^hf://a/b/c.pt: a/b has no file c.pt. It has a.pt\.$"),
        ("bundle.json", {"bundle.json": BUNDLE}, "a/b", r"lists a-1.onnx, which the repository lacks"),
        ("bundle.json", {"bundle.json": "{"}, "a/b", r"bundle.json is not JSON"),
        ("bundle.json", {"bundle.json": "[]"}, "a/b", r"bundle.json is no JSON object"),
        ("bundle.json", {"bundle.json": '{"files": {"a": 1}}'}, "a/b", r"lists no files with their SHA-256"),
        ("bundle.json", {"bundle.json": '{"files": {"../x": {"sha256": "0"}}}'}, "a/b", r"lists '../x', which is"),
        ("model_index.json", {"model_index.json": PIPELINE}, "a/b", r"names the part unet, which the repository lacks"),
        ("model_index.json", {"model_index.json": '{"..": ["a", "b"]}'}, "a/b", r"names the part '..'; it is"),
        ("model_index.json", {"model_index.json": "{}"}, "a/b", r"names no parts"),
        (f"model_index.json scheduler/x.json {WEIGHTS}-00002-of-00002.bin", {"model_index.json": PIPELINE}, "a/b",
         r"the weights of unet are in 2 pieces, of which number 1 is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_refused(names: str, contents: Mapping[str, str], typed: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        chosen(names, contents, typed)
