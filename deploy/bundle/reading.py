"""Opening a bundle: nothing is used before bundle.json makes sense and the files are the ones it lists."""

import hashlib
import json
import logging
import stat
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deploy.bundle.discovery import refusal_of_bundle
from deploy.bundle.limits import LARGEST_MANIFEST_BYTES
from deploy.bundle.locking import DirectoryLock
from deploy.bundle.manifest import Manifest, refuse_newer_schema
from deploy.bundle.naming import MANIFEST_NAME
from deploy.bundle.records import FileRecord
from deploy.errors import BundleError
from deploy.hub import local_path

_LOG = logging.getLogger(__name__)

_NOT_AN_ARRAY = (ValueError, SyntaxError, tokenize.TokenError)  # what NumPy raises at a malformed header
_CURE = "Copy the bundle here again, or export the checkpoint again with --force."


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk and what it says about itself; made by `Bundle.open`."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, verify: Literal["full", "sizes"] = "full") -> "Bundle":
        """The bundle at `path`, once every listed file is there and has its recorded SHA-256.

        `path` may be hf://OWNER/NAME[@REVISION], which is fetched the first time.
        `verify="sizes"` compares sizes only, for a caller that has just written or verified it.
        """
        if verify not in ("full", "sizes"):
            raise ValueError(f"verify is {verify!r}, expected 'full' or 'sizes'")
        folder = local_path(path)
        manifest = read_manifest(folder)
        damage = list(_damage(folder, manifest, hashes=verify == "full"))
        if damage:
            more = f"; and {len(damage) - 5} more" if len(damage) > 5 else ""
            raise BundleError(f"{folder} is damaged: {'; '.join(damage[:5])}{more}. {_CURE}")
        size = sum(record.bytes for record in manifest.files.values())
        checked = "hashes" if verify == "full" else "sizes"
        _LOG.info("opened %s: %s, %d bytes, %s as recorded", folder, manifest.family, size, checked)
        return cls(folder, manifest)

    def file(self, name: str) -> Path:
        """The path of a file that bundle.json lists."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} lists no file {name!r}; `idm-deploy inspect` shows what it holds.")
        return self.path / name

    def graph(self, name: str, form: str) -> Path:
        """The path of one form of one graph."""
        graphs = self.manifest.graphs
        if name not in graphs:
            raise BundleError(f"{self.path} has no graph {name!r}; it has {_listed(graphs)}.")
        forms = graphs[name].forms
        if form not in forms:
            raise BundleError(f"{self.path} has no form {form!r} of graph {name}; it has {_listed(forms)}.")
        return self.file(forms[form])

    def table(self, name: str) -> npt.NDArray[Any]:
        """The array stored under `name`, read into memory; nothing in the file is ever executed."""
        tables = self.manifest.tables
        if name not in tables:
            raise BundleError(f"{self.path} has no table {name!r}; it has {_listed(tables)}.")
        with self.file(tables[name]).open("rb") as stream:
            try:
                return np.lib.format.read_array(stream, allow_pickle=False)
            except _NOT_AN_ARRAY as error:
                raise BundleError(f"{self.path}: table {name} is not a .npy array of numbers ({error}).") from error

    def sample_images(self) -> list[Path]:
        """The paths of the sample images, in their recorded order."""
        return [self.file(name) for name in self.manifest.samples]

    def unlisted(self) -> list[str]:
        """Names of files here that bundle.json does not list, sorted. Folders are not the bundle's business."""
        listed = {MANIFEST_NAME, *self.manifest.files}
        return sorted(
            entry.name
            for entry in self.path.iterdir()
            if entry.name not in listed and (entry.is_symlink() or not entry.is_dir())
        )

    def clean(self) -> list[str]:
        """The names of the files that were removed: all that bundle.json does not list, temporary ones too."""
        try:
            lock = DirectoryLock(self.path)
        except BlockingIOError as error:
            raise BundleError(
                f"cannot clean {self.path}: another process is writing to it; try again later."
            ) from error
        try:
            # What another process may have committed since this bundle was opened is listed now.
            names = Bundle(self.path, read_manifest(self.path)).unlisted()
            for name in names:
                (self.path / name).unlink(missing_ok=True)
            return names
        except OSError as error:
            raise BundleError(f"cannot clean {self.path}: {error.strerror} ({error.filename}).") from error
        finally:
            lock.release()


def read_manifest(folder: Path) -> Manifest:
    """What bundle.json in `folder` says, itself checked; the files are not looked at."""
    path = folder / MANIFEST_NAME
    try:
        data = _parsed(path)
        refuse_newer_schema(data)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(refusal_of_bundle(folder)) from error
    except BundleError as error:
        raise BundleError(f"cannot open {folder}: {error}") from error
    except RecursionError as error:
        raise BundleError(f"cannot open {folder}: {MANIFEST_NAME} is nested too deeply. {_CURE}") from error
    try:
        manifest = Manifest.from_json(data)
        manifest.require_files()
    except BundleError as error:
        raise BundleError(f"cannot open {folder}: {error} {_CURE}") from error
    return manifest


def _parsed(path: Path) -> object:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{MANIFEST_NAME} is not a plain file, and links are not followed.")
        if status.st_size > LARGEST_MANIFEST_BYTES:
            raise BundleError(f"{MANIFEST_NAME} has {status.st_size} bytes, more than any bundle needs.")
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise BundleError(f"{MANIFEST_NAME} cannot be read ({error.strerror}). Check its permissions.") from error
    except ValueError as error:
        raise BundleError(f"{MANIFEST_NAME} is not JSON ({error}). {_CURE}") from error


def _damage(folder: Path, manifest: Manifest, *, hashes: bool) -> Iterator[str]:
    """What is wrong with the files, a sentence for each that is not what bundle.json says."""
    for name, record in sorted(manifest.files.items()):
        try:
            problem = _file_problem(folder / name, record, hashes=hashes)
        except FileNotFoundError:
            problem = "is missing"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if problem:
            yield f"{name} {problem}"


def _file_problem(path: Path, record: FileRecord, *, hashes: bool) -> str | None:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "is not a plain file, and links are not followed"
    if status.st_size != record.bytes:
        return f"has {status.st_size} bytes instead of {record.bytes}"
    if hashes and (actual_hash := sha256_of_file(path)) != record.sha256:
        return f"has SHA-256 {actual_hash[:16]}... instead of {record.sha256[:16]}..."
    return None


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal; read in pieces, whatever its size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
