"""Pictures from noise alone: one latent per picture, decoded to as many sizes as are asked for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from deploy.errors import PlanError, SizeError
from deploy.families.model import Model
from deploy.images.pictures import Pixels
from deploy.images.sizes import MAX_PIXELS, Size, UserSize, check_request
from deploy.picture.layout import Job, layout_for
from deploy.picture.options import RunOptions
from deploy.picture.room import ROOM
from deploy.picture.run import Sampled, sampled_batch
from deploy.picture.session import Session
from deploy.picture.strips import state_arrays_needed
from deploy.sampling.choices import Sampling
from deploy.sampling.noise_source import NoiseSource

NO_PICTURE = 0
"""The noise key where there is no input picture; the sample's number tells the pictures apart."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What to generate: `count` pictures, each at all of `sizes` (width, height)."""

    count: int = 1
    sizes: Sequence[UserSize] = ()  # none: the size that the configuration names
    latent: UserSize | None = None  # (width, height) of the latent; None: the training's square
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise PlanError(f"The number of pictures to generate must be 1 or more, found {self.count!r}.")
        for size in self.sizes:
            check_request(scale=None, size=size, long_edge=None)
            if size[0] * size[1] > self.max_pixels:
                raise SizeError(
                    f"The output {size[0]}x{size[1]} has {size[0] * size[1]} pixels, the limit is {self.max_pixels}. "
                    "Choose a smaller size, or raise the limit with `max_pixels`."
                )


def generate_pictures(
    session: Session, wanted: Generation, sampling: Sampling, options: RunOptions
) -> list[list[Pixels]]:
    """Per picture, its pixels at each size. A picture is the same whatever the sizes and the count."""
    model = session.model
    if not model.generates:
        raise PlanError(
            f"{session.bundle.path} holds a model that enlarges pictures and makes none: type `idm-deploy infer`."
        )
    if sampling.from_guess:
        raise PlanError("A picture made from noise alone has no input to begin from; leave out the start.")
    usual = model.generation(1, None, None)
    sizes = [Size.from_user(size) for size in wanted.sizes] or [usual.size]
    latent = usual.state if wanted.latent is None else _latent_size(model, wanted.latent)
    model.open_engines()
    plan = session.plan(sampling)
    largest = max(sizes, key=prod)
    job = Job(
        lr=latent, size=largest, count=1, state_arrays=state_arrays_needed(plan), keeps_pixels=True, tile=options.tile
    )
    layout = layout_for(model, job, session.budget())
    if (told := session.notice_of_int8(sampling)) is not None:
        options.notice(told)
    results: list[list[Pixels]] = []
    began = time.perf_counter()
    for number in range(options.sample, options.sample + wanted.count):
        source = NoiseSource(seed=options.seed, sample=number, images=[NO_PICTURE], custom=options.noise)
        counted = options.counted(wanted.count, len(results), 1, began)
        with (
            ROOM.given(layout.own_bytes, layout.shared_bytes),
            sampled_batch(
                model,
                model.generation(1, latent, largest).subject,
                largest,
                plan,
                source,
                layout,
                scratch=options.scratch_folder,
                progress=counted.progress,
                notice=options.notice,
            ) as sampled,
        ):
            results.append([_at_size(model, sampled, latent, size) for size in sizes])
    return results


def _latent_size(model: Model, wanted: UserSize) -> Size:
    """The size of the latent, checked against the U-Net's stride."""
    latent = Size.from_user(wanted)
    if min(latent) < 1 or any(length % model.stride for length in latent):
        raise SizeError(
            f"A latent of {latent} does not suit this U-Net: both sides must be multiples of {model.stride}."
        )
    return latent


def _at_size(model: Model, sampled: Sampled, latent: Size, size: Size) -> Pixels:
    """The one picture of a finished latent at a size."""
    return sampled.at_size(model.generation(1, latent, size).subject, size).pixels()[0]
