"""What a result follows from, but for its input: compared with the record and with the note in an existing file."""

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.folders.record import Entry, Stamp, hash_of_file
from deploy.folders.request import Request
from deploy.images.sizes import Size
from deploy.picture.existing import Making, forms_that_will_do
from deploy.picture.files import Result
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling

if TYPE_CHECKING:
    from deploy.folders.reading import Ready


class Settings:
    """Those of one run. `forms`: the numeric forms in which a result that is there will do."""

    def __init__(self, upscaler: Upscaler, request: Request, sampling: Sampling) -> None:
        self._request = request
        self._sampling = sampling
        self._making = Making.of_run(upscaler, sampling, seed=request.seed, tile=request.tile)
        self.forms = forms_that_will_do(upscaler.bundle.manifest, request.precision, self._making.form, request.around)
        self._hashes: dict[int, frozenset[bytes]] = {}

    def making(self, result: Result, draw: int) -> Making:
        """What the result is made from, as it is noted in its file."""
        digest = result.source.digest()
        making = self._making.of_source(digest, result.size, self._request.saving, result.format.name)
        beside = " beside bicubic" if self._request.compare else ""
        return replace(making, seed=self._seed(draw), size=f"{making.size}{beside}")

    def note(self, making: Making) -> bytes:
        """What is written into the file: all, or what tells nothing to others."""
        return making.sealed() if self._request.saving.strip_metadata else making.note()

    def provenance(self, making: Making) -> dict[str, str]:
        """What is written into the file for people and other tools."""
        return making.provenance(self._sampling)

    def differs(self, note: bytes, draw: int) -> bool:
        """Whether a result with this note was made otherwise, by all but its input and size."""
        return bool(replace(self._making, seed=self._seed(draw)).differences(note, self.forms))

    def shown_size(self, size: Size) -> Size:
        """The size of the file that shows a picture of that size."""
        return Size(size.height, 2 * size.width) if self._request.compare else size

    def hash(self, draw: int) -> bytes:
        """128 bits of everything but the input."""
        return self._hash_with(self._making.form, draw)

    def hashes_that_will_do(self, draw: int) -> frozenset[bytes]:
        """The same for every numeric form that will do."""
        if draw not in self._hashes:
            self._hashes[draw] = frozenset(self._hash_with(form, draw) for form in (*self.forms, self._making.form))
        return self._hashes[draw]

    def entry(self, ready: "Ready", written: Path) -> Entry:
        """What the record says of a result that was written, wherever it lies now."""
        assert ready.input_hash is not None
        stamp = Stamp.of(written)
        return Entry(
            input=os.fsencode(ready.job.image.absolute()),
            input_stamp=ready.input_stamp,
            input_hash=ready.input_hash,
            settings=self.hash(ready.job.draw),
            output_bytes=stamp.bytes,
            output_modified=stamp.modified,
            output_hash=hash_of_file(written),
        )

    def _hash_with(self, form: str, draw: int) -> bytes:
        made = asdict(replace(self._making, form=form, seed=self._seed(draw)))
        text = json.dumps([made, self._request.shown_settings(draw)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def _seed(self, draw: int) -> str:
        parts = [str(self._request.seed)]
        if draw:
            parts.append(f"draw {draw}")
        if self._request.one_noise:
            parts.append("one noise for all")
        return ", ".join(parts)
