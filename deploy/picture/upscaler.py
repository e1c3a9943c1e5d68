"""A bundle as one object that enlarges pictures: encode, loop, decode, in as much memory as it is allowed."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from deploy.bundle import Bundle
from deploy.engine.choice import AUTO, engine_choice
from deploy.engine.graphs import GraphSet
from deploy.errors import PlanError, SizeError
from deploy.families.contract import Float32
from deploy.families.table import family_named
from deploy.images.pictures import Kind, Picture, Pixels, is_grey, picture_from_pixels, pixels_from_picture
from deploy.images.sizes import MAX_PIXELS, PixelSize, output_size
from deploy.images.tiles import Size
from deploy.images.values import network_from_pixels
from deploy.picture.generation import Generation, generate_pictures
from deploy.picture.layout import Job, Layout, layout_for
from deploy.picture.memory import bytes_from_text, default_budget
from deploy.picture.pace import Work, seconds_of_rows
from deploy.picture.room import ROOM
from deploy.picture.run import Progress, Sampled, sampled_batch
from deploy.picture.strips import state_arrays_needed
from deploy.sampling.choices import Choices, Sampling, sampling_from
from deploy.sampling.noise import image_key
from deploy.sampling.noise_source import NoiseCallable, NoiseSource, check_draw
from deploy.sampling.plan import Plan, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule


def ignore(_: Any) -> None:
    """Progress and notices go nowhere."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run is told besides how to sample; see `Upscaler.upscale`."""

    seed: int = 0
    sample: int = 0
    noise: NoiseCallable | None = None
    tile: int | None = None
    scratch: Path | None = None  # where a state too large for memory goes; None: the system's temporary folder
    keeps_pixels: bool = False  # `sampled` will be asked for all pixels at once, rather than for rows
    progress: Callable[[Progress], None] = ignore
    notice: Callable[[str], None] = ignore

    def __post_init__(self) -> None:
        check_draw(self.seed, self.sample)

    def counted(self, pictures: int, finished: int, at_once: int, began: float) -> "RunOptions":
        """For some of several pictures: the same, with progress that counts all. began: by `time.perf_counter`."""

        def tell(done: Progress) -> None:
            self.progress(done.of_list(pictures, finished, at_once, time.perf_counter() - began))

        return replace(self, progress=tell)


class Upscaler:
    """A bundle's networks, ready to run; a context manager that frees them.

    `engine` and `precision`: "auto", or as `idm-deploy doctor` lists them. `threads`: None is the engine's own number.
    `max_memory` bounds the resident memory of the process, in bytes or as text such as "1GiB"; None is 60 % of what is
    free when a picture comes. `device`: the number of a GPU, for engines that run on GPUs; None is the first.

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
    ) -> None:
        family_named(bundle.manifest.family)  # refused before anything is opened
        self._share(GraphSet(bundle, engine_choice(bundle, engine, precision, threads, device)), max_memory)

    @classmethod
    def of_graphs(cls, graphs: GraphSet, max_memory: int | str | None = None) -> Self:
        """An upscaler on graphs that are opened elsewhere, and that others may use at the same time."""
        made = cls.__new__(cls)
        made._share(graphs, max_memory)
        return made

    def _share(self, graphs: GraphSet, max_memory: int | str | None) -> None:
        self.bundle = graphs.bundle
        self.choice = graphs.choice
        self.graphs = graphs
        self._max_memory = bytes_from_text(max_memory) if isinstance(max_memory, str) else max_memory
        if self._max_memory is not None and self._max_memory < 1:
            raise SizeError(f"max_memory must be a positive number of bytes, found {max_memory!r}.")
        self.schedule = NoiseSchedule.from_dict(self.bundle.manifest.schedule)
        self.model = family_named(self.bundle.manifest.family).model(graphs)
        self._planned: tuple[PlanSettings, Plan] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The engines' memory is free, or will be when the pictures in the making are done; the next one opens them."""
        self.graphs.close()

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
        size: PixelSize | None = ...,
        long_edge: int | None = ...,
        choices: Choices | None = ...,
        preset: str | None = ...,
        published: bool = ...,
        placement: str | Sequence[float] | None = ...,
        eta: float | None = ...,
        tile: int | None = ...,
        sample: int = ...,
        max_pixels: int = ...,
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
        size: PixelSize | None = ...,
        long_edge: int | None = ...,
        choices: Choices | None = ...,
        preset: str | None = ...,
        published: bool = ...,
        placement: str | Sequence[float] | None = ...,
        eta: float | None = ...,
        tile: int | None = ...,
        sample: int = ...,
        max_pixels: int = ...,
        progress: Callable[[Progress], None] | None = ...,
        notice: Callable[[str], None] | None = ...,
    ) -> list[Kind]: ...

    def upscale(
        self,
        image: Picture | Sequence[Picture],
        scale: float | None = None,
        equation: str | None = None,
        steps: int | None = None,
        start: float | None = None,
        consistency: float | None = None,
        seed: int = 0,
        noise: NoiseCallable | None = None,
        *,
        size: PixelSize | None = None,
        long_edge: int | None = None,
        choices: Choices | None = None,
        preset: str | None = None,
        published: bool = False,
        placement: str | Sequence[float] | None = None,
        eta: float | None = None,
        tile: int | None = None,
        sample: int = 0,
        max_pixels: int = MAX_PIXELS,
        progress: Callable[[Progress], None] | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> Picture | list[Any]:
        """`image` enlarged: a PIL image or uint8 array (H, W, 3) or (H, W), or a list of them; the result is alike.

        A grey picture gives a grey one: three equal channels, or one where the input has one (a PIL image of mode L
        comes back in mode L). A PIL image's colour profile is applied; what of it does not reach the result, such as 16
        bits or its EXIF, is told to `notice`.

        Exactly one of `scale`, `size` (width, height) and `long_edge` says how large. `preset` names a way to sample,
        the bundle's default otherwise; `equation`, `steps`, `start`, `consistency`, `eta` and `placement` replace parts
        of it, `published` takes the authors' own sampler; `choices` holds all of these, and what is said besides goes
        before it. The random numbers follow from `seed`, the picture and `sample`, the number of the draw, or come
        from `noise(shape, step_index)`. `progress` is called with a `deploy.Progress` after each tile of each step,
        `notice` with a line for people; an exception that they raise cancels the call.
        """
        said = Choices(
            preset=preset,
            equation=equation,
            steps=steps,
            start=start,
            consistency=consistency,
            eta=eta,
            placement=placement,
            published=published,
        )
        options = RunOptions(
            seed=seed, sample=sample, noise=noise, tile=tile, progress=progress or ignore, notice=notice or ignore
        )
        images = list(image) if isinstance(image, list | tuple) else [image]
        pixels = [pixels_from_picture(one, options.notice) for one in images]
        sizes = [
            output_size(
                (one.shape[1], one.shape[0]), scale=scale, size=size, long_edge=long_edge, max_pixels=max_pixels
            )
            for one in pixels
        ]
        results = self._all_pixels(pixels, sizes, self.sampling(said.before(choices)), options)
        pictures = [picture_from_pixels(made, like) for made, like in zip(results, images, strict=True)]
        return pictures if isinstance(image, list | tuple) else pictures[0]

    def generate(
        self,
        sizes: Sequence[PixelSize] = (),
        count: int = 1,
        seed: int = 0,
        *,
        latent: PixelSize | None = None,
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
        wanted = Generation(count=count, sizes=sizes, latent=latent)
        return generate_pictures(self, wanted, self.sampling(choices), options)

    def sampling(self, choices: Choices | None = None) -> Sampling:
        """A checked way to sample with this bundle."""
        sampling = sampling_from(self.bundle.manifest, choices or Choices())
        refusal = self.model.refusal_of_consistency()
        if sampling.consistency and refusal is not None:
            raise PlanError(refusal)
        self.plan(sampling)
        return sampling

    def plan(self, sampling: Sampling) -> Plan:
        """The steps of a way to sample; the last ones that were asked for are kept."""
        planned = self._planned
        if planned is None or planned[0] != sampling.plan:
            plan = make_plan(self.schedule, sampling.plan, rules=self.model.sampling)
            int8 = self.graphs.int8
            planned = sampling.plan, plan if int8 is None else int8.plan_with_own_noise(plan)
            self._planned = planned
        return planned[1]

    def budget(self) -> int:
        """Bytes that may be resident now."""
        return self._max_memory or default_budget()

    def notices(self, lr: PixelSize, size: PixelSize, sampling: Sampling) -> list[str]:
        """What to tell before the work: a scale that training did not cover, steps that int8 was not calibrated for."""
        told = [self.model.notice_of_scale(lr[::-1], size[::-1]), self.notice_of_int8(sampling)]
        return [line for line in told if line is not None]

    def notice_of_int8(self, sampling: Sampling) -> str | None:
        """What to tell of a way to sample that int8 was not calibrated for; None otherwise."""
        return None if self.graphs.int8 is None else self.graphs.int8.notice_of_plan(self.plan(sampling))

    @contextmanager
    def sampled(
        self, pixels: Pixels, size: PixelSize, sampling: Sampling, options: RunOptions | None = None
    ) -> Iterator[Sampled]:
        """One picture, sampled; its rows can be taken, top to bottom, until the block is left."""
        options = options or RunOptions()
        lr = pixels.shape[0], pixels.shape[1]
        layout = self._layout(lr, 1, size, sampling, options, keeps_pixels=options.keeps_pixels)
        with self._batch([pixels], size, sampling, options, layout) as sampled:
            yield sampled

    def _all_pixels(
        self, pixels: list[Pixels], sizes: list[PixelSize], sampling: Sampling, options: RunOptions
    ) -> list[Pixels]:
        """The results in the order of the inputs; inputs of one size and output size run in batches."""
        groups: dict[tuple[tuple[int, ...], PixelSize], list[int]] = {}
        for index, (one, size) in enumerate(zip(pixels, sizes, strict=True)):
            groups.setdefault((one.shape, size), []).append(index)
        results: dict[int, Pixels] = {}
        began = time.perf_counter()
        for (_, size), members in groups.items():
            lr = pixels[members[0]].shape[0], pixels[members[0]].shape[1]
            for told in self.notices(lr[::-1], size, sampling):
                options.notice(told)
            layout = self._layout(lr, len(members), size, sampling, options, keeps_pixels=True)
            for first in range(0, len(members), layout.batch):
                batch = members[first : first + layout.batch]
                counted = options.counted(len(pixels), len(results), len(batch), began)
                with self._batch([pixels[index] for index in batch], size, sampling, counted, layout) as sampled:
                    made = sampled.pixels()
                results |= dict(zip(batch, made, strict=True))
        return [results[index] for index in range(len(pixels))]

    def _layout(
        self, lr: Size, count: int, size: PixelSize, sampling: Sampling, options: RunOptions, *, keeps_pixels: bool
    ) -> Layout:
        """The layout for `count` pictures of `lr`, (height, width)."""
        self.model.open_engines()
        job = Job(
            lr=lr,
            size=(size[1], size[0]),
            count=count,
            state_arrays=state_arrays_needed(self.plan(sampling)),
            keeps_pixels=keeps_pixels,
            tile=options.tile,
        )
        return layout_for(self.model, job, self.budget())

    @contextmanager
    def _batch(
        self, pixels: list[Pixels], size: PixelSize, sampling: Sampling, options: RunOptions, layout: Layout
    ) -> Iterator[Sampled]:
        lr: Float32 = np.stack([network_from_pixels(one, self.model.values) for one in pixels])
        keys = [image_key(one) for one in pixels]
        source = NoiseSource(seed=options.seed, sample=options.sample, images=keys, custom=options.noise)
        with (
            ROOM.given(layout.own_bytes, layout.shared_bytes),
            sampled_batch(
                self.model,
                self.model.subject(lr, (size[1], size[0]), source.posterior),
                (size[1], size[0]),
                self.plan(sampling),
                source,
                layout,
                from_guess=sampling.from_guess,
                consistency=sampling.consistency,
                scratch=options.scratch or Path(tempfile.gettempdir()),
                progress=options.progress,
                notice=options.notice,
            ) as sampled,
        ):
            yield replace(sampled, grey=tuple(is_grey(one) for one in pixels))

    def work(self, lr: PixelSize, size: PixelSize, sampling: Sampling, tile: int | None = None) -> Work:
        """How much there is to do for a picture that is streamed to a file, and in which tiles, as memory is now."""
        state = self.model.state_size(lr[::-1], size[::-1])
        tiling = self._layout(lr[::-1], 1, size, sampling, RunOptions(tile=tile), keeps_pixels=False).tiling
        return Work(
            window=prod(tiling.largest),
            tile=None if tiling.is_whole else tiling.tile,
            tiles=len(tiling),
            steps=len(self.plan(sampling)),
            state=prod(state),
            output=prod(size),
        )

    def seconds_of_decoding(self, lr: PixelSize, size: PixelSize) -> float:
        """What turning a finished state into pixels will take, from decoding the beginning of an empty one."""
        return seconds_of_rows(self.model.blank_rows(lr[::-1], size[::-1]), prod(size))
