"""What the denoiser is really fed: recorded while calibration pictures are sampled, kept on disk, read again.

Every step of every trajectory becomes one `DenoiserInput`. Only the states and the predicted noise are stored; what
belongs to the picture (conditioning maps) and to the step (its row) is made again when it is read. A trajectory that
is stored already is not recorded again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from math import prod
from pathlib import Path
from threading import Event, Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.lanes import Lanes, go_on
from calibration.observe.observer import not_finite_error
from calibration.passes.inputs import DenoiserInput
from deploy.engine.graphs import DENOISE
from deploy.engine.int8 import SAME_LEVEL
from deploy.families.contract import Subject
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.tiles import Window, whole_tiling
from deploy.images.values import network_from_pixels
from deploy.int8.recording.pictures import CalibrationPicture
from deploy.int8.settings import PLAIN_STEPS
from deploy.picture.generation import NO_PICTURE
from deploy.picture.layout import Layout
from deploy.picture.options import ignore
from deploy.picture.run import Progress as StepProgress
from deploy.picture.run import sampled_batch
from deploy.picture.session import Session
from deploy.sampling.choices import Choices, Sampling
from deploy.sampling.noise import image_key
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.plan import Plan, PlanRow
from deploy.sampling.turns import AS_IT_IS, Turn
from engines.arrays import Float32
from engines.new_files import new_file
from engines.progress import Progress

ALL: Final = slice(None)

BATCH = 4
"""Pictures that run together: covariances are gathered faster from several at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Pictures of one size that are sampled together; `size` is the output's.

    lr: uint8 (h, w, 3) each; empty for generation, where `sample` tells the pictures apart.
    """

    names: tuple[str, ...]
    lr: tuple[NDArray[np.uint8], ...]
    size: Size
    sample: int = 0


@dataclass(frozen=True, kw_only=True)
class CalibrationPlans:
    """The ways to sample that are recorded, and all their noise levels, rising, each once."""

    samplings: tuple[Sampling, ...]
    plans: tuple[Plan, ...]
    levels: tuple[float, ...]

    def level_index(self, noise_level: float) -> int:
        """The index of a noise level of one of the plans."""
        return int(np.argmin(np.abs(np.array(self.levels) - noise_level)))


def calibration_plans(session: Session) -> CalibrationPlans:
    """The default preset, and plain ddim from pure noise unless that is the same."""
    plain = Choices(equation="ddim", steps=PLAIN_STEPS, placement="uniform", start=0.0, consistency=0.0, eta=0.0)
    samplings = [session.sampling(), session.sampling(plain)]
    if _same(*samplings, with_consistency=not session.model.agrees_when_decoded):
        del samplings[1]
    plans = tuple(session.plan(sampling) for sampling in samplings)
    levels: list[float] = []
    for level in sorted(row.noise_level for plan in plans for row in plan.rows):
        if not levels or level - levels[-1] > SAME_LEVEL:
            levels.append(level)
    return CalibrationPlans(samplings=tuple(samplings), plans=plans, levels=tuple(levels))


def _same(one: Sampling, other: Sampling, *, with_consistency: bool) -> bool:
    """Whether both take the same way to a finished state."""
    same = (one.plan, one.from_guess) == (other.plan, other.from_guess)
    return same and (not with_consistency or one.consistency == other.consistency)


def groups_of_pictures(pictures: Sequence[CalibrationPicture]) -> list[Group]:
    """Pictures of the same sizes together, at most BATCH of them, in the order in which they first appear."""
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[CalibrationPicture]] = {}
    for picture in pictures:
        alike.setdefault((picture.original.lr.shape, picture.original.pixels.shape), []).append(picture)
    groups = []
    for members in alike.values():
        for first in range(0, len(members), BATCH):
            part = [original.original for original in members[first : first + BATCH]]
            names, lr = tuple(original.name for original in part), tuple(original.lr for original in part)
            groups.append(Group(names=names, lr=lr, size=part[0].size))
    return groups


def groups_of_generation(model: Model, count: int) -> list[Group]:
    """`count` pictures from noise alone, each by itself: their noise differs by the number of the sample."""
    latent = model.generation(1, None, None).state
    return [Group(names=(f"sample {n}",), lr=(), size=latent, sample=n) for n in range(count)]


class Trajectories:
    """All groups under all plans, in a folder of their own."""

    def __init__(
        self, session: Session, groups: Sequence[Group], plans: CalibrationPlans, folder: Path, seed: int
    ) -> None:
        self.plans = plans
        self.groups = tuple(groups)
        self._session = session
        self._folder = folder
        self._seed = seed
        self._all = [(group, index) for group in range(len(groups)) for index in range(len(plans.plans))]

    def count(self, every: int = 1) -> int:
        """How many inputs `inputs` yields."""
        return sum(len(self._steps(group, index, every)) for group, index in self._all)

    def record(self, lanes: Lanes, progress: Progress) -> None:
        """Every trajectory is stored; the session's engine has as many threads as a lane."""
        pictures = sum(len(group.names) for group in self.groups)
        doing = f"recording what the network sees while it makes {pictures} pictures"
        stored = [self._path(n).exists() and self._final_path(n).exists() for n in range(len(self._all))]
        # The longest first, so that lanes end at about the same time.
        missing = sorted((n for n, there in enumerate(stored) if not there), key=self._work, reverse=True)
        fractions, telling, stop = dict.fromkeys(missing, 0.0), Lock(), Event()

        def record_one(number: int) -> None:
            group, index = self._all[number]

            def tell(step: StepProgress) -> None:
                go_on(stop)
                with telling:
                    fractions[number] = step.fraction
                    done = sum(self._work(n) * part for n, part in fractions.items())
                    progress(doing, done / sum(map(self._work, missing)))

            recorded, final = self._recorded(self.groups[group], index, tell)
            for path, array in ((self._path(number), recorded), (self._final_path(number), final)):
                with new_file(path) as file:
                    np.save(file, array, allow_pickle=False)

        for _ in lanes.each(record_one, missing, stop):
            pass

    def inputs(self, every: int = 1) -> Iterator[DenoiserInput]:
        """One in `every` inputs, trajectory by trajectory, in the order of the steps.

        Every group is met, and every step of every plan, each of them by other groups than the step before. Where that
        needs more inputs, because there are fewer groups, there are more.
        """
        for group, members in groupby(enumerate(self._all), key=lambda one: one[1][0]):
            conditions = self._conditions(self.groups[group])
            for number, (_, index) in members:
                yield from self._inputs_of(number, conditions, self._steps(group, index, every))

    def _steps(self, group: int, index: int, every: int) -> range:
        """Of a plan, those that one in `every` inputs takes of a group."""
        apart = min(every, len(self.groups))
        return range(-group % apart, len(self.plans.plans[index]), apart)

    def finals(self) -> list[tuple[Group, Float32]]:
        """The state at the end of every trajectory, and whose it is."""
        return [
            (self.groups[group], np.load(self._final_path(number), allow_pickle=False))
            for number, (group, _) in enumerate(self._all)
        ]

    def few(self, count: int) -> list[DenoiserInput]:
        """So many inputs of the smallest picture, from the lowest noise to the highest of all plans' steps."""
        chosen = min(range(len(self.groups)), key=lambda index: (prod(self.groups[index].size), index))
        first = replace(self.groups[chosen], names=self.groups[chosen].names[:1], lr=self.groups[chosen].lr[:1])
        conditions = self._conditions(first)
        steps = sorted(
            (row.noise_level, number, step)
            for number, (group, index) in enumerate(self._all)
            if group == chosen
            for step, row in enumerate(self.plans.plans[index].rows)
        )
        places = np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int))
        return [entry for at in places for entry in self._inputs_of(steps[at][1], conditions, [steps[at][2]], slice(1))]

    def example(self) -> Mapping[str, NDArray[Any]]:
        """Feeds of the largest input."""
        number, (group, _) = max(enumerate(self._all), key=lambda one: _pixels(self.groups[one[1][0]]))
        return next(self._inputs_of(number, self._conditions(self.groups[group]), [0])).feeds

    def _conditions(self, group: Group) -> Callable[[Turn], Mapping[str, Any]]:
        """What all steps of all plans are fed of the pictures, by how they are turned; each is made once."""
        return cache(lambda turn: self._condition(group, turn))

    def _condition(self, group: Group, turn: Turn) -> Mapping[str, Any]:
        subject = self._subject(group)
        if turn != AS_IT_IS:
            subject = self._session.model.turned(subject, turn)
        return subject.condition(Window.whole(Size(*subject.state_shape[2:])))

    def _inputs_of(
        self,
        number: int,
        conditions: Callable[[Turn], Mapping[str, Any]],
        steps: Iterable[int],
        pictures: slice = ALL,
    ) -> Iterator[DenoiserInput]:
        """Of one trajectory, and those of its pictures that the conditions are of."""
        plan = self.plans.plans[self._all[number][1]]
        rows = self._session.model.rows(plan.rows)
        stored = np.load(self._path(number), mmap_mode="r", allow_pickle=False)
        for step in steps:
            yield DenoiserInput(
                level_index=self.plans.level_index(plan.rows[step].noise_level),
                feeds={"x": np.array(stored[0, step, pictures]), **conditions(rows[step].turn), **rows[step].feeds},
                predicted=np.array(stored[1, step, pictures]),
            )

    def _recorded(self, group: Group, index: int, tell: Callable[[StepProgress], None]) -> tuple[Float32, Float32]:
        """States and predicted noise, (2, steps, batch, channels, height, width), and the final state."""
        sampling, plan = self.plans.samplings[index], self.plans.plans[index]
        subject = self._subject(group)
        states: list[Float32] = []
        predictions: list[Float32] = []

        def keep(x: Float32, row: PlanRow, predicted: Float32) -> None:
            if not np.isfinite(predicted).all():
                graphs = self._session.graphs
                where = f"step {len(states) + 1} of {len(plan)} (noise level {row.noise_level:.4g})"
                feeds = {"x": x, **self._condition(group, row.turn), **row.feeds}
                raise not_finite_error(graphs.bundle.graph(DENOISE, graphs.choice.record.norm), feeds, where)
            states.append(x.copy())
            predictions.append(predicted.copy())

        with sampled_batch(
            self._session.model,
            subject,
            group.size,
            plan,
            self._noise(group),
            whole_layout(subject.state_shape, self._session.model.stride),
            from_guess=sampling.from_guess,
            consistency=sampling.consistency,
            scratch=self._folder,
            progress=tell,
            notice=ignore,
            watch=keep,
        ) as sampled:
            return np.stack([np.stack(states), np.stack(predictions)]), np.array(sampled.state)

    def _work(self, number: int) -> int:
        """How long a trajectory is, in pixels and steps."""
        group, index = self._all[number]
        return _pixels(self.groups[group]) * len(self.plans.plans[index])

    def _subject(self, group: Group) -> Subject:
        model = self._session.model
        if not group.lr:
            return model.generation(1, group.size, group.size).subject
        lr = np.stack([network_from_pixels(picture, model.values) for picture in group.lr])
        subject = model.subject(lr, group.size, self._noise(group).posterior)
        blend = self.plans.samplings[0].blend  # of the default preset, and so of all
        return subject if blend == 1 else model.blended(subject, blend)

    def _noise(self, group: Group) -> NoiseSource:
        keys = [image_key(picture) for picture in group.lr] or [NO_PICTURE]
        return NoiseSource(seed=self._seed, sample=group.sample, images=keys)

    def _path(self, number: int) -> Path:
        return self._folder / f"trajectory-{number:04d}.npy"

    def _final_path(self, number: int) -> Path:
        return self._folder / f"final-{number:04d}.npy"


def whole_layout(shape: tuple[int, int, int, int], stride: int) -> Layout:
    """A batch in one piece: calibration pictures are small."""
    return Layout(
        batch=shape[0],
        tiling=whole_tiling(Size(*shape[2:]), stride),
        state_on_disk=False,
        cache_bytes=1 << 62,
        decode_bytes=64 << 20,
        predicted_bytes=0,
    )


def _pixels(group: Group) -> int:
    return group.size[0] * group.size[1] * max(len(group.lr), 1)
