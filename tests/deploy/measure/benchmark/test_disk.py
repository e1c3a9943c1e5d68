"""What lies on disk, from what the bundle lists and the cache holds."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from msgspec.structs import replace as changed

from deploy.bundle import Bundle
from deploy.bundle.quantization import RangeFiles
from deploy.bundle.records import FileRecord
from deploy.measure.benchmark.bench import disk_bytes
from engines.cache import Cache, Figures
from tests.deploy.quantizations import int8_target, quantization


def build(folder: Path) -> Figures:
    (folder / "plan").write_bytes(b"x" * 123)
    return {}


def test_the_bundle_its_graphs_and_the_engines_built_from_it(idm_micro: Bundle, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    name = idm_micro.path.name
    cache.obtain(f"{name} denoise", {"graph": "a"}, build)
    cache.obtain("other.bundle denoise", {"graph": "b"}, build)
    cache.obtain(f"{name} decision", {"graph": "c"}, lambda _: {})
    found = disk_bytes(idm_micro, cache)
    on_disk = sum(path.stat().st_size for path in idm_micro.path.iterdir() if path.name in idm_micro.manifest.files)
    assert found["bundle"] == on_disk + (idm_micro.path / "bundle.json").stat().st_size
    samples = sum(path.stat().st_size for path in idm_micro.sample_images())
    assert found["sample pictures"] == samples > 0
    assert found["float graphs and weights"] == on_disk - samples  # it has nothing else
    assert {key: size for key, size in found.items() if key.startswith("engine")} == {f"engine, {name} denoise": 123}


def test_int8_is_told_by_target_without_what_it_shares_with_float(idm_micro: Bundle) -> None:
    weights, record = next((n, r) for n, r in idm_micro.manifest.files.items() if n.startswith("weights"))
    files = {**idm_micro.manifest.files, "a.onnx": FileRecord(sha256="0", bytes=70), "b.npy": changed(record, bytes=8)}
    arrays = RangeFiles(**dict.fromkeys(("shape", "sizes", "factors", "slopes", "constants"), "b.npy"))
    target = int8_target(graph="a.onnx", weights=(weights,), rows={"deep": arrays})
    manifest = SimpleNamespace(
        files=files, graphs=idm_micro.manifest.graphs, quantization=quantization(ort=target), samples=("b.npy",)
    )
    found = disk_bytes(cast(Bundle, SimpleNamespace(path=idm_micro.path, manifest=manifest)))
    assert found["besides, int8 for ort"] == 78
    assert found["sample pictures"] == 8
