"""Where results go: templates, names that would collide, refusals before any work."""

from pathlib import Path, PurePath
from typing import Any

import pytest

from deploy.errors import ImageError, SizeError
from deploy.folders.naming import Job, jobs_of
from deploy.folders.request import Request
from deploy.folders.search import Candidate


def jobs(*names: str, made_of: Any = lambda _: None, **options: Any) -> list[Job]:
    """The results of such files in the current folder."""
    sources = [Candidate(Path(name), PurePath(name).parent) for name in names]
    ways = {"scale", "size", "long_edge", "fit", "megapixels"} & options.keys()
    way = {} if ways else {"scale": 4.0}
    request = Request(images=(Path("pictures"),), output=Path("out"), output_is_folder=True, **way, **options)
    return jobs_of(request, sources, made_of)


def targets(*names: str, **options: Any) -> list[str]:
    """Where they go, from the folder of results."""
    return [job.target.relative_to("out").as_posix() for job in jobs(*names, **options)]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "photo_x4.png"),
        ({"scale": 2.5}, "photo_x2.5.png"),
        ({"size": (640, 480)}, "photo_640x480.png"),
        ({"long_edge": 2048}, "photo_long2048.png"),
        ({"fit": (1920, 1080)}, "photo_fit1920x1080.png"),
        ({"megapixels": 12}, "photo_12MP.png"),
        ({"crop": (0, 0, 4, 4)}, "photo_x4_crop.png"),
        ({"compare": True}, "photo_x4_compare.png"),
        ({"name": "{stem}_x{scale}{ext}"}, "photo_x4.png"),
        ({"name": "big {name} {size} {seed}.webp", "seed": 7}, "big photo.jpg x4 7.webp"),
    ],
)
def test_a_result_is_named_by_what_was_asked_for(options: dict[str, Any], name: str) -> None:
    assert targets("sub/photo.jpg", **options) == [f"sub/{name}"]


def test_names_that_would_collide_keep_their_suffix() -> None:
    assert targets("IMG.heic", "IMG.jpg", "a.png", "sub/IMG.jpg") == [
        "IMG.heic_x4.png", "IMG.jpg_x4.png", "a_x4.png", "sub/IMG_x4.png",
    ]  # fmt: skip

    # A result that is there already keeps its name when another picture comes beside its input.
    def made_of(target: Path) -> Path | None:
        return Path("IMG.jpg").absolute() if target == Path("out/IMG_x4.png") else None

    assert targets("IMG.heic", "IMG.jpg", made_of=made_of) == ["IMG.heic_x4.png", "IMG_x4.png"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["a.gif_x4_samples.png", "a.png_x4_samples.png", "b_x4_samples.png"]),
        ({"name": "{name}-{draw}{ext}"}, ["a.gif-samples.png", "a.png-samples.png", "b.png-samples.png"]),
        ({"name": "{name}.{draw}.jpg"}, ["a.gif.samples.jpg", "a.png.samples.jpg", "b.png.samples.jpg"]),
    ],
)
def test_a_sheet_is_named_like_its_draws(options: dict[str, Any], names: list[str]) -> None:
    made = jobs("a.gif", "a.png", "b.png", samples=2, **options)
    assert [job.sheet for job in made] == [Path("out") / name for name in names for _ in range(2)]
    assert all(job.sheet is None for job in jobs("a.png"))


def test_a_template_that_collides_is_refused() -> None:
    told = (
        r"IMG\.heic and IMG\.jpg would both be written to out/IMG_x4\.png; give a `name` .* such as {name}_{size}{ext}"
    )
    with pytest.raises(ImageError, match=told):
        targets("IMG.heic", "IMG.jpg", name="{stem}_x{scale}{ext}")
    assert targets("IMG.heic", "IMG.jpg", name="{name}_{size}{ext}") == ["IMG.heic_x4.png", "IMG.jpg_x4.png"]
    told = r"several draws of a\.png would both be written to out/a\.png; give a `name` .* such as {stem}_{draw}{ext}"
    with pytest.raises(ImageError, match=told):
        targets("a.png", samples=2, name="{stem}{ext}")
    assert targets("a.png", samples=2, name="{stem}_{draw}{ext}") == ["a_0.png", "a_1.png"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("{stme}{ext}", r"has the field {stme}, which is unknown; the nearest is {stem} of {stem}, {name}"),
        ("{stem!r}{ext}", r"has {stem!r}, but fields are taken as they are, without a form; write {stem}\."),
        ("{stem:>9}{ext}", r"has {stem:>9}, but fields are taken as they are, without a form; write {stem}\."),
        ("{stem", r"The name '{stem' cannot be read: .* Write it like {stem}_x{scale}{ext}"),
        ("{0}.png", r"has the field \{0\}, which is unknown"),
        ("../{stem}{ext}", r"must be that of a file, without folders"),
        ("", r"must be that of a file, without folders"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(name: str, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        targets("a.png", name=name)


def test_a_field_needs_its_value() -> None:
    with pytest.raises(ImageError, match=r"has the field {scale}, but no `scale` was given; use {size}"):
        targets("a.png", name="{stem}_x{scale}{ext}", long_edge=100)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"samples": 0}, r"The number of samples must be from 1 to 64, found 0"),
        ({"batch": 0}, r"The batch must be a number of pictures from 1, or auto; found 0"),
        ({"crop": (0, 0, 0, 4)}, r"The crop must be left, top, width and height .* found 0,0,0,4"),
        ({"megapixels": 0.0}, r"The megapixels must be a number above 0"),
        ({"fit": (0, 5)}, r"The box to fit must be \(width, height\) in whole pixels above 0, found \(0, 5\)"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises((ImageError, SizeError), match=told):
        targets("a.png", **options)
