"""What all commands share: help in panels with examples, -q and -v on both sides, schemas, streams that are closed."""

import ast
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.cli.main import COMMANDS, app
from deploy.cli.messages import say, say_error, shown_messages
from deploy.cli.options import SCHEMAS
from deploy.cli.version import EXIT_CODES, VARIABLES
from deploy.packaged.places import IDM_BUNDLE, SAMPLE_IMAGES
from tests.checkpoints import save_idm
from tests.json_schema import checked, problems_of, read_schema

ROOT = Path(__file__).resolve().parents[3]
ENTRY = [sys.executable, "-c", "from deploy.cli.main import main; main()"]
TYPED = [name.replace("_", "-") for name in COMMANDS]
GROUP: Any = typer.main.get_command(app)
INFER = ["infer", str(SAMPLE_IMAGES / "chelsea.png"), "--scale", "1.5", "--steps", "1", "--threads", "1"]
INFER += ["--bundle", str(IDM_BUNDLE), "--engine", "onnxruntime-cpu"]


def files_of_the_packages() -> list[Path]:
    return sorted(path for package in ("deploy", "calibration", "engines") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("name", TYPED)
def test_options_are_grouped_and_explained(name: str) -> None:
    panels: dict[str | None, list[str]] = {}
    for parameter in GROUP.commands[name].params:
        assert parameter.help and parameter.help[-1] in ".)", parameter.name
        panels.setdefault(parameter.rich_help_panel, []).append(parameter.name)
    assert max(map(len, panels.values())) <= 13
    assert len(panels.get(None, [])) <= 8
    shared = {"as_json", "json_schema", "quiet", "verbose"}
    assert set(list(panels.values())[-1]) == shared  # the last panel


@pytest.mark.parametrize("name", TYPED)
def test_examples_are_what_can_be_typed(name: str) -> None:
    heading, *examples = GROUP.commands[name].epilog.split("\n\n")
    assert heading == ("Example:" if len(examples) == 1 else "Examples:")
    for example in examples:
        assert len(example) < 79, "does not fit the terminal"
        tool, command, *arguments = shlex.split(example)
        assert (tool, command) == ("idm-deploy", name)
        with GROUP.make_context("idm-deploy", [name, *arguments]) as outer:
            inner = GROUP.commands[name].make_context(name, arguments, parent=outer)
        assert inner.params.keys() > {"quiet"}


def test_the_short_form_of_help() -> None:
    for words in (["-h"], ["infer", "-h"]):
        short, long = (CliRunner().invoke(app, [*words[:-1], form]) for form in ("-h", "--help"))
        assert (short.exit_code, short.stdout) == (0, long.stdout)


def test_help_lists_exit_codes_and_every_variable_that_is_read() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())  # however it was wrapped
    assert all(f"{code}: {meaning}." in shown for code, meaning in EXIT_CODES.items())
    assert all(f"{name}: {meaning}." in shown for name, meaning in VARIABLES.items())
    pattern = re.compile(r"""(?:environ(?:\.get|\.setdefault)?|getenv)[\[(]\s*["'](\w+)""")
    read = {name for path in files_of_the_packages() for name in pattern.findall(path.read_text())}
    assert {"XDG_CACHE_HOME", "TORCH_HOME"} <= read <= VARIABLES.keys()


def test_only_the_command_line_prints() -> None:
    """Libraries log. What is a process of its own (python -m) writes its answer to stdout."""
    printing = [
        str(path.relative_to(ROOT))
        for path in files_of_the_packages()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_leaves_results_and_errors(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*INFER, "none.png"]
    done = CliRunner().invoke(app, ["-q", *words] if place == "before" else [*words, "--quiet"])
    assert done.exit_code == 1
    assert done.stdout.startswith("chelsea_x1.5.png: 96x96, 1 evaluations, ")
    assert done.stderr.splitlines() == [
        "idm-deploy: reading none.png: there is no such file. Check the name and the folder.",
        "idm-deploy: 1 of 2 pictures failed: none.png",
    ]


def test_verbose_shows_what_the_libraries_log_with_time_and_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = (INFER, [*INFER, "-v", "--force"], ["-v", *INFER, "--verbose", "--force"])
    usual, once, twice = (CliRunner().invoke(app, words).stderr for words in commands)
    record = re.compile(r"^\d\d:\d\d:\d\d (info|debug) ((?:deploy|engines)\.[\w.]+): ", re.MULTILINE)
    assert record.findall(usual) == []
    assert ("info", "engines.backends") in record.findall(once)
    assert "debug" not in dict(record.findall(once))
    assert ("debug", "deploy.picture.run") in record.findall(twice)
    assert "1 steps placed" in usual and "1 steps placed" in once  # messages stay as they are


def test_quiet_and_verbose_exclude_each_other() -> None:
    for words in (["-q", "engines", "-v"], ["engines", "-qv"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert "say one of --quiet and --verbose" in result.stderr


def test_levels_are_as_before_after_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in (None, "deploy", "engines", "idm-deploy")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    with shown_messages(quiet=False, verbose=0):
        say("a message")
        say_error("an error")
        logging.getLogger("engines.cache").warning("a warning")
        logging.getLogger("engines.cache").info("not shown")
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before
    message, error, warning = capsys.readouterr().err.splitlines()
    assert (message, error) == ("a message", "idm-deploy: an error")
    assert warning.endswith(" warning engines.cache: a warning")


def test_all_that_a_bug_report_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "idm-deploy" / "entries").mkdir(parents=True)
    (tmp_path / "idm-deploy" / "entries" / "file").write_bytes(bytes(1000))
    record = checked("version", CliRunner().invoke(app, ["--version", "--json"]).stdout)
    assert record["cache"] == {"path": str(tmp_path / "idm-deploy"), "bytes": 1000}
    assert record["environment"].items() >= {"NO_COLOR": "1", "XDG_CACHE_HOME": str(tmp_path)}.items()
    assert record["libraries"]["typer"] and record["cpu"]["features"].keys() >= {"VNNI", "BF16", "AMX"}


def test_json_before_a_command_is_wrong_usage() -> None:
    for words in (["--json", "engines"], ["--json"], ["-q"]):
        assert CliRunner().invoke(app, words).exit_code == 2


def test_export_prints_what_its_schema_says(tmp_path: Path) -> None:
    """All other commands have this test beside what else is tested of their JSON: see `checked`."""
    result = CliRunner().invoke(app, ["export", str(save_idm(tmp_path)), "-o", str(tmp_path / "a.bundle"), "--json"])
    assert checked("export", result.stdout)["bundle"] == str(tmp_path / "a.bundle")
    assert Bundle.open(tmp_path / "a.bundle").manifest.family == "idm"


def test_every_schema_is_printed_and_held_by_a_test() -> None:
    assert sorted(path.stem for path in SCHEMAS.iterdir()) == sorted([*TYPED, "version"])
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["deploy"]
    assert "cli/schemas/*.json" in packed
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in [*TYPED, "version"]:
        assert f'checked("{name}", ' in tests, name
    for name in TYPED:
        result = CliRunner().invoke(app, [name, "--json-schema"])  # also where an argument is missing
        assert (result.exit_code, json.loads(result.stdout)) == (0, read_schema(name))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": 1}, "$.rows is missing"),
        ({"rows": [], "b": 1}, "$.b is not described"),
        ({"rows": [1.5]}, "$.rows[0]: float is not integer"),
        ({"rows": [True]}, "$.rows[0]: bool is not integer"),
        ({"rows": [1, 2, 3]}, "$.rows: 3 items"),
        ({"rows": [], "more": {"x": None}}, "$.more.x: NoneType is not ['string', 'number']"),
        ({"rows": [], "a": "no"}, "$.a: none of 2 forms fits"),
    ],
)
def test_what_is_otherwise_than_a_schema_says_is_found(value: Any, problem: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": {"$ref": "#/$defs/count"}, "maxItems": 2},
            "more": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
            "a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/count"}]},
        },
        "required": ["rows"],
        "$defs": {"count": {"type": "integer"}},
    }
    (found,) = problems_of(value, schema, schema)
    assert found.startswith(problem)


@pytest.mark.parametrize("words", [["--help"], ["quantize", "-h"], ["inspect", str(IDM_BUNDLE), "--json"]])
def test_a_reader_that_goes_away_is_no_traceback(words: list[str]) -> None:
    with subprocess.Popen([*ENTRY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="closes a descriptor with a shell")
def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    line = shlex.join([*ENTRY, *INFER, "--json"])
    closed = subprocess.run(f"{line} 2>&-", shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
    assert closed.returncode == 0
    lines = [checked("infer", line)["kind"] for line in closed.stdout.splitlines()]
    assert lines == ["made", "run"]  # and nothing else went to stdout
    line = shlex.join([*ENTRY, "inspect", str(IDM_BUNDLE)])
    closed = subprocess.run(f"{line} >&-", shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color(more: Mapping[str, str], coloured: bool) -> None:
    """Bold and dim are no colours."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"FORCE_COLOR": "1", "TERM": "xterm"} | dict(more)
    command = [*ENTRY, "engines", "-h"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "\x1b[" in shown
    assert bool(re.search(r"\x1b\[[\d;]*3\d", shown)) == coloured


def test_the_shell_completes_options_and_values() -> None:
    def completed(words: str) -> list[str]:
        asked = {"_IDM_DEPLOY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        code = "import sys; sys.argv[0] = 'idm-deploy'; from deploy.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert completed("idm-deploy build") == ["build-engine"]
    assert completed("idm-deploy infer --pre") == ["--preset", "--precision"]
    assert completed("idm-deploy infer --engine openvino") == ["openvino-cpu"]
    assert completed("idm-deploy quantize --rounding ") == ["second-order", "nearest"]
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize(
    "words",
    [
        "infer a.png --scale 0",
        "infer a.png --scale 2 --format gif",
        "generate --seed -1",
        "generate --count 0",
        "generate --equation dimm",
        "build-engine --engine tensort",
        "build-engine --precision fp23",
        "build-engine --rounds 0",
        "bench --batch 0",
        "bench --part stpe",
        "schedule --samples 0",
        "schedule --consistency 2",
        "quantize --clipping mean",
        "quantize --max-memory much",
        "quantize --ranges 0",
        "report --scale 0.5",
        "report --pictures 0",
        "evaluate --device -1",
    ],
)
def test_a_value_that_nothing_would_make_right_is_wrong_usage(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what typer cannot read is: exit code 2. What depends on files, bundles or the machine is a refusal, 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "demo.bundle").symlink_to(IDM_BUNDLE)
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 2 and "Usage: " in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["demo.bundle"]
