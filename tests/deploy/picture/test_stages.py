"""Pictures of several runs, on a bundle with synthetic weights: the same as its runs by hand, one after the other."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deploy.picture.layout as layout
from deploy import Upscaler
from deploy.errors import PlanError, SizeError
from deploy.images.resize import resize
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.picture.existing import Making
from deploy.picture.options import RunOptions
from deploy.picture.run import Progress
from deploy.picture.stages import Course
from deploy.sampling.choices import Choices
from deploy.sampling.noise_source import NoiseSource
from tests.deploy.picture.stub_model import StubModel
from tests.deploy.picture.test_layout import MB

PICTURE = np.random.default_rng(7).random((9, 12, 3)).astype(np.float32)
ULP = 4 * 2.0**-24
"""Of values up to 1: the product and sums of a filter's weights, and the way to [-1, 1] and back."""


def enlarged_by_filter(picture: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.clip(np.moveaxis(resize(np.moveaxis(picture, -1, 0), size), 0, -1), 0, 1)


@pytest.mark.parametrize("name", ["up", "latent"])
def test_a_filter_enlarges_what_the_network_made_without_rounding(name: str, request: pytest.FixtureRequest) -> None:
    upscaler: Upscaler = request.getfixturevalue(name)
    made = upscaler.upscale(PICTURE, scale=5.0, steps=2, stages=(2,))
    expected = enlarged_by_filter(upscaler.upscale(PICTURE, scale=2.0, steps=2), (45, 60))
    np.testing.assert_allclose(made, expected, rtol=0, atol=ULP)
    one_go = upscaler.upscale(PICTURE, scale=2.0, steps=2)
    np.testing.assert_array_equal(upscaler.upscale(PICTURE, scale=2.0, steps=2, stages=(2,)), one_go)


def test_a_second_stage_begins_with_what_the_first_one_made(up: Upscaler) -> None:
    """The noise is given, so that both ways have the same; by hand the picture in between is a float array too."""

    def noise(shape: tuple[int, ...], step_index: int) -> NDArray[np.float32]:
        return np.random.default_rng(shape[2] + step_index + 1).standard_normal(shape).astype(np.float32)

    ways: dict[str, Any] = {"steps": 2, "start": 0.5, "consistency": 1.0, "noise": noise}
    made = up.upscale(PICTURE, scale=6.0, stages=(3, 2), **ways)
    first = up.upscale(PICTURE, scale=3.0, **ways)
    np.testing.assert_allclose(made, up.upscale(first, scale=2.0, **ways), rtol=0, atol=1e-4)
    assert np.abs(made - up.upscale(PICTURE, scale=6.0, **ways)).max() > 0.01


def test_stages_and_draws_have_noise_of_their_own() -> None:
    shape, rows = (1, 3, 8, 8), slice(0, 8)
    sources = NoiseSource(seed=1, sample=2, images=[5])
    fields = [sources.of_run(stage, draw, 3).rows(shape, -1, rows) for stage in (0, 1, 2) for draw in (0, 1, 2)]
    assert len({field.tobytes() for field in fields}) == 9
    np.testing.assert_array_equal(sources.of_run(0, 0, 1).rows(shape, -1, rows), sources.rows(shape, -1, rows))


@pytest.mark.parametrize("name", ["up", "latent"])
def test_the_mean_of_draws_is_that_of_the_single_ones(name: str, request: pytest.FixtureRequest) -> None:
    upscaler: Upscaler = request.getfixturevalue(name)
    single = [upscaler.upscale(PICTURE, scale=2.0, steps=1, sample=number) for number in range(3, 6)]
    mean = upscaler.upscale(PICTURE, scale=2.0, steps=1, draws=3, sample=1)
    np.testing.assert_allclose(mean, np.mean(single, axis=0), rtol=0, atol=ULP)


def test_every_picture_of_a_batch_goes_the_same_way_as_alone(up: Upscaler) -> None:
    pictures = [PICTURE, PICTURE[::-1].copy(), np.repeat(PICTURE[:, :, :1], 3, axis=2)]
    settings: dict[str, Any] = {"scale": 5.0, "steps": 2, "stages": (2, 2), "draws": 2}
    for made, picture in zip(up.upscale(pictures, **settings), pictures, strict=True):
        np.testing.assert_allclose(made, up.upscale(picture, **settings), rtol=0, atol=1e-4)
    grey = up.upscale(pictures[2], **settings)
    assert (grey == grey[:, :, :1]).all()


def test_what_is_collected_lies_on_disk_where_it_is_large(
    up: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunOptions(scratch=tmp_path)
    sampling = up.sampling(Choices(steps=2, stages=(2, 2), draws=2))

    def rows() -> NDArray[Any]:
        with up.sampled(PICTURE, Size(45, 60), sampling, options) as sampled:
            made = np.concatenate([block[0] for block in sampled.unit_rows()])
            assert (sampled.evaluations, sampled.arrays.on_disk) == (8, on_disk)
            return made

    on_disk = False
    in_memory = rows()
    on_disk = True
    monkeypatch.setattr(layout, "SHARE_COLLECTED", 1 << 60)
    np.testing.assert_array_equal(rows(), in_memory)
    assert list(tmp_path.iterdir()) == []


def test_memory_counts_what_is_collected_and_lets_go_of_what_lies_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """400x400 pixels of 1060 bytes and 24 for each of 100x100, as in the layout's own tests; 12 for each collected."""
    monkeypatch.setattr(layout.ROOM, "resident_besides_runs", lambda: 0)
    monkeypatch.setattr(layout, "SLACK_BYTES", 0)
    monkeypatch.setattr(layout, "SLACK_SHARE", 0.0)
    jobs = [
        layout.Job(lr=Size.square(side // 4), size=Size.square(side), count=1, state_arrays=3, keeps_pixels=False,
                   collects=True, consistent=True)
        for side in (400, 1600)
    ]  # fmt: skip
    first, second = layout.layouts_for(StubModel(), jobs, 10_000 * MB)
    assert first.predicted_bytes == 160_000 * 1072 + 10_000 * 24 and not first.picture_on_disk
    # A third of what the first took is not there for the second.
    assert second.predicted_bytes == 2_560_000 * 1072 + 160_000 * 24 + first.own_bytes // 3
    first, second = layout.layouts_for(StubModel(), jobs, 14 * MB)
    assert first.picture_on_disk and second.picture_on_disk and not second.tiling.is_whole
    assert second.predicted_bytes <= 14 * MB


def test_progress_counts_all_runs_by_their_pixels(up: Upscaler) -> None:
    """Two steps at 18x24 and two at 36x48: a fifth of the work, then the rest."""
    told: list[Progress] = []
    up.upscale(PICTURE, scale=4.0, steps=2, stages=(2, 2), progress=told.append)
    assert [(each.step, each.steps) for each in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [each.fraction for each in told] == pytest.approx([0.1, 0.2, 0.6, 1.0])


def test_the_work_is_that_of_all_stages(up: Upscaler) -> None:
    sampling = up.sampling(Choices(steps=2, stages=(2, 2), draws=3))
    work = up.work(Size(9, 12), Size(45, 60), sampling)
    assert [(stage.state, stage.evaluations) for stage in work.stages] == [(18 * 24, 6), (36 * 48, 6)]
    assert (work.evaluations, work.output) == (12, 45 * 60)
    assert up.seconds_of_decoding(Size(9, 12), Size(45, 60), sampling) > 0


def test_notices_are_of_the_stages_and_the_way_is_said(up: Upscaler) -> None:
    lr, size = Size(9, 12), Size(108, 144)
    once, staged = (up.sampling(Choices(stages=stages)) for stages in ("once", (4, 2)))
    assert "beyond the trained" in " ".join(up.notices(lr, size, once)) and up.notices(lr, size, staged) == []
    assert Course.of(lr, size, staged).describe() == "the network to 48x36 then 96x72, then a filter"
    assert Course.of(lr, size, once).describe() == ""
    assert "in stages of 4x then 2x" in staged.describe() and "stages" not in once.describe()


def test_stages_and_draws_are_part_of_how_a_picture_was_made(up: Upscaler) -> None:
    ways = [{}, {"stages": (4,)}, {"stages": (4, 3)}, {"draws": 2}, {"blend": 0.5}]
    plans = [Making.of_run(up, up.sampling(Choices(**way)), seed=0, tile=None).plan for way in ways]  # type: ignore[arg-type]
    assert len(set(plans)) == 5
    assert asdict(up.sampling(Choices(published=True, steps=5)))["stages"]["magnifications"] == ()


def test_the_scaling_factor_is_moved_by_the_blend(up: Upscaler) -> None:
    """At 2 times it is (24 - 12) / ((8 - 1) * 12) = 1/7; told twice of it, the network sees what it is at 3 times."""
    model = up.session.model
    lr = np.zeros((1, 3, 9, 12), np.float32)
    two, three = (model.subject(lr, Size(9 * times, 12 * times), np.zeros) for times in (2, 3))
    window = Window.whole(Size(18, 24))
    told = [subject.condition(window)["scaler"].item() for subject in (two, model.blended(two, 2.0), three)]
    assert told == pytest.approx([1 / 7, 2 / 7, 2 / 7])
    moved = up.upscale(PICTURE, scale=2.0, steps=1, blend=2.0)
    assert np.abs(moved - up.upscale(PICTURE, scale=2.0, steps=1)).max() > 1e-3
    assert "blend 2" in up.sampling(Choices(blend=2.0)).recipe()


def test_a_blend_that_cannot_be_is_refused(up: Upscaler, latent: Upscaler) -> None:
    for blend in (-0.1, 4.1, True, float("nan")):
        with pytest.raises(PlanError, match="`blend` must be a factor from 0 to 4"):
            up.sampling(Choices(blend=blend))
    with pytest.raises(PlanError, match="nothing to move: leave `blend` out"):
        latent.sampling(Choices(blend=0.5))
    latent.sampling(Choices(blend=1.0))


def test_a_request_that_cannot_be_is_refused_before_any_work(up: Upscaler) -> None:
    with pytest.raises(SizeError, match="Leave some out, or make them smaller"):
        up.upscale(PICTURE, scale=2.0, stages=(4,))
    for draws in (0, 65, 1.5, True):
        with pytest.raises(PlanError, match="number of `draws` whose mean is taken must be from 1 to 64"):
            up.sampling(Choices(draws=draws))  # type: ignore[arg-type]
