"""Where each result goes: a name made by a template, in the folder that mirrors the input's.

{stem}          name of the input without its suffix
{name}          name of the input with its suffix
{ext}           suffix of the result, such as .png
{scale}         of --scale, such as 4
{size}          what was asked for: x4, 1920x1080, long2048, fit1920x1080 or 12MP
{seed}, {draw}  numbers
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from string import Formatter

from deploy.bundle.naming import stem_of_content_name
from deploy.errors import DeployError, ImageError
from deploy.folders.request import Request
from deploy.folders.search import Candidate
from deploy.images.reading import read_header
from deploy.images.writing import format_for
from deploy.picture.files import result_suffix

FIELDS = ("stem", "name", "ext", "scale", "size", "seed", "draw")

_ALL_DRAWS = "samples"
"""Stands for the number of a draw in the name of the sheet that shows all of them."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A result to make: draw number `draw` of the picture `image`, to be written to `target`.

    frame: of a file that holds several pictures, from 0; None where nobody said. names_format: whether the name of the
    result says its format, rather than following from that. sheet: where all draws of the picture are shown together.
    """

    index: int
    image: Path
    target: Path
    draw: int = 0
    frame: int | None = None
    names_format: bool = False
    sheet: Path | None = None

    def __str__(self) -> str:
        return str(self.image) if self.frame is None else f"{self.image} frame {self.frame + 1}"


def jobs_of(
    request: Request, sources: Sequence[Candidate], made_of: Callable[[Path], Path | None] = lambda _: None
) -> list[Job]:
    """A job for each draw of each picture, no two of which have the same target.

    Pictures whose names differ only in their suffix keep it in the names of their results, unless a template was given,
    which is refused then. One of them whose result is there already without it, as `made_of` tells of targets, keeps
    that name.
    """
    template = _Template(request)
    named = [
        (source, frame, draw)
        for source in sources
        for frame in _frames_of(source.path, request)
        for draw in range(request.samples)
    ]
    targets = [template.target(source, draw, frame) for source, frame, draw in named]
    counts = Counter(targets)
    jobs: list[Job] = []
    for (source, frame, draw), target in zip(named, targets, strict=True):
        keeps_suffix = counts[target] > 1 and template.is_own and made_of(target) != source.path.absolute()
        sheet = template.target(source, None, frame, with_suffix=keeps_suffix) if request.samples > 1 else None
        jobs.append(
            Job(
                index=len(jobs),
                image=source.path,
                target=template.target(source, draw, frame, with_suffix=True) if keeps_suffix else target,
                draw=draw,
                frame=frame,
                names_format=template.names_format,
                sheet=sheet,
            )
        )
    _refuse_same_targets(jobs)
    _refuse_own_inputs(jobs)
    return jobs


def check_names(request: Request) -> None:
    """ImageError where names cannot be made as was asked, or are not those of a format that is written."""
    template = _Template(request)
    if template.names_format:
        named = request.output if request.output is not None and not request.goes_into_a_folder() else None
        format_for(named or Path(request.name or ""), "png", is_lossless=True, saving=request.saving)


def _frames_of(image: Path, request: Request) -> list[int | None]:
    if not request.all_frames:
        return [None]
    try:
        count = read_header(image).frames
    except DeployError:
        return [None]  # told when its turn comes
    return list(range(count)) if count > 1 else [None]


class _Template:
    def __init__(self, request: Request) -> None:
        self._request = request
        self.is_own = request.name is None
        views = "".join(
            view for view, is_shown in (("_crop", request.crop is not None), ("_compare", request.compare)) if is_shown
        )
        drawn = "_draw{draw}" if request.samples > 1 else ""
        self._text = f"{{stem}}_{{size}}{views}{drawn}{{ext}}" if request.name is None else request.name
        _check(self._text, request)
        self._sheet_text = self._text.replace("draw{draw}", "{draw}")
        self._latest: tuple[Path, str] | None = None
        self._is_file = request.output is not None and not request.goes_into_a_folder()
        self.names_format = request.names_formats()

    def target(
        self, source: Candidate, draw: int | None, frame: int | None = None, *, with_suffix: bool = False
    ) -> Path:
        """The path of a result; of the sheet of all draws where `draw` is None."""
        request, image = self._request, source.path
        if self._is_file and request.output is not None:
            return request.output
        stem = (stem_of_content_name(image.name) if request.are_samples else None) or image.stem
        number = "" if frame is None else f"_{frame + 1:04d}"
        values: Mapping[str, object] = {
            "stem": (image.name if with_suffix else stem) + number,
            "name": image.name + number,
            "ext": self._suffix(image),
            "scale": "" if request.scale is None else f"{request.scale:g}",
            "size": request.size_label(),
            "seed": request.seed,
            "draw": _ALL_DRAWS if draw is None else draw,
        }
        name = (self._text if draw is not None else self._sheet_text).format_map(values)
        folder = Path() if request.output is None else request.output
        return folder / source.place / name

    def _suffix(self, image: Path) -> str:
        """That of its result, by its header; of a picture that is asked for again and again it is kept."""
        if self.names_format:
            return ""
        if self._latest is None or self._latest[0] != image:
            self._latest = image, result_suffix(image, self._request.saving)
        return self._latest[1]


def _check(text: str, request: Request) -> None:
    """The template can be filled, and makes a name."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ImageError(
            f"The name {text!r} cannot be read: {error}. Write it like {{stem}}_x{{scale}}{{ext}}."
        ) from None
    for name, spec, conversion in fields:
        if name in FIELDS and (spec or conversion):
            typed = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}}"
            raise ImageError(
                f"The name {text!r} has {typed}, but fields are taken as they are, without a form; write {{{name}}}."
            )
        if name not in FIELDS:
            nearest = get_close_matches(name, FIELDS, n=1, cutoff=0.0)[0]
            raise ImageError(
                f"The name {text!r} has the field {{{name}}}, which is unknown; the nearest is {{{nearest}}} of "
                f"{', '.join(f'{{{known}}}' for known in FIELDS)}."
            )
    if "scale" in {name for name, _, _ in fields} and request.scale is None:
        raise ImageError(f"The name {text!r} has the field {{scale}}, but no `scale` was given; use {{size}}.")
    if "/" in text or "\\" in text or "\0" in text or text.strip(". ") == "":
        raise ImageError(
            f"The name {text!r} must be that of a file, without folders; results mirror the inputs' folders."
        )


def _refuse_same_targets(jobs: Sequence[Job]) -> None:
    """Two pictures of the same name must not overwrite each other's result."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        if job.target in seen:
            other = seen[job.target]
            both = f"{other.image} and {job.image}" if other.image != job.image else f"several draws of {job.image}"
            raise ImageError(f"{both} would both be written to {job.target}; {_way_out(other, job)}")
        seen[job.target] = job


def _way_out(first: Job, second: Job) -> str:
    """What keeps the results of two jobs apart."""
    if first.image == second.image and first.draw != second.draw:
        return "give a `name` that tells them apart, such as {stem}_{draw}{ext}."
    if first.image.name != second.image.name or first.image == second.image:
        return "give a `name` that tells them apart, such as {name}_{size}{ext}, or none."
    return (
        "they have one name. Enlarge the folders that they lie in, whose results are kept apart, or one after the "
        "other, into a folder (-o) each."
    )


def _refuse_own_inputs(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.target.exists() and job.image.exists() and job.image.samefile(job.target):
            raise ImageError(f"{job.image} would be overwritten by its own enlargement; choose another name with -o.")
