"""docs/cli.md from the commands themselves: `python -m benchmarks.pages.command_line`, or `make docs`."""

import inspect
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperGroup
from typer.main import get_command

from deploy.cli.main import app

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "cli.md"

HEAD = """\
# Commands

<!-- Written by `make docs` from the commands themselves: change their help, not this page. -->

What `idm-deploy --help` and `idm-deploy COMMAND --help` say, on one page. An option that is *repeatable* may be given
several times. Results go to stdout, everything else to stderr. The exit code is 0 on full success, 1 after a refusal or
where a part failed, 2 for wrong usage, and 130 after Ctrl-C.
"""


Command = Any
"""A command as typer made it; the class is private to typer."""


def page() -> str:
    """The whole page, as Markdown."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)  # several commands make a group
    rows = [{_row(parameter) for parameter in command.params} for command in group.commands.values()]
    shared = set.intersection(*rows)
    sections = [HEAD, "## Before a command", "", *_tables(group.params), *_ending(group.epilog)]
    if shared:
        first = next(iter(group.commands.values()))
        sections += ["## Options of every command", "", *_table([_row(p) for p in first.params if _row(p) in shared])]
    for name, command in group.commands.items():
        own = [parameter for parameter in command.params if _row(parameter) not in shared]
        sections += [f"## {name}", "", _help(command), "", f"`{_usage(name, command)}`", "", *_tables(own)]
        sections += _ending(command.epilog)
    return "\n".join(sections).rstrip() + "\n"


def _help(command: Command) -> str:
    return _text(inspect.cleandoc(command.help or "").replace("\f", ""))


def _usage(name: str, command: Command) -> str:
    words = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in command.params if _is_argument(p)]
    return " ".join([f"idm-deploy {name}", "[OPTIONS]", *words])


def _tables(parameters: Sequence[Any]) -> list[str]:
    """A table for each panel of the help, in the order of the help."""
    panels: dict[str, list[str]] = {}
    for parameter in parameters:
        if parameter.name != "help" and not parameter.hidden:
            panel = "Arguments" if _is_argument(parameter) else parameter.rich_help_panel or "Options"
            panels.setdefault(panel, []).append(_row(parameter))
    return [line for panel, rows in panels.items() for line in (f"**{panel}**", "", *_table(rows))]


def _table(rows: Sequence[str]) -> list[str]:
    return ["| | takes | |", "| --- | --- | --- |", *rows, ""]


def _ending(epilog: str | None) -> list[str]:
    """What a help ends with: examples become a block, other paragraphs a title with a list."""
    paragraphs = [paragraph.splitlines() for paragraph in (epilog or "").split("\n\n") if paragraph]
    examples = [line for lines in paragraphs for line in lines if line.startswith("idm-deploy ")]
    lines = (
        ["<!-- not run: is parsed by the tests of the commands -->", "```sh", *examples, "```", ""] if examples else []
    )
    for title, *items in paragraphs:
        if items:
            lines += [f"**{title}**", "", *(f"- {_text(item)}" for item in items), ""]
    return lines


def _row(parameter: Any) -> str:
    names = [parameter.name.upper()] if _is_argument(parameter) else [*parameter.opts, *parameter.secondary_opts]
    text = _text(parameter.help or "")
    notes = []
    if (parameter.multiple or parameter.nargs == -1) and "repeatable" not in text:
        notes.append("repeatable")
    if (default := _default(parameter)) is not None:
        notes.append(f"default: `{default}`")
    if notes:
        text = f"{text} *{'; '.join(notes)}*"
    return f"| {', '.join(f'`{name}`' for name in names)} | {_kind(parameter)} | {text.strip()} |"


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _kind(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
        return ""
    return _kind_of(parameter.type_descriptor.annotation)


def _kind_of(annotation: Any) -> str:
    """The word for a type that a user types."""
    arguments = [value for value in get_args(annotation) if value is not types.NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if arguments:
        return _kind_of(arguments[0])
    return {int: "whole number", float: "number", str: "text", Path: "path"}[annotation]


def _default(parameter: Any) -> str | None:
    """What holds if nothing is said; None where the help's sentence says it or it is an off switch."""
    value = parameter.default
    if value is None or value is False or value in ([], ()) or getattr(parameter, "count", False):
        return None
    if getattr(parameter, "is_flag", False):
        return None if value is not True else parameter.opts[0]
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text(text: str) -> str:
    """Safe in a table; the bare angle brackets of our help would be taken for HTML."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")


def main() -> int:
    """The page is written; whether it changed is said."""
    text = page()
    changed = not PAGE.exists() or PAGE.read_text() != text
    PAGE.write_text(text)
    print(f"{PAGE.name}: {'written anew' if changed else 'as the commands say'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
