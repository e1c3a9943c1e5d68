"""`idm-deploy infer` on folders, standard input and output, and what it prints, as a user types it."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle
from deploy.cli import main as entry
from deploy.families.idm.model import IdmModel
from deploy.families.model import Growth
from tests.deploy.cli.test_infer import ENTRY, report_of
from tests.deploy.folders.pictures import files_in, make_pictures
from tests.json_schema import checked


def infer(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """What the command printed, run in this process: an interpreter for each would take a second."""
    printed, told = io.StringIO(), io.StringIO()
    ended = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", ["idm-deploy", "infer", *arguments])
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(printed):
            try:
                entry.main()
            except SystemExit as error:
                ended = int(str(error.code or 0))
    assert ended == code, told.getvalue()
    return subprocess.CompletedProcess(arguments, ended, printed.getvalue(), told.getvalue())


STEPS = ("--scale", "2", "--steps", "1", "--threads", "1", "--engine", "onnxruntime-cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def place(tmp_path: Path, idm_micro: Bundle) -> Path:
    """A folder with a bundle, and a folder of pictures of which one is none."""
    (tmp_path / "micro.bundle").symlink_to(idm_micro.path)
    make_pictures(tmp_path / "in", "a.png", "sub/b.jpg", "sub/new\nline.png")
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    return tmp_path


def test_a_folder_is_told_picture_by_picture_and_at_the_end(place: Path) -> None:
    done = infer(place, "in", "-o", "out", *STEPS, "--json", code=1)
    report = report_of(done.stdout)
    assert [row["output"] for row in report["pictures"]] == [
        "out/a_x2.png", "out/sub/b_x2.png", "out/sub/new\nline_x2.png",
    ]  # fmt: skip
    assert [row["input"] for row in report["refused"]] == ["in/text.jpg"]
    assert (report["made"], report["skipped"], report["failed"]) == (3, 0, 1)
    assert done.stderr.splitlines()[-1] == "idm-deploy: 1 of 4 pictures failed: in/text.jpg"
    again = infer(place, "in", "-o", "out", *STEPS, "--exclude", "text*")
    assert again.stdout.splitlines()[0] == "out/a_x2.png: exists, skipped"
    assert "out/sub/new\\nline_x2.png: exists, skipped" in again.stdout
    assert again.stderr.splitlines()[-1] == "0 made, 3 there already, 0 failed"
    quiet = infer(place, "in", "-o", "out", *STEPS, "-q", code=1)
    assert "idm-deploy: 1 of 4" in quiet.stderr and len(quiet.stderr.splitlines()) == 2  # the failure, and the list


def test_progress_in_a_pipe_says_how_far_it_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(place / "many", *[f"{number}.png" for number in range(30)])
    monkeypatch.setattr("deploy.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    told = infer(place, "many", "-o", "out", *STEPS).stderr
    lines = [line for line in told.splitlines() if line.startswith("infer: ")]
    assert lines[0].startswith("infer: 0 done, 0 failed, 30 left, 0.png, 0%")
    assert any(re.search(r"left, [\d.]+(/s| s each), \d+\.png, \d+%, about \d+ s left$", line) for line in lines)
    assert told.count("->") == 0  # thirty announcements would hide what matters
    for number in range(30):
        grey = Image.fromarray(np.full((6, 9), 257 * number, np.uint16))
        grey.save(place / "many" / f"{number}.png")
    again = infer(place, "many", "-o", "out", *STEPS, "--format", "jpeg").stderr
    assert re.search(r"30 pictures: 16 bits per channel become 8 bits in JPEG \(first many/\d+\.png\)", again)
    assert again.count("become 8 bits") == 1


def test_a_dry_run_makes_nothing_and_says_what_it_would(place: Path) -> None:
    command = ["in", "-o", "out", *STEPS, "--dry-run"]
    before = files_in(place)
    lines = [checked("infer", line) for line in infer(place, *command, "--json", code=1).stdout.splitlines()]
    assert files_in(place) == before
    made, plan = [line for line in lines if line["kind"] == "would make"], lines[-1]
    assert [(row["input_width"], row["input_height"], row["width"], row["height"]) for row in made] == [
        (9, 6, 18, 12)
    ] * 3
    assert plan["kind"] == "plan" and (plan["would_make"], plan["would_skip"], plan["would_fail"]) == (3, 0, 1)
    assert [(row["tiles"], row["tile"]) for row in made] == [(1, None)] * 3
    assert plan["pixels"] == 3 * 18 * 12 and plan["seconds"] is None and plan["memory_bytes"] > 1 << 20
    infer(place, "in", "-o", "out", *STEPS, code=1)
    done = infer(place, *command, code=1)
    assert "in/a.png -> out/a_x2.png: exists, would be skipped" in done.stdout
    assert "in/text.jpg -> out/text_x2.png: would fail: reading in/text.jpg: this is not a PNG" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 to make (0.00 megapixels), about 0.0 s, in about ")
    done = infer(place, *command, "--seed", "1", code=1)
    assert "in/a.png -> out/a_x2.png: 9x6 -> 18x12, about " in done.stdout  # the time is known from the run


def test_faster_tiles_are_told_and_can_be_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdmModel, "growth", Growth(doubled_at=300.0, least_side=32))
    large = ["in/a.png", "--size", "96x64", "--start", "0.5", *STEPS[2:]]
    (plan, _) = infer(place, *large, "-o", "a.png", "--dry-run", "--json").stdout.splitlines()
    assert (checked("infer", plan)["tiles"], json.loads(plan)["tile"]) == (8, 36)
    assert "8 tiles, " in infer(place, *large, "-o", "a.png", "--dry-run").stdout
    assert " in 8 tiles of 36, which is faster" in infer(place, *large, "-o", "a.png").stderr
    again = infer(place, *large, "-o", "a.png", "--no-tile", "--json")
    assert "a.png was made with tiles for speed instead of none: it is made again" in again.stderr
    assert json.loads(again.stdout.splitlines()[0])["tile"] is None
    refused = infer(place, *large, "--tile", "32", "--no-tile", code=2)
    assert "--tile and --no-tile exclude each other" in " ".join(refused.stderr.split())


def test_a_dry_run_knows_which_formats_hold_transparency(place: Path) -> None:
    (place / "more").mkdir()
    glass = np.full((6, 9, 4), 255, np.uint8)
    Image.fromarray(glass).save(place / "more" / "opaque.png")
    glass[0, 0, 3] = 0
    Image.fromarray(glass).save(place / "more" / "glass.png")
    command = ["more", "-o", "out", *STEPS, "--format", "jpeg", "--dry-run"]
    done = infer(place, *command, code=1)
    refused = "more/glass.png -> out/glass_x2.jpg: would fail: reading more/glass.png: it has transparency, which JPEG"
    assert refused in done.stdout and "more/opaque.png -> out/opaque_x2.jpg: 9x6 -> 18x12" in done.stdout
    assert "would fail:" not in infer(place, *command, "--background", "white").stdout


@pytest.mark.slow
def test_standard_input_and_output_take_one_picture(place: Path) -> None:
    infer(place, "in/a.png", *STEPS, "-o", "a.png")
    made = (place / "a.png").read_bytes()

    def piped(*arguments: str, given: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([*ENTRY, *arguments, *STEPS], cwd=place, input=given, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        return done

    small = (place / "in" / "a.png").read_bytes()
    assert piped("-", given=small).stdout == piped("in/a.png", "-o", "-").stdout == made
    assert piped("-", "-o", "b.png", given=small).stdout.startswith(b"b.png: 18x12")
    assert (place / "b.png").read_bytes() == made
    told = piped("-", given=b"no picture", code=1)
    assert b"idm-deploy: reading standard input: this is not a PNG" in told.stderr and told.stdout == b""
    assert b"`-` stands for one picture" in piped("-", "in/a.png", code=1).stderr
    told = piped("-", "--frames", "all", given=small, code=1)
    assert b"Standard output takes one picture, and all frames are several; name a folder" in told.stderr
    row = json.loads(piped("-", "-o", "b.png", "--json", given=small).stdout.splitlines()[0])
    assert (row["kind"], row["input"], row["output"]) == ("skipped", "standard input", "b.png")
    planned = piped("-", "--dry-run", given=small).stdout.splitlines()[0]
    assert planned.startswith(b"standard input -> standard output: 9x6 -> 18x12")
    assert piped("-", "--json", given=small, code=2).stdout == b""
    assert sorted(path.name for path in place.iterdir()) == ["a.png", "b.png", "in", "micro.bundle"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["in"], "The results of a folder need a folder of their own: name it with -o."),
        (["in", "-o", "x.png"], "x.png names one picture, but several are to be written"),
        (["in", "-o", "out", "--name", "same.png"], "would both be written to out/"),
        (
            ["in", "-o", "out", "--include", "*.gif"],
            "There is no picture to enlarge in in; 4 other files were passed over",
        ),
        (["in/a.png", "-o", "out/", "--crop", "0,0,99,1"], "reaches beyond the picture in/a.png, which is 9x6"),
        (["in/a.png", "-o", "/proc/out"], "making the folder /proc/out"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(place: Path, arguments: list[str], told: str) -> None:
    before = files_in(place)
    done = infer(place, *arguments, *(["in/sub/b.jpg"] if "/proc/out" in arguments else []), *STEPS, code=1)
    assert told in done.stderr and files_in(place) == before


def test_two_pictures_of_one_name_are_refused_with_advice_that_works(place: Path) -> None:
    make_pictures(place, "one/a.png", "two/a.png")
    done = infer(place, "one/a.png", "two/a.png", "-o", "out", *STEPS, code=1)
    assert (
        "one/a.png and two/a.png would both be written to out/a.png_x2.png; they have one name. Enlarge" in done.stderr
    )
    infer(place, "one", "two", "-o", "out", *STEPS)
    assert list(files_in(place / "out")) == ["one/a_x2.png", "two/a_x2.png"]
    done = infer(place, "one/a.png", "one/../one/a.png", "-o", "out", *STEPS)
    assert done.stderr.splitlines().count("one/a.png is named more than once, and enlarged once") == 1
    assert done.stdout.count("out/a_x2.png: 18x12") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--crop", "1,2,3"], ["--batch", "many"], ["--fit", "9"], ["--temporal-noise", "x"], ["--samples", "x"]],
)
def test_wrong_usage_exits_2(place: Path, arguments: list[str]) -> None:
    infer(place, "in/a.png", *STEPS, *arguments, code=2)


def test_sizes_crops_and_comparisons_are_options(place: Path) -> None:
    def size(*arguments: str) -> Any:
        (row,) = report_of(infer(place, "in/a.png", "--steps", "1", "--json", *arguments).stdout)["pictures"]
        with Image.open(place / row["output"]) as image:
            assert image.size == (row["width"], row["height"])
            return np.asarray(image).shape[1::-1], row["output"]

    assert size("--fit", "40x20") == ((30, 20), "a_fit40x20.png")
    assert size("--megapixels", "0.0006") == ((30, 20), "a_0.0006MP.png")
    assert size("--scale", "2", "--crop", "1,1,4,4") == ((8, 8), "a_x2_crop.png")
    assert size("--scale", "2", "--compare") == ((36, 12), "a_x2_compare.png")
    report = report_of(infer(place, "in/a.png", *STEPS, "--samples", "2", "-o", "draws", "--json").stdout)
    assert [Path(row["output"]).name for row in report["pictures"]] == ["a_x2_draw0.png", "a_x2_draw1.png"]
    assert (place / "draws" / "a_x2_samples.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals of this kind on Windows")
def test_json_stays_on_stdout_while_a_bar_is_on_the_terminal(place: Path) -> None:
    """stderr is a terminal, stdout a file; brackets in a name are no markup."""
    make_pictures(place / "in", f"{'deep/' * 20}[/red].png")
    import os
    import pty

    leader, follower = pty.openpty()
    with (place / "lines").open("wb") as lines:
        command = [*ENTRY, "in", "-o", "out", *STEPS, "--json"]
        process = subprocess.Popen(command, cwd=place, stdout=lines, stderr=follower)
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += os.read(leader, 1 << 16)
            except OSError:  # the other end is closed
                break
        os.close(leader)
        assert process.wait(60) == 1
    assert [json.loads(line)["kind"] for line in (place / "lines").read_text().splitlines()].count("made") == 4
    assert b'"kind"' not in shown and b" left, " in shown and b"%" in shown
