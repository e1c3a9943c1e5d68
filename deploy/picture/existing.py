"""Whether a picture exists already: what it was made from is written into its file and compared with what is asked.

The same input (its pixels), model (graphs, configuration, schedule), sampling plan, size, seed and tile make the same
picture to float rounding, whichever engine runs them and however the settings were said: all of them are compared. The
numeric form changes it by more than that. It is compared where the user names one: a folder of pictures is not made
again because `build-engine` has found int8 to be faster meanwhile. Tiles that nobody asked for follow from the memory
that is free, and are not recorded.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from msgspec import to_builtins
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from deploy.bundle import Manifest
from deploy.engine.chosen import AUTO
from deploy.engine.graphs import INT8
from deploy.errors import ImageError
from deploy.images.notes import note_of
from deploy.images.sizes import PixelSize
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling

RECIPE = "1"
"""To be changed when this tool makes other pictures of the same settings: those it made before count no more."""

LONGEST_SHOWN = 40
"""Characters of what a note says that are repeated in a message: anyone may have written it."""

DIFFERENCES = {
    "input": "from another picture",
    "model": "with another bundle",
    "plan": "with other sampling settings",
    "size": "at {before} instead of {now}",
    "seed": "with seed {before} instead of {now}",
    "tile": "with tile {before} instead of {now}",
    "form": "in {before} instead of {now}",
    "recipe": "by another version of this tool",
}
"""How a picture that exists was made, where that is not as it would be made now."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """What a picture is made from, each as a short text, "" for what is not known: hashes of what is long, numbers."""

    model: str
    plan: str
    seed: str
    tile: str
    form: str
    input: str = ""
    size: str = ""
    recipe: str = RECIPE

    @classmethod
    def of_run(cls, upscaler: Upscaler, sampling: Sampling, *, seed: int, tile: int | None) -> Self:
        """Of any picture of a run: input and size are not known yet. `tile` is the one that was asked for."""
        manifest = upscaler.bundle.manifest
        plan = {"consistency": sampling.consistency, "from_guess": sampling.from_guess, **asdict(sampling.plan)}
        return cls(
            model=_digest([manifest.graphs, manifest.configuration, manifest.schedule, manifest.value_range]),
            plan=_digest(plan),
            seed=str(seed),
            tile="none" if tile is None else str(tile),
            form=form_of(manifest, upscaler.choice.precision),
        )

    def of_picture(self, pixels: NDArray[np.uint8], size: PixelSize, *, grey: bool = False) -> Self:
        """Of the picture of the run that enlarges these pixels to (width, height) `size`, in one channel if `grey`."""
        shape = np.array([*pixels.shape[:2], 1 if grey else 3], dtype="<u4").tobytes()
        digest = hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest()
        return replace(self, input=digest[:32], size=f"{size[0]}x{size[1]}")

    def note(self) -> bytes:
        """As it is written into a file."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")

    def differences(self, note: bytes, forms: frozenset[str]) -> list[str]:
        """How a picture with this note was made otherwise, in words; `forms` are the numeric forms that will do.

        What is not known here is not compared.
        """
        made = _parsed(note)
        found = []
        for name, template in DIFFERENCES.items():
            before, now = str(made.get(name, "unknown")), str(getattr(self, name))
            if now and before not in (forms if name == "form" else (now,)):
                shown = before if before.isprintable() and len(before) <= LONGEST_SHOWN else "something unreadable"
                found.append(template.format(before=shown, now=now))
        return found


def form_of(manifest: Manifest, precision: str) -> str:
    """The numeric form of a precision of this bundle: its name, and for int8 the calibration as well."""
    if precision != INT8 or manifest.quantization is None:
        return precision
    targets = manifest.quantization.targets.items()
    # What was measured afterwards changes no picture.
    calibrated = {name: to_builtins(changed(target, held_out=None)) for name, target in targets}
    return f"{INT8}-{_digest(calibrated)[:12]}"


def forms_that_will_do(manifest: Manifest, asked: str, form: str) -> frozenset[str]:
    """Every form that the bundle has now, unless one was asked for by name."""
    if asked != AUTO:
        return frozenset([form])
    return frozenset(form_of(manifest, precision) for precision in ("fp32", "bf16", "fp16", INT8))


def note_of_existing(target: Path, *, force: bool = False) -> bytes | None:
    """The note of the picture that is there; None if nothing is, or nothing that counts.

    What this tool did not make is refused, unless `force` says to write over anything.
    """
    if not os.path.lexists(target):
        return None
    if target.is_dir():
        raise ImageError(f"writing {target}: there is a folder of that name. Choose another name with -o.")
    if force:
        return None
    note = note_of(target) if target.is_file() else None
    if note is None:
        raise ImageError(
            f"writing {target}: a file of that name exists, and idm-deploy did not make it, or it was changed since. "
            "--force writes over it, -o names another place."
        )
    return note


def _parsed(note: bytes) -> Mapping[str, Any]:
    """What a note says; nothing that is known if it is of another version."""
    try:
        made = json.loads(note)
    except (ValueError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
