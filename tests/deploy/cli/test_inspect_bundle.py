"""`inspect` on a bundle's folder."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.cli.main import app
from deploy.errors import BundleError
from tests.checkpoints import save_idm
from tests.json_schema import checked


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    place = folder / "micro.bundle"
    result = CliRunner().invoke(app, ["export", str(save_idm(folder)), "-o", str(place)])
    assert result.exit_code == 0, result.output
    return place


def test_a_person_sees_what_it_is(bundle: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(bundle)])
    assert result.exit_code == 0, result.output
    for part in (
        "idm, raw weights",
        "linear, 2000 timesteps",
        "balanced (default)",
        "fold-implicit",
        "idm_micro_gen.pth",
    ):
        assert part in result.output


def test_json_is_the_manifest_and_what_follows_from_it(bundle: Path) -> None:
    record = checked("inspect", CliRunner().invoke(app, ["inspect", str(bundle), "--json"]).stdout)
    assert record["configuration"]["inner_channel"] == {"source": "weights", "value": 16}
    assert record["bytes"] == sum(file["bytes"] for file in record["files"].values())
    assert set(record["graphs"]) == set(Bundle.open(bundle).manifest.graphs)


def test_the_engine_that_was_chosen_here_is_shown_with_its_figures(bundle: Path, tmp_path: Path) -> None:
    run, place = CliRunner(), ["--cache-dir", str(tmp_path)]
    before = run.invoke(app, ["inspect", str(bundle), *place])
    assert "engine: not chosen on this machine yet" in before.output
    assert json.loads(run.invoke(app, ["inspect", str(bundle), *place, "--json"]).stdout)["engine"] is None
    assert run.invoke(app, ["build-engine", str(bundle), *place, "--size", "16x16", "--rounds", "1"]).exit_code == 0
    shown = " ".join(run.invoke(app, ["inspect", str(bundle), *place]).output.split())
    assert "engine, measured at 16x16, batch 1" in shown and "reorders" in shown
    engine = checked("inspect", run.invoke(app, ["inspect", str(bundle), *place, "--json"]).stdout)["engine"]
    assert " (chosen) " in shown and f"{engine['backend']} {engine['precision']}" in shown
    assert " ms per step, " in shown
    assert {"onnxruntime-cpu"} <= {candidate["backend"] for candidate in engine["candidates"]}
    assert engine["measured"]["asked"] == "auto auto"


def test_a_checkpoint_has_no_engine(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(save_idm(tmp_path)), "--cache-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "--cache-dir is for a bundle" in " ".join(result.output.replace("│", " ").split())


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bundle"
    shutil.copytree(bundle, damaged)
    weights = next(damaged.glob("weights-*.bin"))
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    result = CliRunner().invoke(app, ["inspect", str(damaged)])
    assert isinstance(result.exception, BundleError)
    with pytest.raises(BundleError, match="has SHA-256"):
        raise result.exception
