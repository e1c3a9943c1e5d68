"""Sheets of several draws of one picture, side by side."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.errors import DeployError
from deploy.folders.naming import Job
from deploy.folders.outcome import Outcome
from deploy.folders.request import Request
from deploy.images.background import on_background
from deploy.images.files import Pixels, write_image
from deploy.images.reading import read_picture
from deploy.images.view import srgb_in_8_bits
from deploy.measure.sheet import contact_sheet
from deploy.picture.existing import note_of_existing
from engines.errors import EngineError

SIDE = 384
"""Pixels of a draw on the sheet."""
IN_A_ROW = 4
MIDDLE_GREY = 128, 128, 128
"""What draws with transparency are shown on."""
_NOTE = b'{"sheet": 1}'


class Sheets:
    """Draws a sheet when the last draw of a picture is there, of those that were made or were there."""

    def __init__(self, request: Request, jobs: Sequence[Job]) -> None:
        self._draws = request.samples
        self._force = request.force
        self._quality = request.saving.quality
        self._sheets = {job.target: job.sheet for job in jobs if job.sheet is not None}
        self._counts: Counter[Path] = Counter()
        self._outputs: dict[Path, list[Path]] = {}
        self._new: set[Path] = set()

    def note(self, outcome: Outcome, say: Callable[[str], None]) -> None:
        """A draw is known; after the last one the sheet is there. What stands in its way is told."""
        target = self._sheets.get(outcome.output)
        if target is None:
            return
        self._counts[target] += 1
        if outcome.state == "made":
            self._new.add(target)
        if outcome.state != "failed":
            self._outputs.setdefault(target, []).append(outcome.output)
        if self._counts[target] < self._draws:
            return
        outputs = sorted(self._outputs.pop(target, []), key=lambda path: (len(path.name), path.name))
        if not outputs or (target not in self._new and target.exists()):
            return
        try:
            note_of_existing(target, force=self._force)
            pictures = [(path.name, _as_seen(path)) for path in outputs]
            rows = [pictures[first : first + IN_A_ROW] for first in range(0, len(pictures), IN_A_ROW)]
            write_image(contact_sheet(rows, side=SIDE), target, quality=self._quality, note=_NOTE)
            say(f"{target}: the {len(outputs)} draws side by side")
        except (DeployError, EngineError) as error:
            say(f"the sheet of draws was not made: {error}")


def _as_seen(path: Path) -> Pixels:
    """The picture in a file, opaque, in 8 bits of sRGB."""
    return srgb_in_8_bits(on_background(read_picture(path), MIDDLE_GREY))
