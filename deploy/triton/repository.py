"""A model repository on disk: written beside its place, hashed, and renamed as a whole, so that a kill leaves none.

REPOSITORY/
  README.md  requirements.txt  SHA256SUMS
  NAME/
    config.pbtxt
    1/  model.py  bundle/  runtime/  SHA256SUMS
  NAME_denoise/ ..                              one for each network, where they were asked for
"""

import errno
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import calibration
import deploy
import engines
from deploy.bundle import Bundle
from deploy.bundle.locking import DirectoryLock, remove_if_dead, sync_directory
from deploy.bundle.naming import MANIFEST_NAME, TEMPORARY_PREFIX
from deploy.bundle.reading import sha256_of_file
from deploy.engine.chosen import AUTO
from deploy.engine.graph_files import graph_file
from deploy.engine.graphs import DENOISE, FLOAT_GRAPHS, INT8
from deploy.errors import FolderError
from deploy.triton.config import config_of_graph, config_of_sampler
from deploy.triton.readme import readme, requirements
from deploy.triton.settings import RepositorySettings, TritonError
from engines.backends import BACKENDS, backend_named
from engines.contract import Backend, TritonBackend
from engines.onnx_files.graph_file import read_signature
from engines.paths import is_folder_there

SUMS = "SHA256SUMS"
PACKAGES = (deploy, calibration, engines)


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What was written: names of its models, its files and their SHA-256."""

    path: Path
    models: tuple[str, ...]
    sums: Mapping[str, str]
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"repository": str(self.path), "models": [*self.models], "files": len(self.sums), "bytes": self.bytes}


def write_repository(bundle: Bundle, path: Path, settings: RepositorySettings) -> Repository:
    """The repository at `path`, which is not there yet or is an empty folder. FolderError or TritonError otherwise."""
    refuse_filled(path)
    graphs = _graphs(bundle, settings) if settings.graphs else []
    with _new_repository(path.absolute()) as folder:
        _write_sampler(bundle, folder / settings.name, settings)
        for graph in graphs:
            _write_graph(graph, folder / graph.name, settings)
        (folder / "README.md").write_text(readme(bundle, settings, [graph.name for graph in graphs]), "utf-8")
        (folder / "requirements.txt").write_text(requirements(settings), "utf-8")
        _write_sums(folder)
        sums = _sums_in(folder)
        size = sum((folder / name).stat().st_size for name in sums)
    models = (settings.name, *(graph.name for graph in graphs))
    return Repository(path=path, models=models, sums=sums, bytes=size)


def refuse_filled(path: Path) -> None:
    """Nothing stands in the way of a repository at `path`; to be asked before the work."""
    if not path.exists():
        return
    if not path.is_dir():
        raise FolderError(f"writing the repository {path}: there is a file of that name. Name another folder with -o.")
    if names := sorted(entry.name for entry in path.iterdir()):
        more = ".." if len(names) > 3 else ""
        raise FolderError(
            f"writing the repository {path}: the folder is not empty; it holds {', '.join(names[:3])}{more}. Name a "
            "new one with -o, and copy the folders of its models to where Triton looks."
        )


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """A network that a backend of Triton runs by itself. files: the model, and what lies beside it."""

    name: str
    backend: str
    files: tuple[Path, ...]
    graph: Path


def _graphs(bundle: Bundle, settings: RepositorySettings) -> list[_Graph]:
    """Those of the bundle, in the form that the engine's own counterpart in Triton runs."""
    record, triton = _record_for_graphs(settings)
    wanted = settings.run.precision if settings.run.precision != AUTO else record.precisions[0]
    if wanted == INT8 or DENOISE not in bundle.manifest.graphs:
        raise TritonError(
            "The networks by themselves are exported in float, as int8 takes numbers that change from step to step: "
            "leave the graphs out, or ask for another precision of a bundle that has it."
        )
    graphs = []
    for name in bundle.manifest.graphs:
        graph = graph_file(bundle, name, record.norm)
        files = triton.files(graph, "fp32" if name in FLOAT_GRAPHS else wanted)
        graphs.append(_Graph(name=f"{settings.name}_{name}", backend=triton.name, files=files, graph=graph))
    return graphs


def _record_for_graphs(settings: RepositorySettings) -> tuple[Backend, TritonBackend]:
    """The engine that is asked for, or the first that Triton has a backend of."""
    able = [
        record for record in BACKENDS.values() if record.triton is not None and record.on_gpu == bool(settings.gpus)
    ]
    record = able[0] if settings.run.engine == AUTO else backend_named(settings.run.engine)
    if record.triton is None:
        names = " or ".join(each.name for each in able)
        raise TritonError(
            f"Triton has no backend of its own for graphs of {record.name}: name the engine {names}, or leave the "
            "graphs out; the whole sampler runs on any engine."
        )
    return record, record.triton


def _write_sampler(bundle: Bundle, folder: Path, settings: RepositorySettings) -> None:
    version = folder / str(settings.version)
    place = version / "bundle"
    place.mkdir(parents=True)
    for name in (MANIFEST_NAME, *bundle.manifest.files):
        shutil.copyfile(bundle.path / name, place / name)
    for package in PACKAGES:
        source = Path(str(package.__file__)).parent
        for module in sorted(source.rglob("*.py")):
            target = version / "runtime" / source.name / module.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module, target)
    shutil.copyfile(Path(__file__).with_name("model.py"), version / "model.py")
    _write_sums(version)
    (folder / "config.pbtxt").write_text(config_of_sampler(settings), "utf-8")


def _write_graph(graph: _Graph, folder: Path, settings: RepositorySettings) -> None:
    version = folder / str(settings.version)
    version.mkdir(parents=True)
    signature = read_signature(graph.graph)
    for file in graph.files:
        shutil.copyfile(file, version / file.name)
    _write_sums(version)
    text = config_of_graph(
        folder.name, graph.backend, graph.files[0].name, signature.inputs, signature.outputs, settings
    )
    (folder / "config.pbtxt").write_text(text, "utf-8")


def _write_sums(folder: Path) -> None:
    """SHA256SUMS of all below the folder, as `sha256sum --check` reads it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of_file(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def _sums_in(folder: Path) -> dict[str, str]:
    lines = (folder / SUMS).read_text("utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


@contextmanager
def _new_repository(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name when the block is left, and vanishes after any failure.

    Hundreds of small files are not forced onto the disk one by one: what a power failure takes is seen by its hash.
    """
    beside = f".{target.name}{TEMPORARY_PREFIX}"
    folder = target.parent / f"{beside}{secrets.token_hex(6)}"
    lock = None
    try:
        if not is_folder_there(target.parent):
            raise FolderError(
                f"writing the repository {target}: the folder {target.parent} does not exist. Make it first."
            )
        for leftover in target.parent.glob(f"{beside}*"):
            remove_if_dead(leftover)
        folder.mkdir()
        lock = DirectoryLock(folder)
        yield folder
        folder.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        cure = (
            "Make room, or name another place with -o"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else ("Check the path and its permissions, or name another place with -o")
        )
        raise FolderError(f"writing the repository {target}: {error.strerror}. {cure}; nothing was written.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # after the rename it no longer has this name
        if lock is not None:
            lock.release()
