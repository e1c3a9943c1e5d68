"""Every command and Python block of README, docs and examples runs, or says why not; and what the pages name exists."""

import ast
import os
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Protocol

import pytest

from benchmarks.pages import command_line
from benchmarks.regression.figures import read_figures
from tests.pages import EXAMPLES, PAGES, REASONS, ROOT, RUN, SHOWN, Block, block_of_script, blocks_of, run_commands
from tests.stand_ins import make_stand_ins

TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
ALL = "\n".join(TEXTS.values())
README = TEXTS["README.md"]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SCRIPTS = [block_of_script(script) for script in EXAMPLES if script.suffix == ".sh"]
PROGRAMS = [script for script in EXAMPLES if script.suffix == ".py"]
TO_RUN = [block for block in [*BLOCKS, *SCRIPTS] if block.language in RUN and block.not_run is None]


class Copies(Protocol):
    """The folder of a page or program, with the stand-ins in it from the first call on."""

    def __call__(self, name: str, *, int8: bool = True) -> Path: ...


def _copy(source: str, target: str) -> None:
    """A copy; of the checkpoint, which is large and which nothing writes to, another link. ONNX refuses links."""
    (os.link if source.endswith(".pt") else shutil.copy2)(source, target)


@pytest.fixture(scope="module")
def copy_for(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """See Copies."""
    folders: dict[str, Path] = {}

    def folder_of(name: str, *, int8: bool = True) -> Path:
        original = f"stand-ins, {int8=}"
        if original not in folders:
            folders[original] = make_stand_ins(tmp_path_factory.mktemp("stand-ins"), int8=int8)
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("page") / "here"
            shutil.copytree(folders[original], folders[name], copy_function=_copy)
        return folders[name]

    return folder_of


@pytest.fixture(scope="module")
def names_of_pages() -> dict[str, dict[str, object]]:
    """What the Python blocks of each page have defined: a block goes on from the one above it."""
    return {}


def _run(block: Block, folder: Path, names: dict[str, object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if block.language == "python":
            exec(compile(block.text, block.name, "exec"), names)
        else:
            run_commands(block, folder)


@pytest.mark.runs_openvino
@pytest.mark.parametrize("block", [block for block in TO_RUN if block.slow is None], ids=lambda block: block.name)
def test_block_runs(block: Block, copy_for: Copies, names_of_pages: dict[str, dict[str, object]]) -> None:
    _run(block, copy_for(block.page), names_of_pages.setdefault(block.page, {}))


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in TO_RUN if block.slow is not None], ids=lambda block: block.name)
def test_slow_block_runs(block: Block, copy_for: Copies) -> None:
    _run(block, copy_for(block.name, int8=False), {})


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_example_runs(program: Path, copy_for: Copies, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = re.findall(r"^    python examples/\S+ ?(.*)$", program.read_text(), re.MULTILINE)
    assert arguments, "its docstring shows how it is run"
    for line in arguments:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(copy_for(program.name))
            patch.setattr(sys, "argv", [str(program), *line.split()])
            runpy.run_path(str(program), run_name="__main__")
        assert capsys.readouterr().out


def test_examples_are_numbered_and_shown_in_the_docs() -> None:
    assert [int(script.name[:2]) for script in EXAMPLES] == list(range(1, len(EXAMPLES) + 1))
    assert [script.name for script in EXAMPLES if script.name not in ALL] == []


@pytest.mark.parametrize("page", TEXTS)
def test_blocks_say_what_they_are(page: str) -> None:
    """No block escapes: each has a language that is run or shown, and a reason that is known where it is not run."""
    blocks = [block for block in BLOCKS if block.page == page]
    assert len(blocks) == TEXTS[page].count("\n```") // 2
    assert [block.name for block in blocks if block.language not in (*RUN, *SHOWN)] == []
    assert [block.name for block in blocks if block.not_run is not None and not block.not_run.startswith(REASONS)] == []
    shown = [block.text for block in blocks if block.language in SHOWN]
    assert [text for text in shown if re.search(r"^ *(idm-deploy|python|pip|make) ", text, re.MULTILINE)] == []
    outside = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^ {4,}(?:idm-deploy|python|pip|make) .*$", outside, re.MULTILINE) == []
    assert [
        (block.name, name) for block in blocks for name in block.extra if f"idm-deploy {name}" not in block.text
    ] == []


def test_the_mission_stands_at_the_top() -> None:
    assert README.count("\n") <= 150
    commands = [
        ["idm-deploy", "quantize", "ckpt.pt"],
        ["idm-deploy", "build-engine"],
        ["idm-deploy", "infer", "--scale", "12"],
    ]
    assert BLOCKS[0].page == "README.md"
    assert BLOCKS[0].commands() == commands


def test_ratios_of_the_readme_were_measured() -> None:
    """The last column of what you get, beside the data that docs/speed.md is written from."""
    section = README.partition("## What you get")[2].partition("\n## ")[0]
    ratios = re.findall(r"^\| .+ \| ([\d.]+) \|$", section, re.MULTILINE)
    assert len(ratios) == 5
    assert set(ratios) <= {f"{one.ratio:.3g}" for figure in read_figures() for one in figure.measured.values()}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\S+)", ALL, re.MULTILINE))))
def test_make_target_of_the_pages_exists(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("extra", sorted(set(re.findall(r"idm-deploy\[([\w,-]+)\]", ALL))))
def test_extra_of_the_pages_exists(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extra.split(",")) <= project["optional-dependencies"].keys()


def test_modules_that_the_pages_run_exist() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", ALL)) - {"venv", "http.server"}
    assert len(modules) >= 4
    places = [ROOT / module.replace(".", "/") for module in modules]
    assert [place for place in places if not place.with_suffix(".py").exists() and not place.is_dir()] == []


def test_links_and_pictures_exist() -> None:
    """Links of the README, which the site's builder does not see, and pictures, which it does not look for."""
    for page, text in TEXTS.items():
        pictures = re.findall(r"!\[[^\]]*\]\(([^)#]+)\)", text)
        links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text) if page == "README.md" else []
        assert [place for place in [*pictures, *links] if not (ROOT / page).parent.joinpath(place).exists()] == []
    anchors = re.findall(r"\]\((docs/[\w-]+\.md)#([\w-]+)\)", README)
    assert [(page, anchor) for page, anchor in anchors if anchor not in _anchors(TEXTS[page])] == []


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


def test_every_page_stands_in_the_navigation() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    named = re.findall(r"[\w-]+\.md", str(navigation))
    assert sorted(named) == sorted(page.name for page in PAGES if page.name != "README.md")


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    """`make docs` writes it again."""
    assert TEXTS["docs/cli.md"] == command_line.page()


def texts_of_the_code() -> list[str]:
    """Every string of the packages, what is filled in as "…"."""
    texts = []
    for file in sorted(path for package in ("deploy", "engines") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_errors_of_engines_in_the_docs_are_those_of_the_code() -> None:
    section = TEXTS["docs/troubleshooting.md"].partition("## When an engine refuses")[2].partition("\n## ")[0]
    messages = [
        text for row in re.findall(r"^\| (`.+?`) \| ", section, re.MULTILINE) for text in re.findall(r"`(.+?)`", row)
    ]
    assert len(messages) > 15
    texts = texts_of_the_code()
    # A sentence may be made of several strings; each of the parts around what is filled in stands in one of them.
    assert [m for m in messages if not all(any(part in text for text in texts) for part in m.split("…"))] == []
