"""Contact sheets: every picture is on the sheet, whole, in its place."""

import numpy as np
import pytest

from deploy.errors import ImageError
from deploy.measure.sheet import contact_sheet

RED, GREEN, BLUE = ([200, 0, 0], [0, 150, 0], [0, 0, 220])


def _flat(colour: list[int], height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.uint8(colour), (height, width, 3)).copy()


def _box(sheet: np.ndarray, colour: list[int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of what has the colour; it must fill its box."""
    rows, columns = np.nonzero((sheet == np.uint8(colour)).all(axis=2))
    box = (int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    assert len(rows) == box[2] * box[3]
    return box


def test_pictures_are_fitted_aligned_and_ordered() -> None:
    sheet = contact_sheet(
        [[("a", _flat(RED, 8, 8)), ("b\nnote", _flat(GREEN, 20, 40))], [("c", _flat(BLUE, 100, 50))]], side=60
    )
    red, green, blue = _box(sheet, RED), _box(sheet, GREEN), _box(sheet, BLUE)
    assert red[2:] == (60, 60) and green[2:] == (30, 60) and blue[2:] == (60, 30)
    assert red[0] == green[0] and red[1] == blue[1]
    assert green[1] >= red[1] + 60 and blue[0] >= red[0] + 60
    assert sheet.dtype == np.uint8 and (sheet[0] == 255).all() and (sheet[-1] == 255).all()


def test_enlarging_shows_the_pixels_themselves() -> None:
    checks = np.where(np.indices((4, 4)).sum(0)[..., None] % 2, np.uint8(255), np.uint8(0)).repeat(3, 2)
    sheet = contact_sheet([[("", checks)]], side=64)
    np.testing.assert_array_equal(sheet[16:80, 16:80], checks.repeat(16, 0).repeat(16, 1))


def test_labels_and_title_are_drawn_and_stay_in_their_column() -> None:
    pictures = [_flat(RED, 8, 8), _flat(GREEN, 8, 8)]
    plain = contact_sheet([[("", pictures[0]), ("", pictures[1])]], side=60)
    titled = contact_sheet([[("", pictures[0]), ("", pictures[1])]], side=60, title="Title")
    assert titled.shape[0] > plain.shape[0] and (titled[: _box(titled, RED)[0] - 1] < 100).any()
    long = contact_sheet([[("a label much too long for its column", pictures[0]), ("", pictures[1])]], side=60)
    above = long[: _box(long, RED)[0] - 1]
    assert (above[:, 16:76] < 100).any() and (above[:, 76:] == 255).all()


def test_nothing_to_draw_is_refused() -> None:
    for rows in ([], [[]]):
        with pytest.raises(ImageError, match="drawing a contact sheet: expected pictures"):
            contact_sheet(rows)
    with pytest.raises(ImageError, match="at least 1 pixel, found 0"):
        contact_sheet([[("a", _flat(RED, 2, 2))]], side=0)
