"""Files that are no checkpoints of a known family: each is refused in a sentence or two that says what to do."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deploy.checkpoint.load import load_checkpoint
from deploy.errors import CheckpointError, ConfigError
from tests.deploy.checkpoint.test_load import SAVERS, SMALL
from tests.idm_models import filled
from tests.latent_checkpoints import latent_state

State = dict[str, torch.Tensor]
FIRST = "denoise_fn.downs.0.weight"


def state() -> State:
    """A small IDM network's weights, free to be changed."""
    return {name: value.clone() for name, value in filled(SMALL).state_dict().items()}


def refused(path: Path, match: str, **options: Any) -> None:
    """Loading ends in one or two sentences that name the file, and leaves nothing behind."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    if before:
        assert sorted(path.parent.iterdir()) == before


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(value: Any, name: str = "model.pth", **options: Any) -> Path:
        torch.save(value, tmp_path / name, **options)
        return tmp_path / name

    return save


def with_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_no_such_file(tmp_path: Path) -> None:
    with_bytes(tmp_path / "model_gen.pth", b"x")
    refused(tmp_path / "model_gan.pth", r"model_gan.pth does not exist; the nearest name there is model_gen.pth\.")
    refused(tmp_path / "model_gen.pt", r"model_gen.pt does not exist; the nearest name there is model_gen.pth\.")
    refused(tmp_path / "zzz.pth", r"zzz.pth does not exist\.")  # the ending alone makes no name near
    refused(tmp_path / "none" / "a.pth", r"a.pth does not exist, nor does the folder .*none\.")


def test_a_directory(tmp_path: Path) -> None:
    refused(tmp_path, r"is a directory; name the checkpoint file")


def test_an_empty_file(tmp_path: Path) -> None:
    refused(with_bytes(tmp_path / "a.pth", b""), r"a.pth is empty; copy or download the checkpoint again")


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    refused(tmp_path / ("x" * 300), r"cannot be read: File name too long")


@contextmanager
def without_privileges() -> Iterator[None]:
    """Runs as a user whom file permissions bind; root passes over them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission_to_read() -> None:
    # Not tmp_path, whose parents only their owner may enter: here the file itself has to be what is refused.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = with_bytes(folder / "secret.pth", b"\x80\x02")
        path.chmod(0)
        with without_privileges():
            refused(path, r"secret.pth cannot be read: permission denied. Change its permissions or owner")
        closed = folder / "closed"
        closed.mkdir()
        with_bytes(closed / "a.pth", b"\x80\x02")
        closed.chmod(0o600)
        with without_privileges(), pytest.raises(CheckpointError, match=r"a.pth cannot be read: permission denied"):
            load_checkpoint(closed / "a.pth")
        # A folder that may be entered and not listed: no nearest name, but still the right sentence.
        closed.chmod(0o711)
        with without_privileges(), pytest.raises(CheckpointError, match=r"b.pth does not exist\."):
            load_checkpoint(closed / "b.pth")


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.999])
@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_torch_files(saved: Callable[..., Path], fraction: float, new_format: bool) -> None:
    path = saved(state(), _use_new_zipfile_serialization=new_format)
    with_bytes(path, path.read_bytes()[: int(path.stat().st_size * fraction)])
    refused(path, r"is truncated or damaged \(.*\); copy or download the checkpoint again")


@pytest.mark.parametrize("kept", [9, 200, -1])
def test_truncated_safetensors(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    save_file(state(), path)
    refused(with_bytes(path, path.read_bytes()[:kept]), r"is truncated or damaged \(.*\); copy or download")


PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
OTHERS = {
    "a picture": PNG,
    "a web page .a download that asked for a login": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "a compressed archive .unpack it first": b"\x1f\x8b\x08" + bytes(40),
    "something else": b"hello, this is just text",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_that_only_have_the_name_of_a_checkpoint(tmp_path: Path, kind: str) -> None:
    refused(with_bytes(tmp_path / "a.pth", OTHERS[kind]), f"a.pth is not a checkpoint but {kind}")


def test_other_zip_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "pictures")
    refused(path, r"is not a checkpoint but a zip archive of something else; expected a file that torch.save")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}))
        archive.writestr("net/constants.pkl", b"")
    refused(path, r"is not a checkpoint but a TorchScript program")


def test_other_pickles(tmp_path: Path) -> None:
    for value in ({"weights": np.zeros(3)}, 5, ["list"]):
        path = with_bytes(tmp_path / "a.pth", pickle.dumps(value))
        refused(path, r"a.pth is a pickle but not a checkpoint; expected a file that torch.save")


class Payload:
    """Pickles as a call that creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.mark}",))


def test_code_is_refused_by_name_and_not_run_in_every_format(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    value = {"state_dict": state(), "callback": Payload(mark)}
    files = tmp_path / "files"
    files.mkdir()
    torch.save(value, files / "zip.pth")
    torch.save(value, files / "legacy.pth", _use_new_zipfile_serialization=False)
    with_bytes(files / "plain.pth", pickle.dumps(value["callback"]))
    with_bytes(files / "text.pth", pickle.dumps(value["callback"], 0))
    for path in sorted(files.iterdir()):
        refused(path, rf"was refused: its pickle would call {os.name}.system, which no checkpoint needs")
    assert not mark.exists()


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with every record passed through `change`."""
    with zipfile.ZipFile(path) as archive:
        records = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return path


def test_archives_that_were_packed_again(saved: Callable[..., Path]) -> None:
    again = rewritten(saved(state(), "again.pth"), lambda _, data: data)
    assert torch.equal(load_checkpoint(again).network.state_dict()[FIRST], state()[FIRST])
    packed = rewritten(saved(state()), lambda _, data: data, zipfile.ZIP_DEFLATED)
    refused(packed, r"is a compressed archive, which torch.save never writes")


def test_archives_with_missing_or_short_storages(saved: Callable[..., Path]) -> None:
    short = rewritten(saved(state()), lambda name, data: data[:-4] if name.endswith("data/0") else data)
    refused(short, r"truncated or damaged \(a tensor reaches outside storage 0\)")
    with zipfile.ZipFile(saved(state())) as archive:
        records = {name: archive.read(name) for name in archive.namelist() if not name.endswith("data/0")}
    with zipfile.ZipFile(short, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    refused(short, r"truncated or damaged \(storage 0 is missing\)")


def test_a_checkpoint_of_a_big_endian_machine(saved: Callable[..., Path]) -> None:
    path = rewritten(saved(state()), lambda name, data: b"big" if name.endswith("byteorder") else data)
    refused(path, r"was saved on a big-endian machine; load and save it on a common one")


def test_an_older_file_whose_storage_belongs_to_nothing(saved: Callable[..., Path]) -> None:
    path = saved({"a": torch.zeros(2)}, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    key = data[data.rindex(b"]q\x00") :].split(b"X")[1][4:].split(b"q")[0]
    end = data.rindex(key)
    refused(with_bytes(path, data[:end] + b"9" * len(key) + data[end + len(key) :]), r"belongs to no tensor")


def test_no_state_dict(saved: Callable[..., Path]) -> None:
    for value in ({"epoch": 3}, [torch.zeros(2)], torch.zeros(2), {"state_dict": {"a": 1}}):
        refused(
            saved(value), r"holds no state_dict: .*under the usual keys \(state_dict, .*saved as its state_dict\(\)"
        )
    refused(saved(torch.nn.Linear(2, 2)), r"holds no state_dict")
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    refused(saved({"epoch": 1, "optimizer": optimizer}), r"holds the state of an optimizer.*of x_opt.pth, x_gen.pth")


def test_another_network(saved: Callable[..., Path]) -> None:
    refused(saved({"conv.weight": torch.zeros(1)}), r"holds another network \(tensors: 1\); the nearest known family")


def test_missing_parameters_are_named(saved: Callable[..., Path]) -> None:
    weights = {name: value for name, value in state().items() if ".mid." not in name}
    refused(saved(weights), r"is IDM, .* but lacks denoise_fn.mid.0.* and \d+ more; the file is incomplete")
    part = {name: value for name, value in latent_state("latent_sr_tiny").items() if name != "scale_factor"}
    refused(saved(part), r"lacks scale_factor")


def test_schedule_tables_may_be_missing(saved: Callable[..., Path]) -> None:
    weights = latent_state("latent_gen_tiny")
    kept = {name: value for name, value in weights.items() if not name.startswith(("posterior_", "sqrt_"))}
    network = load_checkpoint(saved(kept)).network
    assert torch.equal(network.state_dict()["sqrt_alphas_cumprod"], weights["sqrt_alphas_cumprod"])


def test_a_shape_that_contradicts_the_rest(saved: Callable[..., Path]) -> None:
    weights = state() | {"denoise_fn.mid.0.attn.qkv.weight": torch.zeros(24, 16, 1, 1)}
    refused(
        saved(weights), r"contradicts itself: .*mid.0.attn.qkv.weight has shape \[24, 16, 1, 1\], expected \[48, 16"
    )


def test_a_variant_with_more_layers(saved: Callable[..., Path]) -> None:
    weights = state() | {"denoise_fn.downs.1.res_block.gate.weight": torch.zeros(8)}
    refused(saved(weights), r"is IDM, .* but also holds denoise_fn.downs.1.res_block.gate.weight, .* a variant")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_numbers(saved: Callable[..., Path], value: float) -> None:
    weights = state()
    weights[FIRST][0, 0, 0, 0] = value
    refused(saved(weights), rf"{FIRST} holds NaN or infinite values \(1 of 432\); the training diverged")


def test_a_sum_that_overflows_is_no_infinite_weight(saved: Callable[..., Path]) -> None:
    weights = state()
    weights[FIRST][:] = 3e38
    assert torch.equal(load_checkpoint(saved(weights)).network.state_dict()[FIRST], weights[FIRST])


def test_numbers_beyond_float32(saved: Callable[..., Path]) -> None:
    refused(saved({name: value.double() + 1e300 for name, value in state().items()}), r"NaN or infinite")


def test_quantized_weights(saved: Callable[..., Path], tmp_path: Path) -> None:
    weights = state() | {FIRST: torch.zeros(8, 6, 3, 3, dtype=torch.int8)}
    refused(saved(weights), rf"{FIRST} holds int8 numbers, expected one of float64.*Pass the one they were made from")
    save_file(state() | {FIRST: torch.zeros(8, 6, 3, 3, dtype=torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", rf"tensor {FIRST} is stored as F8_E4M3, expected one of float64")


def test_a_configuration_that_contradicts_the_weights(saved: Callable[..., Path], tmp_path: Path) -> None:
    path, config = saved(state()), tmp_path / "train.json"
    config.write_text(json.dumps({"model": {"unet": {"inner_channel": 64}, "diffusion": {}}}))
    with pytest.raises(ConfigError, match=r"contradicts .*model.pth: .*train.json says inner_channel is 64, .* have 8"):
        load_checkpoint(path, config=config)


def test_a_configuration_that_is_impossible_for_the_weights(saved: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"model.pth: .*norm_groups 3 does not divide 8 channels"):
        load_checkpoint(saved(state()), config={"norm_groups": 3})


def test_torch_is_not_installed(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nimport deploy\ndeploy.load_checkpoint(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.pth"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    expected = "MissingPackage: Reading a checkpoint needs PyTorch: pip install 'idm-deploy[export]'."
    assert run.stderr.splitlines()[-1].endswith(expected)


def test_yaml_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {}")
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from deploy.checkpoint.settings import read_config\nread_config(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.yaml"], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1].endswith("a.yaml needs PyYAML: pip install 'idm-deploy[export]'.")


@pytest.mark.parametrize("form", SAVERS)
def test_damaged_bytes_end_in_a_refusal_or_do_no_harm(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.any"
    SAVERS[form](state(), path)
    data = path.read_bytes()
    # Where the structure is: the pickle or header at the start, the archive's directory at the end.
    places = [*range(min(len(data), 30_000)), *(range(len(data) - 8_000, len(data)) if form == "torch zip" else ())]
    generator = np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in generator.choice(places, size=3):
            damaged[place] = generator.integers(256)
        with_bytes(path, bytes(damaged))
        try:
            load_checkpoint(path)
        except (CheckpointError, ConfigError):
            refusals += 1
    assert refusals > 10
