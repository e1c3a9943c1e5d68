"""Reading a pickle without running it: descriptions of tensors come out, and inert things for all the rest.

A pickle names classes and functions and has them called. Here nothing that it names is ever imported: each name
becomes one of the few reconstructions written below, or a subclass of `Inert`, whose calls do nothing. So the
optimiser, callbacks and configuration objects of a training checkpoint cost nothing and need no package. Names
from Python's own library that are not plain data (os.system, builtins.eval, ..) have no business in a
checkpoint: the file is refused and the name is told.
"""

import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
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


class TensorUnpickler(pickle._Unpickler):
    """Loads one pickle of the file that `subject` names, with `PickledTensor` for every tensor in it.

    The unpickler written in Python: the one in C reserves memory for any index that a damaged file names, up
    to gigabytes. A checkpoint's pickle is short enough for either.
    """

    def __init__(self, file: IO[bytes], subject: str) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 checkpoints hold byte strings
        self.subject = subject
        self.storages: dict[str, Storage] = {}

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
        kind, storage_type, key, _location, count, *view = pid
        if kind != "storage" or not isinstance(count, int) or count < 0 or any(view):
            raise pickle.UnpicklingError(f"storage record {pid!r:.80}")
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
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(isinstance(number, int) for number in numbers):
        raise pickle.UnpicklingError("a tensor's record is not one")
    return PickledTensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


def _without_subclass(rebuild: Any, _type: Any, arguments: Any, _state: Any = None) -> Any:
    """The plain tensor below a tensor of a subclass."""
    return rebuild(*arguments) if isinstance(rebuild, _Reconstruction) else Inert()


class _StateDict(OrderedDict[Any, Any]):
    """An ordered dictionary without the attributes that torch adds (`_metadata`)."""

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
    "torch.Size": _Reconstruction(tuple),
}


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
            f"{subject} is truncated or damaged (its pickle: {str(error) or type(error).__name__}); "
            "copy or download the checkpoint again."
        ) from error
