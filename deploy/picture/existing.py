"""Whether a picture exists already: what it was made from is written into its file and compared with what is asked.

The same input (its pixels), model (graphs, configuration, schedule), sampling plan, size, seed and tile make the same
picture to float rounding, whichever engine runs them and however the settings were said: all of them are compared. The
numeric form changes it by more than that. It is compared where the user names one: a folder of pictures is not made
again because `build-engine` has found int8 to be faster meanwhile. So it is with tiles: where none were asked for, a
picture will do that was made whole or in the tiles that are fastest. Those that memory asked for are not recorded.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

from msgspec import to_builtins
from msgspec.structs import replace as changed

import deploy
from deploy.bundle import Manifest
from deploy.bundle.records import json_from_records
from deploy.engine.chosen import AUTO
from deploy.engine.graphs import INT8, EngineChoice
from deploy.errors import ImageError
from deploy.images.notes import note_of
from deploy.images.sizes import Size
from deploy.images.writing import Saving
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling

RECIPE = "2"
"""To be changed when this tool makes other pictures of the same settings: those it made before count no more."""

LONGEST_SHOWN = 40
"""Characters of what a note says that are repeated in a message: anyone may have written it."""

_SEAL = "seal"
"""What stands in a file from which metadata were stripped."""

NO_TILES = "none"
FASTER_TILES = "for speed"
"""What a note says of tiles that nobody asked for: their side follows from the rest of the note."""

DIFFERENCES = {
    "input": "from another picture",
    "model": "with another bundle",
    "plan": "with other sampling settings",
    "size": "at {before} instead of {now}",
    "seed": "with seed {before} instead of {now}",
    "tile": "with tiles {before} instead of {now}",
    "saving": "with other settings of the file",
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
    saving: str = ""
    recipe: str = RECIPE

    @classmethod
    def of_run(cls, upscaler: Upscaler, sampling: Sampling, *, seed: int, tile: int | None) -> Self:
        """The making of any picture of a run, whose input and size are not known yet. `tile`: what was asked for.

        Where nothing was, that of a picture made whole; `in_faster_tiles` is that of one too large for it.
        """
        manifest = upscaler.bundle.manifest
        plan = {"consistency": sampling.consistency, "from_guess": sampling.from_guess, **sampling.plan.as_dict()}
        if not sampling.stages.is_once:
            plan["stages"] = sampling.stages.magnifications
        if sampling.blend != 1:
            plan["blend"] = sampling.blend
        if sampling.draws > 1:
            plan["draws"] = sampling.draws
        return cls(
            model=_digest(
                json_from_records([manifest.graphs, manifest.configuration, manifest.schedule, manifest.value_range])
            ),
            plan=_digest(plan),
            seed=str(seed),
            tile=str(tile) if tile else NO_TILES,
            form=form_of(manifest, upscaler.choice),
        )

    def in_faster_tiles(self) -> Self:
        """The same in the tiles that are fastest."""
        return replace(self, tile=FASTER_TILES)

    def of_source(self, digest: str, size: Size, saving: Saving, format: str) -> Self:
        """Of the picture of the run that enlarges a source to `size` and writes it in a format.

        digest: of the source, see deploy.picture.files.
        """
        said = _digest([format, saving.quality, saving.strip_metadata, saving.color_fix])
        return replace(self, input=digest, size=str(size), saving=said)

    def sealed(self) -> bytes:
        """As it is written into a file that is to say nothing: another making has another seal, and that is all."""
        return json.dumps({_SEAL: _digest(asdict(self))}).encode("ascii")

    def provenance(self, sampling: Sampling) -> dict[str, str]:
        """How a picture was made, for people and other tools: what stands in its XMP."""
        return {
            "tool": f"idm-deploy {deploy.__version__}",
            "model": self.model,
            "precision": self.form,
            "seed": self.seed,
            "plan": sampling.describe(),
        }

    def note(self) -> bytes:
        """The note that is written into a file."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")

    def differences(self, note: bytes, forms: frozenset[str], tiles: frozenset[str] = frozenset()) -> list[str]:
        """How a picture with this note was made otherwise, in words.

        `forms` and `tiles` are the numeric forms and the tiles that will do; no tiles: these. What is not known here is
        not compared.
        """
        made = _parsed(note)
        tiles = tiles or frozenset([self.tile])
        if _SEAL in made:
            is_same = not self.input or self._has_seal(made[_SEAL], forms, tiles)
            return [] if is_same else ["from other things or settings"]
        will_do = {"form": forms, "tile": tiles}
        found = []
        for name, template in DIFFERENCES.items():
            before, now = str(made.get(name, "unknown")), str(getattr(self, name))
            if now and before not in will_do.get(name, (now,)):
                shown = before if before.isprintable() and len(before) <= LONGEST_SHOWN else "something unreadable"
                found.append(template.format(before=shown, now=now))
        return found

    def _has_seal(self, seal: object, forms: frozenset[str], tiles: frozenset[str]) -> bool:
        ways = product(forms, tiles)
        return any(seal == _digest(asdict(replace(self, form=form, tile=tile))) for form, tile in ways)


def form_of(manifest: Manifest, choice: EngineChoice) -> str:
    """The numeric form of a bundle on an engine: its precision, and for int8 the calibration as well.

    What surrounds int8 layers is added where it is not what the engine was made for.
    """
    around = choice.precision_of_engines
    form = _form_of(manifest, choice.precision)
    return form if choice.precision != INT8 or around == choice.record.around_int8 else f"{form}-{around}"


def _form_of(manifest: Manifest, precision: str) -> str:
    if precision != INT8 or manifest.quantization is None:
        return precision
    targets = manifest.quantization.targets.items()
    # What was measured afterwards changes no picture.
    calibrated = {name: to_builtins(changed(target, held_out=None)) for name, target in targets}
    return f"{INT8}-{_digest(calibrated)[:12]}"


def forms_that_will_do(manifest: Manifest, asked: str, form: str, around: str = AUTO) -> frozenset[str]:
    """Every form that the bundle has now, unless one was asked for by name, or what surrounds int8 was."""
    if around != AUTO or asked not in (AUTO, INT8):
        return frozenset([form])
    floats = ("fp32", "bf16", "fp16")
    int8 = _form_of(manifest, INT8)
    forms = [int8, *(f"{int8}-{around}" for around in floats)]
    return frozenset(forms if asked == INT8 else [*floats, *forms])


def tiles_that_will_do(tile: int | None) -> frozenset[str]:
    """What a note may say of its tiles where these were asked for; None: whole, or what is fastest."""
    if tile is None:
        return frozenset([NO_TILES, FASTER_TILES])
    return frozenset([str(tile) if tile else NO_TILES])


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
