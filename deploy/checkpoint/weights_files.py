"""Where each tensor of a checkpoint file lies, without loading any of them and without torch.

Three formats: torch's zip archive, torch's older row of pickles, and safetensors. Each gives a `Contents`; the
numbers stay in the file and are mapped into memory when a tensor is read.
"""

import json
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import IO, Any

from deploy.bundle.discovery import holds_manifest
from deploy.checkpoint.stored_tensors import FLOATS, NUMPY_DTYPES, StoredTensor, WeightsFile, contiguous_strides
from deploy.checkpoint.unpickling import MOST_PICKLE_BYTES, PickledTensor, load_pickle
from deploy.errors import CheckpointError
from deploy.families.table import titles
from deploy.foreign.networks import refuse_foreign_network
from deploy.foreign.places import kind_of_file, kind_of_folder, refusal_of_address
from engines.paths import status_there

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
TEXT_PICKLE = re.compile(rb"[(\]}]*c[\w.]+\n[\w.]+\n")
"""How a pickle of Python 2's text protocol starts when it begins with a class or function."""
ZIP_LOCAL_HEADER = 30
# Besides its own error, zipfile lets these through when names, sizes, flags or methods are damaged.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, RuntimeError, OverflowError)
MOST_HEADER_BYTES = 100_000_000
"""Of a safetensors header, by its specification."""
MOST_TIMES_THE_FILE = 4
"""Networks whose parts share weights have tensors of up to twice the numbers that are stored."""
FREE_BYTES = 1 << 20
MOST_REPEATED = 4096
"""Numbers that a tensor may have beyond those of its storage, as an expanded buffer of a few does."""
SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds: nested dictionaries, other objects, and tensors that `locate` finds.

    files: of a folder, those that were read. remarks: what a person should know of the choice among them.
    """

    path: Path
    format: str
    size: int
    root: Any
    metadata: Mapping[str, str] = field(default_factory=dict)
    locate: Callable[[Any], StoredTensor] = lambda stored: stored
    files: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()

    def tensors(self, mapping: Mapping[Any, Any]) -> dict[str, StoredTensor]:
        """The tensors among the values of one of the dictionaries in `root`; together not many times the file."""
        tensors = {name: self.locate(value) for name, value in mapping.items() if is_tensor(name, value)}
        stated = sum(prod(tensor.shape) * NUMPY_DTYPES[tensor.dtype].itemsize for tensor in tensors.values())
        if stated > MOST_TIMES_THE_FILE * self.size + FREE_BYTES:
            raise CheckpointError(
                f"{self.path} has {self.size} bytes, and its tensors would have {stated}: many are views of the same "
                "numbers. Save the state_dict with tensors of its own (clone them)."
            )
        return tensors


def is_tensor(name: object, value: object) -> bool:
    """Whether an entry of a dictionary in a file is a named tensor."""
    return isinstance(name, str) and isinstance(value, PickledTensor | StoredTensor)


def open_weights(path: str | Path) -> Contents:
    """The contents of a .pt, .pth, .ckpt or .safetensors file; the format is told by the file, not by its name."""
    path = Path(path)
    try:
        size = _readable_size(path)
        with path.open("rb") as file:
            first = file.read(512)
            file.seek(0)
            # First, because the length that starts such a file can look like the start of a pickle.
            if first[8:9] == b"{" and int.from_bytes(first[:8], "little") < MOST_HEADER_BYTES:
                return _safetensors_contents(path, size, file)
            if first.startswith(b"PK\x03\x04"):
                return _zip_contents(path, size, file)
            if first.startswith(b"\x80") or TEXT_PICKLE.match(first):
                return _pickle_contents(path, size, file)
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: permission denied. Change its permissions or owner.") from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions."
        ) from error
    raise CheckpointError(
        f"{path} is not a checkpoint but {kind_of_file(path, first)}; expected a file that torch.save or safetensors "
        "wrote. Check where it came from."
    )


def _readable_size(path: Path) -> int:
    status = status_there(path)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise CheckpointError(_refusal_of_folder(path))
    if status is None:
        if (address := refusal_of_address(path)) is not None:
            raise CheckpointError(address)
        raise CheckpointError(f"{path} does not exist{_nearest_file(path)}.")
    if status.st_size == 0:
        raise CheckpointError(f"{path} is empty; copy or download the checkpoint again.")
    return status.st_size


def _refusal_of_folder(folder: Path) -> str:
    kind = kind_of_folder(folder)
    if kind is not None:
        return f"{folder} is {kind}. idm-deploy takes a checkpoint file, or the folder of a whole pipeline."
    if holds_manifest(folder):
        return (
            f"{folder} is a bundle, and a checkpoint is expected here; name the file that the bundle was exported from."
        )
    return f"{folder} is a directory; name the checkpoint file (.pt, .pth, .ckpt or .safetensors) in it."


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f", nor does the folder {path.parent}"
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return ""
    # Without the endings, which are alike in most names and hence prove nothing.
    near = get_close_matches(path.stem, [Path(name).stem for name in names], n=1)
    return f"; the nearest name there is {next(n for n in names if Path(n).stem == near[0])}" if near else ""


def _damaged(path: Path, found: object) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged ({found}); copy or download the checkpoint again.")


# --- torch's formats: a pickle that mentions storages by key, and the storages ---------------------------------


@dataclass(frozen=True)
class StoragePlaces:
    """Where each storage lies in the file: its first byte and its length."""

    file: WeightsFile
    places: Mapping[str, tuple[int, int]]

    def locate(self, tensor: PickledTensor) -> StoredTensor:
        """The tensor's place, after checking that every number of it lies within its storage and the file."""
        storage, width = tensor.storage, NUMPY_DTYPES[tensor.storage.dtype].itemsize
        if storage.key not in self.places:
            raise _damaged(self.file.path, f"storage {storage.key} is missing")
        start, length = self.places[storage.key]
        if start + length > self.file.size:
            raise _damaged(self.file.path, f"storage {storage.key} ends after the file's last byte")
        sides = list(zip(tensor.shape, tensor.strides, strict=False))
        last = tensor.offset + sum((size - 1) * stride for size, stride in sides)
        odd = len(tensor.shape) != len(tensor.strides) or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0
        if odd or (0 not in tensor.shape and (last + 1) * width > length):
            raise _damaged(self.file.path, f"a tensor reaches outside storage {storage.key}")
        if prod(tensor.shape) > max(length // width, MOST_REPEATED):
            raise CheckpointError(
                f"{self.file.path} holds a tensor of {prod(tensor.shape)} numbers of which storage {storage.key} has "
                f"{length // width}, repeated; no network is saved so. Save it with tensors of its own (clone them)."
            )
        return StoredTensor(
            file=self.file,
            dtype=storage.dtype,
            shape=tensor.shape,
            strides=tensor.strides,
            position=start + tensor.offset * width,
        )


def _zip_contents(path: Path, size: int, file: IO[bytes]) -> Contents:
    try:
        with zipfile.ZipFile(file) as archive:
            records = {info.filename: info for info in archive.infolist()}
            prefix = _zip_prefix(path, records)
            order = f"{prefix}byteorder"
            _refuse_packed(path, records.values(), records[f"{prefix}data.pkl"])
            if order in records and archive.open(order).read(16).strip() == b"big":
                raise CheckpointError(f"{path} was saved on a big-endian machine; load and save it on a common one.")
            with archive.open(f"{prefix}data.pkl") as pickled:
                root, storages = load_pickle(pickled, str(path))
        infos = {key: records[name] for key in storages if (name := f"{prefix}data/{key}") in records}
        places = {key: (_first_byte(file, info), info.file_size) for key, info in infos.items()}
    except ZIP_DAMAGE as error:
        raise _damaged(path, error) from error
    return Contents(path, "torch zip", size, root, locate=StoragePlaces(WeightsFile(path, size), places).locate)


def _zip_prefix(path: Path, records: Collection[str]) -> str:
    """The folder within the archive, which torch names after the file."""
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    program = any(name.endswith("constants.pkl") for name in records)
    if not pickles or program:
        what = "a TorchScript program" if program else "a zip archive of something else"
        raise CheckpointError(
            f"{path} is not a checkpoint but {what}; expected a file that torch.save or safetensors wrote. "
            "Save the network's state_dict()."
        )
    return pickles[0].removesuffix("data.pkl")


def _refuse_packed(path: Path, records: Iterable[zipfile.ZipInfo], pickled: zipfile.ZipInfo) -> None:
    """A CheckpointError before anything is unpacked: a megabyte may become a thousand."""
    if any(info.compress_type != zipfile.ZIP_STORED for info in records):
        raise CheckpointError(f"{path} is a compressed archive, which torch.save never writes; load and save it again.")
    if pickled.file_size > MOST_PICKLE_BYTES:
        raise CheckpointError(
            f"{path}: the list of its tensors alone has {pickled.file_size} bytes, more than any checkpoint needs "
            f"({MOST_PICKLE_BYTES}). Save the network's state_dict()."
        )


def _first_byte(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Position of a record's own bytes; the header before them has two parts of variable length."""
    file.seek(info.header_offset)
    name_length, extra_length = struct.unpack("<HH", file.read(ZIP_LOCAL_HEADER)[26:30])
    return info.header_offset + ZIP_LOCAL_HEADER + int(name_length) + int(extra_length)


def _pickle_contents(path: Path, size: int, file: IO[bytes]) -> Contents:
    """Torch's format before 1.6: magic number, version, system, object, keys; then per key a count and numbers."""
    for expected in (LEGACY_MAGIC, LEGACY_VERSION):
        if load_pickle(file, str(path))[0] != expected:
            raise CheckpointError(
                f"{path} is a pickle but not a checkpoint; expected a file that torch.save or safetensors wrote. "
                "Save the network's state_dict()."
            )
    load_pickle(file, str(path))  # sizes of C types on the machine that wrote the file
    root, storages = load_pickle(file, str(path))
    keys, _ = load_pickle(file, str(path))
    places: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else []:
        count = int.from_bytes(file.read(8), "little")
        if not isinstance(key, str) or key not in storages:
            raise _damaged(path, "a storage belongs to no tensor")
        length = count * NUMPY_DTYPES[storages[key].dtype].itemsize
        places[key] = (file.tell(), length)
        file.seek(min(length, size), os.SEEK_CUR)  # a damaged count may be beyond any file
    return Contents(path, "torch pickle", size, root, locate=StoragePlaces(WeightsFile(path, size), places).locate)


# --- safetensors -------------------------------------------------------------------------------------------


def _safetensors_contents(path: Path, size: int, file: IO[bytes]) -> Contents:
    from safetensors import SafetensorError, safe_open

    try:
        # The library checks the header: no overlaps, nothing outside the file, shapes that fit.
        with safe_open(path, "np") as checked:
            metadata = checked.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    root: dict[str, StoredTensor] = {}
    weights = WeightsFile(path, size)
    for name, entry in header.items():
        if entry["dtype"] not in SAFETENSORS_DTYPES:
            refuse_foreign_network(path, header, titles())
            raise CheckpointError(
                f"{path}: tensor {name} is stored as {entry['dtype']}, expected one of {', '.join(FLOATS)}. "
                "Convert it to one of these."
            )
        root[name] = StoredTensor(
            file=weights,
            dtype=SAFETENSORS_DTYPES[entry["dtype"]],
            shape=tuple(entry["shape"]),
            strides=contiguous_strides(entry["shape"]),
            position=8 + length + entry["data_offsets"][0],
        )
    return Contents(path, "safetensors", size, root, metadata)
