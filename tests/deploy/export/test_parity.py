"""The parity report states real differences, against the right references, and refuses the wrong checkpoint."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint import Checkpoint
from deploy.cli.main import app
from deploy.errors import BundleError
from deploy.export.parity import AS_PUBLISHED, REWRITTEN, compared, parity_report
from deploy.runtime.graphs import EngineChoice, GraphSet
from deploy.trials import TRIALS, chain
from engines.backends import open_engine
from engines.half import write_half_graph

SMALL = (((16, 16), 1), ((19, 24), 2))


def test_errors_and_sqnr_by_hand() -> None:
    """Differences 0 and 0.2 around 1 and 1: max 0.2, mean 0.1, power 1, error 0.02, so 10 log10(50) = 16.99 dB."""
    row = compared("g", "o", REWRITTEN, np.array([1.0, -1.0]), np.array([1.0, -0.8]), (1, 2), 1)
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
    network = copy.deepcopy(checkpoint.network)
    with torch.no_grad():
        network.denoise_fn.final_conv.block[3].bias += 0.01
    other = dataclasses.replace(checkpoint, network=network)
    other.__dict__["sha256"] = checkpoint.sha256
    rows = parity_report(bundle, other, sizes=SMALL[:1])
    worst = max(row.max_error for row in rows if row.reference == AS_PUBLISHED)
    assert worst == pytest.approx(0.01, rel=0.01)


def test_another_checkpoint_is_refused(bundle: Bundle, checkpoint: Checkpoint) -> None:
    other = dataclasses.replace(checkpoint)
    other.__dict__["sha256"] = "0" * 64
    with pytest.raises(BundleError, match="exported from another file"):
        parity_report(bundle, other)


def test_verify_against_prints_the_report(bundle: Bundle, checkpoint: Checkpoint) -> None:
    arguments = ["verify", str(bundle.path), "--against", str(checkpoint.path), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)["parity"]
    assert max(record["max_error"] for record in records) < 2e-4


def test_the_step_graph_in_half_precision_keeps_fifty_decibels(
    bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """One rounding to fp16 is 66 dB; some hundred in a row leave more than 50 (an issue's bar for the full size)."""
    write_half_graph(bundle.graph("denoise", "group"), tmp_path / "half.onnx")
    trial = TRIALS["idm"](checkpoint.config, (32, 40), 1)
    with GraphSet(bundle, EngineChoice(threads=1)) as graphs:
        feeds = chain(trial, ["tabulate", "encode", "denoise"], graphs.run)
    with open_engine(tmp_path / "half.onnx", threads=1) as engine:
        found = engine.run({spec.name: feeds[spec.name] for spec in engine.inputs})["noise"]
    row = compared("denoise", "noise", REWRITTEN, feeds["noise"], found, (32, 40), 1)
    assert row.sqnr_db is not None
    assert 50 < row.sqnr_db < 90
