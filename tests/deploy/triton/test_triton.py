"""A real Triton, asked by its own client: python -m benchmarks.triton, held to what it must say."""

from pathlib import Path

import pytest

from benchmarks.triton import figures, problem_here


@pytest.mark.slow
@pytest.mark.long  # the first run makes a virtual environment, which takes minutes
@pytest.mark.skipif(problem_here() is not None, reason=problem_here() or "")
def test_two_hundred_requests_over_both_protocols(tmp_path: Path) -> None:
    found = figures(200, tmp_path)
    assert (found["requests"], found["different"], found["refused_below_the_limit"]) == (200, 0, 0)
    assert found["pictures"] == 200 and found["executions"] < 100  # batches of two or more on average
    flood = found["flood"]
    assert flood["different"] == 0 and 0 < flood["refused"] < flood["requests"]
    seconds = found["cancelled"]
    assert seconds["short"] < 0.5 * seconds["long"]
