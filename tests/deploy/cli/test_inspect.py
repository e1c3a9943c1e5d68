"""`idm-deploy inspect`: what it prints, for a person and as JSON, and how it fails."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from deploy.errors import CheckpointError
from deploy.sampling.schedule import NoiseSchedule
from tests.checkpoints import IDM_SCHEDULE, save_idm
from tests.json_schema import checked
from tests.latent_checkpoints import latent_state


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


@pytest.fixture(scope="module")
def idm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_idm(tmp_path_factory.mktemp("idm"))


@pytest.fixture(scope="module")
def latent_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latent") / "last.ckpt"
    torch.save({"state_dict": latent_state("latent_sr_tiny")}, path)
    return path


def test_idm_as_json(idm_file: Path) -> None:
    result = run(idm_file, "--json", "--sha256")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["family"], record["weights"]) == (0, "idm", "raw")
    assert record["configuration"]["channel_multiplier"] == {"value": [1, 2, 2], "source": "weights"}
    assert record["configuration"]["s_max"] == {"value": 8.0, "source": "assumed"}
    assert NoiseSchedule.from_dict({k: v for k, v in record["schedule"].items() if k != "source"}) == IDM_SCHEDULE
    assert record["schedule"]["source"] == "weights"
    assert (record["value_range"], record["scale_range"]) == ([-1.0, 1.0], [1.0, 8.0])
    assert record["parameters"]["encoder"]["unused"] == 24
    assert record["bytes"] == idm_file.stat().st_size
    assert record["sha256"] == hashlib.sha256(idm_file.read_bytes()).hexdigest()


def test_idm_as_text(idm_file: Path) -> None:
    lines = {line.split()[0]: line.split() for line in run(idm_file).stdout.splitlines() if line.strip()}
    assert lines["inner_channel"] == ["inner_channel", "16", "weights"]
    assert lines["norm_groups"] == ["norm_groups", "16", "assumed"]
    assert lines["schedule"] == [
        "schedule",
        "linear,",
        "2000",
        "timesteps,",
        "beta",
        "1e-06",
        "to",
        "0.01",
        "(weights)",
    ]
    assert lines["scales"][1:4] == ["1", "to", "8"]
    assert lines["encoder"] == ["encoder", "1,222,147", "24"]
    assert "SHA-256" not in lines


def test_the_configuration_is_used(idm_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.json"
    config.write_text('{"s_max": 4, "norm_groups": 8} // by hand')
    record = checked("inspect", run(idm_file, "--config", config, "--json").stdout)
    assert record["configuration"]["s_max"] == {"value": 4.0, "source": "config"}
    assert record["configuration"]["norm_groups"] == {"value": 8, "source": "config"}
    assert record["scale_range"] == [1.0, 4.0]


def test_latent_with_either_weights(latent_file: Path) -> None:
    for weights in ("raw", "ema"):
        record = checked("inspect", run(latent_file, "--weights", weights, "--json").stdout)
        assert (record["family"], record["weights"]) == ("latent", weights)
        assert record["configuration"]["unet.model_channels"] == {"value": 32, "source": "weights"}
        assert record["configuration"]["first_stage.local_ensemble"]["source"] == "assumed"
        assert record["parameters"]["denoiser, moving average"]["used"] == 0
    assert "super-resolution" in run(latent_file).stdout


def test_no_read_permission_is_a_refusal_not_wrong_usage(
    idm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser asks the system whether a path can be read and calls it wrong usage if not; here it must not ask."""
    monkeypatch.setattr(os, "access", lambda *_arguments, **_options: False)
    for arguments in (
        ["inspect", idm_file],
        ["inspect", idm_file, "--config", tmp_path],
        ["export", tmp_path],
        ["infer", tmp_path, "--bundle", tmp_path],
    ):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code != 2, result.output


def test_options_of_checkpoints_are_refused_for_a_bundle(tmp_path: Path) -> None:
    for options in (["--config", "a.json"], ["--weights", "raw"], ["--sha256"]):
        result = run(tmp_path, *options)
        assert result.exit_code == 2
        assert "are for checkpoint files" in " ".join(result.output.replace("│", " ").split())


def test_refusals_reach_the_command_line(tmp_path: Path) -> None:
    result = run(tmp_path / "none.pth")
    assert isinstance(result.exception, CheckpointError)
    assert "none.pth does not exist" in str(result.exception)
