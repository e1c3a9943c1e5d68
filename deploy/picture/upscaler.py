"""`Upscaler`, a bundle that enlarges pictures: in batches, tiles and as much memory as it is allowed."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any, Self, overload

from deploy.bundle import Bundle
from deploy.engine.choice import AUTO, engine_choice
from deploy.engine.graphs import EngineChoice
from deploy.families.contract import Float32
from deploy.images.colour_fix import DEFAULT_COLOR_FIX
from deploy.images.picture import Samples
from deploy.images.pictures import AnyPicture, Kind, Pixels, given_from_samples, picture_from_given
from deploy.images.sizes import MAX_PIXELS, Size, UserSize, output_size, times_grown
from deploy.images.view import View
from deploy.picture.batches import layouts_of, sampled_with_alphas
from deploy.picture.enlarged import Enlarged, samples_of_batch
from deploy.picture.faster_tiles import faster_tile
from deploy.picture.generation import Generation, generate_pictures
from deploy.picture.options import RunOptions, ignore
from deploy.picture.pace import Work, seconds_of_rows
from deploy.picture.parameters import check_kinds
from deploy.picture.run import Progress, Sampled
from deploy.picture.session import Session
from deploy.picture.stages import Course, blank_rows
from deploy.sampling.choices import Choices, Sampling
from deploy.sampling.noise_source import NoiseCallable


class Upscaler:
    """A bundle's networks, ready to run; a context manager that frees them.

    `engine` and `precision`: "auto", or as `idm-deploy doctor` lists them. `threads`: None is the engine's own number.
    `max_memory` bounds the resident memory of the process, in bytes or as text such as "1GiB"; None is 60 % of what is
    free when a picture comes. `device`: the number of a GPU, for engines that run on GPUs; None is the first.
    `around`: the precision of what surrounds int8 layers, "fp32" or "bf16", where the engine has both; "auto" is the
    faster one, as `build-engine` measured it, else what is usual for this processor.

    Threads: any number of them may call one Upscaler at the same time, with pictures of any sizes. Each call returns,
    bit for bit, what it would return alone with the same memory. The networks are in memory once; calls share the
    engine step by step, so a small picture need not wait for a large one. `max_memory` bounds all of them together: a
    picture for which there is no room beside the others waits until there is. Nothing is promised for two threads
    that share one `sampled`, nor for the memory of another Upscaler that is opened meanwhile.

    Cancelling: an exception that `progress` or `notice` raises stops that call at once, within one tile of one step,
    and reaches the caller. Its memory is freed, no other call notices, and the Upscaler goes on working.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str = AUTO,
        precision: str = AUTO,
        threads: int | None = None,
        max_memory: int | str | None = None,
        device: int | None = None,
        around: str = AUTO,
    ) -> None:
        check_kinds(bundle=bundle, engine=engine, precision=precision, threads=threads, max_memory=max_memory)
        choice = engine_choice(bundle, engine, precision, threads, device, around)
        self.session = Session(bundle, choice, memory=max_memory)

    @classmethod
    def of_session(cls, session: Session) -> Self:
        """An upscaler on networks that are opened elsewhere, and that others may use at the same time."""
        upscaler = cls.__new__(cls)
        upscaler.session = session
        return upscaler

    @property
    def bundle(self) -> Bundle:
        """The bundle whose networks run."""
        return self.session.bundle

    @property
    def choice(self) -> EngineChoice:
        """The engine that they run on."""
        return self.session.choice

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The engines' memory is free, or will be when the pictures in the making are done; the next one opens them."""
        self.session.close()

    # A picture gives a picture and a list a list: Python's types can only say so by repeating every parameter.
    @overload
    def upscale(
        self,
        image: Kind,
        scale: float | None = ...,
        equation: str | None = ...,
        steps: int | None = ...,
        start: float | None = ...,
        consistency: float | None = ...,
        seed: int = ...,
        noise: NoiseCallable | None = ...,
        *,
        size: UserSize | None = ...,
        long_edge: int | None = ...,
        choices: Choices | None = ...,
        preset: str | None = ...,
        published: bool = ...,
        placement: str | Sequence[float] | None = ...,
        stages: str | Sequence[float] | None = ...,
        draws: int | None = ...,
        blend: float | None = ...,
        eta: float | None = ...,
        tile: int | None = ...,
        sample: int = ...,
        max_pixels: int | None = ...,
        color_fix: str = ...,
        progress: Callable[[Progress], None] | None = ...,
        notice: Callable[[str], None] | None = ...,
    ) -> Kind: ...

    @overload
    def upscale(
        self,
        image: Sequence[Kind],
        scale: float | None = ...,
        equation: str | None = ...,
        steps: int | None = ...,
        start: float | None = ...,
        consistency: float | None = ...,
        seed: int = ...,
        noise: NoiseCallable | None = ...,
        *,
        size: UserSize | None = ...,
        long_edge: int | None = ...,
        choices: Choices | None = ...,
        preset: str | None = ...,
        published: bool = ...,
        placement: str | Sequence[float] | None = ...,
        stages: str | Sequence[float] | None = ...,
        draws: int | None = ...,
        blend: float | None = ...,
        eta: float | None = ...,
        tile: int | None = ...,
        sample: int = ...,
        max_pixels: int | None = ...,
        color_fix: str = ...,
        progress: Callable[[Progress], None] | None = ...,
        notice: Callable[[str], None] | None = ...,
    ) -> list[Kind]: ...

    def upscale(
        self,
        image: AnyPicture | Sequence[AnyPicture],
        scale: float | None = None,
        equation: str | None = None,
        steps: int | None = None,
        start: float | None = None,
        consistency: float | None = None,
        seed: int = 0,
        noise: NoiseCallable | None = None,
        *,
        size: UserSize | None = None,
        long_edge: int | None = None,
        choices: Choices | None = None,
        preset: str | None = None,
        published: bool = False,
        placement: str | Sequence[float] | None = None,
        stages: str | Sequence[float] | None = None,
        draws: int | None = None,
        blend: float | None = None,
        eta: float | None = None,
        tile: int | None = None,
        sample: int = 0,
        max_pixels: int | None = None,
        color_fix: str = DEFAULT_COLOR_FIX,
        progress: Callable[[Progress], None] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> AnyPicture | list[Any]:
        """`image` enlarged: a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4), or a list of them; results alike.

        Arrays of uint8, uint16, float32 and float64 (0 to 1) come back as such, PIL images of modes L, LA, RGB, RGBA
        and I;16 in theirs. The fourth channel is alpha, which is enlarged too. A grey picture gives a grey one: three
        equal channels, or one where the input has one. A PIL image comes back in the colours of its profile and with
        it, its EXIF, XMP and resolution; what is converted is told to `notice`. `color_fix` (none, lowfreq or wavelet)
        draws colours that drifted back to the input's.

        Exactly one of `scale`, `size` (width, height) and `long_edge` says how large. `preset` names a way to sample,
        the bundle's default otherwise; `equation`, `steps`, `start`, `consistency`, `eta` and `placement` replace parts
        of it, `published` takes the authors' own sampler; `choices` holds all of these, and what is said besides goes
        before it. `stages` are the magnifications that the network makes one after the other, such as (4, 3), or "once"
        or "auto"; `draws` the number of runs whose mean is taken; `blend` moves the scaling factor that an IDM network
        is told, 1 is what the widths say. The random numbers follow from `seed`, the picture and `sample`, the number
        of the draw, or come from `noise(shape, step_index)`. `tile` is the side of the tiles that a picture is made in,
        0 is the whole as far as memory allows; left out, large pictures are made in tiles where that is faster.
        `progress` is called with a `deploy.Progress` after each tile of each step, `notice` with a line for people; an
        exception that they raise cancels the call.
        """
        check_kinds(
            size=size,
            equation=equation,
            noise=noise,
            choices=choices,
            preset=preset,
            published=published,
            placement=placement,
            stages=stages,
            draws=draws,
            tile=tile,
            max_pixels=max_pixels,
            color_fix=color_fix,
            progress=progress,
            notice=notice,
        )
        parts = Choices(
            preset=preset,
            equation=equation,
            steps=steps,
            start=start,
            consistency=consistency,
            eta=eta,
            placement=placement,
            stages=stages,
            draws=draws,
            blend=blend,
            published=published,
        )
        options = RunOptions(
            seed=seed, sample=sample, noise=noise, tile=tile, progress=progress or ignore, notice=notice or ignore
        )
        images = list(image) if isinstance(image, list | tuple) else [image]
        views = [View(picture_from_given(picture, options.notice), color_fix=color_fix) for picture in images]
        sizes = [
            output_size(
                view.picture.size,
                scale=scale,
                size=size,
                long_edge=long_edge,
                max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
            )
            for view in views
        ]
        grown = max((times_grown(view.picture.size, to) for view, to in zip(views, sizes, strict=True)), default=None)
        results = self._all_samples(views, sizes, self.sampling(parts.before(choices), grown), options)
        pictures = [
            given_from_samples(samples, original, view.picture, view.profile)
            for samples, original, view in zip(results, images, views, strict=True)
        ]
        return pictures if isinstance(image, list | tuple) else pictures[0]

    def generate(
        self,
        sizes: Sequence[UserSize] = (),
        count: int = 1,
        seed: int = 0,
        *,
        latent: UserSize | None = None,
        choices: Choices | None = None,
        noise: NoiseCallable | None = None,
        sample: int = 0,
        tile: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> list[list[Pixels]]:
        """`count` pictures from noise alone, each at every size (width, height) from one and the same latent.

        For unconditional latent models. `latent` (width, height) gives another shape than the training's square;
        `sample` is the number of the first picture.
        """
        options = RunOptions(
            seed=seed, sample=sample, noise=noise, tile=tile, progress=progress or ignore, notice=notice or ignore
        )
        generation = Generation(count=count, sizes=sizes, latent=latent)
        return generate_pictures(self.session, generation, self.sampling(choices), options)

    def sampling(self, choices: Choices | None = None, scale: float | None = None) -> Sampling:
        """A checked way to sample with this bundle, for pictures that grow so many times if that is known."""
        return self.session.sampling(choices, scale)

    def notices(self, lr: Size, size: Size, sampling: Sampling) -> list[str]:
        """Warnings before the work: of a scale that training did not cover, of steps without int8 calibration."""
        stages = Course.of(lr, size, sampling).stages
        notices = [
            *(self.session.model.notice_of_scale(*stage) for stage in stages),
            self.session.notice_of_int8(sampling),
        ]
        return [line for line in notices if line is not None]

    @contextmanager
    def sampled(
        self,
        pixels: Pixels | Float32,
        size: Size,
        sampling: Sampling,
        options: RunOptions | None = None,
        alpha: Float32 | None = None,
    ) -> Iterator[Sampled]:
        """One picture (H, W, 3), uint8 or floats from 0 to 1, sampled; its rows can be taken within the block.

        alpha: its transparency as the network sees it, to be sampled too.
        """
        with self.sampled_together([pixels], size, sampling, options, [alpha]) as sampled:
            yield sampled

    @contextmanager
    def sampled_together(
        self,
        pixels: Sequence[Pixels | Float32],
        size: Size,
        sampling: Sampling,
        options: RunOptions | None = None,
        alphas: Sequence[Float32 | None] = (),
    ) -> Iterator[Sampled]:
        """Pictures of one size, as many as `fits_together` says at most, sampled at once, those with alpha twice."""
        options = options or RunOptions()
        options = replace(options, has_alpha=options.has_alpha or any(alpha is not None for alpha in alphas))
        lr = Size.of(pixels[0])
        course = Course.of(lr, size, sampling)
        layouts = layouts_of(self.session, course, len(pixels), sampling, options, keeps_pixels=options.keeps_pixels)
        with sampled_with_alphas(self.session, list(pixels), alphas, course, sampling, options, layouts) as sampled:
            yield sampled

    def fits_together(
        self, count: int, lr: Size, size: Size, sampling: Sampling, options: RunOptions | None = None
    ) -> int:
        """How many of `count` pictures of a size can be sampled at once, as memory is now."""
        course = Course.of(lr, size, sampling)
        return layouts_of(self.session, course, count, sampling, options or RunOptions(), keeps_pixels=True)[0].batch

    @contextmanager
    def enlarged(
        self, view: View, size: Size, sampling: Sampling, options: RunOptions | None = None
    ) -> Iterator[Enlarged]:
        """One picture at `size`, as rows of its own kind until the block is left."""
        with self.sampled(view.values, size, sampling, options, view.alpha_seen) as sampled:
            yield Enlarged(sampled=sampled, view=view)

    def _all_samples(
        self, views: list[View], sizes: list[Size], sampling: Sampling, options: RunOptions
    ) -> list[Samples]:
        """The results in the order of the inputs; inputs of one kind, size and output size run in batches."""
        groups: dict[tuple[Size, Size, int], list[int]] = {}
        for index, (view, size) in enumerate(zip(views, sizes, strict=True)):
            groups.setdefault((view.picture.size, size, view.pixel_bytes), []).append(index)
        results: dict[int, Samples] = {}
        began = time.perf_counter()
        for (lr, size, pixel_bytes), members in groups.items():
            for notice in self.notices(lr, size, sampling):
                options.notice(notice)
            has_alpha = any(views[index].has_edges_of_alpha for index in members)
            group_options = replace(options, pixel_bytes=pixel_bytes, has_alpha=has_alpha)
            course = Course.of(lr, size, sampling)
            layouts = layouts_of(self.session, course, len(members), sampling, group_options, keeps_pixels=True)
            at_once = layouts[0].batch
            for first in range(0, len(members), at_once):
                batch = members[first : first + at_once]
                batch_options = options.counted(len(views), len(results), len(batch), began)
                pixels = [views[index].values for index in batch]
                alphas = [views[index].alpha_seen for index in batch]
                with sampled_with_alphas(
                    self.session, pixels, alphas, course, sampling, batch_options, layouts
                ) as sampled:
                    samples = samples_of_batch(sampled, [views[index] for index in batch])
                results |= dict(zip(batch, samples, strict=True))
        return [results[index] for index in range(len(views))]

    def work(
        self, lr: Size, size: Size, sampling: Sampling, tile: int | None = None, *, has_alpha: bool = False
    ) -> Work:
        """The work that a picture takes that is streamed to a file, and its tiles, as memory is now."""
        course = Course.of(lr, size, sampling)
        works: list[Work] = []
        options = RunOptions(tile=tile, has_alpha=has_alpha)
        layouts = layouts_of(self.session, course, 1, sampling, options, keeps_pixels=False)
        for stage, layout in zip(course.stages, layouts, strict=True):
            work = Work(
                window=prod(layout.tiling.largest),
                tile=None if layout.tiling.is_whole else layout.tiling.tile,
                tiles=len(layout.tiling),
                steps=len(self.session.plan(sampling)) * course.draws * (2 if has_alpha else 1),
                state=prod(self.session.model.state_size(*stage)),
                output=prod(stage.size),
                for_speed=layout.for_speed,
            )
            works.append(work)
        return replace(works[-1], output=prod(size), earlier=tuple(works[:-1]))

    def has_faster_tiles(self, lr: Size, size: Size, sampling: Sampling) -> bool:
        """Whether such a picture is made in tiles, in some stage, because that is faster, unless `tile` says how."""
        model = self.session.model
        sizes = [model.state_size(*stage) for stage in Course.of(lr, size, sampling).stages]
        return any(faster_tile(model, each, from_guess=sampling.from_guess) is not None for each in sizes)

    def predicted_bytes(
        self, lr: Size, size: Size, sampling: Sampling, tile: int | None = None, *, has_alpha: bool = False
    ) -> int:
        """The memory of the process while it makes a picture that is streamed to a file, as memory is now."""
        options = RunOptions(tile=tile, has_alpha=has_alpha)
        layouts = layouts_of(self.session, Course.of(lr, size, sampling), 1, sampling, options, keeps_pixels=False)
        return max(layout.predicted_bytes for layout in layouts)

    def seconds_of_decoding(self, lr: Size, size: Size, sampling: Sampling) -> float:
        """The time of turning a finished state into pixels, forecast by decoding the beginning of an empty one."""
        course = Course.of(lr, size, sampling)
        stage = course.stages[-1]
        seconds = seconds_of_rows(self.session.model.blank_rows(*stage), prod(stage.size))
        return seconds + (seconds_of_rows(blank_rows(stage.size, size), prod(size)) if course.filters else 0.0)
