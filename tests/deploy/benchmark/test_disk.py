"""What lies on disk, from what the bundle lists and the cache holds."""

from pathlib import Path

from deploy.benchmark.disk import disk_bytes
from deploy.bundle import Bundle
from engines.cache import Cache, Figures


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
    assert found["float graphs and weights"] == on_disk  # it has nothing else
    assert found["sample pictures"] == 0
    assert {key: size for key, size in found.items() if key.startswith("engine")} == {f"engine, {name} denoise": 123}


def test_int8_graphs_are_told_by_target(idm_micro: Bundle) -> None:
    name, record = next(iter(idm_micro.manifest.files.items()))
    targets = {"ort": {"graphs": [name], "rows": {"deep": {"file": name}}, "edges": [0.0, 1.0]}}
    object.__setattr__(idm_micro.manifest, "quantization", {"targets": targets})
    try:
        assert disk_bytes(idm_micro)["int8 denoiser, ort"] == record.bytes
    finally:
        object.__setattr__(idm_micro.manifest, "quantization", None)
