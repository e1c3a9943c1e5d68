"""Tiles within a step: the same as the whole where the network is local, smooth where it is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.families.contract import Keep
from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.images.sizes import Size
from deploy.images.tiles import Tiling, Window, whole_tiling
from deploy.picture.layout import Layout
from deploy.picture.memory import StateArrays
from deploy.picture.options import ignore
from deploy.picture.predictor import Predictor, TileDone
from deploy.picture.run import Progress, sampled_batch
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.plan import PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from deploy.sampling.turns import TURNS, Turn, turned
from engines.errors import OutOfMemory
from tests.deploy.picture.stub_model import REACH, StubModel, StubSubject

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
SIZE = (101, 75)
LR = np.random.default_rng(3).uniform(-1, 1, (2, 3, 20, 15)).astype(np.float32)


def layout_of(tile: int | None, *, on_disk: bool = False, cache: int = 0) -> Layout:
    tiling = whole_tiling(SIZE, 8) if tile is None else Tiling(size=SIZE, tile=tile, stride=8)
    return Layout(
        batch=2, tiling=tiling, state_on_disk=on_disk, cache_bytes=cache, decode_bytes=1 << 20, predicted_bytes=0
    )


def sample(model: StubModel, layout: Layout, tmp_path: Path, **options: Any) -> tuple[NDArray[Any], Any]:
    """The finished state and what was told."""
    told: list[str] = []
    progress: list[Progress] = []
    plan = make_plan(IDM, PlanSettings(equation="ddpm", steps=6), rules=IDM_SAMPLING)
    source = NoiseSource(seed=5, sample=1, images=[11, 12])
    with sampled_batch(
        model,
        model.subject(LR, SIZE, None),
        SIZE,
        plan,
        source,
        layout,
        scratch=tmp_path,
        progress=progress.append,
        notice=told.append,
        **options,
    ) as sampled:
        assert sampled.evaluations == 6
        return np.array(sampled.state), (told, progress, sampled.tile)


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """For pictures whose range is 2."""
    return float(10 * np.log10(4 / max(np.square(a.astype(float) - b).mean(), 1e-30)))


@pytest.mark.parametrize("tile", [32, 40, 64])
@pytest.mark.parametrize("options", [{}, {"consistency": 1.0, "from_guess": True}])
def test_tiles_equal_the_whole_for_a_network_whose_reach_fits_the_overlap(
    tile: int, options: dict[str, Any], tmp_path: Path
) -> None:
    """The outer quarter of the overlap (4 pixels of 16) is thrown away, and the stub reaches 4 pixels: what is left is
    float32 rounding, far above the issue's 60 dB."""
    assert Tiling(size=SIZE, tile=tile, stride=8).overlap // 4 >= REACH
    whole, _ = sample(StubModel(), layout_of(None), tmp_path, **options)
    tiled, (_, progress, side) = sample(StubModel(), layout_of(tile), tmp_path, **options)
    assert psnr(whole, tiled) > 100
    assert side == tile
    fractions = [done.fraction for done in progress]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_a_state_on_disk_and_kept_conditions_change_nothing(tmp_path: Path) -> None:
    expected, _ = sample(StubModel(), layout_of(32), tmp_path)
    for layout in (layout_of(32, on_disk=True), layout_of(32, cache=1 << 30), layout_of(32, cache=30_000)):
        found, _ = sample(StubModel(), layout, tmp_path, consistency=0.0)
        np.testing.assert_array_equal(found, expected)
    assert not list(tmp_path.iterdir())  # the files have no names


def test_out_of_memory_halves_the_tiles_and_goes_on(tmp_path: Path) -> None:
    expected, _ = sample(StubModel(), layout_of(32), tmp_path)
    model = StubModel(largest_pixels=40 * 40)
    found, (told, _, side) = sample(model, layout_of(None), tmp_path)
    assert told == [f"memory ran out; going on in tiles of {side} pixels" for side in (48, 32)]
    assert side == 32 and max(max(window) for window in model.windows) < 32 + 8
    assert psnr(found, expected) > 100


def test_out_of_memory_in_the_smallest_tile_is_told() -> None:
    model = StubModel(largest_pixels=10)
    with StateArrays() as arrays, pytest.raises(OutOfMemory, match="too large a window"):
        predictor(model, arrays, whole_tiling(SIZE, 8))(np.zeros((2, 3, *SIZE), np.float32), ROW, 0)


(ROW,) = StubModel().rows([PlanRow.evaluation(0.5)])


def predictor(model: StubModel, arrays: StateArrays, tiling: Tiling, done: Any = ignore) -> Predictor:
    return Predictor(
        model,
        model.subject(LR, SIZE, None),
        1,
        tiling,
        arrays,
        cache_bytes=0,
        notice=ignore,
        after_tile=done,
    )


def test_tiles_that_disagree_are_joined_without_a_seam() -> None:
    """Neighbouring tiles predict 0 and 1. Over the middle half of an overlap of 16 pixels, sin^2 rises by at most
    pi/16 = 0.196 a pixel; a hard edge would be 1. Both axes may rise at one place, so their sum bounds a diagonal."""
    done: list[TileDone] = []
    with StateArrays() as arrays:
        tiling = Tiling(size=SIZE, tile=32, stride=8)
        made = predictor(StubModel(offset_per_window=True), arrays, tiling, done.append)(
            np.zeros((2, 3, *SIZE), np.float32), ROW, 0
        )
        assert made.min() < 0.1 and made.max() > 0.9
        assert np.abs(np.diff(made, axis=2)).max() < 0.25
        assert np.abs(np.diff(made, axis=3)).max() < 0.25
    assert [tile.tile for tile in done] == list(range(1, len(tiling) + 1))


@pytest.mark.parametrize(("tile", "cache", "times"), [(None, 0, 1), (64, 1 << 30, 1), (64, 0, 6)])
def test_conditions_are_made_once_for_a_whole_picture_and_as_memory_allows_for_tiles(
    tile: int | None, cache: int, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six steps. A whole picture's condition is in use in each of them, whatever the cache may hold."""
    made: list[Window] = []
    condition = StubSubject.condition

    def counted(self: StubSubject, window: Window) -> dict[str, Any]:
        made.append(window)
        return condition(self, window)

    monkeypatch.setattr(StubSubject, "condition", counted)
    layout = layout_of(tile, cache=cache)
    sample(StubModel(), layout, tmp_path)
    assert len(made) == times * len(layout.tiling)


def test_what_an_engine_may_keep(tmp_path: Path) -> None:
    """Six steps on two pictures of 101x75 evaluate 90 900 pixels; tiles of 32 on 101x75 are of several sizes."""
    model = StubModel(worth_fixing=90_900)
    sample(model, layout_of(None), tmp_path)
    assert set(model.kept) == {Keep(condition=True, size=True)}
    (lease,) = model.lent
    assert lease.let_go_after == [] and lease.closed_after == 6
    assert all(keep.lease is lease for keep in model.kept)
    for smaller in (StubModel(worth_fixing=90_901), StubModel()):
        sample(smaller, layout_of(None), tmp_path)
        assert set(smaller.kept) == {Keep(condition=True, size=False)}
    tiles = StubModel(worth_fixing=1)
    sample(tiles, layout_of(32), tmp_path)
    assert set(tiles.kept) == {Keep(condition=False, size=False)}


def test_tiles_of_one_size_may_be_compiled_for() -> None:
    model = StubModel(worth_fixing=1)
    with StateArrays() as arrays:
        tiling = Tiling(size=(80, 56), tile=32, stride=8)
        predictor(model, arrays, tiling)(np.zeros((2, 3, 80, 56), np.float32), ROW, 0)
    assert set(model.windows) == {(32, 32)}
    assert set(model.kept) == {Keep(condition=False, size=True)}


def test_what_was_kept_is_let_go_when_memory_runs_out(tmp_path: Path) -> None:
    model = StubModel(largest_pixels=40 * 40, worth_fixing=1)
    sample(model, layout_of(None), tmp_path)
    (lease,) = model.lent
    assert lease.let_go_after == [0, 0]  # before the first window that fits
    assert lease.closed_after == len(model.windows)
    assert set(model.kept[3:]) == {Keep(condition=False, size=False)}


class LopsidedModel(StubModel):
    """Sees more of what is above and left, so that a turn makes a difference."""

    def predict(self, x: NDArray[Any], *args: Any, **options: Any) -> NDArray[Any]:
        made = super().predict(x, *args, **options)
        made[:, :, 1:, 1:] += np.float32(0.2) * x[:, :, :-1, :-1]
        return made


@pytest.mark.parametrize("turn", TURNS[1:])
@pytest.mark.parametrize("tile", [None, 32])
def test_a_turned_step_predicts_what_the_turned_picture_would(turn: Turn, tile: int | None) -> None:
    """For each turn in one run after another one, as the steps of a plan come."""
    state = np.random.default_rng(6).normal(size=(2, 3, *SIZE)).astype(np.float32)
    tiling = whole_tiling(SIZE, 8) if tile is None else Tiling(size=SIZE, tile=tile, stride=8)
    model = LopsidedModel()
    with StateArrays() as arrays:
        predict = predictor(model, arrays, tiling)
        as_it_is = np.array(predict(state, ROW, 0))
        found = np.array(predict(state, replace(ROW, turn=turn), 1))
        again = np.array(predict(state, ROW, 2))
    turned_subject = StubSubject(np.ascontiguousarray(turned(LR, turn)), SIZE)
    whole = Window.whole(Size(*SIZE))
    expected = model.predict(np.ascontiguousarray(turned(state, turn)), turned_subject.condition(whole), ROW)
    assert np.allclose(found, turned(expected, turn), atol=1e-5) and not np.allclose(found, as_it_is, atol=1e-5)
    assert np.array_equal(again, as_it_is)
    assert np.array_equal(turned(turned(state, turn), turn), state)
