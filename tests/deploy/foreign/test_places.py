"""Addresses, other tools' folders and files of other kinds, wherever a checkpoint, a bundle or a picture is named."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deploy.bundle import Bundle, discover
from deploy.checkpoint.load import load_checkpoint
from deploy.checkpoint.settings import read_config
from deploy.cli.main import app
from deploy.errors import BundleError, CheckpointError, ConfigError, DeployError, ImageError
from deploy.export.export import export_bundle
from deploy.foreign.places import address_in
from deploy.images.files import read_image
from tests.checkpoints import save_idm

PAGE = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/RealESRGAN_x4plus.pth"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (PAGE, f"^{PAGE} is an address, .*for instance with `curl -LO {PAGE}`, and name the file"),
        (
            "https://huggingface.co/stabilityai/sdxl-vae",
            "page; write hf://stabilityai/sdxl-vae where .*`idm-deploy pull st",
        ),
        ("s3://bucket/idm.pt", "^s3://bucket/idm.pt is an address, .* with the tool for such addresses"),
    ],
)
def test_an_address_is_named_as_it_was_typed_with_the_way_to_download_it(typed: str, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        load_checkpoint(typed)
    with pytest.raises(BundleError, match=told):
        Bundle.open(typed)
    with pytest.raises(BundleError, match=told):
        discover(explicit=typed)
    with pytest.raises(ImageError, match=told):
        read_image(typed)
    with pytest.raises(ConfigError, match=told):
        read_config(typed)


def test_a_model_on_a_hub_is_neither_a_picture_nor_a_configuration() -> None:
    told = "^hf://a/b/x.png is an address; .* with `hf download a/b`, and name the file"
    with pytest.raises(ImageError, match=told):
        read_image("hf://a/b/x.png")
    with pytest.raises(ConfigError, match=told):
        read_config("hf://a/b/x.png")


def test_what_only_looks_like_an_address_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_in(Path("C:/models/idm.pt")) is None
    assert address_in(Path("a:b/idm.pt")) is None
    # A folder may have such a name: what is there is read.
    for name in ("s3:", "hf:"):
        folder = tmp_path / name
        folder.mkdir()
        torch.save({"conv.weight": torch.zeros(1)}, folder / "a.pth")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match="holds another network"):
            load_checkpoint(f"{name}/a.pth")


FOLDERS = {
    "a diffusers folder .StableDiffusionPipeline.; run it with diffusers": (
        "model_index.json",
        {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0"},
    ),
    "a part of a diffusers folder .UNet2DConditionModel.": (
        "config.json",
        {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.30.0"},
    ),
    "a Hugging Face transformers folder .LlamaForCausalLM.; run it with transformers": (
        "config.json",
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    ),
    "a Hugging Face transformers folder .t5.": ("config.json", {"model_type": "t5", "architectures": None}),
    "a LoRA adapter's folder; run it with PEFT": ("adapter_config.json", {"peft_type": "LORA"}),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_other_tools(tmp_path: Path, kind: str) -> None:
    name, content = FOLDERS[kind]
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"{tmp_path} is {kind}.*idm-deploy takes"):
        load_checkpoint(tmp_path)
    with pytest.raises(BundleError, match=f"{tmp_path} is not a bundle but {kind}"):
        Bundle.open(tmp_path)


def test_folders_of_nobody_keep_their_message(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="is a directory; name the checkpoint file"):
        load_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text("no JSON")
    with pytest.raises(CheckpointError, match=r"model_index\.json is not JSON"):
        load_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match=r"model_index\.json holds list, expected an object"):
        load_checkpoint(tmp_path)
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle\.json"):
        Bundle.open(tmp_path)


def test_a_bundle_for_a_checkpoint_and_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is a bundle, and a checkpoint is expected here; name the file that"):
        load_checkpoint(tmp_path)
    file = tmp_path / "idm.pt"
    file.write_bytes(b"x")
    for opened in (Bundle.open, lambda path: discover(explicit=path)):
        with pytest.raises(
            BundleError, match=r"idm.pt is not a bundle but a file, .*`idm-deploy export .*idm.pt` makes"
        ):
            opened(file)


FILES = {
    "a picture .`idm-deploy infer` enlarges it": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40)),
    "a picture": ("a.webp", b"RIFF\x10\0\0\0WEBPVP8L" + bytes(40)),
    "an ONNX graph .name the checkpoint": ("a.onnx", b"\x08\x0a\x12\x0aidm-deploy" + bytes(40)),
    "a TensorRT engine .name the checkpoint": ("a.bin", b"ftrt" + bytes(40)),
    "a TensorRT engine by its name": ("a.engine", b"\x01\x02" + bytes(40)),
    "an OpenVINO network": ("a.xml", b'<?xml version="1.0"?>\n<net name="g" version="11">'),
    "a GGUF file": ("a.gguf", b"GGUF\x03" + bytes(40)),
    "a NumPy array": ("a.npy", b"\x93NUMPY" + bytes(40)),
    "an HDF5 file": ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(40)),
    "a TensorFlow Lite network": ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(40)),
    "a Git LFS pointer .run `git lfs pull`": ("a.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    "something else": ("a.txt", b"\x08 is a bell, and this is text"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_other_kinds(tmp_path: Path, kind: str) -> None:
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is not a checkpoint but {kind}.*Check where it came from"):
        load_checkpoint(tmp_path / name)


def refusal(*arguments: object) -> str:
    """What a command that refuses says."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, DeployError), result.output
    return str(result.exception)


def test_every_command_that_takes_a_checkpoint_names_what_it_was_given(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    config = {"norm_groups": 8, "image_size": 16}
    bundle = export_bundle(load_checkpoint(save_idm(elsewhere), config=config), elsewhere / "micro.bundle")
    monkeypatch.chdir(tmp_path)
    names = ["conv_first.weight", "body.0.rdb1.conv1.weight"]
    torch.save({"params_ema": {name: torch.zeros(1) for name in names}}, tmp_path / "esrgan.pth")
    commands = (["inspect"], ["export"], ["quantize"], ["verify", bundle.path, "--against"])
    for command in commands:
        assert "esrgan.pth holds ESRGAN or Real-ESRGAN (RRDB)" in refusal(*command, "esrgan.pth")
        assert f"{PAGE} is an address" in refusal(*command, PAGE)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    for command in (*commands, ["verify"]):
        assert "a diffusers folder (a pipeline)" in refusal(*command, "pipeline")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["esrgan.pth", "pipeline"]
