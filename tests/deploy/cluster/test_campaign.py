"""Six hundred pictures on a simulated cluster of two nodes, one of which is removed, and a command that is killed."""

from pathlib import Path

import pytest

from benchmarks.cluster import killed_driver, lost_node, make_pictures, overhead
from deploy.bundle import Bundle
from deploy.packaged.places import IDM_BUNDLE
from deploy.picture.upscaler import Upscaler

MOST_MS = 15
"""That a picture may take longer than in a folder run of one thread."""

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.mark.slow
@pytest.mark.long
def test_a_lost_node_and_a_killed_command_lose_nothing(tmp_path: Path) -> None:
    make_pictures(tmp_path / "in", 600)
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as upscaler:
        assert lost_node(upscaler, tmp_path)["failed"] == 12
        assert killed_driver(upscaler, tmp_path)["again"]["failed"] == 12
        assert overhead(upscaler, tmp_path, rounds=3)["more, median"] <= MOST_MS
