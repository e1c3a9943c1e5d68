"""The command line as a whole: quick help without heavy packages, refusals with exit code 1, bugs with a traceback."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli.main import COMMANDS

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "matplotlib")
MAIN = "from deploy.cli.main import main; main()"


def run(*arguments: object, code: str = MAIN) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command.replace("_", "-"), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert command.replace("_", "-") in result.stdout
    assert "--help" in result.stdout


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom deploy.cli.main import app\n"
        f"try:\n    app()\nfinally:\n    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = run("--help", code=code)
    assert (result.returncode, result.stderr) == (0, "[]\n")
    for command in COMMANDS:
        assert command.replace("_", "-") in result.stdout


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Processor time: on a machine of its own that is the time on the clock, and others do not change it much.
    assert min(seconds) < 0.4, seconds


def test_no_arguments_show_the_help() -> None:
    result = run()
    assert "Usage" in result.stdout
    assert "inspect" in result.stdout


def test_version() -> None:
    import deploy

    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"idm-deploy {deploy.__version__}\n")


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "none.pth")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"idm-deploy: {tmp_path / 'none.pth'} does not exist.\n"
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("inspect").returncode == 2
    assert run("inspcet").returncode == 2
    assert run("inspect", "--jason").returncode == 2


def test_a_bug_keeps_its_traceback() -> None:
    code = "import deploy.cli.main as m\ndef broken(): raise RuntimeError('a bug')\nm.app = broken\nm.main()"
    result = run(code=code)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: a bug" in result.stderr


@pytest.mark.parametrize("raised", ["MemoryError", 'RuntimeError("can\'t start new thread")'])
def test_too_little_memory_is_one_line(raised: str) -> None:
    code = f"import deploy.cli.main as m\ndef broken(): raise {raised}\nm.app = broken\nm.main()"
    result = run(code=code)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("idm-deploy: there is not enough memory for this.")


def test_an_interruption_is_exit_code_130() -> None:
    code = "import deploy.cli.main as m\ndef stopped(): raise KeyboardInterrupt\nm.app = stopped\nm.main()"
    result = run(code=code)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("arguments", [("--version",), ("doctor", "--json")])
def test_results_that_standard_output_does_not_take_are_a_refusal(arguments: tuple[str, ...]) -> None:
    """Whether they are noticed while they are written or when the command ends."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", MAIN, *arguments]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("idm-deploy: the results cannot be written to standard output (No space left")
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_closed_outputs_do_no_harm(tmp_path: Path) -> None:
    shell = f"{sys.executable} -c '{MAIN}' --version >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], cwd=tmp_path, check=False).returncode == 0
