"""The demo end to end on a tiny setting, what it goes on with, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.bundle.records import Preset
from deploy.checkpoint.load import load_checkpoint
from deploy.cli.main import app
from deploy.demo import demo as demo_module
from deploy.demo.demo import IN_WORDS, STATE, STEPS, DemoSettings, is_beyond_training, run_demo
from deploy.errors import BundleError, FolderError, ImageError
from deploy.export.export import export_bundle
from deploy.images.files import read_image
from deploy.packaged.places import IDM_BUNDLE, bundle_or_packaged
from tests.checkpoints import save_idm
from tests.deploy.bundle.small_bundle import write_bundle
from tests.json_schema import checked

TINY = DemoSettings(scales=(2.0, 4.0), pictures=1, originals=1, int8=False, engine="onnxruntime-cpu", threads=1)
PICTURES = ["chelsea_x2.png", "chelsea_x4.png", "contact-sheet-x2.png", "contact-sheet-x4.png"]
MADE = [*PICTURES, IDM_BUNDLE.name, STATE]


def ignore(*_: object) -> None:
    pass


def run(folder: Path, settings: DemoSettings = TINY, *, force: bool = False):  # type: ignore[no-untyped-def]
    return run_demo(folder, settings, force=force, say=ignore, progress=ignore)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    run(folder)
    return folder


def test_the_demo_makes_pictures_sheets_and_figures(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == sorted(MADE)
    assert read_image(finished / "chelsea_x2.png").size == (128, 128)
    assert read_image(finished / "chelsea_x4.png").size == (256, 256)
    state = checked("demo", (finished / STATE).read_text())  # which is what --json prints
    assert state["finished"] is True
    assert list(state["steps"]) == sorted(STEPS)
    assert list(IN_WORDS) == list(STEPS)
    assert state["steps"]["quantize"]["result"] == {"left_out": "it was not asked for"}
    # The demo works on a copy: what is packaged stays as it is.
    assert state["steps"]["bundle"]["result"]["bundle"] == str(finished / IDM_BUNDLE.name)
    rows = state["steps"]["figures"]["result"]["evaluation"]["rows"]
    assert [row["name"] for row in rows[:2]] == ["bicubic", "bicubic, 5 back-projections"]
    assert len(rows) == 3
    # A model that was trained, at its default: above a loose bar that noise or a colour cast would miss.
    assert rows[2]["figures"]["psnr"]["mean"] > rows[0]["figures"]["psnr"]["mean"] - 1.5


@pytest.mark.slow
def test_int8_stands_beside_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny network: what is shown is under test, not the packaged model."""
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=2)})
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    monkeypatch.setattr("deploy.int8.telling.results.HELD_OUT", 1)
    loaded = load_checkpoint(save_idm(tmp_path), config={"norm_groups": 8, "image_size": 16})
    packaged = export_bundle(loaded, tmp_path / "packaged.bundle")
    before = packaged.manifest.as_bytes()
    monkeypatch.setattr(demo_module, "IDM_BUNDLE", packaged.path)
    said: list[str] = []
    settings = replace(TINY, int8=True, calibration_pictures=1)
    state = run_demo(tmp_path / "out", settings, say=said.append, progress=ignore)

    assert Bundle.open(packaged.path).manifest.as_bytes() == before
    assert any(line.startswith("calibrating on 1 of the 16 packaged pictures") for line in said)
    quantized = state["steps"]["quantize"]["result"]
    assert [row[0] for row in quantized["table"]] == ["target", "ort", "openvino"]
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {*PICTURES, "packaged.bundle", "int8", "int8-report", STATE}  # nothing partial is left
    in_float = read_image(tmp_path / "out" / "chelsea_x2.png").pixels.astype(int)
    in_int8 = read_image(tmp_path / "out" / "int8" / "chelsea_x2.png").pixels
    assert 0 < abs(in_float - in_int8).mean() < 20
    # Nearest, bicubic, the result, and int8 at the smaller scale, the original at the larger one.
    widths = [read_image(tmp_path / "out" / f"contact-sheet-x{scale}.png").size.width for scale in (2, 4)]
    assert widths == [16 + 4 * (256 + 16)] * 2
    rows = state["steps"]["figures"]["result"]["evaluation"]["rows"]
    assert [row["name"] for row in rows[2:]] == ["balanced, fp32", "balanced, int8"]
    assert state["steps"]["figures"]["result"]["table"][0][-1].startswith("fidelity")


def test_an_interrupted_demo_goes_on_where_it_stopped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    state = json.loads((folder / STATE).read_text())
    del state["steps"]["sheets"], state["steps"]["figures"]
    (folder / STATE).write_text(json.dumps(state | {"finished": False}))
    done: list[str] = []

    monkeypatch.setattr(demo_module, "STEPS", {name: lambda _, n=name: done.append(n) or {} for name in STEPS})
    result = run(folder)
    assert done == ["sheets", "figures"]
    assert result["finished"] is True
    assert result["steps"]["enlarge"] == state["steps"]["enlarge"]


def test_other_settings_begin_again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    state = json.loads((finished / STATE).read_text()) | {"finished": False}
    state["settings"]["seed"] = 7
    (folder / STATE).write_text(json.dumps(state))
    done: list[str] = []
    monkeypatch.setattr(demo_module, "STEPS", {name: lambda _, n=name: done.append(n) or {} for name in STEPS})
    run(folder)
    assert done == list(STEPS)


def test_a_folder_that_is_not_empty_is_refused_unless_forced(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FolderError, match=r"is not empty; it holds chelsea_x2\.png, .* and more\. Choose another"):
        run(finished)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FolderError, match=r"is not empty; it holds mine\.txt\. .*--force"):
        run(tmp_path)
    (tmp_path / STATE).write_text("not JSON")
    with pytest.raises(FolderError, match="is not empty"):
        run(tmp_path)
    monkeypatch.setattr(demo_module, "STEPS", {"none": lambda _: {}})
    assert run(tmp_path, force=True)["finished"] is True
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"cannot use the folder .*file.*: .*Choose another with -o"):
        run(tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FolderError, match=r"cannot use the folder .*Permission denied"):
        run(tmp_path / "out")


def test_a_packaged_file_that_was_altered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = tmp_path / IDM_BUNDLE.name
    shutil.copytree(IDM_BUNDLE, altered)
    weights = next(altered.glob("weights-*"))
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(demo_module, "IDM_BUNDLE", altered)
    with pytest.raises(BundleError, match=r"idm-demo\.bundle is damaged: weights-\w+\.bin has SHA-256"):
        run(tmp_path / "out")


def test_the_command_warns_of_nothing_and_leaves_nothing_elsewhere(tmp_path: Path) -> None:
    """The real entry point, warnings as errors, without torch and onnx, in folders of its own."""
    places = {name: tmp_path / name for name in ("here", "home", "temporary")}
    for place in places.values():
        place.mkdir()
    environment = os.environ | {
        "HOME": str(places["home"]),
        "XDG_CACHE_HOME": str(places["home"] / "cache"),
        "TMPDIR": str(places["temporary"]),
        "OMP_NUM_THREADS": "1",
    }
    absent = "import sys; sys.modules |= dict.fromkeys(('torch', 'onnx', 'skimage', 'sklearn'))"
    code = f"{absent}; from deploy.cli.main import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, "demo", "--quick", "--threads", "1", "--seed", "3"]
    options = ["--engine", "onnxruntime-cpu", "--scale", "2", "-o", "out"]
    result = subprocess.run(
        [*command, *options], cwd=places["here"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "warning" not in (result.stdout + result.stderr).lower()
    assert result.stdout.rstrip().endswith("Look at the pictures in out")
    assert [path.name for path in places["here"].iterdir()] == ["out"]
    kept = [path.relative_to(places["home"]).parts[:2] for path in places["home"].rglob("*") if path.is_file()]
    assert set(kept) == {("cache", "idm-deploy")}  # the times of this machine, for later estimates
    assert list(places["temporary"].iterdir()) == []


def test_a_sample_that_cannot_be_enlarged_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    monkeypatch.setattr(demo_module, "packaged_pictures", lambda: [damaged])
    with pytest.raises(ImageError, match=r"the demo could not enlarge its samples: .*damaged\.png"):
        run(tmp_path / "out")
    state = json.loads((tmp_path / "out" / STATE).read_text())
    assert (list(state["steps"]), state["finished"]) == (["bundle", "engine", "quantize"], False)


def test_beyond_the_trained_scales_is_what_training_did_not_see() -> None:
    bundle = Bundle.open(IDM_BUNDLE, verify="sizes")
    assert not is_beyond_training(bundle, 8.0)
    assert is_beyond_training(bundle, 8.01)


@pytest.mark.slow
def test_the_demo_from_the_checkpoint_beyond_training_shows_two_stages(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run(folder, replace(TINY, scales=(3.0, 9.0), from_checkpoint=True))
    names = sorted(path.name for path in folder.iterdir())
    assert "idm-demo.bundle" in names
    assert "chelsea_x3_x3.png" in names
    staged, at_once = (read_image(folder / f"chelsea_{end}.png").pixels for end in ("x3_x3", "x9"))
    assert staged.shape == at_once.shape == (576, 576, 3)
    assert Bundle.open(folder / "idm-demo.bundle").manifest.default_preset == "balanced"


def test_the_packaged_bundle_stands_in_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    assert bundle_or_packaged(None, said.append, here=tmp_path) == IDM_BUNDLE
    assert len(said) == 1
    assert "packaged demo model" in said[0]
    path = write_bundle(tmp_path / "mine.bundle").path
    assert bundle_or_packaged(None, said.append, here=tmp_path) == path
    assert bundle_or_packaged(IDM_BUNDLE, said.append) == IDM_BUNDLE
    assert len(said) == 1


def test_infer_works_with_nothing_but_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["infer", "--scale", "1.25", "--threads", "1", "--engine", "onnxruntime-cpu"])
    assert result.exit_code == 0, result.output
    assert "packaged demo model" in result.stderr
    (made,) = tmp_path.iterdir()
    assert made.name.startswith("chelsea") and made.name.endswith("_x1.25.png")
    assert read_image(made).size == (80, 80)
