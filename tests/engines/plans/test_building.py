"""Builds in their own process: what comes back, and a sentence for everything that goes wrong in there.

What needs TensorRT-RTX builds without a GPU; it is slow and skipped where the package is missing.
"""

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from engines.errors import EngineError, OutOfMemory
from engines.plans import building
from engines.plans.building import build
from engines.plans.half import write_half_graph
from engines.plans.tensorrt_builder import BuildRequest
from tests.engines.graphs import value, write_lookup, write_model
from tests.engines.quantized_graphs import write_quantized

QUANTIZED_PROFILE = {"batch": (1, 1, 2), "height": (8, 16, 32)}


def quiet(phase: str, fraction: float) -> None:
    del phase, fraction


def request_for(graph: Path, profile: dict[str, tuple[int, int, int]], **settings: object) -> BuildRequest:
    return BuildRequest(
        module="tensorrt_rtx",
        graph=str(graph),
        plan=str(graph.with_suffix(".plan")),
        profile=profile,
        **settings,  # type: ignore[arg-type]
    )


# What the worker may do wrong, played by small programs in its place


def play(monkeypatch: pytest.MonkeyPatch, program: str) -> BuildRequest:
    monkeypatch.setattr(building, "WORKER", (sys.executable, "-c", program))
    return BuildRequest(module="none", graph="g.onnx", plan="g.plan", profile={})


def test_progress_and_result_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"version": "1", "plan_bytes": 3, "formats": {}, "layers": 2, "notes": ["a note"]}
    lines = [{"progress": ["Tactics", 0.5]}, {"result": result}]
    seen: list[tuple[str, float]] = []
    built = build(
        play(monkeypatch, f"for line in {[json.dumps(li) for li in lines]!r}: print(line)"), lambda *a: seen.append(a)
    )
    assert seen == [("Tactics", 0.5)]
    assert (built.plan_bytes, built.layers, built.notes) == (3, 2, ("a note",))


@pytest.mark.parametrize(
    ("program", "kind", "message"),
    [
        ("import json; print(json.dumps({'error': 'no such thing'}))", EngineError, "^no such thing$"),
        (
            f"import os; os.kill(os.getpid(), {int(getattr(signal, 'SIGKILL', 9))})",
            OutOfMemory,
            r"Building g\.onnx: the build was killed, most often because memory ran out",
        ),
        ("import os; os.abort()", EngineError, r"Building g\.onnx: the build ended by itself \(signal 6\)"),
        (
            "import sys; print('last words', file=sys.stderr); sys.exit(3)",
            EngineError,
            r"the build ended by itself \(exit code 3\): last words",
        ),
        ("pass", EngineError, r"the build ended by itself \(exit code 0\): it said nothing"),
    ],
)
def test_a_build_that_fails_is_a_sentence(
    program: str, kind: type[EngineError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "win32" and "os." in program:
        pytest.skip("signals of POSIX")
    with pytest.raises(kind, match=message):
        build(play(monkeypatch, program), quiet)


def test_a_build_past_its_deadline_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    program = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    request = play(monkeypatch, program)
    with pytest.raises(EngineError, match=r"Building g\.onnx: not done after \d s, so it was stopped\. Give more time"):
        build(request, quiet, deadline_s=1.5)
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)


def test_what_a_stopped_build_wrote_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = tmp_path / "g.plan"
    monkeypatch.setattr(building, "WORKER", (sys.executable, "-c", f"open({str(plan)!r}, 'w').write('half')"))
    with pytest.raises(EngineError, match="ended by itself"):
        build(BuildRequest(module="none", graph="g.onnx", plan=str(plan), profile={}), quiet)
    assert not plan.exists()


def test_a_graph_that_cannot_be_read_is_told_from_the_real_worker(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Opening .*none\.onnx: there is no such file"):
        build(request_for(tmp_path / "none.onnx", {}), quiet)


# With TensorRT-RTX

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="TensorRT-RTX is not installed: pip install 'idm-deploy[tensorrt-rtx]'",
)


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["8.0", "8.9", "12.0"])
def test_a_quantized_graph_is_listed_as_int8(capability: str, tmp_path: Path) -> None:
    request = request_for(write_quantized(tmp_path / "q.onnx"), QUANTIZED_PROFILE, capability=capability)
    seen: list[str] = []
    built = build(request, lambda phase, _: seen.append(phase))
    assert built.formats["convolution"] == {"Int8": 1}
    assert built.formats["matmul"] == {"Int8": 1}
    assert Path(request.plan).stat().st_size == built.plan_bytes > 0
    assert built.notes == (f"built for compute capability {capability}",)
    assert seen


@needs_rtx
@pytest.mark.slow
def test_a_scale_that_is_no_scalar_shows_in_the_listing(tmp_path: Path) -> None:
    graph = write_quantized(tmp_path / "q.onnx", scale_shape=(1,))
    built = build(request_for(graph, QUANTIZED_PROFILE, capability="8.9"), quiet)
    assert "Int8" not in built.formats["convolution"]


@needs_rtx
@pytest.mark.slow
def test_the_half_form_of_a_quantized_float_graph_is_int8_too(tmp_path: Path) -> None:
    write_quantized(tmp_path / "float.onnx", kind=np.float32)
    write_half_graph(tmp_path / "float.onnx", tmp_path / "half.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"), full_check=True)
    built = build(request_for(tmp_path / "half.onnx", QUANTIZED_PROFILE, capability="8.9"), quiet)
    assert built.formats["convolution"] == {"Int8": 1}


@needs_rtx
@pytest.mark.slow
def test_a_timing_cache_that_is_damaged_is_begun_anew(tmp_path: Path) -> None:
    """Without a GPU TensorRT-RTX reads no timing cache back, so that a whole one is used again is not seen here."""
    cache = tmp_path / "timing"
    request = request_for(
        write_quantized(tmp_path / "q.onnx"), QUANTIZED_PROFILE, capability="8.9", timing_cache=str(cache)
    )
    assert not any("timing cache" in note for note in build(request, quiet).notes)
    assert cache.stat().st_size > 0
    cache.write_bytes(b"garbage" * 3)
    assert any(note.startswith("the timing cache timing is damaged") for note in build(request, quiet).notes)
    assert cache.stat().st_size > 21


def skip_graph(folder: Path) -> Path:
    """A convolution to half the size, back by doubling, added to what came in: odd sizes do not fit."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["half"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Resize", ["half", "", "scales"], ["back"], mode="nearest"),
        helper.make_node("Add", ["x", "back"], ["y"]),
    ]
    weights = {"w": np.ones((4, 4, 3, 3), np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    sizes = (1, 4, "height", "width")
    return write_model(
        folder / "skip.onnx", nodes, [value("x", T.FLOAT, *sizes)], [value("y", T.FLOAT, *sizes)], weights
    )


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        (
            {"height": (9, 9, 9), "width": (8, 8, 8)},
            {},
            r"Building skip\.onnx: TensorRT failed: .*broadcast dimensions",
        ),
        (
            {"height": (7, 8, 9), "width": (8, 8, 8)},
            {},
            r"sizes of the profile \(height 7\.\.8\.\.9, width 8\) do not fit the graph: .*9 != 10.*Choose",
        ),
        ({"height": (8, 8, 8)}, {}, r"The profile says nothing of the axis width"),
        (
            {"height": (8, 8, 8), "width": (8, 8, 8)},
            {"capability": "9.0"},
            r"cannot build for compute capability 9\.0\. It knows 7\.5, 8\.0",
        ),
    ],
)
def test_requests_that_cannot_be_built(
    profile: dict[str, tuple[int, int, int]], settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    request = request_for(skip_graph(tmp_path), profile, **({"capability": "8.9"} | settings))
    with pytest.raises(EngineError, match=message):
        build(request, quiet)
    assert not Path(request.plan).exists()


@needs_rtx
@pytest.mark.slow
def test_an_operator_that_tensorrt_lacks(tmp_path: Path) -> None:
    graph = write_model(
        tmp_path / "odd.onnx",
        [helper.make_node("Frobnicate", ["x"], ["y"])],
        [value("x", T.FLOAT, "n")],
        [value("y", T.FLOAT, "n")],
    )
    with pytest.raises(EngineError, match=r"Building odd\.onnx: TensorRT cannot read it: .*Frobnicate"):
        build(request_for(graph, {"n": (1, 2, 3)}, capability="8.9"), quiet)


@needs_rtx
@pytest.mark.slow
def test_a_graph_with_a_weights_file_builds(tmp_path: Path) -> None:
    axes = {"batch": (1, 1, 1), "height": (4, 8, 8), "width": (4, 8, 8), "rows": (4, 4, 4)}
    built = build(request_for(write_lookup(tmp_path), axes, capability="8.9"), quiet)
    assert built.formats["convolution"] == {"Float": 1}
