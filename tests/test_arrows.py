"""The packages depend on each other in one direction only: deploy -> calibration -> engines, deploy -> engines."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "engines": {"engines"},
    "calibration": {"calibration", "engines"},
    "deploy": {"deploy", "calibration", "engines"},
}
HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "matplotlib", "skimage", "sklearn", "yaml"}
HEAVY |= {"OpenImageIO", "pillow_heif"}


def imported_packages(tree: ast.AST) -> set[str]:
    """Names of the top-level packages that are imported anywhere below `tree`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_follow_the_arrows(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in files_of(package)
        for other in imported_packages(ast.parse(path.read_text())) & set(ALLOWED)
        if other not in ALLOWED[package]
    ]
    assert not wrong


def test_a_wrong_arrow_would_be_found() -> None:
    assert imported_packages(ast.parse("def f():\n    from deploy.bundle import Bundle\n")) == {"deploy"}


HUB = {"huggingface_hub", "filelock"}
TRITON = {"triton_python_backend_utils"}
CLUSTER = {"fsspec", "pyarrow", "ray"}
SERVICE = {"fastapi", "opentelemetry", "prometheus_client", "starlette", "uvicorn"}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_only_known_third_party_packages_are_imported(package: str) -> None:
    core = {"numpy", "PIL", "typer", "rich", "safetensors", "msgspec"}
    others = {"tensorrt_rtx", "diffusers"} | HUB | SERVICE | TRITON | CLUSTER
    known = set(sys.stdlib_module_names) | set(ALLOWED) | core | HEAVY | others
    unknown = {name for path in files_of(package) for name in imported_packages(ast.parse(path.read_text()))} - known
    assert not unknown
