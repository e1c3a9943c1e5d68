import numpy as np
import pytest
import torch
from PIL import Image

from deploy.errors import SizeError
from tests.training.small import CPU, small_store
from training.pictures import PictureStore, coloured, eight_bits, enlarged, low_resolution, reduced, training_store


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered_picture(height: int, width: int, offset: int) -> np.ndarray:
    """A picture whose pixels say where they are: row, column, number of the picture."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, np.full_like(rows, offset)], axis=-1).astype(np.uint8)


def test_crops_are_turned_or_mirrored_windows_of_one_picture() -> None:
    store = PictureStore.from_pictures([numbered_picture(9, 14, 1), numbered_picture(12, 8, 2)], [1.0, 1.0], CPU)
    crops = store.crops(200, (5, 7), seeded()).numpy().astype(int)
    assert set(crops[:, 2].ravel()) == {1, 2}
    kinds = set()
    for rows, columns, number in crops:
        assert len(np.unique(number)) == 1
        assert rows.max() < (9 if number[0, 0] == 1 else 12) and columns.max() < (14 if number[0, 0] == 1 else 8)
        # Neighbours in the crop are neighbours in the picture, along one axis or, when turned, the other.
        steps = [np.unique(np.diff(table, axis=axis)) for table in (rows, columns) for axis in (0, 1)]
        assert all(len(step) == 1 for step in steps)
        kinds.add(tuple(int(step[0]) for step in steps))
    assert len(kinds) == 8, "all eight ways to lay a picture should occur"


def test_pictures_smaller_than_the_crop_are_not_drawn() -> None:
    store = PictureStore.from_pictures([numbered_picture(6, 30, 1), numbered_picture(20, 20, 2)], [9.0, 1.0], CPU)
    assert set(store.crops(50, (7, 5), seeded())[:, 2].unique().tolist()) == {2}
    assert store.largest_crop() == 20


def test_the_same_generator_state_gives_the_same_batch() -> None:
    store = small_store()
    first = coloured(store.crops(4, (8, 8), seeded(1)), seeded(2))
    assert torch.equal(first, coloured(store.crops(4, (8, 8), seeded(1)), seeded(2)))


def test_colour_changes_stay_in_range_and_leave_half_of_the_pictures_alone() -> None:
    crops = small_store().crops(64, (8, 8), seeded())
    changed = coloured(crops, seeded(1))
    assert changed.min() >= -1 and changed.max() <= 1
    plain = crops.float() / 127.5 - 1
    # A quarter of the unchanged half has its channels swapped as well.
    same = (changed - plain).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 12 <= int(same.sum()) <= 40


def test_the_reduction_is_pillows_bicubic() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(24, 31)).astype(np.float32)
    wanted = np.array(Image.fromarray(plane).resize((9, 7), Image.Resampling.BICUBIC))
    ours = reduced(torch.from_numpy(plane)[None, None], (7, 9))[0, 0].numpy()
    # Both sum the same taps in float32, in another order.
    np.testing.assert_allclose(ours, wanted, atol=2e-6)
    back = np.array(Image.fromarray(wanted).resize((31, 24), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(enlarged(torch.from_numpy(wanted)[None, None], (24, 31))[0, 0], back, atol=2e-6)


def test_low_resolution_pictures_have_8_bit_values() -> None:
    picture = torch.rand(2, 3, 16, 16, generator=seeded()) * 2 - 1
    low = low_resolution(picture, (5, 4))
    levels = (low + 1) * 127.5
    assert low.shape == (2, 3, 5, 4)
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert torch.equal(eight_bits(low), low)


def test_a_low_resolution_above_the_picture_is_refused() -> None:
    with pytest.raises(SizeError, match=r"Cannot reduce \(4, 4\) pixels to \(5, 4\)"):
        low_resolution(torch.zeros(1, 3, 4, 4), (5, 4))


def test_half_of_the_training_crops_are_dead_leaves_and_no_held_out_photograph_is_among_them() -> None:
    store = training_store(2, 48, CPU)
    leaves = store.weights[-2:].sum()
    assert torch.isclose(leaves, store.weights[:-2].sum())
    # Coffee is 600 x 400 pixels, chelsea 451 x 300; no training photograph has these sizes.
    sizes = set(zip(store.heights.tolist(), store.widths.tolist(), strict=True))
    assert (512, 512) in sizes and not sizes & {(400, 600), (300, 451)}
