"""Which layout a budget allows, by arithmetic on the stub's 1024 bytes per pixel."""

from dataclasses import replace

import pytest

import deploy.picture.layout as layout
import deploy.picture.room as room
from deploy.errors import SizeError
from deploy.families.model import Growth
from deploy.images.sizes import Size
from deploy.picture.layout import Job, Layout, layout_for
from tests.deploy.picture.stub_model import StubModel

MB = 1_000_000
WHOLE = 160_000 * 1060 + 10_000 * 24


@pytest.fixture(autouse=True)
def nothing_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "resident_bytes", lambda: 0)
    monkeypatch.setattr(layout, "SLACK_BYTES", 0)
    monkeypatch.setattr(layout, "SLACK_SHARE", 0.0)


def test_consistency_is_counted_where_it_is_asked_for() -> None:
    job = Job(lr=Size.square(100), size=Size.square(400), count=1, state_arrays=3, keeps_pixels=False)
    made = layout_for(StubModel(), job, 170 * MB)
    assert made.predicted_bytes == WHOLE - 10_000 * 12


def laid_out(
    budget: int, *, side: int = 400, count: int = 1, tile: int | None = None, keeps: bool = False, alpha: bool = False
) -> Layout:
    job = Job(
        lr=Size.square(side // 4),
        size=Size.square(side),
        count=count,
        state_arrays=3,
        keeps_pixels=keeps,
        tile=tile,
        has_alpha=alpha,
        consistent=True,
    )
    return layout_for(StubModel(), job, budget)


def test_a_picture_that_fits_is_one_piece() -> None:
    """400 x 400 pixels times 1000 (network) + 24 (condition twice) + 36 (state), and 24 for each of 100 x 100."""
    made = laid_out(170 * MB)
    assert made.tiling.is_whole and made.batch == 1 and not made.state_on_disk
    assert made.predicted_bytes == WHOLE


def test_as_many_pictures_at_once_as_fit() -> None:
    assert [laid_out(170 * MB * n, count=20).batch for n in (1, 2, 3, 4, 100)] == [1, 2, 2, 4, 8]
    assert laid_out(10_000 * MB, count=3).batch == 3


def test_results_that_are_kept_count_as_well() -> None:
    """3 bytes more per pixel."""
    assert laid_out(WHOLE, keeps=False).tiling.is_whole
    assert not laid_out(WHOLE, keeps=True).tiling.is_whole
    assert laid_out(WHOLE + 3 * 160_000, keeps=True).tiling.is_whole


def test_transparency_is_kept_where_the_state_is() -> None:
    """4 bytes more per pixel of the result; on disk with the state, where that goes there."""
    assert laid_out(WHOLE).tiling.is_whole and not laid_out(WHOLE, alpha=True).tiling.is_whole
    assert laid_out(WHOLE + 4 * 160_000, alpha=True).tiling.is_whole
    assert not laid_out(24 * MB).state_on_disk and laid_out(24 * MB, alpha=True).state_on_disk


def test_below_that_the_tiles_are_the_largest_that_fit() -> None:
    made = laid_out(100 * MB)
    side = made.tiling.tile
    assert not made.tiling.is_whole and not made.state_on_disk  # 5.8 MB of state, less than a quarter
    left = 100 * MB - 5_760_000 - 240_000
    assert side % 8 == 0 and side**2 * 1024 <= left < (side + 16) ** 2 * 1024
    assert made.cache_bytes == left - made.tiling.largest[0] ** 2 * 1024
    assert made.predicted_bytes <= 100 * MB


def test_a_state_of_more_than_a_quarter_of_the_room_goes_to_disk() -> None:
    assert laid_out(30 * MB).state_on_disk is False
    assert laid_out(20 * MB).state_on_disk is True


def test_the_users_tile_is_honoured_or_refused() -> None:
    assert laid_out(1000 * MB, tile=64).tiling.tile == 64
    with pytest.raises(SizeError, match=r"100x100 to 400x400 in tiles of 320 needs about .* or use smaller tiles"):
        laid_out(50 * MB, tile=320)


def test_a_budget_that_cannot_be_kept_says_what_is_needed() -> None:
    with pytest.raises(SizeError, match=r"in tiles of 32 needs about 1\.2 MiB of memory, 488\.3 KiB are allowed"):
        laid_out(500_000)


def test_tiles_that_are_faster_are_as_large_as_memory_allows() -> None:
    """400 x 400 with attention as long as all else at 50 x 50: the whole 65 times a pixel's time, tiles of 160 12.3."""
    model = StubModel()
    model.growth = Growth(doubled_at=2500.0, least_side=160)
    job = Job(lr=Size.square(100), size=Size.square(400), count=9, state_arrays=3, keeps_pixels=False, from_guess=True)
    ample, scarce = (layout_for(model, job, budget) for budget in (1000 * MB, 20 * MB))
    assert (ample.tiling.tile, ample.for_speed, ample.batch) == (160, True, 1)
    assert scarce.tiling.tile < 160 and not scarce.for_speed
    assert layout_for(model, replace(job, tile=layout.WHOLE), 10_000 * MB).batch == 8
    assert layout_for(model, replace(job, from_guess=False), 10_000 * MB).tiling.is_whole


def test_the_largest_tile_is_bounded_because_attention_is_not_cheap() -> None:
    made = laid_out(3000 * MB, side=4000)
    assert made.tiling.tile == 1024
