"""Six hundred pictures on a simulated cluster of two nodes, one of which is removed, and a command that is killed."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster import killed_driver, lost_node, make_pictures, overhead
from deploy.bundle import Bundle
from deploy.cluster.pool import MOST_LOSSES, Share
from deploy.cluster.run import Cluster, ClusterRun
from deploy.cluster.worker import Report, Unit, Worker
from deploy.folders.request import Request
from deploy.packaged.places import IDM_BUNDLE
from deploy.picture.upscaler import Upscaler

MOST_MS = 15
"""That a picture may take longer than in a folder run of one thread."""

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.mark.slow
@pytest.mark.long
def test_a_lost_node_and_a_killed_command_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pictures(tmp_path / "in", 600)
    with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as upscaler:
        assert lost_node(upscaler, tmp_path)["failed"] == 12
        assert "(raylet)" not in capsys.readouterr().out  # where --json stands
        assert killed_driver(upscaler, tmp_path)["again"]["failed"] == 12
        assert overhead(upscaler, tmp_path, rounds=3)["more, median"] <= MOST_MS


class Mortal(Worker):
    """A worker that dies at one picture."""

    def make(self, unit: Unit) -> list[Report]:
        if unit.pictures[0].name.endswith("0003.png"):
            os._exit(1)
        return super().make(unit)


@pytest.mark.slow
@pytest.mark.long
def test_a_picture_that_kills_its_workers_is_given_up_alone(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "in", 10)
    monkeypatch.setattr("deploy.cluster.pool.Worker", Mortal)
    request = Request(images=(tmp_path / "in",), output=tmp_path / "out", output_is_folder=True, scale=2.0)
    on = Cluster(address=cluster.address, share=Share(cpus=1, gpus=0), threads=1)
    told: list[str] = []
    with (
        Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as upscaler,
        ClusterRun(upscaler, request, on, say=told.append, progress=lambda *_: None) as run,
    ):
        outcomes = {outcome.input.name: outcome for outcome in run.outcomes()}
    failed = {name: outcome.error for name, outcome in outcomes.items() if outcome.state == "failed"}
    assert list(failed) == ["0003.png"] and len(outcomes) == 10
    assert failed["0003.png"] == f"{MOST_LOSSES} workers died while it was made: is there memory enough for it?"
    assert sum("is lost" in line for line in told) == MOST_LOSSES
