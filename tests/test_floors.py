"""Inside deploy/ rooms lie on floors: a room imports from floors below its own, never from above or beside it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("foreign", "hub"),
    ("bundle", "images"),
    ("sampling",),
    ("families",),
    ("checkpoint", "engine", "packaged"),
    ("export",),
    ("picture",),
    ("measure",),
    ("int8", "folders"),
    ("report", "cluster"),
    ("demo", "serving"),
    ("triton",),
    ("cli",),
)
"""From the ground up, which is `deploy/errors.py`. `deploy/__init__.py` stands beside the house: it names what people
import."""

MOST_ROOMS, MOST_FLOORS = 22, 13


def modules() -> dict[str, Path]:
    """Every module of the three packages by its dotted name."""
    found = {}
    for package in ("deploy", "calibration", "engines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports_of(path: Path, known: dict[str, Path], *, at_once: bool = False) -> Iterator[str]:
    """The modules among `known` that a file imports; `at_once`: while it is itself imported, not in functions."""
    tree = ast.parse(path.read_text())
    nodes = _top_level(tree) if at_once else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield node.module


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node


def room_of(module: str) -> str | None:
    """The room of a module of deploy; None for other packages and for what stands in no room."""
    parts = module.split(".")
    return parts[1] if parts[0] == "deploy" and len(parts) > 1 and parts[1] != "errors" else None


def floor_of(room: str) -> int:
    """The number of a room's floor, from the ground up."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor_and_nothing_lies_loose() -> None:
    rooms = {path.name for path in DEPLOY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {room for floor in FLOORS for room in floor}
    assert {path.name for path in DEPLOY.glob("*.py")} == {"__init__.py", "errors.py"}
    assert len(rooms) + 2 <= MOST_ROOMS and len(FLOORS) <= MOST_FLOORS  # calibration and engines are rooms too


def test_no_import_goes_up_or_across() -> None:
    known = modules()
    wrong = []
    for module, path in known.items():
        room = room_of(module)
        for other in imports_of(path, known):
            target = room_of(other)
            if room and target and room != target and floor_of(target) >= floor_of(room):
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_no_two_modules_import_each_other() -> None:
    known = modules()
    arrows = {module: set(imports_of(path, known, at_once=True)) - {module} for module, path in known.items()}
    # A package stands for the modules that its __init__ imports; their own imports of siblings are no circle.
    free: set[str] = set()
    while ready := {module for module, targets in arrows.items() if module not in free and targets <= free}:
        free |= ready
    assert not set(arrows) - free


@pytest.mark.parametrize(
    "source", ["from deploy.cli import main", "import deploy.cli.main", "from deploy.cli.main import app"]
)
def test_an_import_is_seen(tmp_path: Path, source: str) -> None:
    path = tmp_path / "a.py"
    path.write_text(f"def f():\n    {source}\n")
    assert set(imports_of(path, {"deploy.cli": path, "deploy.cli.main": path})) == {"deploy.cli.main"}
    assert not list(imports_of(path, {"deploy.cli.main": path}, at_once=True))
