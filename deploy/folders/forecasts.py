"""What is told of the time that a run takes, before it and while it goes on, and how far it is."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import DeployError
from deploy.folders.request import Request
from deploy.images.sizes import Size
from deploy.picture.kept_paces import keep_pace, kept_pace
from deploy.picture.outlook import Outlook, text_from_seconds
from deploy.picture.pace import Pace, Timing, Work
from deploy.picture.stages import Course
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling
from engines.errors import EngineError
from engines.progress import Say

if TYPE_CHECKING:
    from deploy.folders.reading import Ready

LONG = 10.0
"""Seconds from which a picture is announced although one like it was, and from which a wrong forecast is corrected."""

CORRECTED_FROM = 1.5
"""How many times too long or too short a forecast must have been to be corrected aloud."""

MOST_LOOKED_AT = 200
"""Pictures whose headers are read for a forecast before the work; of more, the first ones made tell the time."""

MOST_ANNOUNCED = 20
"""Pictures that are announced one by one; of more, only progress and what went wrong is told."""


class Forecasts:
    """What is told of the time of one run that makes `count` results.

    pace: of a caller that runs many; None: that of earlier runs, to which this one's times are added.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        request: Request,
        sampling: Sampling,
        count: int,
        say: Say,
        pace: Pace | None = None,
    ) -> None:
        self._upscaler = upscaler
        self._request = request
        self._sampling = sampling
        self._say = say
        self._began = time.perf_counter()
        self._is_kept = pace is None
        self._pace = pace or kept_pace(upscaler.bundle, upscaler.choice)
        self._works: dict[tuple[Size, Size, bool], Work] = {}
        self._told: set[object] = set()  # sizes that were announced, and notices: what is told once
        self._is_single = count == 1
        self._announces = count <= MOST_ANNOUNCED
        self._pictures = 0
        self._outlook = Outlook(self._pace, [], self._began)
        self._forecast: float | None = None

    def look_ahead(self, inputs: Iterable[tuple[Size, bool]]) -> None:
        """The time of the pictures whose inputs have these sizes, and alpha or not, told where it is known."""
        works = []
        for (lr, has_alpha), count in Counter(inputs).items():
            with suppress(DeployError, EngineError):  # told when its turn comes
                works += [self.work(lr, self._request.output_size(lr), has_alpha=has_alpha)] * count
        self._pictures = len(works)
        self._outlook = Outlook(self._pace, works, self._began)
        self._forecast = self._outlook.known() if works else None
        if self._forecast is not None and len(works) > 1:
            self._say(f"{len(works)} pictures: about {text_from_seconds(self._forecast)}{self._on_engine()}")

    def work(self, lr: Size, size: Size, *, has_alpha: bool) -> Work:
        """Looked up once for each size: the tiles of later pictures may differ as memory does, their time hardly."""
        kind = lr, size, has_alpha
        if kind not in self._works:
            tile = self._request.tile
            self._works[kind] = self._upscaler.work(lr, size, self._sampling, tile, has_alpha=has_alpha)
        return self._works[kind]

    def seconds(self, work: Work) -> float | None:
        """What a picture takes, by all that is known; None where nothing is."""
        return self._pace.about(work)

    def begin(self, ready: "Ready") -> "PictureForecast":
        """The forecast of the next picture; announced where that helps."""
        lr, size, target = ready.lr, ready.size, ready.job.target
        work = self.work(lr, size, has_alpha=ready.has_alpha)
        expected = self._pace.seconds(work)
        self._announce(f"{ready.job} {lr} -> {target} {ready.shown_size}", (lr, size), work, expected)
        timing = self._outlook.begin(work, partial(self._upscaler.seconds_of_decoding, lr, size, self._sampling))
        self._tell_of_all()
        return PictureForecast(timing, target, ready.began, expected, self._say)

    def mark(self, picture: "PictureForecast") -> None:
        """Another evaluation of the picture is done."""
        picture.mark()
        self._tell_of_all()

    def finish(self, picture: "PictureForecast") -> None:
        """The picture is sampled, and its pixels are on their way."""
        self._outlook.finish()
        if self._is_single and picture.seconds is not None:
            self._forecast = picture.began - self._began + picture.seconds

    def fraction(self) -> float:
        """The part of the run's time that is over, from 0 to 1; it never falls."""
        return self._outlook.fraction()

    def close(self) -> dict[str, float | None]:
        """The figures of the whole run, whose times are kept for later ones."""
        seconds = time.perf_counter() - self._began
        try:
            if self._is_kept:
                keep_pace(self._upscaler.bundle, self._upscaler.choice, self._pace)
        except EngineError as error:
            self._say(f"the next estimate will not know these times. {error}")
        forecast = None if self._forecast is None else round(self._forecast, 3)
        return {"seconds": round(seconds, 3), "forecast_seconds": forecast}

    def _announce(self, what: str, sizes: tuple[Size, Size], work: Work, expected: float | None) -> None:
        """Sizes and the time it will take, before the work; of many alike the first, and each that takes long."""
        if sizes in self._told and (expected is None or expected < LONG):
            return
        self._told.add(sizes)
        about = "" if expected is None else f": about {text_from_seconds(expected)}"
        tiles = "" if work.tile is None else f" in {work.tiles} tiles of {work.tile}"
        tiles += ", which is faster" if work.for_speed else ""
        later = "; the first steps will tell how long it takes" if expected is None else ""
        if self._announces or (expected is not None and expected >= LONG):
            course = Course.of(*sizes, self._sampling).describe()
            stages = f", {course}" if course else ""
            self._say(f"{what}{about}{self._on_engine()}{stages}{tiles}{later}")
        for notice in self._upscaler.notices(*sizes, self._sampling):
            self.say_once(notice)

    def say_once(self, notice: str) -> None:
        """Tells what is the same for many pictures."""
        if notice not in self._told:
            self._told.add(notice)
            self._say(notice)

    def _tell_of_all(self) -> None:
        """The time of the whole run, once, as soon as it shows."""
        if self._forecast is None and self._outlook.is_telling:
            self._forecast = self._outlook.expected()
            if self._pictures > 1:
                self._say(f"{self._pictures} pictures: about {text_from_seconds(self._forecast)} in all")

    def _on_engine(self) -> str:
        return f" on {self._upscaler.choice.name}"


class PictureForecast:
    """What was told of the time of a picture that `began`: `seconds` in all, of which `expected` were to come."""

    def __init__(self, timing: Timing, target: Path, began: float, expected: float | None, say: Say) -> None:
        self.began = began
        self.seconds = None if expected is None else time.perf_counter() - began + expected
        self._timing = timing
        self._target = target
        self._say = say
        self._is_corrected = False

    def mark(self) -> None:
        """Another evaluation is done; what it shows is told."""
        self._timing.mark()
        if (told := self.told_now()) is not None:
            self._say(f"{self._target}: {told}")

    def told_now(self) -> str | None:
        """What the evaluations so far show that is still to be told; None where there is nothing."""
        left = self._timing.left()
        if not self._timing.is_telling or (self.seconds is not None and (self._is_corrected or left < LONG)):
            return None
        expected = time.perf_counter() - self.began + left
        if self.seconds is None:
            self.seconds = expected
            return f"about {text_from_seconds(expected)}, judging by its first steps"
        if max(expected / self.seconds, self.seconds / expected) < CORRECTED_FROM:
            return None
        self._is_corrected = True
        return f"rather about {text_from_seconds(expected)} in all, as its steps show"
