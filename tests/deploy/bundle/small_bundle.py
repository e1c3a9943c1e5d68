"""A bundle of a few hundred bytes, with one file of every kind that bundle.json can name."""

from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle import SCHEMA, Bundle, BundleWriter, Manifest

TABLE = np.array([[0.5, -1.25], [3.0, 4.0]], dtype=np.float32)


def settings(**changes: Any) -> dict[str, Any]:
    """What bundle.json says, valid, that names no file yet."""
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 3, "height", "width"]}
    graph: dict[str, Any] = {"forms": {}, "inputs": [tensor], "outputs": [tensor], "weights": [], "strides": 8}
    return {
        "schema": SCHEMA,
        "tool": {"name": "idm-deploy", "version": "0.1.0"},
        "family": "idm",
        "weights": "raw",
        "configuration": {"inner_channel": {"value": 64, "source": "weights"}},
        "value_range": [-1.0, 1.0],
        "scale_range": {"trained": [1, 8]},
        "schedule": {"kind": "linear", "timesteps": 2000, "start": 1e-6, "end": 0.01},
        "rewrites": ["drop-unused"],
        "opset": 18,
        "graphs": {"denoise": graph},
        "tables": {},
        "presets": {"balanced": {"equation": "ddim", "steps": 20}},
        "default_preset": "balanced",
        "placements": {},
        "samples": [],
        "files": {},
        "source": {"file": "ckpt.pt", "sha256": "0" * 64, "bytes": 7},
        "libraries": {"onnx": "1.17.0"},
    } | changes


def manifest_of(**changes: Any) -> Manifest:
    """The manifest of `settings` with changes in JSON's types."""
    return Manifest.from_json(settings(**changes))


def add_everything(writer: BundleWriter, content: bytes = b"first") -> Manifest:
    """The manifest of a bundle whose weights, graph, table and sample were just added; `content` is the weights."""
    weights = writer.add_bytes("weights", "bin", content)
    graph = writer.add_bytes("denoise", "onnx", b"graph that names " + weights.encode())
    table = writer.add_array("noise-levels", TABLE)
    sample = writer.add_bytes("sample", "png", b"picture")
    made = settings(tables={"noise_levels": table}, samples=[sample])
    made["graphs"]["denoise"] |= {"forms": {"plain": graph}, "weights": [weights]}
    return Manifest.from_json(made)


def write_bundle(path: Path, content: bytes = b"first", *, force: bool = False) -> Bundle:
    with BundleWriter.create(path, force=force) as writer:
        return writer.commit(add_everything(writer, content))


def tree(folder: Path) -> dict[str, bytes]:
    """{relative path: content} of every file below `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
