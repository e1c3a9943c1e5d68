"""The network's part: pictures that are read become rows on their way to a writer, alone or several at once."""

import time
from collections.abc import Callable, Iterator, Sequence

from deploy.errors import DeployError, ImageError
from deploy.folders.batches import Batches, Waiting, kind_of
from deploy.folders.channel import Channel
from deploy.folders.forecasts import Forecasts, PictureForecast
from deploy.folders.outcome import Outcome
from deploy.folders.reading import Ready
from deploy.folders.request import Request
from deploy.folders.writing import Delivery, Writer
from deploy.images.files import make_folder
from deploy.images.picture import Samples
from deploy.picture.enlarged import samples_of_batch
from deploy.picture.files import enlarged_rows
from deploy.picture.options import RunOptions
from deploy.picture.run import Progress, Sampled
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling
from engines.errors import EngineError

AHEAD_BYTES = 64 << 20
"""At most, of pictures that are read, of rows that wait for their writer, and of results of batches."""

SHARE_AHEAD = 64
"""Each takes at most this part of the memory that a run may take: layouts of pictures do not count it."""


def ahead_bytes(upscaler: Upscaler) -> int:
    """What may wait between two threads."""
    return min(AHEAD_BYTES, upscaler.session.budget() // SHARE_AHEAD)


class Maker:
    """Samples what is ready and gives it to `results`. `tell` is called with a picture and how far it is.

    waits: for each file to be written, so that its time is known; else the network goes on meanwhile.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        request: Request,
        sampling: Sampling,
        forecasts: Forecasts,
        batches: Batches,
        results: Channel[Delivery],
        writer: Writer,
        tell: Callable[[Ready, Progress], None],
        *,
        waits: bool,
    ) -> None:
        self._upscaler = upscaler
        self._request = request
        self._sampling = sampling
        self._forecasts = forecasts
        self._batches = batches
        self._results = results
        self._writer = writer
        self._tell = tell
        self._waits = waits
        self._ahead = ahead_bytes(upscaler)

    def wants_more(self, waiting: Waiting, left: int) -> bool:
        """Whether another picture should be read before the next ones are made, of which `left` are to come."""
        if not waiting:
            return True
        kind, most = kind_of(waiting.first()), self._batches.most
        wanted = most if self._batches.is_to_be_tried(kind, left) else self._batches.size(kind)
        return waiting.like_first() < wanted and len(waiting) < 2 * most

    def make(self, waiting: Waiting, left: int) -> Iterator[Outcome]:
        """The next pictures are on their way into files; yields those that cannot be made."""
        kind, most = kind_of(waiting.first()), self._batches.most
        if self._batches.is_to_be_tried(kind, left) and waiting.like_first() >= most:
            yield from self._tried(waiting.take(most))
            return
        group = waiting.take(self._batches.size(kind))
        self._batches.count(kind, len(group))
        # Draws of pictures differ in the number of the draw, of which a batch has one.
        if len(group) == 1 or len({ready.job.draw for ready in group}) > 1:
            for ready in group:
                yield from self._made_alone(ready)
            return
        options = self._options(group[0], None)
        size = self._upscaler.fits_together(len(group), kind.lr, kind.size, self._sampling, options)
        for first in range(0, len(group), size):
            yield from self._made_together(group[first : first + size])

    def _made_alone(self, ready: Ready) -> Iterator[Outcome]:
        ready = ready.taken_up()
        try:
            make_folder(ready.job.target.parent)
            forecast = self._forecasts.begin(ready)
            options = self._options(ready, forecast)
            view = ready.source.view
            with self._upscaler.sampled(view.values, ready.size, self._sampling, options, view.alpha_seen) as sampled:
                self._hand_over(ready, sampled, forecast)
            self._forecasts.finish(forecast)
        except (DeployError, EngineError) as error:
            yield self._writer.give_up(ready, error)

    def _hand_over(self, ready: Ready, sampled: Sampled, forecast: PictureForecast) -> None:
        """The rows of a sampled picture go to a writer; what it cannot take yet is decoded when it can."""
        rows: Channel[Samples] = Channel(1 << 30, self._ahead)
        result = Delivery(
            ready=ready,
            rows=rows,
            evaluations=sampled.evaluations,
            tile=sampled.tile,
            forecast_seconds=forecast.seconds,
        )
        try:
            self._results.give(result)
            for block in enlarged_rows(sampled, ready.source, ready.result.bits):
                if not rows.give(block, block.nbytes):
                    return  # the writer has failed, and tells
            rows.end()
            if self._waits:
                result.is_written.wait()
        except (DeployError, EngineError) as error:
            rows.fail(error)  # the writer tells
        except BaseException:
            rows.fail(ImageError(f"writing {ready.job.target} was interrupted."))
            raise

    def _made_together(self, group: Sequence[Ready]) -> Iterator[Outcome]:
        group = [ready.taken_up() for ready in group]
        try:
            pixels, evaluations = self._sampled(group)
        except (DeployError, EngineError):  # each tells for itself
            for ready in group:
                yield from self._made_alone(ready)
            return
        for ready, whole in zip(group, pixels, strict=True):
            self._hand_over_whole(ready, whole, evaluations)

    def _tried(self, group: Sequence[Ready]) -> Iterator[Outcome]:
        """The pictures are made, each alone and all together, to choose between the two."""
        group = [ready.taken_up() for ready in group]
        kind = kind_of(group[0])
        self._batches.count(kind, len(group))
        options = self._options(group[0], None)
        if self._upscaler.fits_together(len(group), kind.lr, kind.size, self._sampling, options) < len(group):
            self._batches.refuse(kind)
            for ready in group:
                yield from self._made_alone(ready)
            return
        alone: list[Samples] = []
        try:
            self._sampled(group)  # engines make room for this size, once
            began = time.perf_counter()
            together, _ = self._sampled(group)
            middle = time.perf_counter()
            for ready in group:
                (pixels,), evaluations = self._sampled([ready])
                alone.append(pixels)
            ended = time.perf_counter()
        except (DeployError, EngineError):
            self._batches.refuse(kind)
            for ready in group:
                yield from self._made_alone(ready)
            return
        self._batches.learn(kind, alone, together, alone_seconds=ended - middle, together_seconds=middle - began)
        for ready, pixels in zip(group, alone, strict=True):
            self._hand_over_whole(ready, pixels, evaluations)

    def _sampled(self, group: Sequence[Ready]) -> tuple[list[Samples], int]:
        for ready in group:
            make_folder(ready.job.target.parent)
        options = self._options(group[0], None)
        views = [ready.source.view for ready in group]
        inputs, alphas = [view.values for view in views], [view.alpha_seen for view in views]
        with self._upscaler.sampled_together(inputs, group[0].size, self._sampling, options, alphas) as sampled:
            return samples_of_batch(sampled, views), sampled.evaluations

    def _hand_over_whole(self, ready: Ready, pixels: Samples, evaluations: int) -> None:
        rows: Channel[Samples] = Channel(1, pixels.nbytes)
        rows.give(pixels, pixels.nbytes)
        rows.end()
        result = Delivery(ready=ready, rows=rows, evaluations=evaluations, tile=None, forecast_seconds=None)
        self._results.give(result, pixels.nbytes)

    def _options(self, ready: Ready, forecast: PictureForecast | None) -> RunOptions:
        target = ready.job.target

        def after_tile(done: Progress) -> None:
            if forecast is not None:
                self._forecasts.mark(forecast)
            self._tell(ready, done)

        return RunOptions(
            seed=self._request.seed,
            sample=ready.job.draw,
            one_noise=self._request.one_noise,
            tile=self._request.tile,
            scratch=target.resolve().parent,
            keeps_pixels=forecast is None or not ready.result.is_streamed,
            pixel_bytes=ready.source.view.pixel_bytes if forecast is None else ready.result.pixel_bytes,
            has_alpha=ready.has_alpha,
            progress=after_tile,
            notice=self._forecasts.say_once,
        )
