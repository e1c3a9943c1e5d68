"""Every refusal that people read, in one file: `python -m tests.refusals` writes it anew."""

import re
import subprocess
import sys
from pathlib import Path

from deploy.cli.values import LONGEST_LINE
from tests.messages import ROOT, sentences
from tests.refusals import COMMAND, COMMANDS, GOLDEN

CUT = "…"


def test_commands_refuse_as_the_file_of_refusals_says(tmp_path: Path) -> None:
    """A changed message is a changed line there, to be read before it is committed.

    In a process of its own: what other tests have read of the environment stays read.
    """
    subprocess.run([sys.executable, "-m", "tests.refusals", str(tmp_path / "found")], cwd=ROOT, check=True)
    found = (tmp_path / "found").read_text().splitlines()
    known = GOLDEN.read_text().splitlines()
    changed = [line for line in found if line not in set(known)] + [line for line in known if line not in set(found)]
    assert changed == [], f"read them, then type {COMMAND}"


def test_each_refusal_is_one_line_that_can_be_read_at_once() -> None:
    said = re.findall(r"^\$ (.+)\n(\d+): (.*)\n(?=\n)", GOLDEN.read_text(), re.MULTILINE)
    assert [command.removeprefix("idm-deploy ") for command, _, _ in said] == COMMANDS
    assert {code for _, code, _ in said} == {"1", "2"}
    assert [text for _, _, text in said if not 20 <= len(text) <= LONGEST_LINE + 20 or CUT in text] == []


def test_no_sentence_of_the_code_is_longer_than_is_shown() -> None:
    """What stands in braces counts as twenty characters."""
    assert [one for one in sentences() if len(re.sub(r"\{[^{}]*\}", "x" * 20, one.text)) > LONGEST_LINE] == []
