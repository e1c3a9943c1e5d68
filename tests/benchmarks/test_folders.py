"""What docs/folders.md says of speed and memory holds here too: `python -m benchmarks.folders` measures it."""

from pathlib import Path

import pytest

from benchmarks.folders import batch_times, main, seen_in_folder


@pytest.mark.slow
@pytest.mark.long
def test_the_network_takes_most_of_the_time_and_memory_stays_flat(tmp_path: Path) -> None:
    seen = seen_in_folder(tmp_path, 300)
    assert seen.network_share > 0.8
    assert abs(seen.growth) < 0.03
    assert seen.more(seen.descriptors) <= 0 and seen.more(seen.threads) <= 0
    assert seen.again_s < seen.wall_s / 20


@pytest.mark.slow
@pytest.mark.long
def test_a_long_run_takes_no_more_than_a_short_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--long", "900"]) == 0
    assert "against the second 300: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_pictures_made_together_have_the_bytes_of_those_made_alone(engine: str) -> None:
    differing = [count for count, (_, same) in batch_times(engine, "fp32", rounds=1).items() if not same]
    assert differing == []
