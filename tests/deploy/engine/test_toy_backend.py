"""A backend is one file and one line: one that the product has never seen goes through all of it."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploy import Bundle, Upscaler
from deploy.bundle.records import Preset
from deploy.cli.main import app
from deploy.engine.trials import TrialSettings, trial_step
from deploy.families.table import FAMILIES
from deploy.families.table import register as register_family
from deploy.images.files import write_image
from deploy.images.sizes import Size
from engines.backends import BACKENDS, DEFAULT_BACKEND, register
from engines.contract import Backend, Opening
from engines.errors import EngineError
from tests.deploy.families.toy.family import TOY
from tests.engines.graphs import write_lookup

SOURCE = Path(__file__).parents[2] / "engines" / "toy_backend.py"


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Backend]:
    """The toy, imported from a folder outside the repository and registered with one line."""
    path = Path(shutil.copy(SOURCE, tmp_path / "numpy_backend.py"))
    spec = importlib.util.spec_from_file_location("numpy_backend", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    register(module.TOY_BACKEND)
    yield module.TOY_BACKEND
    del BACKENDS[module.TOY_BACKEND.name]


@pytest.fixture
def family() -> Iterator[None]:
    """A network that the toy has the operators for."""
    register_family(TOY)
    yield
    FAMILIES.remove(TOY)


def run(arguments: str) -> str:
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.output


@pytest.mark.usefixtures("family")
def test_a_new_backend_makes_float_and_int8_pictures(
    toy: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=3)})
    torch.manual_seed(0)
    torch.save(TOY.build(TOY.config(width=4)).state_dict(), "toy.pt")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for number in range(3):
        write_image(np.roll(pixels, number, axis=0), photographs / f"{number}.png")

    run("export toy.pt")
    run(f"verify toy.bundle --against toy.pt --engine {toy.name}")  # the network in PyTorch, by NumPy
    run(
        "quantize toy.bundle --calib photographs --scale 2 --crop 32 --pictures 2 --targets ort --max-psnr-drop 50"
        " --threads 1 --cache-dir cache"
    )
    noise = {}
    for precision in ("fp32", "int8"):
        run(f"infer photographs/0.png --scale 2 --engine {toy.name} --precision {precision} --force")
        for engine in (toy.name, DEFAULT_BACKEND):
            with Upscaler(Bundle.open("toy.bundle"), engine, precision, threads=1) as upscaler:
                assert upscaler.upscale(pixels, scale=2.0).shape == (64, 64, 3)
                step = trial_step(upscaler.session.graphs, TrialSettings(size=Size(32, 32)))
                noise[engine, precision] = step.predicted_noise(upscaler.session.graphs)
        # Rounding of float32, but where a sum lies on the border between two codes and falls to either side.
        apart = np.abs(noise[toy.name, precision] - noise[DEFAULT_BACKEND, precision])
        assert np.quantile(apart, 0.99) < 1e-5 < 1e-3 < np.abs(noise[toy.name, precision]).max()
    assert np.median(np.abs(noise[toy.name, "int8"] - noise[toy.name, "fp32"])) > 1e-5  # it was int8
    timed = run(f"build-engine toy.bundle --engine {toy.name} --sizes 32x32 --threads 1 --cache-dir engines")
    assert f"{toy.name} fp32" in timed and f"{toy.name} int8" in timed


def test_doctor_shows_a_new_backend(toy: Backend) -> None:
    engines = {engine["name"]: engine for engine in json.loads(run("doctor --json"))["engines"]}
    assert engines[toy.name]["available"] and engines[toy.name]["version"] == np.__version__


def test_an_operator_that_the_toy_lacks(toy: Backend, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"numpy-toy has no operator .*Gather"):
        toy.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))
