"""What a person asks for: which pictures, how large, where to, and how."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy.engine.chosen import AUTO
from deploy.errors import ImageError, SizeError
from deploy.images.reading import MAX_PIXELS as MAX_INPUT_PIXELS
from deploy.images.reading import read_header
from deploy.images.sizes import MAX_PIXELS, Size, UserSize, check_request, label_of_size, output_size
from deploy.images.view import View
from deploy.images.writing import Saving
from deploy.picture.files import Source, open_source
from deploy.sampling.choices import Choices
from deploy.sampling.noise_source import check_draw

Crop = tuple[int, int, int, int]
"""Left, top, width and height of a part of the input, in its upright pixels."""

MOST_SAMPLES = 64
"""Draws of one picture: more do not fit on a sheet that anybody looks at."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which pictures, how large, where to, and how. Checked when it is made, as far as no picture is needed for that.

    images: files and folders. output: the result, or the folder of results. name: a template of their names, see
    `deploy.folders.naming`. crop: only that part is enlarged. samples: so many draws of each picture, and a sheet of
    them. compare: a result is shown beside the input enlarged by bicubic interpolation. one_noise: all pictures are
    made from the same noise, as frames of a film should be. batch: pictures of one size that are made together; None:
    as many as are fastest.
    """

    images: tuple[Path, ...]
    are_samples: bool = False  # the bundle's own pictures, in whose file names a hash follows the name
    scale: float | None = None
    size: UserSize | None = None
    long_edge: int | None = None
    fit: UserSize | None = None
    megapixels: float | None = None
    output: Path | None = None
    output_is_folder: bool = False  # `output` was said to be one, and is made if it is not there
    keeps_record: bool = False  # of what is done, in the folder of results
    name: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    crop: Crop | None = None
    samples: int = 1
    compare: bool = False
    one_noise: bool = False
    seed: int = 0
    tile: int | None = None
    batch: int | None = None
    max_pixels: int | None = None  # of inputs and outputs; None: what is usual for each
    force: bool = False
    precision: str = AUTO  # as it was asked for: "auto" takes what was made in any
    around: str = AUTO  # what surrounds int8 layers, as it was asked for
    choices: Choices = field(default_factory=Choices)
    saving: Saving = field(default_factory=Saving)
    all_frames: bool = False  # of files that hold several pictures, rather than the first

    def __post_init__(self) -> None:
        if not self.images:
            raise ImageError("There is no picture to enlarge: name one.")
        check_request(**self._way())
        check_draw(self.seed, 0)
        if isinstance(self.samples, bool) or not 1 <= self.samples <= MOST_SAMPLES:
            raise ImageError(f"The number of samples must be from 1 to {MOST_SAMPLES}, found {self.samples!r}.")
        if self.batch is not None and self.batch < 1:
            raise SizeError(f"The batch must be a number of pictures from 1, or auto; found {self.batch!r}.")
        if self.crop is not None and (min(self.crop) < 0 or min(self.crop[2:]) < 1):
            raise SizeError(
                "The crop must be left, top, width and height in whole pixels, such as 100,50,64,64; found "
                f"{','.join(map(str, self.crop))}."
            )
        if not self.names_formats():
            self.saving.check_quality_of_default()

    def outlook_on(self, image: Path, room: int | None = None) -> tuple[Size, bool]:
        """The size of what is enlarged of an input, and whether it is transparent, by its header.

        room: bytes of memory that looking may take; None: any.
        """
        header = read_header(image, room=room, max_pixels=self.max_pixels or MAX_INPUT_PIXELS)
        return header.size if self.crop is None else Size.from_user(self.crop[2:]), header.has_alpha

    def output_size(self, lr: Size) -> Size:
        """The size of the enlarged picture for an input of that size."""
        limit = MAX_PIXELS if self.max_pixels is None else self.max_pixels
        return output_size(lr, **self._way(), max_pixels=limit)

    def size_label(self) -> str:
        """The size that is asked for, as it stands in names of files, such as x4."""
        return label_of_size(**self._way())

    def open(self, image: Path, frame: int | None, room: int | None = None) -> Source:
        """An input as the network sees it: the part of it that is asked for. room: bytes it may take; None: any."""
        source = open_source(image, self.saving, frame=frame, max_pixels=self.max_pixels, room=room)
        if self.crop is None:
            return source
        left, top, width, height = self.crop
        if left + width > source.size.width or top + height > source.size.height:
            raise SizeError(
                f"The crop {left},{top},{width},{height} reaches beyond the picture {image}, which is "
                f"{source.size}; choose one inside it."
            )
        part = slice(top, top + height), slice(left, left + width)
        alpha = source.picture.alpha
        picture = replace(
            source.picture,
            colour=source.picture.colour[part].copy(),
            alpha=None if alpha is None else alpha[part].copy(),
        )
        return replace(source, view=View(picture, color_fix=self.saving.color_fix, background=source.background))

    def shown_settings(self, draw: int) -> dict[str, Any]:
        """What, beside the way of sampling, the result of an input follows from; to be hashed."""
        return {
            "size": self._way(),
            "crop": self.crop,
            "draw": draw,
            "compare": self.compare,
            "one noise": self.one_noise,
            "file": asdict(self.saving),
        }

    def goes_into_a_folder(self) -> bool:
        """Whether `output` names the folder of the results rather than the only one."""
        return self.output is not None and (
            self.output_is_folder
            or len(self.images) > 1
            or self.samples > 1
            or self.all_frames
            or self.output.is_dir()
            or self.images[0].is_dir()
        )

    def names_formats(self) -> bool:
        """Whether the names of the results say their formats, rather than following from these."""
        is_file = self.output is not None and not self.goes_into_a_folder()
        return is_file or (self.name is not None and "{ext}" not in self.name)

    def _way(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "size": self.size,
            "long_edge": self.long_edge,
            "fit": self.fit,
            "megapixels": self.megapixels,
        }
