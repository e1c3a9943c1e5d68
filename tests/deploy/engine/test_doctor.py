"""`doctor`: parsing what systems say, and the command on this machine."""

import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import deploy
from deploy.engine import doctor
from deploy.engine.doctor import INT8_WORDS, EngineState, examine, find_int8, find_packages, problems_of_engines
from engines.machine import host
from engines.machine.host import (
    Gpu,
    Memory,
    cpu_from_cpuinfo,
    find_gpus,
    find_memory,
    gpus_from_table,
    sizes_from_meminfo,
)
from tests.json_schema import checked

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse2 avx avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: Other
flags\t\t: fpu
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import typer; from deploy.cli.commands.doctor import doctor; typer.run(doctor)",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_flags_of_the_first_processor() -> None:
    model, features = cpu_from_cpuinfo(XEON)
    assert model == "Intel(R) Xeon(R) Platinum 8480+"
    assert features == {"AVX2": True, "AVX-512": True, "VNNI": True, "BF16": True, "AMX": True}


def test_a_processor_without_vnni() -> None:
    assert cpu_from_cpuinfo("model name: Old\nflags: fpu avx2 avx512f")[1] == {
        "AVX2": True,
        "AVX-512": True,
        "VNNI": False,
        "BF16": False,
        "AMX": False,
    }


def test_a_system_that_does_not_tell() -> None:
    assert cpu_from_cpuinfo("") == ("", {})
    assert cpu_from_cpuinfo("processor: 0\nFeatures: fp asimd") == ("", {})


def test_memory_is_in_bytes() -> None:
    assert sizes_from_meminfo("MemTotal:       24684092 kB\nHugePages_Total:       0\nMemAvailable: 1 kB\n") == {
        "MemTotal": 24684092 * 1024,
        "MemAvailable": 1024,
    }


@pytest.mark.parametrize(
    ("text", "limit"), [("4096\n", 4096), ("max\n", None), ("9223372036854771712\n", None), (None, None)]
)
def test_the_containers_limit(
    text: str | None, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable: 6 kB\n")
    file = tmp_path / "memory.max"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(host, "PROC", tmp_path)
    monkeypatch.setattr(host, "CGROUP_LIMITS", (file, tmp_path / "absent"))
    assert find_memory() == Memory(total=8192, available=6144, limit=limit)


def test_gpus() -> None:
    assert gpus_from_table("NVIDIA H200, 580.95.05, 143771\nNVIDIA GB10, 580.1, [N/A]\n\n") == (
        Gpu(name="NVIDIA H200", driver="580.95.05", memory=143771 * 2**20),
        Gpu(name="NVIDIA GB10", driver="580.1", memory=None),
    )


@pytest.mark.skipif(os.name != "posix", reason="writes a shell script")
@pytest.mark.parametrize(
    ("script", "names"),
    [("echo 'NVIDIA H200, 580.95.05, 143771'", ["NVIDIA H200"]), ("echo 'no devices were found'; exit 6", [])],
)
def test_nvidia_smi_is_asked(script: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [gpu.name for gpu in find_gpus()] == names


def test_every_package_is_brought_by_an_extra_of_this_project() -> None:
    file = Path(deploy.__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(file.read_text())["project"]
    extras = project["optional-dependencies"] | {"": project["dependencies"]}
    for name, (extra, _) in doctor.packages_and_extras().items():
        assert any(line.startswith((f"{name}>", f"{name}=", f"{name}[")) for line in extras[extra]), name


def test_packages_have_versions_or_pip_lines() -> None:
    found = {package.name: package for package in find_packages()}
    assert found["numpy"].version
    assert found["onnxruntime-gpu"].install == "pip install 'idm-deploy[gpu]'"
    assert found["numpy"].install == "pip install idm-deploy"


def state(available: bool, reason: str = "", name: str = "onnxruntime-cpu") -> EngineState:
    return EngineState(
        name=name,
        available=available,
        version="1" if available else None,
        precisions=("fp32",),
        reason=reason,
        install=f"pip install {name}",
    )


def test_problems() -> None:
    assert problems_of_engines((state(True), state(False, "missing", "openvino-cpu"))) == ()
    assert problems_of_engines((state(True, "two packages clash: do this"),)) == (
        "onnxruntime-cpu: two packages clash: do this.",
    )
    assert problems_of_engines((state(False, "missing"), state(False, "missing", "openvino-cpu"))) == (
        "No engine is installed, so no bundle can be run here. "
        "Type pip install onnxruntime-cpu or pip install openvino-cpu.",
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("print('false')", {"onnxruntime-cpu": "exact", "openvino-cpu": "exact"}),
        ("print('true')", {"onnxruntime-cpu": "unsigned weights", "openvino-cpu": "refused"}),
        ("raise ImportError", {"onnxruntime-cpu": "unknown", "openvino-cpu": "unknown"}),
        ("import time; time.sleep(60)", {"onnxruntime-cpu": "unknown", "openvino-cpu": "unknown"}),
    ],
)
def test_engines_are_asked_about_their_int8_sums(
    answer: str, words: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the same name, which answers at once, stands in for the probe."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "saturation.py").write_text(answer)
    monkeypatch.setattr("deploy.__file__", str(tmp_path / "deploy" / "__init__.py"))
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.5 if "sleep" in answer else 60)
    assert find_int8(["onnxruntime-cpu", "openvino-cpu", "tensorrt"]) == words
    assert set(words.values()) <= set(INT8_WORDS)


def test_a_refused_int8_is_told() -> None:
    refused = replace(state(True, name="openvino-cpu"), int8="refused")
    assert problems_of_engines((refused, replace(state(True), int8="unsigned weights"))) == (
        "openvino-cpu: in int8, sums would be cut off at 16 bits, so int8 is refused (this CPU has no VNNI). "
        "Use another engine or precision.",
    )


@pytest.mark.runs_openvino
def test_the_report_on_this_machine() -> None:
    report = examine()
    known = {engine.int8 for engine in report.engines if engine.available and engine.name.endswith("-cpu")}
    assert known == {"exact"} if report.cpu.features.get("VNNI") else known <= set(INT8_WORDS)
    assert report.cpu.usable_cores <= report.cpu.cores
    assert report.memory.total is None or report.memory.total > 2**28
    assert {engine.name for engine in report.engines} >= {"onnxruntime-cpu", "openvino-cpu"}


@pytest.mark.runs_openvino
def test_the_command_fits_one_screen_and_names_what_is_missing() -> None:
    done = run(COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) <= 25  # with the line that an installed TensorRT-RTX adds
    report = examine()
    for package in report.packages:
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{package.name} "))
        assert (package.version or package.install) in line
    for engine in report.engines:
        assert any(line.startswith(engine.name) for line in done.stdout.splitlines())


def test_json_is_the_whole_report() -> None:
    done = run("--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = checked("doctor", done.stdout)
    report = examine()
    assert found["python"] == report.python
    assert [engine["name"] for engine in found["engines"]] == [engine.name for engine in report.engines]
    assert set(found) == set(vars(report))


def test_nothing_heavy_is_imported() -> None:
    program = """
import sys
from deploy.cli.commands.doctor import doctor
doctor(as_json=True)
heavy = {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
