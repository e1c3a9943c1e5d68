"""What `--json` prints, as a JSON Schema per command; `version` is that of `idm-deploy --version --json`.

Fields may be added in later versions, so readers should ignore what they do not know; none goes or changes its meaning
without a new major version.
"""

from pathlib import Path


def schema_text(command: str) -> str:
    """The schema of a command, by the name that users type."""
    return (Path(__file__).parent / f"{command}.json").read_text(encoding="utf-8")
