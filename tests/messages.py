"""The sentences of all refusals, as they stand in the code: f-strings with the names of what is put in."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("deploy", "calibration", "engines")


@dataclass(frozen=True, order=True)
class Sentence:
    """One place in the code that refuses something."""

    module: str
    first_line: int
    last_line: int
    error: str
    text: str

    def spans(self, line: int) -> bool:
        """Whether the line is one of its own."""
        return self.first_line <= line <= self.last_line


@cache
def sentences() -> list[Sentence]:
    """Every place that makes an error of ours, by module and line."""
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    errors = _error_classes(trees.values())
    return sorted(
        Sentence(module, node.lineno, node.end_lineno or node.lineno, name, text)
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (name := _name(node.func)) in errors and (text := _text_of_call(node))
    )


def _error_classes(trees: Iterable[ast.Module]) -> set[str]:
    """Names of the classes that inherit from the packages' base errors, and of what the command line raises."""
    bases = {
        node.name: {_name(base) for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"DeployError", "CalibrationError", "EngineError", "BadParameter", "UnpicklingError"}
    while more := {name for name, parents in bases.items() if parents & found} - found:
        found |= more
    return found | {"Problem", "Unfit"}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _text_of_call(node: ast.Call) -> str:
    """The longest of the arguments' texts: a problem over HTTP has a code before its sentence."""
    texts = [_text(argument) for argument in [*node.args, *(keyword.value for keyword in node.keywords)]]
    return max(texts, key=len, default="")


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.FormattedValue(value=value):
            return _text(value) if isinstance(value, ast.IfExp) else "{" + ast.unparse(value)[:40] + "}"
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=orelse):
            return f"[{_text(body)} | {_text(orelse)}]"
        case ast.Constant():
            return ""
        case _:
            return "{" + ast.unparse(node)[:40] + "}"
