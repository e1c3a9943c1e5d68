"""A Dockerfile's instructions, and its RUN and COPY steps in folders of this machine instead of an image."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction: its word, and the rest with lines joined."""

    word: str
    rest: str


def steps_of(file: Path) -> list[Step]:
    """Every instruction, from top to bottom."""
    lines = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [Step(*line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def environment_of(steps: list[Step]) -> dict[str, str]:
    """What the ENV instructions of the last stage set."""
    last = max(number for number, step in enumerate(steps) if step.word == "FROM")
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(step.rest for step in steps[last:] if step.word == "ENV")))


def command_of(steps: list[Step], word: str) -> list[str]:
    """The words of ENTRYPOINT, CMD, or HEALTHCHECK's CMD."""
    (rest,) = [step.rest for step in steps if step.word == word]
    return [str(part) for part in json.loads(rest[rest.index("[") :])]


def build_in(folder: Path, context: Path, steps: list[Step]) -> None:
    """The first stage, with each absolute folder of the image below `folder`, and this Python as the image's."""
    here = folder / "source"
    here.mkdir(parents=True)
    for step in steps[1 : next(n for n, step in enumerate(steps) if n and step.word == "FROM")]:
        if step.word == "COPY":
            *sources, target = step.rest.split()
            for source in sources:
                _copy(context / source, here / target / ("" if (context / source).is_dir() else source))
        elif step.word == "RUN":
            placed = re.sub(r"(?<=[\s=])/(opt|build|wheels)\b", rf"{folder}/\1", f" {step.rest}")
            placed = re.sub(r"(?<=\s)python(?=\s)", sys.executable, placed)
            subprocess.run(["sh", "-e", "-c", placed], cwd=here, check=True, capture_output=True, text=True)
        else:
            assert step.word in ("ENV", "WORKDIR"), step


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
