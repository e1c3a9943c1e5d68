"""What `build-engine` chose for a bundle on this machine, looked up without measuring or importing anything heavy."""

from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

import msgspec

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice, name_of_way
from engines.backends import backend_named, probe_all
from engines.cache import Cache, Entry, fingerprint
from engines.machine.cuda import Device, find_device
from engines.machine.host import find_cpu

AUTO = "auto"

CHOICE_LABEL = "choice for"
"""How labels of decisions in the engine cache begin."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one backend and precision did: median milliseconds per step, and decibels of its step against float32.

    sqnr_db is None for the reference itself; failure says why there are no figures. psnr_drop and fidelity_db are what
    `quantize` measured on held-out pictures when it made the int8 graphs: dB lost against the originals, and dB between
    the pictures in int8 and in float. worst_db is the latter of the worst picture in plain sampling. around and
    normalisation: as of an EngineChoice. reorders: how many arrays each step copies into another order in memory; None
    where the engine does not tell.
    """

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

    @property
    def name(self) -> str:
        """Backend and precision, as people are shown them, with what is not usual."""
        return name_of_way(self.backend, self.precision, self.around, self.normalisation)

    @property
    def pace(self) -> float:
        """Milliseconds per step; infinite where none was timed."""
        return inf if self.step_ms is None else self.step_ms


class Trial(msgspec.Struct, frozen=True):
    """The `deploy.engine.trials.TrialSettings` of a decision."""

    size: tuple[int, int]
    batch: int
    threads: int | None
    rounds: int


class DecisionFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the engine cache holds of a decision; an entry with other figures is damaged, or of another version."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    why: str
    trial: Trial | None = None


@dataclass(frozen=True)
class KnownDecision:
    """A decision of `build-engine`, and the entry of the engine cache that holds it."""

    figures: DecisionFigures
    entry: Entry


def chosen_engine(
    bundle: Bundle, cache_dir: Path | None = None, threads: int | None = None, device: int | None = None
) -> EngineChoice | None:
    """What `build-engine` chose for this bundle on this machine with these engines; None if it was not asked yet.

    Nothing is opened or measured. device: what it chose for that GPU.
    """
    decision = newest_decision(bundle, cache_dir, device)
    if decision is None:
        return None
    return choice_of(decision.figures.chosen, threads, Cache(cache_dir).root, device)


def choice_of(candidate: Candidate, threads: int | None, cache_dir: Path, device: int | None) -> EngineChoice:
    """The candidate, to be run on so many threads."""
    return EngineChoice(
        backend=candidate.backend,
        precision=candidate.precision,
        threads=threads,
        cache_dir=cache_dir,
        device=device,
        around=candidate.around,
        normalisation=candidate.normalisation,
    )


def newest_decision(bundle: Bundle, cache_dir: Path | None = None, device: int | None = None) -> KnownDecision | None:
    """The decision of `build-engine` that counts here; None if it was not asked yet.

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
                return KnownDecision(msgspec.convert(entry.figures, DecisionFigures), entry)
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
