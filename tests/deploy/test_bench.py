"""The bench's arithmetic on a fake clock, and one real run of each contender on a small bundle."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.bench import BenchSettings, Contender, Timing, measure, ratios
from deploy.cli.bench import note_from_load
from deploy.cli.main import app
from deploy.errors import DeployError
from engines.backends import BACKENDS
from engines.errors import EngineError
from tests.checkpoints import save_idm, save_latent


class FakeClock:
    """Time passes only when a contender works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def worker(self, seconds: Iterator[float]) -> Callable[[], None]:
        def step() -> None:
            self.now += next(seconds)

        return step


def silent(_doing: str, _fraction: float) -> None:
    pass


def test_the_first_turn_warms_up_and_the_median_is_quoted() -> None:
    clock = FakeClock()
    slow = Contender("slow", clock.worker(iter([9.0, 0.4, 0.1, 0.2])))
    fast = Contender("fast", clock.worker(iter([9.0, 0.05, 0.05, 0.05])))
    measure([slow, fast], 3, clock, silent)
    assert slow.times_ms == pytest.approx([400, 100, 200])
    timings = [Timing(name=c.name, times_ms=tuple(c.times_ms)) for c in (slow, fast)]
    assert ratios(timings) == pytest.approx({"slow": 1.0, "fast": 4.0})


def test_contenders_take_turns() -> None:
    order: list[str] = []
    contenders = [Contender(name, lambda name=name: order.append(name)) for name in "ab"]  # type: ignore[misc]
    measure(contenders, 2, FakeClock(), silent)
    assert order == ["a", "b"] * 3


def test_one_that_fails_is_out_with_its_reason_and_the_others_go_on() -> None:
    calls = count()

    def broken() -> None:
        if next(calls) == 1:
            raise EngineError("the engine fell over")

    clock = FakeClock()
    contenders = [Contender("broken", broken), Contender("sound", clock.worker(iter([1.0] * 4)))]
    measure(contenders, 3, clock, silent)
    assert contenders[0].failure == "the engine fell over"
    assert len(contenders[1].times_ms) == 3


def test_a_busy_machine_is_noted_and_a_quiet_one_is_not() -> None:
    assert note_from_load(1.0, 2) is None
    assert "busy (load 7.5 on 2 cores)" in str(note_from_load(7.54, 2))


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(DeployError, match="batch 0, threads 0"):
        BenchSettings(batch=0, threads=0)


def test_bench_times_every_contender_of_a_bundle(tmp_path: Path) -> None:
    runner = CliRunner()
    checkpoint = save_idm(tmp_path)
    bundle = tmp_path / "micro.bundle"
    assert runner.invoke(app, ["export", str(checkpoint), "-o", str(bundle)]).exit_code == 0
    arguments = ["bench", str(bundle), "--size", "17x16", "--rounds", "2", "--threads", "1", "--json"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "note" in json.loads(result.stdout)
    rows = json.loads(result.stdout)["timings"]["step"]
    engines = [f"{name} {p}" for name, b in BACKENDS.items() if b.probe().available for p in b.PRECISIONS]
    assert [row["name"] for row in rows] == ["PyTorch, as published", "PyTorch, rewritten", *engines]
    assert all(len(row["times_ms"]) == 2 and min(row["times_ms"]) > 0 for row in rows)
    assert runner.invoke(app, [*arguments, "--checkpoint", str(checkpoint)]).exit_code == 0
    other = runner.invoke(app, [*arguments, "--checkpoint", str(bundle / "bundle.json")])
    assert "exported from another file" in str(other.exception)


def test_decoding_is_timed_for_the_latent_family(tmp_path: Path) -> None:
    runner = CliRunner()
    bundle = tmp_path / "latent.bundle"
    assert runner.invoke(app, ["export", str(save_latent(tmp_path)), "-o", str(bundle)]).exit_code == 0
    result = runner.invoke(app, ["bench", str(bundle), "--size", "20x24", "--rounds", "1", "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    timings = json.loads(result.stdout)["timings"]
    assert timings["decode"][0]["name"] == "PyTorch, as published"
    assert all(row["times_ms"][0] > 0 for kind in ("step", "decode") for row in timings[kind])


def test_a_size_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", str(tmp_path), "--size", "big"])
    assert result.exit_code == 2
    assert "WIDTHxHEIGHT" in result.output
