"""The parity report states real differences, against the right references, and refuses the wrong checkpoint."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint.load import Checkpoint, load_checkpoint
from deploy.cli.main import app
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError, CheckpointError
from deploy.export.export import export_bundle
from deploy.export.parity import (
    AS_PUBLISHED,
    REWRITTEN,
    Parity,
    compared,
    load_origin,
    parity_report,
    refuse_other_results,
)
from deploy.families.cases import chain
from deploy.families.idm.family import trial as idm_trial
from deploy.images.sizes import Size
from engines.backends import open_engine
from engines.errors import EngineError
from engines.plans.half import write_half_graph
from tests.checkpoints import save_latent
from tests.json_schema import checked

SMALL = (((16, 16), 1), ((19, 24), 2))


def with_other_bias(checkpoint: Checkpoint, difference: float) -> Checkpoint:
    """The checkpoint with a network whose every answer is larger by `difference`."""
    network = copy.deepcopy(checkpoint.network)
    with torch.no_grad():
        network.denoise_fn.final_conv.block[3].bias += difference
    other = dataclasses.replace(checkpoint, network=network)
    other.__dict__["sha256"] = checkpoint.sha256
    return other


def test_errors_and_sqnr_by_hand() -> None:
    """Differences 0 and 0.2 around 1 and 1: max 0.2, mean 0.1, power 1, error 0.02, so 10 log10(50) = 16.99 dB."""
    row = compared("g", "o", REWRITTEN, np.array([1.0, -1.0]), np.array([1.0, -0.8]), Size(1, 2), 1)
    assert row.max_error == pytest.approx(0.2)
    assert row.mean_error == pytest.approx(0.1)
    assert row.sqnr_db == pytest.approx(16.9897, abs=1e-3)


def test_equal_outputs_have_no_sqnr() -> None:
    assert compared("g", "o", REWRITTEN, np.ones(3), np.ones(3), (1, 3), 1).sqnr_db is None


def test_every_graph_is_compared_and_agrees(bundle: Bundle, checkpoint: Checkpoint) -> None:
    rows = parity_report(bundle, checkpoint, sizes=SMALL)
    assert {row.graph for row in rows} == set(bundle.manifest.graphs)
    assert {(row.size, row.batch) for row in rows} == set(SMALL)
    published = [row for row in rows if row.reference == AS_PUBLISHED]
    assert [row.output for row in published] == ["noise"] * len(SMALL)
    assert all(row.max_error < 2e-4 and row.mean_error < 2e-5 for row in rows)


def test_other_weights_show(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """The report would not agree with whatever network it is handed."""
    rows = parity_report(bundle, with_other_bias(checkpoint, 0.01), sizes=SMALL[:1])
    worst = max(row.max_error for row in rows if row.reference == AS_PUBLISHED)
    assert worst == pytest.approx(0.01, rel=0.01)


def test_another_checkpoint_is_refused(bundle: Bundle, checkpoint: Checkpoint) -> None:
    other = dataclasses.replace(checkpoint)
    other.__dict__["sha256"] = "0" * 64
    with pytest.raises(BundleError, match="exported from another file"):
        parity_report(bundle, other)


def test_results_beyond_rounding_are_refused(bundle: Bundle) -> None:
    def row(error: float) -> Parity:
        return compared("denoise", "noise", AS_PUBLISHED, np.ones(4), np.full(4, 1 + error), Size(1, 2), 1)

    refuse_other_results(bundle, [row(0.0), row(0.001)])  # equal, and 60 dB
    with pytest.raises(BundleError, match=r"denoise\.noise at 2x1 is 20 dB from the published network, expected at"):
        refuse_other_results(bundle, [row(0.0), row(0.1)])
    with pytest.raises(BundleError, match="is nan dB from"):
        refuse_other_results(bundle, [row(float("nan"))])


def test_the_origin_is_loaded_as_it_was_exported(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """Neither value can be read from the weights: they come from the bundle."""
    found = load_origin(bundle, checkpoint.path).config
    assert (found.norm_groups, found.image_size) == (8, 16)


def test_another_file_is_refused_before_it_is_read(bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"no checkpoint at all")
    with pytest.raises(CheckpointError, match="is not a checkpoint but something else"):
        load_origin(bundle, other)
    torch.save({"of": torch.zeros(1)}, other)  # of another family, whose configuration does not fit
    with pytest.raises(
        BundleError, match=r"another file than .*other\.pth \(their sizes differ\); name the checkpoint"
    ):
        load_origin(bundle, other)
    content = bytearray(checkpoint.path.read_bytes())
    content[content.index(b"ZZZZ")] ^= 1  # what torch fills gaps between tensors with: the weights are the same
    other.write_bytes(content)
    with pytest.raises(BundleError, match="their SHA-256 differ"):
        load_origin(bundle, other)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_origin(bundle, tmp_path / "none.pth")


def test_verify_fails_where_a_graph_computes_something_else(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Every file is as recorded; the weights are not those of the checkpoint that it is said to come from."""
    broken = export_bundle(with_other_bias(checkpoint, 0.1), tmp_path / "broken.bundle").path
    result = CliRunner().invoke(app, ["verify", str(broken), "--against", str(checkpoint.path)])
    assert "worst of all sizes" in result.stdout
    with pytest.raises(BundleError, match="does not compute what its checkpoint does"):
        raise result.exception or AssertionError(result.output)


def test_an_unknown_engine_is_a_refusal(bundle: Bundle, checkpoint: Checkpoint) -> None:
    result = CliRunner().invoke(app, ["verify", str(bundle.path), "--against", str(checkpoint.path), "--engine", "foo"])
    with pytest.raises(EngineError, match="foo"):
        raise result.exception or AssertionError(result.output)


def test_verify_against_prints_the_report(bundle: Bundle, checkpoint: Checkpoint) -> None:
    arguments = ["verify", str(bundle.path), "--against", str(checkpoint.path), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    records = checked("verify", result.stdout)["parity"]
    assert max(record["max_error"] for record in records) < 2e-4
    assert [77, 77] in [record["size"] for record in records]


def test_latent_graphs_agree_at_the_sizes_of_the_report(tmp_path: Path) -> None:
    """Decoded at 37x37, 128x128 and 300x200, the issue's sizes and bars."""
    latent = load_checkpoint(save_latent(tmp_path))
    rows = parity_report(export_bundle(latent, tmp_path / "latent.bundle"), latent)
    assert {(37, 37), (128, 128), (200, 300)} <= {row.size for row in rows if row.output == "colours"}
    assert all(row.max_error < 2e-4 and row.mean_error < 2e-5 for row in rows)


def test_the_step_graph_in_half_precision_keeps_fifty_decibels(
    bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """One rounding to fp16 is 66 dB; some hundred in a row leave more than 50 (an issue's bar for the full size)."""
    write_half_graph(bundle.graph("denoise", "group"), tmp_path / "half.onnx")
    trial = idm_trial(checkpoint.config, (32, 40), 1)
    with GraphSet(bundle, EngineChoice(threads=1)) as graphs:
        feeds = chain(trial, ["tabulate", "encode", "denoise"], graphs.run)
    with open_engine(tmp_path / "half.onnx", threads=1) as engine:
        found = engine.run({spec.name: feeds[spec.name] for spec in engine.inputs})["noise"]
    row = compared("denoise", "noise", REWRITTEN, feeds["noise"], found, (32, 40), 1)
    assert row.sqnr_db is not None
    assert 50 < row.sqnr_db < 90
