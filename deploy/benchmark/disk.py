"""What a bundle and the engines that were built from it take on disk."""

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.bundle import Bundle
from engines.cache import Cache

WHOLE, MANIFEST = "bundle", "bundle.json"


def disk_bytes(bundle: Bundle, cache: Cache | None = None) -> dict[str, int]:
    """What -> bytes: the whole bundle, what each kind of run reads of it, and built engines in the cache.

    Runs share files, so the kinds do not add up to the whole.
    """
    manifest = bundle.manifest
    files = {name: record.bytes for name, record in manifest.files.items()}
    found = {WHOLE: sum(files.values()) + (bundle.path / MANIFEST).stat().st_size}
    kinds: dict[str, Any] = {"float graphs and weights": manifest.graphs}
    if manifest.quantization is not None:
        kinds |= {f"int8 denoiser, {name}": target for name, target in manifest.quantization["targets"].items()}
    for kind, described in kinds.items():
        found[kind] = sum(files[name] for name in set(_strings(described)) & files.keys())
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


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
