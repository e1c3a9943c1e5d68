"""A stranger's bundle is run in a process of its own, and what goes wrong there is a sentence here."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from deploy.bundle import Bundle, BundleWriter
from deploy.cli.commands.verify import verify
from deploy.engine.graphs import EngineChoice
from deploy.engine.rehearsal import rehearse
from deploy.errors import BundleError
from tests.json_schema import checked

pytestmark = pytest.mark.slow

ROOM = 4 << 30


def test_every_graph_runs_once_or_it_is_told_why_not(idm_micro: Bundle) -> None:
    assert rehearse(idm_micro, EngineChoice(), deadline_s=60, memory=ROOM) == ["tabulate", "encode", "denoise"]
    with pytest.raises(BundleError, match=r"trying .* on onnxruntime-cpu fp32: it was not done after 0.01 seconds"):
        rehearse(idm_micro, EngineChoice(), deadline_s=0.01, memory=ROOM)
    with pytest.raises(BundleError, match=r"idm_micro.bundle on onnxruntime-cpu fp32: .*(memory|MiB)"):
        rehearse(idm_micro, EngineChoice(), deadline_s=60, memory=60 << 20)


def test_a_graph_that_takes_all_memory_does_so_elsewhere(idm_micro: Bundle, tmp_path: Path) -> None:
    """Its names and shapes are the described ones; on the way it makes an array of 2^42 bytes."""
    copy = Bundle.open(Path(shutil.copytree(idm_micro.path, tmp_path / "a.bundle")))
    model = onnx.load(copy.graph("tabulate", "instance"), load_external_data=False)
    graph = model.graph
    for name, values in (("pads", [0, 0, 0, 1 << 40]), ("first", [0]), ("shape", [-1, 1, 1, 1])):
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    for node in graph.node:
        node.output[:] = ["row" if name == "noise_row" else name for name in node.output]
    graph.node.extend(
        [
            helper.make_node("Pad", [graph.input[0].name, "pads"], ["huge"]),
            helper.make_node("Gather", ["huge", "first"], ["column"], axis=1),
            helper.make_node("Reshape", ["column", "shape"], ["little"]),
            helper.make_node("Add", ["row", "little"], ["noise_row"]),
        ]
    )
    with BundleWriter.update(copy) as writer:
        file = writer.add_bytes("tabulate", "onnx", model.SerializeToString())
        described = dict(copy.manifest.graphs)
        described["tabulate"] = {**described["tabulate"], "forms": {"instance": file, "group": file}}
        hostile = writer.commit(replace(copy.manifest, graphs=described))
    with pytest.raises(BundleError, match=r"trying .*a\.bundle on onnxruntime-cpu fp32: .*not enough memory"):
        rehearse(hostile, EngineChoice(), deadline_s=60, memory=ROOM)


def test_verify_says_what_ran(idm_micro: Bundle) -> None:
    app = typer.Typer()
    app.command()(verify)
    result = CliRunner().invoke(app, [str(idm_micro.path), "--deadline", "60", "--json"])
    assert checked("verify", result.stdout)["ran"] == ["tabulate", "encode", "denoise"]
