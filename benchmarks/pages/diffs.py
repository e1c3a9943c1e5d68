"""The examples of docs/contributing.md, each the whole diff of one addition.

    python -m benchmarks.pages.diffs apply equation   # the addition is made in this working tree, to be mended
    python -m benchmarks.pages.diffs take equation    # the tree's changes are the example now, and leave the tree

`take` wants a tree that had no other changes: commit them first. A test applies each of them.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "contributing.md"

_EXAMPLE = re.compile(r"^<!-- diff: (?P<name>\w+) -->\n```diff\n(?P<diff>.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> dict[str, str]:
    """Name -> diff, in the order of the page."""
    return {example["name"]: example["diff"] for example in _EXAMPLE.finditer(PAGE.read_text())}


def page_with(name: str, diff: str) -> str:
    """The page with this diff as the example of that name."""
    page = PAGE.read_text()
    example = next(example for example in _EXAMPLE.finditer(page) if example["name"] == name)
    return page[: example.start("diff")] + diff + page[example.end("diff") :]


def _taken() -> str:
    """What was changed in the working tree, which is then as it was; one line around each change: it fits longer."""
    subprocess.run(["git", "add", "--all"], cwd=ROOT, check=True)
    diff = subprocess.run(["git", "diff", "--cached", "-U1"], cwd=ROOT, check=True, capture_output=True, text=True)
    subprocess.run(["git", "reset", "--hard", "--quiet"], cwd=ROOT, check=True)
    return re.sub(r"^index .*\n", "", diff.stdout, flags=re.MULTILINE)


def main(arguments: list[str]) -> int:
    """The example is applied, or taken from the tree."""
    doing, name = arguments
    if doing == "apply":
        patch = ["patch", "-p1", "--no-backup-if-mismatch"]  # a backup would be part of what is taken
        return subprocess.run(patch, cwd=ROOT, input=examples()[name], text=True, check=False).returncode
    PAGE.write_text(page_with(name, _taken()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
