"""Files that were made to crash, hang, fill the memory or mislead: each is refused in a sentence, at once."""

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deploy.checkpoint import unpickling
from deploy.checkpoint.load import load_checkpoint
from deploy.checkpoint.settings import METADATA_KEY, read_config
from deploy.checkpoint.unpickling import TensorUnpickler, load_pickle
from deploy.checkpoint.weights_files import open_weights
from deploy.errors import CheckpointError, ConfigError, DeployError, readable
from deploy.packaged.places import IDM_CHECKPOINT
from tests.checkpoints import save_idm

NESTED = b"2\x86" * 60  # x = (x, x) sixty times: 120 bytes, of which the text or the hash takes 2**60 steps


@pytest.mark.parametrize(
    "data",
    [
        b"}(N" + b"\x85" * 200_000 + b"Nu.",  # a key of 200 000 levels: Python's hash has no limit, and the stack ends
        b"}N" + NESTED + b"Ns.",
        b"}(N" + NESTED + b"Nu.",
        b"(N" + NESTED + b"Nd.",
        b"\x8f(N" + NESTED + b"\x90.",
        b"(N" + NESTED + b"\x91.",
        b"ccollections\nOrderedDict\n((N" + NESTED + b"N\x86ltR.",
        b"}(\x8e" + (2000).to_bytes(8, "little") + bytes(2000) + b"Nu.",
        b"}(\x8a\xff" + b"\x7f" * 255 + b"Nu.",
    ],
)  # fmt: skip
def test_keys_that_nest_or_are_long_are_not_hashed(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="a key that is long or nested, which no checkpoint needs"):
        load_pickle(io.BytesIO(b"\x80\x04" + data), "model.pth")


@pytest.mark.parametrize(
    "entry", [b"X\x07\0\0\0storageX\x01\0\0\0fN" + NESTED + b"X\x03\0\0\0cpuK\x01t", b"N" + NESTED]
)
def test_records_of_storages_that_nest_are_not_shown(entry: bytes) -> None:
    with pytest.raises(CheckpointError, match="a storage's record is not one"):
        load_pickle(io.BytesIO(b"\x80\x02(" + entry + b"Q."), "model.pth")


@pytest.mark.parametrize("end", [b"cx\ny\nR", b")R", b")\x81", b"cx\ny\n\x81", b")}\x92", b"N}\x92"])
def test_what_is_called_is_a_class_or_one_of_our_functions(end: bytes) -> None:
    with pytest.raises(CheckpointError, match="a call of something else than a class or a function"):
        load_pickle(io.BytesIO(b"\x80\x04N" + NESTED + end + b"."), "model.pth")


@pytest.mark.parametrize("options", [b"N", b"}K\x01Ns"])
def test_options_of_a_call_are_names(options: bytes) -> None:
    with pytest.raises(CheckpointError, match="options of a call are no dictionary of names"):
        load_pickle(io.BytesIO(b"\x80\x04cx\ny\n)" + options + b"\x92."), "model.pth")


def test_keys_that_checkpoints_have_are_taken() -> None:
    content = {"a": 1, 3: 2, 0.5: 3, None: 4, b"x": 5, ("train", 0): 6, True: 7}
    assert load_pickle(io.BytesIO(pickle.dumps(content)), "model.pth")[0] == content


@pytest.mark.parametrize(
    "data",
    [
        b"(" * 3000,
        b"](" + b"N" * 1000 + b"eq\0" + b"ctorch\nSize\nq\1" + b"h\1h\0\x85R" * 20,  # a list of a thousand, copied
        b"cforeign\nthing\nq\1](" + b"N" * 1000 + b"e\x85q\0" + b"h\1h\0R0" * 20,
        b"cforeign\nthing\nq\1(" + b"N" * 1000 + b"tq\0" + b"h\1h\0\x810" * 20,
    ],
)  # fmt: skip
def test_steps_and_copies_are_counted(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "MOST_OPCODES", 2500)
    with pytest.raises(CheckpointError, match=r"more than 2500 steps, which no checkpoint needs|a size is not one"):
        load_pickle(io.BytesIO(b"\x80\x04" + data + b"."), "model.pth")


def test_memory_is_taken_for_what_is_there_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    huge = (1 << 40).to_bytes(8, "little")
    tracemalloc.start()
    for opcode in (b"\x8e", b"\x8d", b"\x96", b"\x95"):  # bytes, text, bytes that change, a frame
        path.write_bytes(b"\x80\x05" + opcode + huge)
        with pytest.raises(CheckpointError, match=r"a piece of 1099511627776 bytes|pickle data was truncated|frame"):
            open_weights(path)
    with path.open("wb") as file:
        file.write(b"\x80\x02c")
        file.truncate(1 << 40)  # a line of a terabyte, which takes no room on the disk
    with pytest.raises(CheckpointError, match="a line without an end"):
        open_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 28
    tracemalloc.stop()


def archive_of(path: Path, pickled: bytes, *, packed: str = "", more: dict[str, bytes] | None = None) -> Path:
    """A zip archive as torch writes them; the record whose name is `packed` is deflated."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"a/data.pkl": pickled, "a/byteorder": b"little", **(more or {})}.items():
            way = zipfile.ZIP_DEFLATED if name == packed else zipfile.ZIP_STORED
            archive.writestr(name, content, way)
    return path


@pytest.mark.parametrize("packed", ["a/data.pkl", "a/byteorder", "a/data/0"])
def test_nothing_is_unpacked(tmp_path: Path, packed: str) -> None:
    path = archive_of(tmp_path / "a.pth", b"\x80\x02N.", packed=packed, more={packed: bytes(20 << 20)})
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"is a compressed archive, which torch.save never writes"):
        open_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_list_of_tensors_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.pth", bytes(unpickling.MOST_PICKLE_BYTES + 1))
    with pytest.raises(CheckpointError, match="the list of its tensors alone has 67108865 bytes"):
        open_weights(path)


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def tensor_call(shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A state dict in which one tensor of a storage of 16 numbers has these sides."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 16) if value == "storage!" else None

    stream = io.BytesIO()
    rebuild = torch._utils._rebuild_tensor_v2
    Pickler(stream, 2).dump({"denoise_fn.x": Call(rebuild, "storage!", 0, shape, strides, False, {})})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("shape", "strides", "message"),
    [
        ((1 << 20, 1 << 20), (0, 0), r"a tensor of 1099511627776 numbers of which storage 0 has 16, repeated"),
        ((1,) * 65, (1,) * 65, r"a tensor's record is not one"),
        ((10**5000,), (0,), r"a tensor's record is not one"),
        ((4,), (1, 1), r"a tensor's record is not one"),
        ((2, 9), (9, 1), r"reaches outside storage 0"),
        ((-1,), (1,), r"reaches outside storage 0"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_in_their_storage(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], message: str
) -> None:
    path = archive_of(tmp_path / "a.pth", tensor_call(shape, strides), more={"a/data/0": bytes(64)})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_network_of_views_of_the_same_numbers_is_refused(tmp_path: Path) -> None:
    state = torch.load(save_idm(tmp_path), weights_only=True)
    one = torch.zeros(max(tensor.numel() for tensor in state.values()))
    views = {name: one[: tensor.numel()].reshape(tensor.shape) for name, tensor in state.items()}
    views |= {f"more.{number}": one for number in range(40)}
    torch.save(views, tmp_path / "views.pth")
    with pytest.raises(CheckpointError, match=r"views.pth has \d+ bytes, and its tensors would have \d+"):
        load_checkpoint(tmp_path / "views.pth")


@pytest.mark.parametrize("keys", [[["a"]], [("a",)], [3], [b"a"]])
def test_keys_of_the_older_format_that_are_no_names(tmp_path: Path, keys: list[Any]) -> None:
    parts = (0x1950A86A20F9469CFC6C, 1001, {}, {}, keys)
    (tmp_path / "a.pth").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + bytes(8))
    with pytest.raises(CheckpointError, match="a storage belongs to no tensor"):
        open_weights(tmp_path / "a.pth")


def test_numbers_of_thousands_of_digits_in_names(tmp_path: Path) -> None:
    state = torch.load(save_idm(tmp_path), weights_only=True)
    state[f"denoise_fn.downs.{'9' * 5000}.x"] = torch.zeros(1)
    save_file(state, tmp_path / "digits.safetensors")
    with pytest.raises(CheckpointError, match=r"but also holds denoise_fn\.downs\.999"):
        load_checkpoint(tmp_path / "digits.safetensors")


SCHEDULE = {"kind": "linear", "timesteps": 10, "start": 0.1, "end": 0.2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"schedule": SCHEDULE | {"kind": ["linear"]}}, r"kind is \['linear'\], expected one of"),
        (lambda: {"schedule": SCHEDULE | {"timesteps": 10**9}}, r"must be from 1 to 100000, found 1000000000"),
        (lambda: {"schedule": SCHEDULE | {"end": 10**400}}, r"beta end must be a number .*, found 1000"),
        (lambda: {"schedule": {"betas": [[0.1]]}}, r"betas are \[\[0.1\]\], expected up to"),
        (lambda: {"schedule": {"betas": [10**400]}}, r"one has hundreds of digits"),
        (lambda: {"config": {"s_max": 10**400}}, r"s_max is 1000+\.\.\., expected a value like"),
        (lambda: {"config": {"inner_channel": [[]] * 10_000}}, r"inner_channel is \[\[\], .*\.\.\., exp"),
        (lambda: {"family": ["idm"]}, r"says the family is \['idm'\]"),
        (lambda: "[" * 100_000, r"nested too deeply"),
        (lambda: '{"config": {"s_max": ' + "9" * 5000 + "}}", r"is not JSON \(Exceeds the limit"),
    ],
)  # fmt: skip
def test_metadata_that_says_absurd_things(tmp_path: Path, change: Callable[[], Any], message: str) -> None:
    changed = change()
    text = changed if isinstance(changed, str) else json.dumps({"family": "idm"} | changed)
    weights = {
        name: torch.from_numpy(np.array(tensor.read())) for name, tensor in open_weights(IDM_CHECKPOINT).root.items()
    }
    save_file(weights, tmp_path / "a.safetensors", {METADATA_KEY: text})
    with pytest.raises(ConfigError, match=message):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_configuration_nested_without_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("[" * (100_000 if suffix == "json" else 2000))
    with pytest.raises(ConfigError, match=f"The configuration {path} is nested too deeply"):
        read_config(path)


def test_a_configuration_that_a_few_lines_make_endless(tmp_path: Path) -> None:
    """YAML's aliases stand for what they name: 30 lines for 9^29 values. Its dates may be none."""
    path = tmp_path / "a.yaml"
    aliases = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    for text in ("\n".join(["a0: &a0 [1]", *aliases]), "a: &a [*a]", "{a: " * 60 + "1" + "}" * 60):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"a.yaml is nested more than 50 times or has more than 100000 values"):
            read_config(path)
    for text in ("a: 2001-99-99", "a: !!timestamp x", "a: !!int x", "a: !!int _", "a: !!python/name:os.system"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"a.yaml is not YAML: .*\.$"):
            read_config(path)
    path.write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(ConfigError, match=r"a.yaml has more than 4 MiB, which none needs"):
        read_config(path)


def test_names_in_messages_are_short_and_move_no_cursor() -> None:
    name = "x\x1b[2J\r" + "y" * 1_000_000
    with pytest.raises(CheckpointError) as refused:
        TensorUnpickler(io.BytesIO(), "model.pth").find_class("os", name)
    message = str(refused.value)
    assert len(message) < 3000 and message.isprintable() and r"os.x\x1b[2J\ryyy" in message
    assert message.endswith("do not open this file with other tools.")
    assert str(DeployError("a\nb\udc80")) == "a\nb\\udc80" and readable("für 12 µm") == "für 12 µm"
