"""The maker of bundles with random weights, on the smallest configuration."""

from pathlib import Path

import pytest

from benchmarks import full_size
from deploy.bundle import Bundle


def test_a_bundle_beside_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert full_size.main(["idm_micro", str(tmp_path / "made")]) == 0
    bundle = Bundle.open(Path(capsys.readouterr().out.strip()))
    assert bundle.path == tmp_path / "made" / "idm_micro.bundle"
    assert bundle.manifest.source.file == "idm_micro_gen.pth"
    assert full_size.main(["idm_micro", str(tmp_path / "made")]) == 1  # nothing is overwritten
    assert "full_size: " in capsys.readouterr().err


def test_the_published_sizes_have_names() -> None:
    assert {"idm_ffhq_16_128", "latent_sr_ffhq_16_128", "ldm_64_256", "sr3_16_128", "sr3_64_512"} <= set(
        full_size.published_names()
    )
