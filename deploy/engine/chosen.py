"""What `build-engine` chose for a bundle on this machine, looked up without measuring or importing anything heavy."""

from contextlib import suppress
from pathlib import Path

import msgspec

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice
from engines.backends import backend_named, probe_all
from engines.cache import Cache, Entry, fingerprint
from engines.machine.cuda import Device, find_device
from engines.machine.host import find_cpu

AUTO = "auto"

CHOICE_LABEL = "choice for"
"""How labels of decisions in the engine cache begin."""


class MeasuredCandidate(msgspec.Struct, forbid_unknown_fields=True):
    """A `deploy.engine.trials.Candidate` in the engine cache."""

    backend: str
    precision: str
    step_ms: float | None = None
    sqnr_db: float | None = None
    failure: str | None = None
    psnr_drop: float | None = None
    fidelity_db: float | None = None
    worst_db: float | None = None
    around: str | None = None
    normalisation: str | None = None
    reorders: int | None = None


class Trial(msgspec.Struct):
    """The `deploy.engine.trials.TrialSettings` of a decision."""

    size: tuple[int, int]
    batch: int
    threads: int | None
    rounds: int


class DecisionFigures(msgspec.Struct, forbid_unknown_fields=True):
    """What the engine cache holds of a decision; an entry with other figures is damaged, or of another version."""

    candidates: list[MeasuredCandidate]
    chosen: MeasuredCandidate
    why: str
    trial: Trial | None = None


def chosen_engine(
    bundle: Bundle, cache_dir: Path | None = None, threads: int | None = None, device: int | None = None
) -> EngineChoice | None:
    """What `build-engine` chose for this bundle on this machine with these engines; None if it was not asked yet.

    Nothing is opened or measured. device: what it chose for that GPU.
    """
    entry = newest_decision(bundle, cache_dir, device)
    if entry is None:
        return None
    choice = entry.figures["chosen"]
    root = Cache(cache_dir).root
    return EngineChoice(
        backend=choice["backend"],
        precision=choice["precision"],
        threads=threads,
        cache_dir=root,
        device=device,
        around=choice.get("around"),
        normalisation=choice.get("normalisation"),
    )


def newest_decision(bundle: Bundle, cache_dir: Path | None = None, device: int | None = None) -> Entry | None:
    """The decision of `build-engine` that counts here, with its figures; None if it was not asked yet.

    Of several measurements (other sizes, other batches) it is the last. A cache that cannot be read, such as that of a
    service without a home, holds none.
    """
    base = machine_key(bundle, device)
    try:
        entries = Cache(cache_dir).entries()
    except OSError:
        return None
    for entry in entries:
        same = all(entry.key.get(name) == value for name, value in base.items())
        if same and entry.label.startswith(CHOICE_LABEL) and entry.key.get("asked") == f"{AUTO} {AUTO}":
            with suppress(msgspec.ValidationError):
                msgspec.convert(entry.figures, DecisionFigures)
                return entry
    return None


def machine_key(bundle: Bundle, device: int | None = None) -> dict[str, str]:
    """What any decision for this bundle on this machine depends on; device: if it is to run on that GPU."""
    engines = [probe for probe in probe_all() if probe.available]
    found_gpu = find_device(device or 0)
    gpu = ""
    if isinstance(found_gpu, Device):
        gpu = f", {found_gpu.name}, CUDA {found_gpu.driver[0]}.{found_gpu.driver[1]}"
        gpu += "" if device is None else f", GPU {device} alone"
    cpu = find_cpu()
    return {
        "bundle": fingerprint([record.sha256 for record in bundle.manifest.files.values()]),
        "engines": ", ".join(f"{probe.name} {probe.version}{_ways(probe.name)}" for probe in engines),
        "device": f"{cpu.model}, {cpu.usable_cores} cores{gpu}",
    }


def _ways(backend: str) -> str:
    """What an engine of this version is measured with besides: decisions made before it was are not its own."""
    ways = backend_named(backend).normalisations
    return f" ({', '.join(ways)})" if ways else ""
