"""Names of backends, int8 targets and families stand where each is defined; the rest asks their records."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.targets.table import TARGETS
from deploy.families.table import FAMILIES
from engines.backends import BACKENDS

ROOT = Path(__file__).resolve().parent.parent
FAMILY_FOLDER = Path("deploy") / "families"


def product_files() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the three packages, by its path from the root."""
    for package in ("engines", "calibration", "deploy"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def strings_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and value of each string that the program works with: neither docstrings nor what a command's help shows."""
    shown = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Option", "typer.Argument"):
            shown |= {id(part) for part in ast.walk(node)}
        if isinstance(node, ast.keyword) and node.arg == "help":
            shown |= {id(part) for part in ast.walk(node)}
        if isinstance(node, ast.arguments):
            defaults = zip(node.args[len(node.args) - len(node.defaults) :], node.defaults, strict=True)
            shown |= {id(default) for option, default in defaults if "Annotated[" in annotation_of(option)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in shown:
            yield node.lineno, node.value


def annotation_of(parameter: ast.arg) -> str:
    """Its source text; empty if there is none."""
    return "" if parameter.annotation is None else ast.unparse(parameter.annotation)


def classes_asked_for(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each class that `isinstance`, `issubclass` or a `case` compares something with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked: list[ast.AST] = [*ast.walk(node.args[1])]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        else:
            continue
        for part in asked:
            if isinstance(part, ast.Name | ast.Attribute):
                yield part.lineno, ast.unparse(part).rpartition(".")[2]


def test_a_backend_is_named_in_engines_alone() -> None:
    # A target may share its name with a backend.
    homes = (Path("engines"), Path("calibration") / "targets")
    assert not strings_outside(set(BACKENDS), homes)


def test_an_int8_target_is_named_among_the_targets_alone() -> None:
    # In engines, which knows no targets, the same words are names of packages.
    homes = (Path("engines"), Path("calibration") / "targets")
    assert not strings_outside(set(TARGETS), homes)
    only_targets = set(TARGETS) - {backend.package for backend in BACKENDS.values()}
    assert only_targets and not strings_outside(only_targets, homes[1:])


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_family_is_named_in_its_folder_alone(name: str) -> None:
    home = FAMILY_FOLDER / name
    assert not strings_outside({name}, (home,))
    own = {
        node.name
        for path, tree in product_files()
        if path.is_relative_to(home)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert own
    assert not [
        f"{path}:{line} asks for {asked}"
        for path, tree in product_files()
        if not path.is_relative_to(home)
        for line, asked in classes_asked_for(tree)
        if asked in own
    ]


def strings_outside(names: set[str], homes: tuple[Path, ...]) -> list[str]:
    """Where a string of product code is one of these names, outside the folders that may have them."""
    return [
        f"{path}:{line} has {value!r}"
        for path, tree in product_files()
        if not any(path.is_relative_to(home) for home in homes)
        for line, value in strings_of(tree)
        if value in names
    ]


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("if backend == 'x': pass", ["x"]),
        ("TABLE = {'x': 1}", ["x"]),
        ("graph(name, FORM['x'])", ["x"]),
        ("'''x'''\nA = 1\n'''x'''\ndef f():\n    '''x'''", []),
        ("engine: str = typer.Option('x', '--engine', help='x')", []),
        ("def f(a: str, engine: Annotated[str, typer.Option('--engine', help='x')] = 'x', *, b=1): pass", []),
        ("def f(engine: str = 'x'): pass", ["x"]),
        ("parser.add_argument(name, help='x')", []),
    ],
)
def test_a_name_that_counts_is_seen(source: str, seen: list[str]) -> None:
    assert [value for _, value in strings_of(ast.parse(source))] == seen


@pytest.mark.parametrize(
    "source", ["isinstance(a, b.X)", "issubclass(a, (Y, X))", "match a:\n    case X(): pass", "isinstance(a, Y | X)"]
)
def test_a_class_that_is_asked_for_is_seen(source: str) -> None:
    assert "X" in {name for _, name in classes_asked_for(ast.parse(source))}
