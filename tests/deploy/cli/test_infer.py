"""`idm-deploy infer` as a user types it."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.forecast import forecast_and_actual
from deploy.bundle import Bundle, BundleWriter
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import export_bundle
from tests.checkpoints import save_idm
from tests.json_schema import checked

ENTRY = [sys.executable, "-c", "from deploy.cli.main import main; main()", "infer"]
WITHOUT_TORCH = """
import sys
for name in ("torch", "onnx"):
    sys.modules[name] = None  # importing it is an ImportError
from deploy.cli.main import main
main()
"""
GENERATOR = np.random.default_rng(4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("infer")
    Image.fromarray(GENERATOR.integers(0, 256, (8, 10, 3), np.uint8)).save(folder / "sample.png")
    checkpoint = load_checkpoint(save_idm(folder), config={"norm_groups": 8, "image_size": 16})
    return export_bundle(checkpoint, folder / "micro.bundle", samples=[folder / "sample.png"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run forecasts depends on the runs before it: those of the same test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def place(tmp_path: Path, bundle: Bundle) -> Path:
    """A folder with one bundle and some pictures."""
    (tmp_path / "micro.bundle").symlink_to(bundle.path)
    pixels = GENERATOR.integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.jpg")
    Image.fromarray(pixels).save(tmp_path / "c.webp")
    return tmp_path


def infer(place: Path, *arguments: str, code: int = 0, entry: list[str] = ENTRY) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*entry, *arguments], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def report_of(printed: str) -> dict[str, Any]:
    """What --json printed: the object of the whole run, with those of the pictures in lists by their kinds, by name."""
    *lines, whole = [checked("infer", line) for line in printed.splitlines()]
    assert whole["kind"] == "run" and "run" not in [line["kind"] for line in lines]
    lines.sort(key=lambda line: str(line["output"]))  # they are printed as they are finished
    kinds = {"pictures": "made", "existing": "skipped", "refused": "failed"}
    return whole | {name: [line for line in lines if line["kind"] == kind] for name, kind in kinds.items()}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def partials(place: Path) -> list[str]:
    return [path.name for path in place.iterdir() if path.name.endswith(".partial")]


def test_the_sample_of_the_only_bundle_is_enlarged_and_told_of(place: Path) -> None:
    done = infer(place, "--scale", "12", "--steps", "2", "--threads", "1")
    made = place / "sample_x12.png"  # without the hash that the bundle's file name carries
    assert size_of(made) == (120, 96)
    assert "balanced: ddim, 2 steps placed uniform, from pure noise" in done.stderr
    # How long it takes shows after the first step; a second time it is known before.
    assert f"10x8 -> {made.name} 120x96 on onnxruntime-cpu fp32; the first steps will tell" in done.stderr
    assert f"\n{made.name}: about " in done.stderr and "judging by its first steps" in done.stderr
    again = infer(place, "--scale", "12", "--steps", "2", "--threads", "1", "--force", "--json")
    assert "120x96: about " in again.stderr and "will tell" not in again.stderr
    report = report_of(again.stdout)
    row = report["pictures"][0]
    assert 0 < row["forecast_seconds"] <= report["forecast_seconds"] and 0 < row["seconds"] <= report["seconds"]
    assert done.stderr.count("scale 12 is beyond the trained 1 to 8") == 1
    assert done.stdout.startswith(f"{made.name}: 120x96, 2 evaluations, ")


def test_a_batch_goes_on_past_a_bad_file_and_exits_1(place: Path) -> None:
    (place / "bad.png").write_bytes(b"")
    (place / "out").mkdir()
    arguments = ("a.png", "bad.png", "missing.png", "b.jpg", "c.webp", "--long-edge", "18", "--steps", "1", "-o", "out")
    done = infer(place, *arguments, "--json", code=1)
    report = report_of(done.stdout)
    assert [row["output"] for row in report["pictures"]] == [f"out/{name}_long18.png" for name in "abc"]
    assert all(size_of(place / row["output"]) == (18, 12) for row in report["pictures"])
    assert [row["input"] for row in report["refused"]] == ["bad.png", "missing.png"]
    assert "2 of 5 pictures failed: bad.png, missing.png" in done.stderr
    assert report["sampling"]["plan"]["steps"] == 1
    again = report_of(infer(place, *arguments, "--json", code=1).stdout)
    assert again["pictures"] == [] and (again["made"], again["skipped"], again["failed"]) == (0, 3, 2)
    assert len(report_of(infer(place, *arguments, "--json", "--force", code=1).stdout)["pictures"]) == 3


def test_estimates_run_nothing_and_what_all_pictures_share_is_made_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four pictures of one size and plan: one table of the steps, then per picture an encoding and its evaluations."""
    from deploy.engine.graphs import GraphSet

    ran: Counter[str] = Counter()
    run = GraphSet.run

    def counted(graphs: GraphSet, name: str, *arguments: Any, **named: Any) -> Any:
        ran[name] += 1
        return run(graphs, name, *arguments, **named)

    monkeypatch.setattr(GraphSet, "run", counted)
    for index in range(4):
        (place / f"p{index}.png").write_bytes((place / "a.png").read_bytes())
    (place / "out").mkdir()
    pictures = [f"p{index}.png" for index in range(4)]
    for known in (False, True):
        code, told = run_here(place, [*pictures, "--scale", "14", "--steps", "3", "-o", "out", "--force"])
        assert code == 0 and ran == {"tabulate": 1, "encode": 4, "denoise": 12}, told
        # Of pictures alike one is announced; the time of all is told before the first or after the second.
        assert (told.count("->"), told.count("beyond the trained"), told.count("4 pictures: about")) == (1, 1, 1)
        assert (told.index("4 pictures: about") < told.index("->")) == known
        ran.clear()


def test_a_cache_that_cannot_be_written_is_said_once_and_the_work_is_done(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "file"))
    for picture in ("a.png", "b.jpg"):
        code, told = run_here(place, [picture, "--scale", "2", "--steps", "2"])
        assert code == 0 and (place / f"{Path(picture).stem}_x2.png").exists()
        assert told.count("the next estimate will not know these times. While keeping pace of") == 1


@pytest.mark.slow
def test_forecasts_are_of_the_size_of_what_the_work_takes(tmp_path: Path) -> None:
    """The packaged model, two sizes, first and second run: within three times, as other work comes and goes."""
    for scale in ("2", "4"):
        for known in (False, True):
            made = forecast_and_actual(["--scale", scale, "--preset", "balanced"], cache=tmp_path)
            assert made.before_work == known
            assert 1 / 3 < made.forecast / made.actual < 3


def test_options_reach_the_sampler(place: Path) -> None:
    done = infer(
        place, "a.png", "--size", "20x13", "-o", "x.webp",
        "--preset", "draft", "--equation", "dpmpp-2m", "--steps", "3",
        "--start", "0.5", "--consistency", "1", "--placement", "logsnr", "--seed", "5", "--threads", "1",
        "--engine", "onnxruntime-cpu", "--precision", "fp32", "--max-memory", "2GiB", "--tile", "16", "--json",
        "--stages", "1.5", "--draws", "2", "--blend", "0.5",
    )  # fmt: skip
    report = report_of(done.stdout)
    assert size_of(place / "x.webp") == (20, 13)
    assert report["sampling"] == {
        "preset": "draft",
        "consistency": 1.0,
        "from_guess": True,
        "searched": False,
        "stages": {"magnifications": [1.5], "are_limits": False},
        "draws": 2,
        "blend": 0.5,
        "plan": {
            "equation": "dpmpp-2m",
            "steps": 3,
            "placement": "logsnr",
            "start": 0.5,
            "eta": 0.0,
            "clip": None,
            "published": False,
        },
    }
    assert (report["engine"], report["precision"], report["seed"]) == ("onnxruntime-cpu", "fp32", 5)
    listed = infer(place, "a.png", "--scale", "2", "--placement", "0.1,0.6", "--json")
    assert report_of(listed.stdout)["sampling"]["plan"]["placement"] == [0.1, 0.6]


def test_what_exists_is_kept_made_again_or_not_touched(place: Path) -> None:
    usual = ["a.png", "--scale", "2", "--steps", "1", "--threads", "1"]
    made = place / "a_x2.png"

    def run(*arguments: str) -> tuple[int, str, bytes]:
        code, told = run_here(place, list(arguments))
        return code, told, made.read_bytes()

    _, _, first = run(*usual)
    skipped = "a_x2.png exists already, made from the same picture and settings; --force makes it again"
    for same in (usual, [*usual, "--equation", "ddim"], ["a.png", "--size", "18x12", "-o", "a_x2.png", *usual[3:]]):
        code, told, content = run(*same)
        assert (code, content) == (0, first) and skipped in told and "->" not in told
    for other, why in (
        ([*usual, "--seed", "7"], "with seed 0 instead of 7"),
        (["a.png", "--scale", "2", "--steps", "2"], "with other sampling settings, with seed 7 instead of 0"),
        (
            ["a.png", "--size", "20x13", "-o", "a_x2.png", *usual[3:]],
            "with other sampling settings, at 18x12 instead of 20x13",
        ),
        ([*usual, "--tile", "16"], "at 20x13 instead of 18x12, with tiles none instead of 16"),
    ):
        code, told, content = run(*other)
        assert code == 0 and f"a_x2.png was made {why}: it is made again" in told and content != first
    assert run(*usual)[2] == first  # the same pixels, the same bytes
    Image.fromarray(GENERATOR.integers(0, 256, (6, 9, 3), np.uint8)).save(place / "a.png")
    code, told, content = run(*usual)
    assert code == 0 and "was made from another picture: it is made again" in told and content != first

    with Image.open(made) as image:
        image.rotate(180).save(made)
    retouched = made.read_bytes()
    code, told, content = run(*usual)
    assert code == 1 and content == retouched
    assert "a_x2.png: a file of that name exists, and idm-deploy did not make it, or it was changed since" in told
    assert run(*usual, "--force")[2] != retouched


def test_an_input_is_not_overwritten_before_it_is_read(place: Path) -> None:
    made = ["a.png", "--scale", "2", "--steps", "1"]
    assert run_here(place, made)[0] == 0
    both = ["a.png", "a_x2.png", *made[1:]]
    assert run_here(place, both)[0] == 0  # the first is there, the second is enlarged once more
    before = (place / "a_x2.png").read_bytes()
    for other in (["--force"], ["--seed", "5"]):
        code, told = run_here(place, [*both, *other])
        assert code == 1 and "a_x2.png is to be enlarged itself, and would be overwritten first" in told
        assert (place / "a_x2.png").read_bytes() == before


def test_what_comes_in_its_place_during_the_work_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: Any) -> None:
        (place / "a_x2.png").write_text("a letter")

    monkeypatch.setattr("deploy.folders.forecasts.PictureForecast.told_now", taken)
    code, told = run_here(place, ["a.png", "--scale", "2", "--steps", "1"])
    assert code == 1 and "a_x2.png: a file of that name exists, and idm-deploy did not make it" in told
    assert (place / "a_x2.png").read_text() == "a letter"


def test_a_file_of_others_stops_only_its_own_picture(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "a_x2.png").write_text("a letter")
    (place / "out" / "b_x2.png").mkdir()
    arguments = ["a.png", "b.jpg", "c.webp", "--scale", "2", "--steps", "1", "-o", "out"]
    code, told = run_here(place, arguments)
    assert code == 1 and (place / "out" / "a_x2.png").read_text() == "a letter"
    assert size_of(place / "out" / "c_x2.png") == (18, 12)
    assert told.index("idm-deploy did not make it") < told.index("c.webp 9x6 ->")  # before any work
    assert "b_x2.png: there is a folder of that name" in told
    assert "2 of 3 pictures failed: a.png, b.jpg" in told
    assert run_here(place, [*arguments, "--force"])[0] == 1  # a folder is not written over
    assert size_of(place / "out" / "a_x2.png") == (18, 12)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["a.png", "-o", "new/"], ["a_x2.png"]),
        (["b.jpg", "-o", "deep/er.v2/"], ["b_x2.png"]),
        (["a.png", "b.jpg", "-o", "new"], ["a_x2.png", "b_x2.png"]),
    ],
)
def test_a_folder_that_is_named_is_made(place: Path, arguments: list[str], made: list[str]) -> None:
    assert run_here(place, [*arguments, "--scale", "2", "--steps", "1"])[0] == 0
    assert sorted(path.name for path in (place / arguments[-1]).glob("[!.]*")) == made


def test_a_bundle_without_a_sample_enlarges_a_packaged_one(place: Path, bundle: Bundle) -> None:
    (place / "micro.bundle").unlink()
    shutil.copytree(bundle.path, place / "old.bundle")
    with BundleWriter.update(Bundle.open(place / "old.bundle")) as writer:
        writer.commit(replace(bundle.manifest, samples=()))
    assert run_here(place, ["--size", "64x64", "--steps", "1"])[0] == 0
    assert size_of(place / "chelsea_64x64.png") == (64, 64)


def test_an_interpreter_without_torch_and_onnx_enlarges_to_the_same_picture(place: Path) -> None:
    infer(place, "a.png", "--scale", "3", "--steps", "2", "-o", "one.png")
    infer(
        place, "infer", "a.png", "--scale", "3", "--steps", "2", "-o", "two.png",
        entry=[sys.executable, "-c", WITHOUT_TORCH],
    )  # fmt: skip
    assert (place / "one.png").read_bytes() == (place / "two.png").read_bytes()


BAD: list[tuple[list[str], str]] = [
    (["a.png", "--scale", "1e12"], "raise the limit with --max-pixels"),
    (
        ["a.png", "--scale", "2", "--steps", "5000"],
        "5000 steps were asked for, but from the chosen start the schedule has",
    ),
    (["a.png", "--scale", "2", "--preset", "bset"], "the nearest is 'best'; this bundle has draft, balanced, best."),
    (["a.png", "--scale", "2", "-o", "no/such/x.png"], "the folder no/such does not exist"),
    (["a.png", "--scale", "2", "-o", "cut.png/"], "making the folder cut.png"),
    (["a.png", "text.png", "--scale", "2", "-o", "x.png"], "x.png names one picture, but several are to be written"),
    (["a.png", "--scale", "2", "-o", "/proc/x.png"], "the folder /proc cannot be written to"),
    (["a.png", "--scale", "2", "-o", "cut.png"], "cut.png: a file of that name exists, and idm-deploy did not make it"),
    (["a.png", "--scale", "2", "-o", "a.png", "--force"], "a.png would be overwritten by its own enlargement"),
    (["a.png", "sub/a.png", "--scale", "2"], "would both be written to a.png_x2.png"),
    (["a.png", "--scale", "2", "--max-memory", "5MB"], "are allowed. Allow more with --max-memory"),
    (["a.png", "--scale", "2", "--bundle", "nowhere"], "nowhere does not exist"),
    (["text.png", "--scale", "2"], "JPEG XL or HEIC picture by its content"),
    (["cut.png", "--scale", "2"], "the file is damaged or cut short"),
    (
        ["glass.png", "--scale", "2", "-o", "x.jpg"],
        "it has transparency, which JPEG does not hold. Lay it over a colour ",
    ),
    (["glass.png", "--scale", "2", "--format", "bmp"], "with --background (white, black or #rrggbb), or write PNG,"),
    (["film.webp", "--scale", "2", "--frames", "all", "-o", "x.png"], "x.png names one picture, but several"),
    (["bomb.png", "--scale", "2"], "the limit is 250000000. Raise the limit with --max-pixels"),
    (["a.png", "--scale", "2", "--max-pixels", "50"], "reading a.png: it has 9x6 = 54 pixels, the limit is 50"),
    (["a.png", "--scale", "2", "--max-pixels", "60"], "The output 18x12 has 216 pixels, the limit is 60"),
]

WRONG: list[tuple[list[str], str]] = [
    (["a.png", "--scale", "0"], "The scale must be a number of 1 or more, such as 4 or 2.5; found 0.0"),
    (["a.png", "--scale", "-3"], "The scale must be a number of 1 or more"),
    (["a.png", "--scale", "nan"], "The scale must be a number of 1 or more"),
    (["a.png"], "exactly one of scale, size, long edge, fit and megapixels; none of them was given"),
    (["a.png", "--scale", "2", "--size", "30x30"], "scale and size were given"),
    (["a.png", "--scale", "2", "--seed", "-1"], "The seed must be a whole number from 0 to 2^64 - 1"),
    (["a.png", "--scale", "2", "--equation", "dimm"], "the equation 'dimm' is unknown, the nearest is 'ddim'"),
    (["a.png", "--scale", "2", "-o", "photo"], "or end the name with / if it is a folder"),
    (["a.png", "--scale", "2", "--seed", "18446744073709551616"], "The seed must be a whole number from 0 to 2^64 - 1"),
    (["a.png", "--scale", "2", "-o", "x.gif"], "the suffix '.gif' names no format that can be written"),
    (
        ["a.png", "--scale", "2", "--format", "gif"],
        "--format is one of png, jpeg, webp, tiff, bmp, avif, jxl, found 'gif'",
    ),
    (["a.png", "--scale", "2", "--quality", "0"], "--quality goes from 1 to 100, found 0"),
    (["a.png", "--scale", "2", "--quality", "9", "--format", "png"], "PNG keeps every pixel and takes no --quality"),
    (
        ["a.png", "--scale", "2", "--quality", "9"],
        "take no --quality; choose a --format that does (jpeg, webp, avif or jx",
    ),
    (["a.png", "--scale", "2", "--quality", "9", "-o", "x.png"], "PNG keeps every pixel and takes no --quality"),
    (["a.png", "--scale", "2", "--format", "png", "-o", "x.jpg"], "the name asks for JPEG, --format for PNG"),
    (["a.png", "--scale", "2", "--color-fix", "adain"], "--color-fix is one of none, lowfreq, wavelet, found 'adain'"),
    (["a.png", "--scale", "2", "--background", "#12"], "--background is white, black or a colour such as #ffe0c0"),
    (["a.png", "--scale", "2", "--name", "{stem}"], "the suffix '' names no format"),
    (["a.png", "--scale", "2", "--name", "{stme}{ext}"], "has the field {stme}, which is unknown"),
    (["a.png", "--scale", "2", "--samples", "0"], "The number of samples must be from 1 to 64"),
    (["a.png", "--scale", "2", "--batch", "0"], "The batch must be a number of pictures from 1"),
    (["a.png", "--scale", "2", "--crop", "0,0,0,4"], "The crop must be left, top, width and height"),
    (["a.png", "--scale", "2", "--steps", "0"], "'--steps'"),
    (["a.png", "--scale", "2", "--start", "1.5"], "'--start'"),
    (["a.png", "--scale", "2", "--tile", "0"], "'--tile'"),
    (["a.png", "--scale", "2", "--max-pixels", "0"], "'--max-pixels'"),
    (["a.png", "--scale", "2", "--threads", "0"], "'--threads'"),
    (["a.png", "--scale", "2", "--device", "-1"], "'--device'"),
    (["a.png", "--scale", "2", "--max-memory", "much"], "'much' is no amount of memory"),
    (["a.png", "--scale", "2", "--engine", "tensort"], "the engine 'tensort' is unknown, the nearest is 'tensorrt'"),
    (["a.png", "--scale", "2", "--precision", "fp23"], "the precision 'fp23' is unknown, the nearest is 'fp32'"),
    (
        ["a.png", "--scale", "2", "--placement", "unifrom"],
        "the placement 'unifrom' is unknown, the nearest is 'uniform'",
    ),
    (["a.png", "--size", "3x"], "'3x' is no size"),
    (["a.png", "--size", "0x4"], "'0x4' is no size"),
    (["a.png", "--scale", "2", "--placement", "0.1,x"], "is neither a placement nor noise levels"),
    (["a.png", "--scale", "2", "--frames", "some"], "'some' is not one of 'first', 'all'"),
]
"""What no file, bundle or machine would make right."""


@pytest.fixture(scope="module")
def bad_place(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    place = tmp_path_factory.mktemp("bad")
    (place / "micro.bundle").symlink_to(bundle.path)
    image = Image.fromarray(GENERATOR.integers(0, 256, (6, 9, 3), np.uint8))
    image.save(place / "a.png")
    (place / "text.png").write_text("not a picture")
    (place / "cut.png").write_bytes((place / "a.png").read_bytes()[:90])
    image.convert("LA").convert("RGBA").rotate(45).save(place / "glass.png")
    image.save(place / "film.webp", save_all=True, append_images=[image.rotate(180)])
    Image.new("1", (20_000, 20_000)).save(place / "bomb.png")
    return place


@pytest.mark.parametrize(("arguments", "told"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_sentence_and_exit_1(bad_place: Path, arguments: list[str], told: str) -> None:
    before = sorted(path.name for path in bad_place.iterdir())
    done = run_here(bad_place, arguments)
    assert done[0] == 1
    assert told in done[1]
    assert f"{arguments[0]}: reading {arguments[0]}" not in done[1]  # a file is named once
    assert sorted(path.name for path in bad_place.iterdir()) == before


def run_here(place: Path, arguments: list[str]) -> tuple[int, str]:
    """Exit code and stderr of the command, run in this process: an interpreter per case would take a second each."""
    import contextlib
    import io
    import os

    from deploy.cli import main as entry

    told = io.StringIO()
    here, argv = Path.cwd(), sys.argv
    os.chdir(place)
    sys.argv = ["idm-deploy", "infer", *arguments]
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            entry.main()
    except SystemExit as error:
        return int(str(error.code or 0)), told.getvalue()
    finally:
        os.chdir(here)
        sys.argv = argv
    return 0, told.getvalue()


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_usage_exits_2(bad_place: Path, arguments: list[str], told: str) -> None:
    code, shown = run_here(bad_place, arguments)
    assert code == 2
    assert told in " ".join(shown.replace("│", " ").split())  # typer draws a frame around it


def test_a_full_disk_leaves_no_partial_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, told = run_here(place, ["a.png", "--scale", "2", "--steps", "1"])
    assert code == 1 and "No space left on device; nothing was written" in told
    assert not partials(place) and not (place / "a_x2.png").exists()


def test_ctrl_c_exits_130_and_leaves_nothing_half_written(place: Path) -> None:
    with subprocess.Popen(
        [*ENTRY, "a.png", "--scale", "12", "--steps", "2000", "--threads", "1"],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        lines: list[Any] = []
        for line in process.stderr:  # until the picture is announced, the last thing before the steps
            lines.append(line)
            if "beyond the trained" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 130, lines
        assert rest.endswith("interrupted\n")
    assert sorted(path.name for path in place.iterdir()) == ["a.png", "b.jpg", "c.webp", "micro.bundle"]
