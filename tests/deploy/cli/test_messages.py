"""What the terminal is told: short, on one line, nothing hidden, and never the reason why nothing is made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli.values import LONGEST_LINE, text_of_error
from tests.deploy.bundle.small_bundle import write_bundle

RUN = "import sys; from deploy.cli.main import main; sys.argv[0] = 'idm-deploy'; main()"


def _run(*arguments: str, cwd: Path, redirected: str = "") -> subprocess.CompletedProcess[str]:
    words = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", RUN, *arguments]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


def test_an_error_keeps_its_beginning_and_its_end() -> None:
    text = text_of_error(f"reading {'x' * 10**6}.png: {'a b ' * 1000}. Allow more with `max_memory`.")
    assert len(text) == LONGEST_LINE
    assert text.startswith("reading xxx") and text.endswith("Allow more with --max-memory.") and "…" in text
    assert text_of_error("reading a.png: it is empty.") == "reading a.png: it is empty."


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert text_of_error("a\x1b[31m\x07\x9b\u202eb\ud800é 中") == r"a\x1b[31m\x07\x9b\u202eb\ud800é 中"
    assert text_of_error("one\ntwo\rthree") == r"one\ntwo\rthree"


def test_hostile_names_are_one_short_line_and_exit_code_1(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    record = bundle.path / "bundle.json"
    record.write_text(record.read_text().replace('"idm"', '"\\u001b[31m' + "x" * 150 + '"'))
    for arguments in (("inspect", "a/" * 3000), ("export", "n" * 200 + "\x1b[2J\n.pt")):
        done = _run(*arguments, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("idm-deploy: ") and done.stderr.count("\n") == 1, done.stderr
        assert len(done.stderr) <= LONGEST_LINE + len("idm-deploy: \n") and "\x1b" not in done.stderr
    shown = _run("inspect", str(bundle.path), cwd=tmp_path)
    assert shown.returncode == 0 and "\x1b[31m" not in shown.stdout and r"\x1b[31m" in shown.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a full disk")
@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", ">&-", "0<&- >/dev/null 2>&-"])
def test_messages_that_nobody_can_read_cost_no_picture(tmp_path: Path, redirected: str) -> None:
    done = _run("infer", "--scale", "1", "--preset", "draft", "-o", "a.png", cwd=tmp_path, redirected=redirected)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a full disk")
def test_results_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    done = _run("inspect", str(bundle.path), "--json", cwd=tmp_path, redirected=">/dev/full")
    assert done.returncode == 1 and "cannot be written to standard output (No space left" in done.stderr
    assert os.listdir(tmp_path) == ["a.bundle"]  # noqa: PTH208
