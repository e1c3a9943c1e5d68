"""Parameters of the Python API and options of the command line: what a message calls them, and bad ones."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.cli.main import app
from deploy.cli.values import OPTIONS_OF_PARAMETERS, text_with_options
from deploy.export.export import export_bundle
from engines.errors import EngineError
from tests.checkpoints import save_idm


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("parameters")
    return export_bundle(load_checkpoint(save_idm(folder)), folder / "micro.bundle")


def test_parameters_in_a_message_become_options() -> None:
    told = "Raise `max_pixels`, or leave `consistency` out; `idm-deploy doctor` and `upscale` are no parameters."
    assert text_with_options(told) == (
        "Raise --max-pixels, or leave --consistency out; `idm-deploy doctor` and `upscale` are no parameters."
    )


def test_every_such_option_is_one_of_infer() -> None:
    command = typer.main.get_command(app).commands["infer"]  # type: ignore[attr-defined]  # a group
    options = {option for parameter in command.params for option in parameter.opts}
    missing = [name for name in OPTIONS_OF_PARAMETERS if f"--{name.replace('_', '-')}" not in options]
    assert missing == []


def test_infer_names_options_where_python_names_parameters(bundle: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    command = [sys.executable, "-c", "from deploy.cli.main import main; main()", "infer", "a.png", "--bundle"]
    command += [str(bundle.path), "--scale", "4", "--threads", "1"]
    done = subprocess.run([*command, "--max-memory", "1MB"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Allow more with --max-memory." in done.stderr
    done = subprocess.run([*command, "--max-pixels", "50"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Raise the limit with --max-pixels if you trust" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["infer", "--scale", "2", "--bundle"],
        ["generate", "--bundle"],
        ["evaluate", "--limit", "1", "--crop", "64", "--bundle"],
        ["schedule"],
        ["bench"],
        ["build-engine"],
    ],
)
def test_a_gpu_that_is_not_here_is_refused(command: list[str], bundle: Bundle) -> None:
    result = CliRunner().invoke(app, [*command, str(bundle.path), "--device", "99"])
    assert isinstance(result.exception, EngineError)
    assert str(result.exception).startswith("Device 99 cannot be used: ")


def test_the_engine_that_verifies_knows_no_gpu(bundle: Bundle) -> None:
    (checkpoint,) = (file for file in bundle.path.parent.iterdir() if file.is_file())
    result = CliRunner().invoke(app, ["verify", str(bundle.path), "--against", str(checkpoint), "--device", "0"])
    assert isinstance(result.exception, EngineError)
    assert "onnxruntime-cpu runs on the processor and knows no device 0" in str(result.exception)


def test_an_empty_path_is_not_the_current_folder() -> None:
    result = CliRunner().invoke(app, ["infer", "", "--scale", "2"])
    assert result.exit_code == 2
    assert "a path is empty" in result.output
