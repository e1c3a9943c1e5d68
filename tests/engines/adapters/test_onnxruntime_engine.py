"""What is particular to ONNX Runtime."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engines.adapters import onnxruntime_engine
from engines.contract import Opening
from engines.errors import EngineError, OutOfMemory
from tests.engines.graphs import lookup_feeds, write_lookup

pytestmark = pytest.mark.skipif(
    not onnxruntime_engine.probe().available, reason=onnxruntime_engine.probe().reason or "-"
)


def test_an_index_out_of_range_is_refused(tmp_path: Path) -> None:
    feeds = lookup_feeds()
    feeds["index"] = np.array([0, 10**12], np.int64)
    with onnxruntime_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32", threads=1)) as engine:
        with pytest.raises(EngineError, match=r"Running lookup\.onnx: onnxruntime-cpu failed: .*indices"):
            engine.run(feeds)
        engine.run(lookup_feeds())


def test_spinning_stops_after_each_run() -> None:
    onnxruntime = onnxruntime_engine.import_onnxruntime()
    options = onnxruntime_engine.session_options(onnxruntime, Opening(precision="fp32", threads=2))
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert onnxruntime_engine.session_options(onnxruntime, Opening(precision="fp32")).intra_op_num_threads == 0


def test_another_provider_than_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = SimpleNamespace(get_providers=lambda: ["OtherExecutionProvider", "CPUExecutionProvider"])
    onnxruntime = onnxruntime_engine.import_onnxruntime()
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: stranger)
    with pytest.raises(EngineError, match=r"asked ONNX Runtime for CPUExecutionProvider alone, it took \['Other"):
        onnxruntime_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))


def test_out_of_memory_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(onnxruntime_engine.import_onnxruntime(), "InferenceSession", fail)
    with pytest.raises(OutOfMemory, match=r"Opening .*lookup\.onnx: onnxruntime-cpu ran out of memory"):
        onnxruntime_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))


def test_a_model_in_memory_reads_the_weights_beside_the_graph_it_was_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever this process stands, and whether the graph itself is still there."""
    graph = write_lookup(tmp_path)
    model, feeds = graph.read_bytes(), lookup_feeds()
    with onnxruntime_engine.open_engine(graph, Opening(precision="fp32", threads=1)) as engine:
        expected = engine.run(feeds)
    graph.unlink()
    monkeypatch.chdir(tmp_path)
    for beside in (graph, Path(graph.name)):
        with onnxruntime_engine.open_model(model, beside, threads=1) as engine:
            found = engine.run(feeds)
        assert all(np.array_equal(found[name], values) for name, values in expected.items())
    with pytest.raises(EngineError, match=r"Opening .*lookup\.onnx: it is not a complete ONNX graph"):
        onnxruntime_engine.open_model(model[:-1], graph)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EngineError, match=r"its weights file weights\.bin is missing"):
        onnxruntime_engine.open_model(model, graph)
