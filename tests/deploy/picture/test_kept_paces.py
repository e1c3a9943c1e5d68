"""Times in the cache: of which bundle, engine and threads, over how many runs, and beside what `build-engine` knows."""

from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.engine.chosen import CHOICE_LABEL, machine_key
from deploy.engine.graphs import EngineChoice
from deploy.picture import kept_paces
from deploy.picture.kept_paces import SIZES, keep_pace, kept_pace
from deploy.picture.pace import Pace
from engines.cache import Cache
from engines.errors import EngineError
from tests.deploy.picture.test_pace import whole


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineChoice:
    monkeypatch.setattr(kept_paces, "crowding", lambda _: 1.0)
    return EngineChoice(threads=1, cache_dir=tmp_path / "cache")


def learnt(step: float, pixels: int = 1000) -> Pace:
    pace = Pace()
    pace.add(whole(pixels, steps=1), [step], 2 * step)
    return pace


def test_the_middle_of_the_last_three_runs_counts(idm_micro: Bundle, choice: EngineChoice) -> None:
    work = whole(1000, steps=3)
    assert kept_pace(idm_micro, choice).seconds(work) is None
    for step, expected in ((1.0, 4.0), (30.0, 4.0), (2.0, 8.0), (2.5, 10.0)):  # one that was disturbed never counts
        keep_pace(idm_micro, choice, learnt(step))
        assert kept_pace(idm_micro, choice).seconds(work) == pytest.approx(expected)
    others = (EngineChoice(threads=2, cache_dir=choice.cache_dir), EngineChoice(cache_dir=choice.cache_dir))
    assert [kept_pace(idm_micro, other).seconds(work) for other in others] == [None, None]
    assert len(Cache(choice.cache_dir).entries()) == 1


def test_a_run_without_a_picture_keeps_nothing(idm_micro: Bundle, choice: EngineChoice) -> None:
    keep_pace(idm_micro, choice, Pace())
    assert Cache(choice.cache_dir).entries() == []


def test_the_sizes_of_the_latest_runs_are_kept(idm_micro: Bundle, choice: EngineChoice) -> None:
    """Each picture brings two places: its step and what is around it."""
    for first in (0, SIZES // 2):
        pace = Pace()
        for index in range(SIZES // 2):
            pace.add(whole(10 ** (first + index)), [1.0], 6.0)
        keep_pace(idm_micro, choice, pace)
    kept = kept_pace(idm_micro, choice)
    assert kept.seconds(whole(10 ** (SIZES // 2 - 1))) is None
    assert kept.seconds(whole(10 ** (SIZES // 2))) == pytest.approx(6.0)


def test_the_step_that_build_engine_measured_is_used(idm_micro: Bundle, choice: EngineChoice) -> None:
    cache = Cache(choice.cache_dir)
    candidates = [
        {"backend": "openvino-cpu", "precision": "fp32", "step_ms": 50.0},
        {"backend": "onnxruntime-cpu", "precision": "fp32", "step_ms": 100.0},
    ]
    for threads in (4, 1):
        trial = {"size": [20, 50], "batch": 1, "threads": threads, "rounds": 5}
        figures = {"candidates": candidates, "chosen": candidates[0], "why": "it is faster", "trial": trial}
        key = machine_key(idm_micro) | {"asked": "auto auto", "threads": str(threads)}
        cache.obtain(f"{CHOICE_LABEL} it", key, lambda _, figures=figures: figures)  # type: ignore[misc]
        seconds = kept_pace(idm_micro, choice).seconds(whole(1000, steps=3))
        assert seconds == (None if threads == 4 else pytest.approx(0.4, rel=1e-2))


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(idm_micro: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="While keeping pace of"):
        keep_pace(idm_micro, EngineChoice(cache_dir=tmp_path / "file"), learnt(1.0))
