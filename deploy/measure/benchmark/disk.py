"""What a bundle and the engines that were built from it take on disk."""

from collections.abc import Iterator

from deploy.bundle import Bundle
from engines.cache import Cache

WHOLE, MANIFEST = "bundle", "bundle.json"


def disk_bytes(bundle: Bundle, cache: Cache | None = None) -> dict[str, int]:
    """What -> bytes: the whole bundle, its float part, what int8 adds per target, and built engines in the cache.

    Targets share their int8 weights, so the parts do not add up to the whole.
    """
    manifest = bundle.manifest
    files = {name: record.bytes for name, record in manifest.files.items()}
    found = {WHOLE: sum(files.values()) + (bundle.path / MANIFEST).stat().st_size}
    in_float = {name for graph in manifest.graphs.values() for name in [*graph["forms"].values(), *graph["weights"]]}
    found["float graphs and weights"] = sum(files[name] for name in in_float)
    for target, described in () if manifest.quantization is None else manifest.quantization.targets.items():
        beyond = set(described.files) - in_float
        found[f"besides, int8 for {target}"] = sum(files[name] for name in beyond)
    found["sample pictures"] = sum(files[name] for name in set(manifest.samples))
    return found | {f"engine, {label}": size for label, size in _built(bundle, cache or Cache())}


def _built(bundle: Bundle, cache: Cache) -> Iterator[tuple[str, int]]:
    """Label and bytes of every built engine whose label names this bundle; decisions, which have no files, are out."""
    name = bundle.path.resolve().name
    try:
        entries = cache.entries()
    except OSError:  # that of a service without a home
        return
    for entry in entries:
        if entry.bytes and entry.label.startswith(f"{name} "):
            yield entry.label, entry.bytes
