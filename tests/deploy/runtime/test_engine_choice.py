"""What "auto" means: the measured choice where there is one, otherwise the first engine in float32."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint import load_checkpoint
from deploy.chosen_engine import chosen_engine
from deploy.cli.main import app
from deploy.export.export import export_bundle
from deploy.runtime.engine_choice import engine_choice
from deploy.runtime.upscaler import Upscaler
from engines.backends import DEFAULT_BACKEND
from tests.checkpoints import save_idm


def test_auto_follows_what_build_engine_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = export_bundle(load_checkpoint(save_idm(tmp_path)), tmp_path / "micro.bundle")
    assert engine_choice(bundle).backend == DEFAULT_BACKEND
    assert engine_choice(bundle).precision == "fp32"
    result = CliRunner().invoke(app, ["build-engine", str(bundle.path), "--sizes", "16x16"])
    assert result.exit_code == 0, result.output
    chosen = chosen_engine(bundle, threads=1)
    assert chosen is not None
    with Upscaler(bundle, threads=1) as upscaler:
        assert upscaler.choice == chosen


def test_a_cache_that_cannot_be_read_holds_no_choice(idm_tiny: Bundle, tmp_path: Path) -> None:
    """A name of 300 characters stands for a home without permission, which the superuser would not notice."""
    assert chosen_engine(idm_tiny, cache_dir=tmp_path / ("x" * 300)) is None


def test_a_named_engine_is_taken_at_its_word(idm_tiny: Bundle) -> None:
    choice = engine_choice(idm_tiny, "openvino-cpu", "bf16", 1)
    assert (choice.backend, choice.precision, choice.threads) == ("openvino-cpu", "bf16", 1)
