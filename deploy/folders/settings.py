"""What a result follows from, but for its input: compared with the record and with the note in an existing file."""

import hashlib
import json
import os
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.folders.record import Entry, Stamp, hash_of_file
from deploy.folders.request import Request
from deploy.images.sizes import Size
from deploy.picture.existing import Making, forms_that_will_do, tiles_that_will_do
from deploy.picture.files import Result
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling

if TYPE_CHECKING:
    from deploy.folders.reading import Ready


class Settings:
    """Those of one run. `forms`, `tiles`: the numeric forms and the tiles in which a result that is there will do."""

    def __init__(self, upscaler: Upscaler, request: Request, sampling: Sampling) -> None:
        self._upscaler = upscaler
        self._request = request
        self._sampling = sampling
        self._making = Making.of_run(upscaler, sampling, seed=request.seed, tile=request.tile)
        self.forms = forms_that_will_do(upscaler.bundle.manifest, request.precision, self._making.form, request.around)
        self.tiles = tiles_that_will_do(request.tile)
        self._hashes: dict[int, frozenset[bytes]] = {}

    def making(self, result: Result, draw: int) -> Making:
        """What the result is made from, as it is noted in its file."""
        digest = result.source.digest()
        making = self._making_of(result).of_source(digest, result.size, self._request.saving, result.format.name)
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
        return bool(replace(self._making, seed=self._seed(draw)).differences(note, self.forms, self.tiles))

    def shown_size(self, size: Size) -> Size:
        """The size of the file that shows a picture of that size."""
        return Size(size.height, 2 * size.width) if self._request.compare else size

    def hash(self, draw: int) -> bytes:
        """128 bits of everything but the input, where no size chooses tiles: one of `hashes_that_will_do`."""
        return self._hash(self._making, draw)

    def hashes_that_will_do(self, draw: int) -> frozenset[bytes]:
        """128 bits of everything but the input, for every numeric form and the tiles that will do."""
        if draw not in self._hashes:
            ways = product({*self.forms, self._making.form}, self.tiles)
            makings = (replace(self._making, form=form, tile=tile) for form, tile in ways)
            self._hashes[draw] = frozenset(self._hash(making, draw) for making in makings)
        return self._hashes[draw]

    def entry(self, ready: "Ready", written: Path) -> Entry:
        """What the record says of a result that was written, wherever it lies now."""
        assert ready.input_hash is not None
        stamp = Stamp.of(written)
        return Entry(
            input=os.fsencode(ready.job.image.absolute()),
            input_stamp=ready.input_stamp,
            input_hash=ready.input_hash,
            settings=self._hash(self._making_of(ready.result), ready.job.draw),
            output_bytes=stamp.bytes,
            output_modified=stamp.modified,
            output_hash=hash_of_file(written),
        )

    def _making_of(self, result: Result) -> Making:
        """That of the run, for a result of this size."""
        is_asked = self._request.tile is not None
        if is_asked or not self._upscaler.has_faster_tiles(result.source.size, result.size, self._sampling):
            return self._making
        return self._making.in_faster_tiles()

    def _hash(self, making: Making, draw: int) -> bytes:
        made = asdict(replace(making, seed=self._seed(draw)))
        text = json.dumps([made, self._request.shown_settings(draw)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def _seed(self, draw: int) -> str:
        parts = [str(self._request.seed)]
        if draw:
            parts.append(f"draw {draw}")
        if self._request.one_noise:
            parts.append("one noise for all")
        return ", ".join(parts)
