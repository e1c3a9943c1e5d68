"""Whole pictures: the published baseline's arithmetic, the parts of a real picture, the fastest way."""

from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.engine.turns import Contender, Timing, measure
from deploy.measure.benchmark.pictures import (
    DENOISE,
    ENCODE,
    OTHER,
    PictureMaker,
    PictureRow,
    fastest,
    lr_size_of,
    published_contender,
    published_rows,
    published_samplers,
    random_pictures,
    speed_ups,
    split_from,
    time_pictures,
)
from deploy.measure.benchmark.settings import BenchSettings
from deploy.measure.benchmark.steps import Baseline
from deploy.sampling.choices import Choices
from engines.errors import EngineError
from tests.backends import carry_state
from tests.deploy.measure.benchmark.clock import FakeClock, silent

PLAIN = Choices(equation="ddim", placement="uniform", start=0.0, consistency=0.0, steps=2)
QUICK = BenchSettings(size=(17, 16), threads=1, rounds=1, choices=(PLAIN,))


class FakePublished:
    """Takes 2 s to encode, 0.5 s for a step, 4 s to decode."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        clock.now += 2.0

    def step(self) -> None:
        self.clock.now += 0.5

    def finish(self) -> None:
        self.clock.now += 4.0


def fake_contender(clock: FakeClock, steps: int) -> Contender:
    class FakeBaseline(Baseline):
        def encoded(self) -> Any:
            return FakePublished(clock)

    return published_contender(FakeBaseline(None, None, "idm"), steps, clock)  # type: ignore[arg-type]


def test_a_published_picture_is_encoding_all_its_steps_and_decoding(idm_micro: Bundle) -> None:
    clock = FakeClock()
    contender = fake_contender(clock, 3)
    settings = BenchSettings(rounds=2, published_steps=3)
    measure([contender], 2, clock, silent)
    rows = published_rows(contender, idm_micro, settings)
    # The schedule has 2000 timesteps; the published grid of 200 leaves out the step from 0.
    assert [(row.sampling, row.evaluations) for row in rows] == [("DDPM-2000", 2000), ("DDIM-200", 199)]
    assert rows[0].timing.median_ms == pytest.approx((2 + 2000 * 0.5 + 4) * 1e3)
    assert rows[1].timing.median_ms == pytest.approx((2 + 199 * 0.5 + 4) * 1e3)
    assert {row.timed_steps for row in rows} == {6}  # two counted rounds of three steps


def test_a_published_network_that_fails_is_a_row_with_its_reason(idm_micro: Bundle) -> None:
    contender = Contender("x", lambda: None, failure="memory ran out")
    rows = published_rows(contender, idm_micro, BenchSettings())
    assert [row.timing.failure for row in rows] == ["memory ran out"] * 2


def test_the_latent_family_is_published_with_199_evaluations(latent_sr: Bundle) -> None:
    assert published_samplers(latent_sr) == [("DDIM-200", 199)]


def row(name: str, ms: float, *, sampling: str = "", timed: int | None = None) -> PictureRow:
    choice = None if timed else EngineChoice(backend=name)
    timing = Timing(name=name, times_ms=(ms,) if ms else (), failure=None if ms else "fell over")
    return PictureRow(
        timing=timing, sampling=sampling, evaluations=1, timed_steps=timed, choice=choice, choices=Choices()
    )


def test_speed_is_told_against_each_published_sampler() -> None:
    rows = [row("a", 8000, sampling="DDPM", timed=3), row("a", 800, sampling="DDIM", timed=3), row("b", 4), row("c", 0)]
    assert speed_ups(rows) == [{}, {}, {"DDPM": 2000.0, "DDIM": 200.0}, {}]


def test_the_fastest_engine_is_no_published_row_and_no_failed_one() -> None:
    found = fastest([row("published", 1, timed=3), row("slow", 9), row("quick", 4), row("broken", 0)])
    assert found == (EngineChoice(backend="quick"), Choices())
    assert fastest([row("published", 1, timed=3), row("broken", 0)]) is None


def test_what_no_graph_took_is_other() -> None:
    assert split_from(3.0, {ENCODE: 0.5, DENOISE: 2.0}).seconds == pytest.approx(
        {ENCODE: 0.5, DENOISE: 2.0, "decode": 0.0, OTHER: 0.5}
    )


def test_every_engine_makes_whole_pictures(idm_micro: Bundle) -> None:
    rows = time_pictures(idm_micro, QUICK, None, silent)
    assert {row.timing.name for row in rows} >= {"onnxruntime-cpu fp32"}
    for one in rows:
        parts = one.timing.part_medians_ms
        assert one.evaluations == 2 and one.timing.failure is None
        assert parts[ENCODE] > 0 and parts[DENOISE] > 0 and parts["decode"] == 0
        assert sum(parts.values()) == pytest.approx(one.timing.median_ms)
        assert one.sampling.startswith("ddim, 2 steps placed uniform, from pure noise")


def test_pictures_of_the_latent_family_are_decoded(latent_sr: Bundle, latent_gen: Bundle) -> None:
    for bundle in (latent_sr, latent_gen):
        with ExitStack() as stack:
            maker = PictureMaker(bundle, EngineChoice(threads=1), stack)
            split = maker.make(random_pictures(lr_size_of(bundle, QUICK), 2), (20, 24), PLAIN)
        assert split.seconds["decode"] > 0 and split.seconds[DENOISE] > 0


def test_pictures_at_once_are_seen(idm_micro: Bundle) -> None:
    with ExitStack() as stack:
        maker = PictureMaker(idm_micro, EngineChoice(threads=1), stack)
        maker.make(random_pictures((4, 4), 3), (16, 16), PLAIN)
        assert maker.graphs.at_once == 3
        assert maker.tiles == 1


def test_two_ways_to_sample_have_names_of_their_own(idm_micro: Bundle) -> None:
    settings = BenchSettings(
        size=(16, 16), threads=1, rounds=1, choices=(PLAIN, Choices(preset="draft")), engines=("onnxruntime-cpu",)
    )
    rows = time_pictures(idm_micro, settings, None, silent)
    assert [one.timing.name for one in rows] == ["onnxruntime-cpu fp32, plain 2", "onnxruntime-cpu fp32, draft"]


def test_an_engine_that_fails_in_the_middle_is_a_row(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count()
    run = GraphSet.run

    def failing(self: GraphSet, name: str, feeds: Any, **told: Any) -> Any:
        if self.choice.backend == "onnxruntime-cpu" and name == "denoise" and next(calls) == 3:
            raise EngineError("the engine fell over")
        return run(self, name, feeds, **told)

    monkeypatch.setattr(GraphSet, "run", failing)
    rows = {row.timing.name: row.timing for row in time_pictures(idm_micro, QUICK, None, silent)}
    assert rows.pop("onnxruntime-cpu fp32").failure == "the engine fell over"
    assert all(timing.failure is None for timing in rows.values())


def test_pytorch_that_runs_out_of_memory_is_a_row() -> None:
    class Large(Baseline):
        def encoded(self) -> Any:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    clock = FakeClock()
    contender = published_contender(Large(None, None, "idm"), 1, clock)  # type: ignore[arg-type]
    measure([contender], 1, clock, silent)
    assert str(contender.failure).startswith("PyTorch failed: DefaultCPUAllocator: can't allocate memory")


def test_steps_that_stay_on_the_device_count_as_denoising(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that CUDA goes, on an engine for CPUs."""
    carry_state(monkeypatch, "onnxruntime-cpu")
    with ExitStack() as stack:
        maker = PictureMaker(idm_micro, EngineChoice(threads=1), stack)
        maker.upscaler.upscale(random_pictures((8, 8), 2), scale=2.0, choices=PLAIN)
        assert maker.graphs.at_once == 2
        assert maker.graphs.seconds[DENOISE] > 0
