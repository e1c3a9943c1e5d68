"""Pictures of one size that run together: how their stages are laid out in memory, and the runs, transparency first."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from deploy.images.pictures import Pixels, is_grey
from deploy.images.values import network_from_pixels
from deploy.images.view import quantised_to_8_bits
from deploy.picture.generation import NO_PICTURE
from deploy.picture.layout import Job, Layout, layouts_for
from deploy.picture.memory import StateArrays
from deploy.picture.options import RunOptions
from deploy.picture.room import ROOM
from deploy.picture.run import Sampled
from deploy.picture.session import Session
from deploy.picture.stages import Course, sampled_in_stages
from deploy.picture.strips import state_arrays_needed
from deploy.sampling.choices import Sampling
from deploy.sampling.noise import image_key
from deploy.sampling.noise_source import NoiseSource
from engines.arrays import Float32


def layouts_of(
    session: Session, course: Course, count: int, sampling: Sampling, options: RunOptions, *, keeps_pixels: bool
) -> list[Layout]:
    """The layouts of each stage for `count` pictures."""
    session.model.open_engines()
    last = len(course.stages) - 1
    jobs = [
        Job(
            lr=stage.lr,
            size=stage.size,
            count=count,
            state_arrays=state_arrays_needed(session.plan(sampling)),
            keeps_pixels=keeps_pixels and number == last,
            pixel_bytes=options.pixel_bytes,
            tile=options.tile,
            output=course.size,
            collects=course.collects(number),
            has_alpha=options.has_alpha,
            consistent=bool(sampling.consistency),
            from_guess=sampling.from_guess,
        )
        for number, stage in enumerate(course.stages)
    ]
    return layouts_for(session.model, jobs, session.budget())


@contextmanager
def sampled_with_alphas(
    session: Session,
    pixels: Sequence[Pixels | Float32],
    alphas: Sequence[Float32 | None],
    course: Course,
    sampling: Sampling,
    options: RunOptions,
    layouts: Sequence[Layout],
) -> Iterator[Sampled]:
    """The pictures, sampled; of those that have alpha, that was sampled before, as grey pictures."""
    seen = [alpha for alpha in alphas if alpha is not None]
    if not seen:
        with _sampled(session, pixels, course, sampling, options, layouts) as sampled:
            yield sampled
        return
    began = time.perf_counter()
    with StateArrays(options.scratch_folder if any(layout.state_on_disk for layout in layouts) else None) as arrays:
        made = arrays.empty((len(seen), *course.size))
        with _sampled(session, seen, course, sampling, options.in_part(0, 2, began), layouts) as sampled:
            evaluations, top = sampled.evaluations, 0
            for block in sampled.unit_rows():
                made[:, top : top + block.shape[1]] = block[:, :, :, 0]
                top += block.shape[1]
                arrays.trim()
        each = iter(made)
        found = tuple(None if alpha is None else next(each) for alpha in alphas)
        with _sampled(session, pixels, course, sampling, options.in_part(1, 2, began), layouts) as sampled:
            yield replace(sampled, alphas=found, evaluations=evaluations + sampled.evaluations)


@contextmanager
def _sampled(
    session: Session,
    pixels: Sequence[Pixels | Float32],
    course: Course,
    sampling: Sampling,
    options: RunOptions,
    layouts: Sequence[Layout],
) -> Iterator[Sampled]:
    lr: Float32 = np.stack([network_from_pixels(picture, session.model.values) for picture in pixels])
    if session.model.notice_of_depth and any(picture.dtype != np.uint8 for picture in pixels):
        options.notice(session.model.notice_of_depth)
    # The same noise for 8 and 16 bits.
    keys = [NO_PICTURE if options.one_noise else image_key(quantised_to_8_bits(picture)) for picture in pixels]
    source = NoiseSource(seed=options.seed, sample=options.sample, images=keys, custom=options.noise)
    with (
        ROOM.given(max(each.own_bytes for each in layouts), min(each.shared_bytes for each in layouts)),
        sampled_in_stages(
            session.model,
            lr,
            course,
            session.plan(sampling),
            source,
            layouts,
            grey=tuple(is_grey(picture) for picture in pixels),
            from_guess=sampling.from_guess,
            consistency=sampling.consistency,
            blend=sampling.blend,
            scratch=options.scratch_folder,
            progress=options.progress,
            notice=options.notice,
            preview=options.preview,
        ) as sampled,
    ):
        yield sampled
