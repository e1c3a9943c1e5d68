"""The settings of a run besides how to sample, and the progress that it tells."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.picture.run import Preview, Progress
from deploy.sampling.noise_source import NoiseCallable, check_draw


def ignore(_: Any) -> None:
    """Do nothing with progress or a notice."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The settings of a run besides how to sample; see `Upscaler.upscale`."""

    seed: int = 0
    sample: int = 0
    noise: NoiseCallable | None = None
    one_noise: bool = False  # the same for all pictures of a size, as frames of a film need it
    tile: int | None = None
    scratch: Path | None = None  # where a state too large for memory goes; None: the system's temporary folder
    keeps_pixels: bool = False  # `sampled` will be asked for all pixels at once, rather than for rows
    pixel_bytes: int = 3  # what each of these pixels takes
    has_alpha: bool = False  # the network makes that too
    progress: Callable[[Progress], None] = ignore
    notice: Callable[[str], None] = ignore
    preview: Preview | None = None  # is shown the picture as far as it is, after each step; see `sampled_batch`

    def __post_init__(self) -> None:
        check_draw(self.seed, self.sample)

    @property
    def scratch_folder(self) -> Path:
        """The folder for what is too large for memory."""
        return self.scratch or Path(tempfile.gettempdir())

    def counted(self, pictures: int, finished: int, at_once: int, began: float) -> "RunOptions":
        """The options for a few of several pictures, whose progress counts all. began: by `time.perf_counter`."""

        def tell(done: Progress) -> None:
            self.progress(done.of_list(pictures, finished, at_once, time.perf_counter() - began))

        return replace(self, progress=tell)

    def in_part(self, part: int, parts: int, began: float) -> "RunOptions":
        """For one of several times that the steps are taken for the same pictures: the same, with such progress."""

        def tell(done: Progress) -> None:
            self.progress(replace(done, part=part, parts=parts, seconds=time.perf_counter() - began))

        return replace(self, progress=tell)
