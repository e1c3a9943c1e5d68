"""Pickles are read without being run: payloads are refused by name, foreign objects become inert."""

import argparse
import datetime
import enum
import functools
import io
import os
import pickle
import sys
import tracemalloc
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.checkpoint.unpickling import Inert, load_pickle
from deploy.errors import CheckpointError


def loaded(data: bytes) -> Any:
    return load_pickle(io.BytesIO(data), "model.pth")[0]


class Payload:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_payload_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    data = pickle.dumps({"state_dict": Payload(os.system, f"touch {mark}")}, protocol)
    with pytest.raises(CheckpointError, match=rf"model.pth was refused: .* would call {os.name}.system"):
        loaded(data)
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists(), "the payload itself must work, or the test shows nothing"


@pytest.mark.parametrize(
    "text",
    [
        "builtins.eval",
        "builtins.exec",
        "builtins.__import__",
        "builtins.open",
        "__builtin__.eval",
        "subprocess.Popen",
        "subprocess.check_output",
        "nt.system",
        "runpy.run_path",
        "importlib.import_module",
        "pickle.loads",
        "shutil.rmtree",
        "socket.socket",
        "ctypes.CDLL",
        "operator.attrgetter",
        "types.FunctionType",
        "functools.reduce",
        "commands.getoutput",
        "os.path.join",
        "code.interact",
        "webbrowser.open",
    ],
)
def test_names_that_run_code_are_refused(text: str) -> None:
    module, _, name = text.rpartition(".")
    data = b"c" + module.encode() + b"\n" + name.encode() + b"\n."
    with pytest.raises(CheckpointError, match=f"would call {text}, which no checkpoint needs"):
        loaded(data)


@pytest.fixture
def foreign() -> Iterator[types.ModuleType]:
    """A package that exists when the checkpoint is written and not when it is read."""
    module = types.ModuleType("foreign_trainer")
    source = """
import enum
class Plain:
    def __init__(self, **state): self.__dict__.update(state)
class Slots:
    __slots__ = ("a",)
class List(list): pass
class Dict(dict): pass
class Set(set): pass
class Mode(enum.Enum):
    FAST = 1
class Arguments:
    def __getnewargs_ex__(self): return (1,), {"b": 2}
    def __new__(cls, a=None, b=None): return super().__new__(cls)
def hook(x): return x
"""
    exec(source, module.__dict__)
    for value in vars(module).values():
        if isinstance(value, type):
            value.__module__ = module.__name__
    module.hook.__module__ = module.__name__
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


@pytest.mark.parametrize("protocol", [2, 4])
def test_foreign_objects_become_inert(foreign: types.ModuleType, protocol: int) -> None:
    slots = foreign.Slots()
    slots.a = 3
    objects = {
        "plain": foreign.Plain(a=1, nested=foreign.Plain()),
        "slots": slots,
        "list": foreign.List([1, 2, 3]),
        "one": foreign.List([1]),
        "dict": foreign.Dict(a=1, b=2),
        "set": foreign.Set({1, 2}),
        "mode": foreign.Mode.FAST,
        "arguments": foreign.Arguments(),
        "hook": foreign.hook,
        foreign.Plain: "a class as a key, as Lightning has for its callbacks",
    }
    data = pickle.dumps({"epoch": 3, "objects": objects, "after": "kept"}, protocol)
    sys.modules.pop(foreign.__name__)
    found = loaded(data)
    assert (found["epoch"], found["after"]) == (3, "kept")
    assert found["objects"].keys() == {*(key for key in objects if isinstance(key, str)), Inert}
    for name in ("plain", "slots", "list", "dict", "set", "mode"):
        assert type(found["objects"][name]) is Inert
    assert foreign.__name__ not in sys.modules


class Colour(enum.Enum):
    RED = 1


def test_plain_data_of_the_standard_library_does_no_harm() -> None:
    objects = [
        Path("a/b"),
        datetime.datetime(2024, 1, 1),
        argparse.Namespace(lr=1e-4),
        types.SimpleNamespace(a=1),
        functools.partial(Colour, 1),
        defaultdict(list, a=[1]),
        {1, 2},
        complex(1, 2),
        slice(1, 2),
        np.float64(0.5),
        np.arange(3),
        Colour.RED,
        b"bytes",
        bytearray(b"bytes"),
    ]
    for protocol in (2, 4):
        found = loaded(pickle.dumps([*objects, "end"], protocol))
        assert len(found) == len(objects) + 1
        assert found[-1] == "end"


def test_ordered_dictionaries_keep_their_order_and_lose_their_attributes() -> None:
    state = OrderedDict(b=1, a=2)
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    # An attribute that hid a method would break whoever reads the dictionary.
    state.values = None  # type: ignore[assignment,method-assign]
    found = loaded(pickle.dumps(state))
    assert list(found.items()) == [("b", 1), ("a", 2)]
    assert list(found.values()) == [1, 2]
    assert not hasattr(found, "_metadata")


def test_calls_of_what_calls_return_are_inert_too() -> None:
    # (foreign.f(1))(2): a call of the first call's result.
    assert type(loaded(b"cforeign\nf\n(I1\ntR(I2\ntR.")) is Inert


TENSOR_CALL = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "EOFError"),
        (b"\x80\x04\x95", "8 bytes"),
        (pickle.dumps({"a": [1] * 100})[:-20], "index out of range"),
        (TENSOR_CALL + b"(I1\nI2\n(t(ttR.", "a tensor's record is not one"),
        (TENSOR_CALL + b"(I1\ntR.", "missing"),
        (TENSOR_CALL + b"}b.", "a function's attributes would be changed"),
        (b"(S'storage'\nS'float'\nS'0'\nS'cpu'\nI-4\ntQ.", "a storage's record is not one"),
        (b"(S'module'\nS'float'\nS'0'\nS'cpu'\nI4\ntQ.", "a storage's record is not one"),
        (b"I1\nQ.", "a storage's record is not one"),
    ],
)
def test_damaged_pickles(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"model.pth is truncated or damaged \(its pickle: .*({message})"):
        loaded(data)


def test_a_damaged_index_reserves_no_memory() -> None:
    # Puts an object under the memo's number 2**32 - 1, for which C's unpickler would make room.
    tracemalloc.start()
    assert loaded(b"\x80\x02]r\xff\xff\xff\xff.") == []
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_storages_are_listed_with_what_is_known_of_their_type() -> None:
    known = b"(S'storage'\nctorch\nHalfStorage\nS'7'\nS'cpu'\nI4\ntQ"
    other = b"(S'storage'\nctorch\nUntypedStorage\nS'8'\nS'cpu'\nI4\ntQ"
    _, storages = load_pickle(io.BytesIO(b"(" + known + other + b"l."), "model.pth")
    assert {key: (storage.dtype, storage.numbers) for key, storage in storages.items()} == {
        "7": ("float16", 4),
        "8": ("uint8", 4),
    }
