"""Which files are pictures to enlarge: patterns, hidden files, links in circles, results among inputs."""

import os
from pathlib import Path, PurePath

import pytest

from deploy.errors import ImageError
from deploy.folders.patterns import Patterns
from deploy.folders.search import find_pictures

EVERYTHING = Patterns()


@pytest.mark.parametrize(
    ("include", "exclude", "place", "taken"),
    [
        ([], [], "a/b.jpg", True),
        (["*.jpg"], [], "a/b.JPG", True),
        (["*.jpg"], [], "a/b.jpg.png", False),
        (["2024/*.jpg"], [], "2024/b.jpg", True),
        (["2024/*.jpg"], [], "2024/a/b.jpg", False),
        (["2024/*.jpg"], [], "old/2024/b.jpg", False),
        (["2024/**/*.jpg"], [], "2024/b.jpg", True),
        (["2024/**/*.jpg"], [], "2024/a/a/b.jpg", True),
        (["**/raw/*"], [], "a/raw/b.jpg", True),
        (["IMG_[0-3]?.png"], [], "IMG_27.png", True),
        (["IMG_[!0-3]?.png"], [], "IMG_27.png", False),
        (["a+b(1).png"], [], "a+b(1).png", True),  # no expression
        ([], ["raw"], "raw", False),
        ([], ["*.jpg"], "a/b.jpg", False),
        (["*.jpg"], ["b*"], "a/b.jpg", False),
        ([], ["a/"], "a", False),
        (["new\nline*"], [], "new\nline.png", True),
    ],
)
def test_patterns_are_those_of_shells(include: list[str], exclude: list[str], place: str, taken: bool) -> None:
    assert Patterns.of(include, exclude).takes(PurePath(place)) is taken


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ImageError, match=r"The pattern '/' names no file; write it like \*\.jpg"):
        Patterns.of(["/"], [])
    with pytest.raises(ImageError, match=r"The pattern '\[z-a\]' cannot be read"):
        Patterns.of([], ["[z-a]"])


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def found_in(*named: Path, patterns: Patterns = EVERYTHING, output: Path | None = None) -> list[tuple[str, str]]:
    """The name of each picture and the folder of its result."""
    found = find_pictures(named, patterns, output=output, is_result=lambda path: "_x2" in path.name)
    return [(source.path.name, source.place.as_posix()) for source in found.sources]


def test_a_folder_is_mirrored_in_the_order_of_names(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.png", "a.JPG", "notes.txt", ".hidden.png", ".git/c.png", "sub/d.png", "sub/a/e.webp", "raw/f.png"
    )
    everything = [("a.JPG", "."), ("b.png", "."), ("f.png", "raw"), ("d.png", "sub"), ("e.webp", "sub/a")]
    assert found_in(tmp_path) == everything
    assert found_in(tmp_path, patterns=Patterns.of([], ["raw", "b*"])) == [everything[0], *everything[3:]]
    assert found_in(tmp_path, patterns=Patterns.of(["*.txt", "sub/*.png"], [])) == [
        ("notes.txt", "."),
        ("d.png", "sub"),
    ]
    # Files that are named come as they are, and each of several folders keeps its name.
    assert found_in(tmp_path / "notes.txt", tmp_path / "raw", tmp_path / "sub") == [
        ("notes.txt", "."), ("f.png", "raw"), ("d.png", "sub"), ("e.webp", "sub/a"),
    ]  # fmt: skip


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/sub/b.png", "elsewhere/c.png")
    (tmp_path / "in/sub/up").symlink_to("..")
    (tmp_path / "in/sub/other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/self.png").symlink_to("self.png")
    (tmp_path / "in/gone.png").symlink_to("nowhere.png")
    assert found_in(tmp_path / "in") == [
        ("a.png", "."), ("gone.png", "."), ("self.png", "."), ("b.png", "sub"), ("c.png", "sub/other"),
    ]  # fmt: skip


def test_results_are_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_x2.png", "out/a_x2.png", "older/.idm-deploy/record.sqlite", "older/b.png")
    # What lies in the folder of results, or in one of another run, is not enlarged again.
    assert found_in(tmp_path, output=tmp_path / "out") == [("a.png", "."), ("a_x2.png", ".")]
    # Results beside their inputs are told one by one.
    assert found_in(tmp_path, output=tmp_path) == [("a.png", ".")]
    # A folder of results that is named is meant.
    assert found_in(tmp_path / "older", output=tmp_path / "out") == [("b.png", ".")]


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/pictures/x.png", "b/pictures/x.png")
    with pytest.raises(ImageError, match=r"a/pictures and .*b/pictures are folders of the same name"):
        found_in(tmp_path / "a/pictures", tmp_path / "b/pictures")


def test_what_is_named_more_than_once_is_found_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/sub/b.png", "other/c.png")
    (tmp_path / "in" / "link.png").symlink_to("a.png")  # another name is another picture
    pictures, a = tmp_path / "in", tmp_path / "in" / "a.png"
    found = find_pictures(
        [a, pictures / "sub" / ".." / "a.png", pictures, tmp_path / "other" / ".." / "in"], EVERYTHING
    )
    assert [(source.path.name, source.place.as_posix()) for source in found.sources] == [
        ("a.png", "."), ("link.png", "."), ("b.png", "sub"),
    ]  # fmt: skip
    assert set(map(Path.resolve, found.repeated)) == {a}
    # The name of the file counts, and the folder's place otherwise.
    assert found_in(pictures, tmp_path / "other", a) == [
        ("link.png", "in"), ("b.png", "in/sub"), ("c.png", "other"), ("a.png", "."),
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "secret/b.png")
    (tmp_path / "secret").chmod(0)
    found = find_pictures([tmp_path], EVERYTHING)
    (tmp_path / "secret").chmod(0o700)
    assert [source.path.name for source in found.sources] == ["a.png"]
    assert "Permission denied. Check its permissions." in str(found.failures[tmp_path / "secret"])
