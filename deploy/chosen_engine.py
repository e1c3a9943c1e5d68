"""What `build-engine` chose for a bundle on this machine, looked up without measuring or importing anything heavy."""

from pathlib import Path

from deploy.bundle import Bundle
from deploy.doctor import find_cpu
from deploy.runtime.graphs import FORM_OF_BACKEND, EngineChoice
from engines.backends import probe_all
from engines.cache import Cache, fingerprint
from engines.cuda import Device, find_device

AUTO = "auto"

CHOICE_LABEL = "choice for"
"""How labels of decisions in the engine cache begin."""


def chosen_engine(bundle: Bundle, cache_dir: Path | None = None, threads: int | None = None) -> EngineChoice | None:
    """What `build-engine` chose for this bundle on this machine with these engines; None if it was not asked yet.

    Of several measurements (other sizes, other batches) the last counts. Nothing is opened or measured. A cache that
    cannot be read, such as that of a service without a home, holds no choice.
    """
    base = machine_key(bundle)
    cache = Cache(cache_dir)
    try:
        entries = cache.entries()
    except OSError:
        return None
    for entry in entries:
        same = all(entry.key.get(name) == value for name, value in base.items())
        if same and entry.label.startswith(CHOICE_LABEL) and entry.key.get("asked") == f"{AUTO} {AUTO}":
            chosen = entry.figures["chosen"]
            return EngineChoice(
                backend=chosen["backend"], precision=chosen["precision"], threads=threads, cache_dir=cache.root
            )
    return None


def machine_key(bundle: Bundle) -> dict[str, str]:
    """What any decision for this bundle on this machine depends on."""
    found = [probe for probe in probe_all() if probe.name in FORM_OF_BACKEND and probe.available]
    device = find_device()
    gpu = f", {device.name}, CUDA {device.driver[0]}.{device.driver[1]}" if isinstance(device, Device) else ""
    cpu = find_cpu()
    return {
        "bundle": fingerprint([record.sha256 for record in bundle.manifest.files.values()]),
        "engines": ", ".join(f"{probe.name} {probe.version}" for probe in found),
        "device": f"{cpu.model}, {cpu.usable_cores} cores{gpu}",
    }
