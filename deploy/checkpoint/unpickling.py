"""Reading a pickle without running it: descriptions of tensors come out, and inert things for all the rest.

A pickle names classes and functions and has them called. Here nothing that it names is ever imported: each name
becomes one of the few reconstructions written below, or a subclass of `Inert`, whose calls do nothing. So the
optimiser, callbacks and configuration objects of a training checkpoint cost nothing and need no package. Names
from Python's own library that are not plain data (os.system, builtins.eval, ..) have no business in a
checkpoint: the file is refused and the name is told.

What Python itself would do with what a hostile pickle builds has limits too: only short keys that do not nest are
hashed, nothing is turned into text but names, and opcodes and copies are counted.
"""

import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import IO, Any, NamedTuple

from deploy.errors import CheckpointError

# Parts of the standard library that training checkpoints mention for plain data; they become inert as well.
# fmt: off
PLAIN_DATA = frozenset((
    "_codecs", "argparse", "array", "collections", "copy_reg", "copyreg", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "numbers", "pathlib", "random", "typing", "uuid",
))
PLAIN_BUILTINS = frozenset((
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range",
    "set", "slice", "str", "tuple",
    "getattr",  # how Python 3.11 writes the members of an enum; between inert things it finds nothing
))
# fmt: on
PLAIN_NAMES = frozenset({"functools.partial", "types.SimpleNamespace", "types.MappingProxyType"})
BUILTINS = ("builtins", "__builtin__")
PYTHON_2_LIBRARY = frozenset({"__builtin__", "commands", "popen2"})

MOST_OPCODES = 4_000_000
"""Of one pickle: a checkpoint with the optimiser's state of a thousand tensors has some 200 000."""
MOST_PICKLE_BYTES = 64 << 20
"""Of a pickle, which names a checkpoint's tensors and has none of their numbers."""
MOST_AXES = 32
LONGEST_KEY = 1000
LARGEST_NUMBER = 1 << 60
"""Of shapes, strides, counts and whole numbers as keys; what is larger is no number of anything in a file."""

STORAGE_DTYPES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}


class StorageType(NamedTuple):
    """What a pickle calls torch.FloatStorage and so on."""

    dtype: str


class Storage(NamedTuple):
    """A run of numbers that lies outside the pickle, under `key`."""

    key: str
    dtype: str
    numbers: int


class PickledTensor(NamedTuple):
    """A view of a storage; offset and strides in numbers, as torch counts them."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """Stands for an object of a class that is not needed; whatever the pickle does to it has no effect."""

    def __new__(cls, *_args: Any, **_options: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        """Ignores what the pickled class would have been given."""

    def __call__(self, *_args: Any, **_options: Any) -> "Inert":
        return Inert()

    def __setstate__(self, _state: Any) -> None:
        """Ignores the pickled attributes."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Ignores the items of a dictionary's subclass."""

    def append(self, _item: Any) -> None:
        """Ignores an item of a list's subclass."""

    def extend(self, _items: Any) -> None:
        """Ignores the items of a list's subclass."""

    def add(self, _item: Any) -> None:
        """Ignores an item of a set's subclass."""


class _Limited:
    """A file of which no single read may ask for more than a pickle has: Python reserves memory for all of it first."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`."""
        if count > MOST_PICKLE_BYTES:
            raise pickle.UnpicklingError(f"a piece of {count} bytes, which no checkpoint needs")
        return self.file.read(count)

    def readline(self) -> bytes:
        """The next line."""
        line = self.file.readline(MOST_PICKLE_BYTES)
        if len(line) == MOST_PICKLE_BYTES:
            raise pickle.UnpicklingError("a line without an end")
        return line


class TensorUnpickler(pickle._Unpickler):
    """Loads one pickle of the file that `subject` names, with `PickledTensor` for every tensor in it.

    The unpickler written in Python: the one in C reserves memory for any index that a damaged file names, up
    to gigabytes. A checkpoint's pickle is short enough for either.
    """

    def __init__(self, file: IO[bytes], subject: str) -> None:
        super().__init__(_Limited(file), encoding="latin1")  # Python 2 checkpoints hold byte strings
        self.subject = subject
        self.storages: dict[str, Storage] = {}
        self.steps = _Counted(CHECKED)
        self.dispatch = self.steps  # type: ignore[misc]  # which the class has in common for all files
        self.stack: list[Any] = []
        self.metastack: list[list[Any]] = []

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in RECONSTRUCTIONS:
            return RECONSTRUCTIONS[full]
        if full in STORAGE_DTYPES:
            return StorageType(STORAGE_DTYPES[full])
        if _runs_code(module, name):
            raise CheckpointError(
                f"{self.subject} was refused: its pickle would call {full}, which no checkpoint needs and which can "
                "run any code. Nothing was run; do not open this file with other tools."
            )
        return Inert

    def persistent_load(self, pid: Any) -> Storage:
        # The sixth entry, in the older format only, is a view into a storage; torch has long written None there.
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6:
            raise pickle.UnpicklingError("a storage's record is not one")
        kind, storage_type, key, _location, count, *view = pid
        odd = (
            kind != "storage" or not _is_number(count) or count < 0 or not isinstance(key, str | int) or not is_key(key)
        )
        if odd or any(entry is not None for entry in view):
            raise pickle.UnpicklingError("a storage's record is not one")
        # Tensors of rarer types lie in untyped storages, counted in bytes; they are not rebuilt.
        dtype = storage_type.dtype if isinstance(storage_type, StorageType) else "uint8"
        storage = Storage(key=str(key), dtype=dtype, numbers=count)
        self.storages[storage.key] = storage
        return storage


def _runs_code(module: str, name: str) -> bool:
    """Whether a name of Python's own library is anything but plain data; other packages' names are inert anyway."""
    package = module.partition(".")[0]
    if module in BUILTINS:
        return name not in PLAIN_BUILTINS
    if f"{module}.{name}" in PLAIN_NAMES or package in PLAIN_DATA:
        return False
    return package in sys.stdlib_module_names or package in PYTHON_2_LIBRARY


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> PickledTensor:
    """What torch._utils._rebuild_tensor and _rebuild_tensor_v2 are given; bounds are checked on reading."""
    listed = isinstance(shape, tuple | list) and isinstance(strides, tuple | list)
    if not isinstance(storage, Storage) or not listed or len(shape) > MOST_AXES or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor's record is not one")
    if not all(map(_is_number, (offset, *shape, *strides))):
        raise pickle.UnpicklingError("a tensor's record is not one")
    return PickledTensor(storage, offset, tuple(shape), tuple(strides))


def _size(sides: Any = ()) -> tuple[int, ...]:
    """torch.Size, a tuple of numbers."""
    if not isinstance(sides, tuple | list) or len(sides) > MOST_AXES:
        raise pickle.UnpicklingError("a size is not one")
    return tuple(sides)


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


def _without_subclass(rebuild: Any, _type: Any, arguments: Any, _state: Any = None) -> Any:
    """The plain tensor below a tensor of a subclass."""
    if not isinstance(arguments, tuple) or len(arguments) > MOST_AXES:
        raise pickle.UnpicklingError("a tensor's record is not one")
    return rebuild(*arguments) if isinstance(rebuild, _Reconstruction) else Inert()


class _StateDict(OrderedDict[Any, Any]):
    """An ordered dictionary without the attributes that torch adds (`_metadata`)."""

    def __init__(self, items: Any = ()) -> None:
        """`items`: pairs, as Python 2 wrote them."""
        super().__init__()
        if not isinstance(items, list | tuple):
            raise pickle.UnpicklingError("an ordered dictionary is made of something else than a list")
        for item in items:
            if not isinstance(item, list | tuple) or len(item) != 2:
                raise pickle.UnpicklingError("an ordered dictionary is made of something else than pairs")
            _check_keys(item[:1])
            self[item[0]] = item[1]

    def __setstate__(self, _state: Any) -> None:
        """Ignores the attributes."""


class _Reconstruction:
    """A function that a pickle may call. The pickle cannot change it, which it could with a plain function."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, _state: Any) -> None:
        raise pickle.UnpicklingError("a function's attributes would be changed")


RECONSTRUCTIONS: dict[str, Any] = {
    "collections.OrderedDict": _StateDict,
    "torch._utils._rebuild_tensor": _Reconstruction(_tensor),
    "torch._utils._rebuild_tensor_v2": _Reconstruction(_tensor),
    "torch._utils._rebuild_parameter": _Reconstruction(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Reconstruction(_parameter),
    "torch._tensor._rebuild_from_type_v2": _Reconstruction(_without_subclass),
    "torch.Size": _Reconstruction(_size),
}


def is_key(value: object) -> bool:
    """Whether a value may be hashed: short, and not nested deeper than a tuple of such.

    Hashing nested tuples has neither a limit of depth nor of time in Python: 127 bytes take for ever, 200 kB end the
    process.
    """
    if isinstance(value, PickledTensor):
        return True
    if isinstance(value, tuple):
        return len(value) <= MOST_AXES and all(not isinstance(part, tuple) and is_key(part) for part in value)
    if isinstance(value, str | bytes):
        return len(value) <= LONGEST_KEY
    if isinstance(value, int):
        return abs(value) <= LARGEST_NUMBER
    return value is None or isinstance(value, float | Inert) or value is Inert


def _check_keys(keys: Iterable[object]) -> None:
    if not all(map(is_key, keys)):
        raise pickle.UnpicklingError("a key that is long or nested, which no checkpoint needs")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_NUMBER <= value <= LARGEST_NUMBER


class _Counted(dict[int, Callable[[Any], None]]):
    """What each opcode does, asked for once for each opcode of the pickle; `spend` counts copies as opcodes."""

    used = 0

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self.spend(1)
        return super().__getitem__(opcode)

    def spend(self, count: int) -> None:
        """Another `count` of opcodes, or of entries that are copied."""
        self.used += count
        if self.used > MOST_OPCODES:
            raise pickle.UnpicklingError(f"more than {MOST_OPCODES} steps, which no checkpoint needs")


def _before(opcode: bytes, check: Callable[[TensorUnpickler], None]) -> Callable[[Any], None]:
    """What the opcode does, after a look at the stack."""
    perform: Callable[[Any], None] = pickle._Unpickler.dispatch[opcode[0]]

    def checked(unpickler: TensorUnpickler) -> None:
        check(unpickler)
        perform(unpickler)

    return checked


def _check_item(unpickler: TensorUnpickler) -> None:
    """Before stack[-3][stack[-2]] = stack[-1]."""
    if isinstance(unpickler.stack[-3], dict):
        _check_keys(unpickler.stack[-2:-1])


def _check_items(unpickler: TensorUnpickler) -> None:
    """Before the stack since the last mark, keys and values, goes into what lies below the mark."""
    if isinstance(unpickler.metastack[-1][-1], dict):
        _check_keys(unpickler.stack[::2])


def _check_pairs(unpickler: TensorUnpickler) -> None:
    """Before the stack since the last mark becomes a dictionary."""
    _check_keys(unpickler.stack[::2])


def _check_members(unpickler: TensorUnpickler) -> None:
    """Before the stack since the last mark becomes members of a set."""
    _check_keys(unpickler.stack)


def _append_bytes(unpickler: Any) -> None:
    """Bytes that may be changed, reserved once they are there."""
    (count,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(count)))


def _check_call(unpickler: TensorUnpickler) -> None:
    """Before stack[-2](*stack[-1])."""
    _check_arguments(unpickler, *unpickler.stack[-2:])


def _check_call_with_options(unpickler: TensorUnpickler) -> None:
    """Before stack[-3](*stack[-2], **stack[-1])."""
    called, arguments, options = unpickler.stack[-3:]
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise pickle.UnpicklingError("options of a call are no dictionary of names")
    unpickler.steps.spend(len(options))
    _check_arguments(unpickler, called, arguments)


def _check_arguments(unpickler: TensorUnpickler, called: object, arguments: object) -> None:
    """What is called is one of ours, with a tuple: of anything else Python's own refusal shows the text, without end.

    A call copies its arguments, and may copy what they hold: both are counted.
    """
    if not isinstance(called, type | Inert | _Reconstruction) or not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("a call of something else than a class or a function")
    parts = [part for part in arguments if isinstance(part, tuple | list | dict)]
    unpickler.steps.spend(len(arguments) + sum(map(len, parts)))


CHECKED = dict(pickle._Unpickler.dispatch) | {
    opcode[0]: _before(opcode, check)
    for opcode, check in (
        (pickle.SETITEM, _check_item),
        (pickle.SETITEMS, _check_items),
        (pickle.DICT, _check_pairs),
        (pickle.ADDITEMS, _check_members),
        (pickle.FROZENSET, _check_members),
        (pickle.REDUCE, _check_call),
        (pickle.NEWOBJ, _check_call),
        (pickle.NEWOBJ_EX, _check_call_with_options),
    )
}
CHECKED[pickle.BYTEARRAY8[0]] = _append_bytes


def load_pickle(file: IO[bytes], subject: str) -> tuple[Any, dict[str, Storage]]:
    """The object in the pickle at the file's position, and every storage it mentions by key.

    `subject` names the file in errors.
    """
    try:
        unpickler = TensorUnpickler(file, subject)
        return unpickler.load(), unpickler.storages
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle fails in any way that Python knows
        raise CheckpointError(
            f"{subject} is truncated or damaged (its pickle: {str(error)[:200] or type(error).__name__}); "
            "copy or download the checkpoint again."
        ) from error
