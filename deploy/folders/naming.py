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
from deploy.errors import ImageError
from deploy.folders.request import Request
from deploy.folders.search import Source

FIELDS = ("stem", "name", "ext", "scale", "size", "seed", "draw")

DEFAULT_SUFFIX = ".png"

_SHEET = "{name}_{size}_samples{ext}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A result to make: draw number `draw` of the picture `image`, to be written to `target`."""

    index: int
    image: Path
    target: Path
    draw: int = 0


def jobs_of(
    request: Request, sources: Sequence[Source], made_of: Callable[[Path], Path | None] = lambda _: None
) -> list[Job]:
    """A job for each draw of each picture, no two of which have the same target.

    Pictures whose names differ only in their suffix keep it in the names of their results, unless a template was given,
    which is refused then. One of them whose result is there already without it, as `made_of` tells of targets, keeps
    that name.
    """
    template = _Template(request)
    targets = [(source, draw, template.target(source, draw)) for source in sources for draw in range(request.samples)]
    counts = Counter(target for _, _, target in targets)
    jobs: list[Job] = []
    for source, draw, target in targets:
        keeps_suffix = counts[target] > 1 and template.is_own and made_of(target) != source.path.absolute()
        chosen = template.target(source, draw, with_suffix=True) if keeps_suffix else target
        jobs.append(Job(index=len(jobs), image=source.path, target=chosen, draw=draw))
    _refuse_same_targets(jobs)
    _refuse_own_inputs(jobs)
    return jobs


def sheet_target(request: Request, source: Source) -> Path:
    """Where the sheet of a picture's draws goes."""
    return _Template(request).target(source, None)


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

    def target(self, source: Source, draw: int | None, *, with_suffix: bool = False) -> Path:
        """The path of a result; of the sheet of all draws where `draw` is None."""
        request, image = self._request, source.path
        if request.output is not None and not request.goes_into_a_folder():
            return request.output
        stem = (stem_of_content_name(image.name) if request.are_samples else None) or image.stem
        values: Mapping[str, object] = {
            "stem": image.name if with_suffix else stem,
            "name": image.name,
            "ext": DEFAULT_SUFFIX,
            "scale": "" if request.scale is None else f"{request.scale:g}",
            "size": request.size_label(),
            "seed": request.seed,
            "draw": draw,
        }
        name = (self._text if draw is not None else _SHEET).format_map(values)
        folder = Path() if request.output is None else request.output
        return folder / source.place / name


def _check(text: str, request: Request) -> None:
    """The template can be filled, and makes a name."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ImageError(
            f"The name {text!r} cannot be read: {error}. Write it like {{stem}}_x{{scale}}{{ext}}."
        ) from None
    for name, spec, conversion in fields:
        if name not in FIELDS or spec or conversion:
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
            raise ImageError(
                f"{both} would both be written to {job.target}; enlarge them into different folders, or give a `name` "
                "that tells them apart, such as {name}_{size}{ext}."
            )
        seen[job.target] = job


def _refuse_own_inputs(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.target.exists() and job.image.exists() and job.image.samefile(job.target):
            raise ImageError(f"{job.image} would be overwritten by its own enlargement; choose another name with -o.")
