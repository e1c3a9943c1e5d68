"""The blocks of README and docs, what their markers ask for, and how a block is run.

A marker is an HTML comment on the lines before a fenced block, so readers of the built page do not see it:

    <!-- not run: needs a GPU -->                     why no test runs the block
    <!-- slow: a minute -->                           run by `make test-slow` alone, in a folder of its own
    <!-- tested with: bench --rounds 1; infer ... --> options that the test adds to commands of the block

Blocks without a marker run as they are typed, one after the other in one folder for each page. Shell scripts of the
examples are blocks too; their markers are comments of the shell.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from deploy.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*"))

RUN = ("sh", "python")
"""Languages of blocks that are commands; `text`, `json` and `diff` are only shown."""
SHOWN = ("text", "json", "diff")

REASONS = ("needs a GPU", "needs the internet", "needs your", "takes hours", "is run by", "is parsed by")
"""What `not run` may begin with."""

_MARKERS = r"(?:<!-- .+? -->\s*\n)*"
_BLOCK = re.compile(rf"^(?P<markers>{_MARKERS})```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page, or a shell script."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None = None
    slow: str | None = None
    extra: Mapping[str, list[str]]  # by command of idm-deploy: what the test adds

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block; a backslash joins lines, a # begins a comment."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page, from top to bottom."""
    text = page.read_text()
    name = page.relative_to(ROOT).as_posix()
    return [
        _block(name, text.count("\n", 0, m.start("language")) + 1, m["language"], m["text"], _comments(m["markers"]))
        for m in _BLOCK.finditer(text)
    ]


def block_of_script(script: Path) -> Block:
    """A shell script as one block."""
    text = script.read_text()
    comments = re.findall(r"^# (.+)$", text, re.MULTILINE)
    commands = re.sub(r"^set -.*$", "", text, flags=re.MULTILINE)
    return _block(script.relative_to(ROOT).as_posix(), 1, "sh", commands, comments)


def run_commands(block: Block, folder: Path) -> None:
    """Each command of a shell block has run in `folder`, which is the current one, and ended with 0."""
    for words in block.commands():
        output = None
        if ">" in words:
            words, (output,) = words[: words.index(">")], words[words.index(">") + 1 :]
        if words[0] == "idm-deploy":
            printed = _run_idm_deploy(words[1:] + block.extra.get(words[1], []))
        elif words[0] == "python":
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
            printed = done.stdout
        else:
            raise AssertionError(f"{block.name}: no test can run `{words[0]}`; mark the block")
        if output is not None:
            (folder / output).write_text(printed)


def _run_idm_deploy(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"idm-deploy {shlex.join(arguments)}\n{result.output}\n{result.exception!r}"
    return result.stdout


def _comments(markers: str) -> list[str]:
    return re.findall(r"<!-- (.+?) -->", markers)


def _block(page: str, line: int, language: str, text: str, comments: list[str]) -> Block:
    values = dict(comment.split(": ", 1) for comment in comments if ": " in comment)
    extra = {}
    for command in filter(None, values.get("tested with", "").split(";")):
        name, *options = shlex.split(command)
        extra[name] = options
    return Block(
        page=page,
        line=line,
        language=language,
        text=text,
        not_run=values.get("not run"),
        slow=values.get("slow"),
        extra=extra,
    )
