"""A stranger's bundle is run in a process of its own, and what goes wrong there is a sentence here."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from msgspec.structs import replace as changed
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from deploy.bundle import Bundle, BundleWriter, known
from deploy.cli.commands.verify import verify
from deploy.engine import first_run
from deploy.engine.first_run import rehearse
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError
from deploy.packaged.places import IDM_BUNDLE
from tests.json_schema import checked

pytestmark = pytest.mark.slow

ROOM = 4 << 30


def test_every_graph_runs_once_or_it_is_told_why_not(idm_micro: Bundle) -> None:
    assert rehearse(idm_micro, "onnxruntime-cpu", deadline_s=60, memory=ROOM) == ["tabulate", "encode", "denoise"]
    with pytest.raises(BundleError, match=r"trying .* on onnxruntime-cpu: it was not done after 0.01 seconds"):
        rehearse(idm_micro, "onnxruntime-cpu", deadline_s=0.01, memory=ROOM)
    with pytest.raises(BundleError, match=r"idm_micro.bundle on onnxruntime-cpu: .*(memory|MiB)"):
        rehearse(idm_micro, "onnxruntime-cpu", deadline_s=60, memory=60 << 20)


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
        described["tabulate"] = changed(described["tabulate"], forms={"instance": file, "group": file})
        hostile = writer.commit(replace(copy.manifest, graphs=described))
    with pytest.raises(BundleError, match=r"trying .*b\.bundle on onnxruntime-cpu: .*not enough memory"):
        GraphSet(stranger(hostile, tmp_path / "b.bundle"), EngineChoice(threads=1)).engine("encode")


def test_verify_says_what_ran(idm_micro: Bundle) -> None:
    app = typer.Typer()
    app.command()(verify)
    result = CliRunner().invoke(app, [str(idm_micro.path), "--deadline", "60", "--json"])
    assert checked("verify", result.stdout)["ran"] == ["tabulate", "encode", "denoise"]


def stranger(bundle: Bundle, folder: Path) -> Bundle:
    """A copy that this tool did not write: its bundle.json says something else."""
    shutil.copytree(bundle.path, folder)
    text = (folder / "bundle.json").read_text()
    said = json.loads(text)
    said["source"]["file"] = f"{folder.parent.name}-{folder.name}.pt"
    (folder / "bundle.json").write_text(json.dumps(said))
    return Bundle.open(folder)


def test_a_strangers_bundle_runs_first_elsewhere_and_once(
    quantized_idm: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float and in int8, on the engine that was asked for; the second opening, in any process, costs nothing."""
    bundle = stranger(quantized_idm, tmp_path / "a.bundle")
    ran: list[list[str]] = []
    whole = first_run.rehearse
    monkeypatch.setattr(first_run, "rehearse", lambda *args, **named: ran.append(whole(*args, **named)))
    trial = np.full((2, 1), 0.5, np.float32)
    for _ in range(2):
        with GraphSet(bundle, EngineChoice(threads=1)) as graphs:
            graphs.run("tabulate", {graphs.engine("tabulate").inputs[0].name: trial})
        assert ran == [["tabulate", "encode", "denoise", "denoise int8"]]
        monkeypatch.setattr(known, "_IN_THIS_PROCESS", {})  # as in another process
    assert all(line.startswith("onnxruntime-cpu ") for line in known.known_of(known.digest_of(bundle.manifest)))
    with BundleWriter.update(bundle) as writer:  # what the tool makes of it is known
        made = writer.commit(replace(bundle.manifest, source=changed(bundle.manifest.source, file="ours")))
    assert known.known_of(known.digest_of(made.manifest)) == {"written"}
    copied = Bundle.open(Path(shutil.copytree(IDM_BUNDLE, tmp_path / "packaged.bundle")))
    for trusted in (made, copied):
        first_run.run_first(trusted, "onnxruntime-cpu")
    assert len(ran) == 1
