"""Folders through the Python API: each picture once, whatever ends a run; what changes is made again."""

import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import deploy
from deploy import Upscaler
from deploy.errors import FolderError, ImageError
from deploy.folders import batches
from deploy.folders.record import Record
from tests.deploy.folders.pictures import enlarged, files_in, make_pictures, outcomes, place_in, states, unfinished


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_folder_is_mirrored_and_what_is_bad_stops_nothing(tmp_path: Path, upscaler: Upscaler) -> None:
    strange = "new\nline \udcff and space.png"
    make_pictures(tmp_path / "in", "a.png", "IMG.jpg", "IMG.png", "sub/deep/b.JPG", strange)
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    (tmp_path / "in" / "bomb.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:16] + b"\x7f\xff\xff\xff" * 2)
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    told: list[str] = []
    found = enlarged(upscaler, tmp_path / "in", tmp_path / "out", notice=told.append)
    made = ["IMG.jpg_x2.png", "IMG.png_x2.png", "a_x2.png", "new\nline \udcff and space_x2.png", "sub/deep/b_x2.png"]
    bad = ["bomb_x2.png", "gone_x2.png", "text_x2.png"]
    assert states(found) == dict.fromkeys(made, "made") | dict.fromkeys(bad, "failed")
    assert sorted(files_in(tmp_path / "out")) == sorted(made) and unfinished(tmp_path / "out") == []
    assert "gone.png: it is a link to nowhere, which is not there." in str(found["gone_x2.png"].error)
    assert "this is not a PNG" in str(found["text_x2.png"].error) and found["a_x2.png"].size == (18, 12)
    assert not any("\n" in line for line in told)  # a name cannot draw on the terminal
    # A picture alone comes out the same.
    with Image.open(tmp_path / "in" / "a.png") as image:
        alone = upscaler.upscale(image, 2, steps=1)
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a_x2.png"), np.asarray(alone))
    again = enlarged(upscaler, tmp_path / "in", tmp_path / "out")
    assert states(again) == dict.fromkeys(made, "skipped") | dict.fromkeys(bad, "failed")


def test_what_changed_is_made_again_and_nothing_else(tmp_path: Path, upscaler: Upscaler) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_pictures(inputs, "a.png", "b.png", "c.png", "d.png")
    enlarged(upscaler, inputs, out)
    first = files_in(out)
    (inputs / "b.png").write_bytes((inputs / "a.png").read_bytes())
    os.utime(inputs / "c.png")  # no change
    (out / "d_x2.png").unlink()
    assert states(enlarged(upscaler, inputs, out)) == {
        "a_x2.png": "skipped", "b_x2.png": "made", "c_x2.png": "skipped", "d_x2.png": "made",
    }  # fmt: skip
    assert files_in(out) == first | {"b_x2.png": first["a_x2.png"]}
    told: list[str] = []
    assert set(states(enlarged(upscaler, inputs, out, seed=1, notice=told.append)).values()) == {"made"}
    assert "a_x2.png was made from another picture or with other settings: it is made again" in told[-1] + "".join(told)
    assert set(states(enlarged(upscaler, inputs, out, seed=1)).values()) == {"skipped"}
    assert set(states(enlarged(upscaler, inputs, out, seed=1, force=True)).values()) == {"made"}
    # The record may be lost: what is there is known by the notes in the files.
    for file in (out / ".idm-deploy").glob("record*"):
        file.unlink()
    assert set(states(enlarged(upscaler, inputs, out, seed=1)).values()) == {"skipped"}


def test_a_result_that_somebody_changed_stays(tmp_path: Path, upscaler: Upscaler) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_pictures(inputs, "a.png")
    enlarged(upscaler, inputs, out)
    make_pictures(out, "a_x2.png")
    found = enlarged(upscaler, inputs, out, seed=1)
    assert "idm-deploy did not make it, or it was changed since" in str(found["a_x2.png"].error)
    assert states(enlarged(upscaler, inputs, out, seed=1, force=True)) == {"a_x2.png": "made"}


def test_results_beside_or_below_their_inputs_are_not_enlarged_again(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "elsewhere", "c.png")
    inputs = tmp_path / "in"
    make_pictures(inputs, "a.png", "sub/b.png")
    (inputs / "link.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    for out in (inputs / "out", inputs):
        for state in ("made", "skipped"):
            found = states(enlarged(upscaler, inputs, out))
            assert found == dict.fromkeys(("a_x2.png", "link_x2.png", "sub/b_x2.png"), state)


def test_leaving_the_loop_leaves_nothing_half_done(tmp_path: Path, upscaler: Upscaler) -> None:
    names = [f"{number}.png" for number in range(40)]  # more than may be on their way
    make_pictures(tmp_path / "in", *names)
    out = tmp_path / "out"
    for outcome in outcomes(upscaler, tmp_path / "in", out):
        assert outcome.state == "made"
        break
    del outcome
    complete = files_in(out)
    assert 1 <= len(complete) < 40 and unfinished(out) == []
    left = states(enlarged(upscaler, tmp_path / "in", out))
    assert {name for name, state in left.items() if state == "skipped"} == set(complete) and len(left) == 40


def test_two_runs_share_a_folder(tmp_path: Path, upscaler: Upscaler) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_pictures(inputs, *[f"{number}.png" for number in range(8)])
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: enlarged(upscaler, inputs, out), range(2)))
    names = [f"{number}_x2.png" for number in range(8)]
    assert all(sorted(found) == names for found in both)
    made = sorted(name for found in both for name, state in states(found).items() if state == "made")
    assert made == names  # each by one of the two


def test_a_picture_that_another_run_is_at_is_waited_for(tmp_path: Path, upscaler: Upscaler) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_pictures(inputs, "a.png", "b.png")
    out.mkdir()
    with Record(out) as other:
        other.claim(out / "a_x2.png")
        ours = outcomes(upscaler, inputs, out)
        assert place_in(out, next(ours)) == "b_x2.png"
    assert [(place_in(out, each), each.state) for each in ours] == [("a_x2.png", "made")]


def test_the_time_of_a_picture_is_its_own(tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of those before it, while it waited, read ahead."""
    make_pictures(tmp_path / "in", *[f"{number}.png" for number in range(4)])
    sampled = Upscaler.sampled

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.3)
        return sampled(*arguments, **named)

    monkeypatch.setattr(Upscaler, "sampled", slow)
    began = time.perf_counter()
    seconds = [each.seconds or 0 for each in enlarged(upscaler, tmp_path / "in", tmp_path / "out", batch=1).values()]
    # With the waits it would be two and a half times as much.
    assert min(seconds) >= 0.3 and sum(seconds) < 1.5 * (time.perf_counter() - began)


def test_pictures_made_together_are_the_ones_made_alone(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tmp_path / "in"
    make_pictures(inputs, *[f"{number:02}.png" for number in range(14)])
    make_pictures(inputs, "other.png", size=(7, 7))
    enlarged(upscaler, inputs, tmp_path / "alone", batch=1)
    enlarged(upscaler, inputs, tmp_path / "three", batch=3)
    monkeypatch.setattr(batches, "TRIED_AFTER", 2)
    monkeypatch.setattr(batches, "TRIED_WITH_LEFT", 4)
    monkeypatch.setattr(batches, "FASTER_FROM", 1e9)  # whatever the trial times, together is chosen
    enlarged(upscaler, inputs, tmp_path / "auto")
    alone = files_in(tmp_path / "alone")
    assert len(alone) == 15 and alone == files_in(tmp_path / "three") == files_in(tmp_path / "auto")


def test_frames_share_one_noise(tmp_path: Path, upscaler: Upscaler) -> None:
    """Equal frames come out equal either way; almost equal ones differ by the change alone, not by noise as well."""
    inputs = tmp_path / "in"
    make_pictures(inputs, "1.png")
    pixels = pixels_of(inputs / "1.png").copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(inputs / "2.png")
    differences = {}
    for noise in (None, "fixed"):
        out = tmp_path / str(noise)
        enlarged(upscaler, inputs, out, temporal_noise=noise)
        one, other = (pixels_of(out / f"{number}_x2.png").astype(int) for number in (1, 2))
        differences[noise] = np.abs(one - other).mean()
    assert differences["fixed"] < differences[None] / 4
    # It is a setting: what was made the other way is made again.
    assert set(states(enlarged(upscaler, inputs, tmp_path / "None", temporal_noise="fixed")).values()) == {"made"}


def test_a_crop_is_the_corner_alone(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png")
    small = pixels_of(tmp_path / "in" / "a.png")
    (found,) = enlarged(upscaler, tmp_path / "in", tmp_path / "out", crop=(2, 1, 5, 4)).values()
    assert found.output.name == "a_x2_crop.png" and found.size == (10, 8)
    np.testing.assert_array_equal(pixels_of(found.output), upscaler.upscale(small[1:5, 2:7].copy(), 2, steps=1))
    (found,) = enlarged(upscaler, tmp_path / "in", tmp_path / "out", crop=(5, 1, 5, 4)).values()
    assert "The crop 5,1,5,4 reaches beyond the picture" in str(found.error) and "which is 9x6" in str(found.error)


def test_a_comparison_shows_bicubic_and_result(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png")
    told: list[str] = []
    (found,) = enlarged(upscaler, tmp_path / "in", tmp_path / "out", compare=True, notice=told.append).values()
    assert any("a.png 9x6 -> " in line and "a_x2_compare.png 36x12" in line for line in told)  # of the file
    both = pixels_of(found.output)
    assert found.size == (36, 12) and both.shape == (12, 36, 3)
    small = pixels_of(tmp_path / "in" / "a.png").astype(np.float32)
    planes = [Image.fromarray(small[:, :, number]).resize((18, 12), Image.Resampling.BICUBIC) for number in range(3)]
    plain = np.clip(np.stack([np.asarray(plane) for plane in planes], axis=2), 0, 255)
    assert np.abs(both[:, :18] - plain).max() <= 0.501  # half a level, and float32 sums of numbers up to 255
    with Image.open(tmp_path / "in" / "a.png") as image:
        np.testing.assert_array_equal(both[:, 18:], np.asarray(upscaler.upscale(image, 2, steps=1)))
    assert states(enlarged(upscaler, tmp_path / "in", tmp_path / "out", compare=True)) == {
        "a_x2_compare.png": "skipped"
    }


def test_samples_are_draws_with_a_sheet(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png")
    out = tmp_path / "out"
    found = enlarged(upscaler, tmp_path / "in", out, samples=3)
    with Image.open(tmp_path / "in" / "a.png") as image:
        for draw in range(3):
            expected = np.asarray(upscaler.upscale(image, 2, steps=1, sample=draw))
            np.testing.assert_array_equal(pixels_of(found[f"a_x2_draw{draw}.png"].output), expected)
    sheet = out / "a_x2_samples.png"
    assert pixels_of(sheet).shape[1] > 3 * 384
    sheet.unlink()
    assert set(states(enlarged(upscaler, tmp_path / "in", out, samples=3)).values()) == {"skipped"} and sheet.exists()


def test_each_sheet_shows_the_draws_of_its_name(tmp_path: Path, upscaler: Upscaler) -> None:
    """Other settings that give draws other names leave an earlier sheet alone; each frame has its own."""
    make_pictures(tmp_path / "in", "a.png")
    frames = [Image.new("L", (9, 6), 255 * number) for number in range(2)]
    frames[0].save(tmp_path / "in" / "film.gif", save_all=True, append_images=frames[1:])
    out = tmp_path / "out"
    enlarged(upscaler, tmp_path / "in" / "a.png", out, samples=2)
    before = files_in(out)
    assert sorted(before) == ["a_x2_draw0.png", "a_x2_draw1.png", "a_x2_samples.png"]
    enlarged(upscaler, tmp_path / "in" / "a.png", out, samples=2, crop=(0, 0, 4, 4), compare=True)
    enlarged(upscaler, tmp_path / "in", out, samples=2, frames="all", format="jpeg", quality=40)
    after = files_in(out)
    assert before.items() <= after.items()
    stems = ["a_x2_crop_compare_{}.png", "a_x2_{}.jpg", "film_0001_x2_{}.jpg", "film_0002_x2_{}.jpg"]
    names = [stem.format(part) for stem in stems for part in ("draw0", "draw1", "samples")]
    assert after.keys() - before.keys() == set(names)
    sheets = [pixels_of(out / f"film_000{number}_x2_samples.jpg").mean() for number in (1, 2)]
    assert sheets[0] < sheets[1] - 10  # a black frame, and a white one


def test_a_sheet_shows_transparency_on_grey(tmp_path: Path, upscaler: Upscaler) -> None:
    (tmp_path / "in").mkdir()
    pixels = np.full((16, 16, 4), 255, np.uint8)
    pixels[:, 8:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    enlarged(upscaler, tmp_path / "in", tmp_path / "out", samples=2)
    sheet = pixels_of(tmp_path / "out" / "a_x2_samples.png")
    greys = (np.abs(sheet.astype(int) - 128) <= 1).all(axis=2)
    assert greys.sum() > 2 * 384 * 384 // 4  # about half of each of the two draws


@pytest.mark.parametrize(
    ("way", "size"),
    [({"fit": (30, 30)}, (30, 20)), ({"fit": (300, 14)}, (21, 14)), ({"megapixels": 0.0006}, (30, 20))],
)
def test_sizes_keep_the_proportions(
    tmp_path: Path, upscaler: Upscaler, way: dict[str, object], size: tuple[int, int]
) -> None:
    make_pictures(tmp_path / "in", "a.png")
    (found,) = enlarged(upscaler, tmp_path / "in", tmp_path / "out", **way).values()
    assert found.size == size == pixels_of(found.output).shape[1::-1]


def test_a_file_that_changes_while_it_is_read_fails(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "in", "a.png", "b.png")
    hash_of_file = deploy.folders.reading.hash_of_file

    def slow(path: Path) -> bytes:
        found = hash_of_file(path)
        if path.name == "a.png":
            make_pictures(tmp_path / "in", "a.png", size=(10, 10))
        return found

    monkeypatch.setattr("deploy.folders.reading.hash_of_file", slow)
    found = enlarged(upscaler, tmp_path / "in", tmp_path / "out")
    assert states(found) == {"a_x2.png": "failed", "b_x2.png": "made"}
    assert "a.png: it was changed while it was read. Run again when it is complete." in str(found["a_x2.png"].error)


def test_a_full_disk_is_a_sentence_for_each_picture(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "in", "a.png", "b.png")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    found = enlarged(upscaler, tmp_path / "in", tmp_path / "out")
    for name in ("a_x2.png", "b_x2.png"):
        assert f"writing {tmp_path / 'out' / name}: No space left on device; nothing was written" in str(
            found[name].error
        )
    assert files_in(tmp_path / "out") == {} and unfinished(tmp_path / "out") == []


def test_a_record_that_cannot_be_kept_ends_the_run(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program holds it for longer than a run waits."""
    monkeypatch.setattr("deploy.folders.record.PATIENCE", 0.1)
    inputs, out = tmp_path / "in", tmp_path / "out"
    make_pictures(inputs, *[f"{number}.png" for number in range(40)])
    run = outcomes(upscaler, inputs, out)
    next(run)
    other = sqlite3.connect(out / ".idm-deploy" / "record.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(FolderError, match=r"keeping the record of .*out in .*: database is locked\. Check permissions"):
        list(run)
    other.close()
    assert dict.fromkeys(files_in(out), "skipped").items() <= states(enlarged(upscaler, inputs, out)).items()
    assert len(files_in(out)) == 40 and unfinished(out) == []


def test_a_file_where_a_folder_should_be_stops_only_what_goes_there(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png", "sub/b.png", "c.png")
    out = tmp_path / "out"
    (out / "c_x2.png").mkdir(parents=True)
    (out / "sub").write_text("a letter")
    found = enlarged(upscaler, tmp_path / "in", out)
    assert states(found) == {"a_x2.png": "made", "c_x2.png": "failed", "sub/b_x2.png": "failed"}
    assert "making the folder" in str(found["sub/b_x2.png"].error) and (out / "sub").read_text() == "a letter"
    assert "c_x2.png: there is a folder of that name" in str(found["c_x2.png"].error)


def test_every_kind_of_picture_goes_through_a_folder(tmp_path: Path, upscaler: Upscaler) -> None:
    """Depth, alpha and one channel, made together and compared as well as alone."""
    from deploy.images.reading import read_picture

    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (6, 9, 4), np.uint8)
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(3):
        Image.fromarray(pixels + np.uint8(number)).save(inputs / f"alpha{number}.png")
        Image.fromarray(pixels[:, :, number]).save(inputs / f"grey{number}.png")
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(inputs / f"deep{number}.png")
    alone = enlarged(upscaler, inputs, tmp_path / "alone", batch=1)
    assert set(states(alone).values()) == {"made"} and len(alone) == 9
    enlarged(upscaler, inputs, tmp_path / "together", batch=3)
    assert files_in(tmp_path / "alone") == files_in(tmp_path / "together")
    for name, bits, channels in (("alpha0", 8, 4), ("grey0", 8, 1), ("deep0", 16, 1)):
        picture = read_picture(tmp_path / "alone" / f"{name}_x2.png")
        assert picture.bits == bits and (1 if picture.is_grey else 3) + (picture.alpha is not None) == channels
    both = enlarged(upscaler, inputs, tmp_path / "compared", compare=True)
    for name in ("alpha0", "grey0", "deep0"):
        halves = pixels_of(both[f"{name}_x2_compare.png"].output)
        np.testing.assert_array_equal(halves[:, 18:], pixels_of(tmp_path / "alone" / f"{name}_x2.png"))
    # A corner keeps its transparency.
    (corner,) = enlarged(upscaler, inputs / "alpha0.png", tmp_path / "corner", crop=(1, 1, 4, 3)).values()
    assert pixels_of(corner.output).shape == (6, 8, 4)


def test_the_form_of_the_file_is_a_setting(tmp_path: Path, upscaler: Upscaler) -> None:
    inputs = tmp_path / "in"
    make_pictures(inputs, "a.png")
    frames = [Image.new("L", (9, 6), 80 * number) for number in range(3)]
    frames[0].save(inputs / "film.gif", save_all=True, append_images=frames[1:])
    names = ["a_x2.jpg", "film_0001_x2.jpg", "film_0002_x2.jpg", "film_0003_x2.jpg"]
    for quality, state in ((50, "made"), (50, "skipped"), (95, "made")):
        found = enlarged(upscaler, inputs, tmp_path / "out", format="jpeg", quality=quality, frames="all")
        assert states(found) == dict.fromkeys(names, state)
    assert [found[name].frame for name in names] == [None, 1, 2, 3]


def test_a_name_that_says_the_format_takes_a_quality(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png", size=(24, 24))
    sizes = []
    for quality in (20, 90):
        (found,) = enlarged(upscaler, tmp_path / "in", tmp_path / "out", quality=quality, name="{stem}.jpg").values()
        sizes.append(found.output.stat().st_size)
    assert 2 * sizes[0] < sizes[1]


def test_what_is_wrong_with_the_request_is_raised_by_the_call(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png", "a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    for pictures, options, told in (
        (tmp_path / "in", {"name": "{stem}{ext}"}, r"would both be written to"),
        (tmp_path / "empty", {}, r"There is no picture to enlarge in .*; 1 other files were passed over\. In a folder"),
        ([], {}, r"There is no picture to enlarge: name one"),
        ("", {}, r"A picture's path is empty; `\.` is the current folder"),
        (tmp_path / "in", {"temporal_noise": "none"}, r"The `temporal_noise` must be fixed or left out, found 'none'"),
        (tmp_path / "in", {"frames": 3}, r"The `frames` must be first or all, found 3"),
        (tmp_path / "in", {"format": "psd"}, r"`format` is one of png, .*, found 'psd'"),
        (
            tmp_path / "in",
            {"quality": 90},
            r"take no `quality`; choose a `format` that does \(jpeg, webp, avif or jxl\)",
        ),
        (tmp_path / "in", {"quality": 90, "name": "{name}.bmp"}, r"BMP keeps every pixel and takes no `quality`"),
    ):
        with pytest.raises(ImageError, match=told):
            outcomes(upscaler, pictures, tmp_path / "out", **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match=r"making the folder .*file"):
        outcomes(upscaler, tmp_path / "in", tmp_path / "file")
    assert unfinished(tmp_path / "out") == []
