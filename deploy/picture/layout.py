"""How a run is laid out under a memory budget: how many pictures at once, in which tiles, where the state lives.

The prediction adds what the models say of their networks to what this process holds already (engines and weights,
measured), so it is made after the engines are open and before the first picture is touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from deploy.errors import SizeError
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.tiles import Tiling, smallest_tile, whole_tiling
from deploy.picture.faster_tiles import faster_tile
from deploy.picture.memory import text_from_bytes
from deploy.picture.room import ROOM

LARGEST_BATCH = 8
"""Pictures at once. On two cores a batch gains nothing beyond a few."""

WHOLE = 0
"""In place of the side of tiles: in one piece, as far as memory allows."""

LARGEST_TILE = 1024
"""Pixels. The work of attention grows with the fourth power of the side."""

SLACK_BYTES = 24 << 20
"""What strips of the state, noise, resizing and Python take meanwhile; 10 to 20 MiB were seen."""


SHARE_COLLECTED = 8
"""A collected picture larger than this part of the room lies on disk."""

SHARE_HELD = 3
"""Engines keep a third of what an earlier stage took, and a later one with other tiles takes its own besides: 67 MB of
186 were seen on ONNX Runtime."""

SLACK_SHARE = 0.03
"""Part of the budget left for what the allocators of engines round up."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be laid out: pictures of one size on their way to one size.

    tile: side of the tiles, or WHOLE; None: what is fastest. from_guess: the steps begin at the enlarged input.
    """

    lr: Size
    size: Size
    count: int
    state_arrays: int
    keeps_pixels: bool  # results are returned rather than streamed to a file
    pixel_bytes: int = 3  # of each pixel that is kept
    tile: int | None = None
    output: Size | None = None  # of the finished picture, where this run makes a part of the way; None: `size`
    collects: bool = False  # the picture is collected as floats, for another run or a filter
    lr_on_disk: bool = False  # of the input, nothing but what is worked on is in memory
    has_alpha: bool = False  # which is made before the rest, and kept
    consistent: bool = False  # with the input
    from_guess: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The decision, and the resident memory that is predicted for it.

    own_bytes: of that, what one batch takes for itself. shared_bytes: what all batches at the same time may take.
    for_speed: tiles were chosen because they are faster.
    """

    batch: int
    tiling: Tiling
    state_on_disk: bool
    cache_bytes: int
    decode_bytes: int
    predicted_bytes: int
    picture_on_disk: bool = False  # that is collected
    own_bytes: int = 0
    shared_bytes: int = 0
    for_speed: bool = False


def layout_for(model: Model, job: Job, budget: int) -> Layout:
    """The fastest layout that stays within `budget` resident bytes, for a batch that is alone."""
    room = budget - ROOM.resident_besides_runs() - SLACK_BYTES - int(SLACK_SHARE * budget)
    faster = faster_tile(model, _state_size(model, job), from_guess=job.from_guess) if job.tile is None else None
    if not job.tile and faster is None:
        batch = min(job.count, LARGEST_BATCH)
        while batch:
            collected = batch * _collected_bytes(job)
            needed = _whole_bytes(model, job, batch) + (0 if _is_on_disk(collected, room) else collected)
            if needed <= room:
                return _whole_layout(model, job, batch, room, budget, needed)
            batch //= 2
    return _tiled_layout(model, job, faster, room, budget)


def layouts_for(model: Model, jobs: Sequence[Job], budget: int) -> list[Layout]:
    """Of runs that one batch goes through one after the other, each but the first from what the one before collects."""
    batch = jobs[0].count
    while True:
        layouts: list[Layout] = []
        for job in jobs:
            from_disk = bool(layouts) and layouts[-1].picture_on_disk
            held = max((layout.own_bytes for layout in layouts), default=0) // SHARE_HELD
            layout = layout_for(model, replace(job, count=batch, lr_on_disk=from_disk), budget - held)
            own, predicted = layout.own_bytes + held, layout.predicted_bytes + held
            layouts.append(replace(layout, own_bytes=own, predicted_bytes=predicted))
        smallest = min(layout.batch for layout in layouts)
        if all(layout.batch == smallest for layout in layouts):
            return layouts
        batch = smallest


def _state_size(model: Model, job: Job) -> Size:
    return model.state_size(job.lr, job.size)


def _state_bytes(model: Model, job: Job) -> int:
    """Bytes of all arrays of the state's shape for one picture: 12 per pixel and array if it has three channels.

    Alpha takes 4 for each pixel of the result, and lies where these arrays do.
    """
    alpha = 4 * prod(job.output or job.size) if job.has_alpha else 0
    return 4 * model.channels * prod(_state_size(model, job)) * job.state_arrays + alpha


def _pixel_bytes(job: Job) -> int:
    return job.pixel_bytes * prod(job.output or job.size) if job.keeps_pixels else 0


def _collected_bytes(job: Job) -> int:
    return 12 * prod(job.size) if job.collects else 0


def _is_on_disk(collected: int, room: int) -> bool:
    """Whether a collected picture goes to disk: it is read and written once by rows, and a state many times."""
    return collected > room // SHARE_COLLECTED


def _window_bytes(model: Model, window: Size, batch: int) -> int:
    """Bytes for one window, with its condition twice: an engine hands out copies of what it holds."""
    return model.working_bytes(window, batch) + 2 * model.condition_bytes(window, batch)


def _fixed_bytes(model: Model, job: Job, batch: int) -> int:
    """What does not depend on the tiles, with a float32 copy of the input, unless that is on disk."""
    consistency = model.consistency_bytes(job.lr, job.size, batch) if job.consistent else 0
    copy = 0 if job.lr_on_disk else 12 * prod(job.lr) * batch
    return model.whole_picture_bytes(job.lr, job.size, batch) + copy + consistency


def _whole_bytes(model: Model, job: Job, batch: int) -> int:
    window = _window_bytes(model, _state_size(model, job), batch)
    # Encoding and decoding come before and after the steps, but engines keep what they once took.
    return window + _fixed_bytes(model, job, batch) + batch * (_state_bytes(model, job) + _pixel_bytes(job))


def _whole_layout(model: Model, job: Job, batch: int, room: int, budget: int, needed: int) -> Layout:
    size = _state_size(model, job)
    return Layout(
        batch=batch,
        tiling=whole_tiling(size, model.stride),
        state_on_disk=False,
        cache_bytes=model.condition_bytes(size, batch),
        decode_bytes=room // 2,
        predicted_bytes=budget - room + needed,
        picture_on_disk=_is_on_disk(batch * _collected_bytes(job), room),
        own_bytes=needed,
        shared_bytes=room,
    )


def _tiled_layout(model: Model, job: Job, faster: int | None, room: int, budget: int) -> Layout:
    size = _state_size(model, job)
    collected = _collected_bytes(job)
    picture_on_disk = _is_on_disk(collected, room)
    fixed = _fixed_bytes(model, job, 1) + _pixel_bytes(job) + (0 if picture_on_disk else collected)
    state = _state_bytes(model, job)
    on_disk = state > (room - fixed) // 4
    left = room - fixed - (0 if on_disk else state)
    if job.tile:
        tiling = Tiling(size=size, tile=job.tile, stride=model.stride)
    else:
        tiling = _largest_tiling(model, size, left, most=faster or LARGEST_TILE)
    working = _window_bytes(model, tiling.largest, 1)
    if working > left:
        needed = budget - left + working
        raise SizeError(
            f"Enlarging {job.lr} to {job.size} in tiles of {tiling.tile} needs about "
            f"{text_from_bytes(needed)} of memory, {text_from_bytes(budget)} are allowed. "
            f"Allow more with `max_memory`{', or use smaller tiles' if job.tile else ''}."
        )
    cache = 0 if tiling.is_whole else max(0, left - working)
    own = room - left + working + min(cache, len(tiling) * model.condition_bytes(tiling.largest, 1))
    return Layout(
        batch=1,
        tiling=tiling,
        state_on_disk=on_disk,
        cache_bytes=cache if not tiling.is_whole else model.condition_bytes(size, 1),
        decode_bytes=max(left // 2, 1),
        predicted_bytes=budget - room + own,
        picture_on_disk=picture_on_disk,
        own_bytes=own,
        shared_bytes=room,
        for_speed=tiling.tile == faster,
    )


def _largest_tiling(model: Model, size: Size, left: int, *, most: int) -> Tiling:
    """The largest tiles, of `most` pixels a side, whose windows fit into `left` bytes, or the smallest there are."""
    stride = model.stride
    smallest = smallest_tile(stride)
    for tile in range(min(most, max(size)) // stride * stride, smallest, -stride):
        tiling = Tiling(size=size, tile=tile, stride=stride)
        if _window_bytes(model, tiling.largest, 1) <= left:
            return tiling
    return Tiling(size=size, tile=smallest, stride=stride)
