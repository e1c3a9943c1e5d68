"""What `idm-deploy bench` measures, checked before anything is opened."""

from dataclasses import dataclass, field

from deploy.errors import DeployError, nearest_name
from deploy.images.sizes import Size
from deploy.sampling.choices import Choices
from engines.backends import check_device

PARTS = ("step", "picture", "batches", "sizes", "start-up", "roofline", "disk")
STEP, PICTURE, BATCHES, SIZES, START_UP, ROOFLINE, DISK = PARTS
"""What can be measured, in the order in which it is. Start-up brings the memory with it."""

LARGEST_SWEEP_ROUNDS = 3
"""Batches and sizes show how cost grows, over large factors; more rounds would take long and tell nothing."""


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What is timed, and on which engines. Sizes are (height, width) of the output.

    choices: how whole pictures are sampled, one or more; the bundle's default preset if nothing is said.
    published_steps: how many steps of the published sampler a turn times, from which a whole picture follows.
    batches: how many pictures at once; side lengths: of the square output sizes whose cost is compared.
    engines, precisions: which of those that are here; empty: all. device: the number of a GPU, to time on it those that
    run on GPUs. tile: side of the tiles in which pictures are made whose size is swept; None: as is fastest, 0: whole.
    """

    size: Size = Size(128, 128)
    batch: int = 1
    threads: int = 2
    rounds: int = 7
    parts: tuple[str, ...] = PARTS
    choices: tuple[Choices, ...] = field(default_factory=lambda: (Choices(),))
    published_steps: int = 2
    batches: tuple[int, ...] = (1, 2, 4, 8)
    sides: tuple[int, ...] = (64, 128, 256, 512)
    engines: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    device: int | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        counts = [("height", self.size[0]), ("width", self.size[1]), ("batch", self.batch), ("threads", self.threads)]
        counts += [("rounds", self.rounds), ("published steps", self.published_steps)]
        counts += [("batch", value) for value in self.batches] + [("side", value) for value in self.sides]
        counts += [] if not self.tile else [("tile", self.tile)]
        if problems := [f"{name} {value}" for name, value in counts if value < 1]:
            raise DeployError(f"the benchmark cannot run with {', '.join(problems)}: each must be at least 1.")
        for engine in self.engines or (None,):
            check_device(self.device, engine)
        for part in self.parts:
            if part not in PARTS:
                nearest = nearest_name(part, PARTS)
                raise DeployError(
                    f"the benchmark has no part {part!r}, the nearest is {nearest!r}; it has {', '.join(PARTS)}."
                )

    @property
    def sweep_rounds(self) -> int:
        """Rounds of the parts that show how cost grows."""
        return min(self.rounds, LARGEST_SWEEP_ROUNDS)
