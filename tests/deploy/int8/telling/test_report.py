"""What the report says in words, and how far its colours reach."""

import numpy as np
import pytest

from deploy.int8.telling.plots import PLOTS, span_of
from deploy.int8.telling.report import files_of_report, text_of_difference, text_of_ranges
from deploy.int8.telling.results import held_out_originals


def test_as_many_ends_are_named_as_there_are_ranges() -> None:
    told = text_of_ranges("ort", (0.0, 0.05494, 0.2467, 1.0))
    assert told == "ort: 3 timestep ranges by noise level sqrt(alpha_bar): up to 0.05494, up to 0.2467, up to 1"
    assert text_of_ranges("ort", (0.0, 1.0)) == ""


def test_only_files_that_are_written_are_linked() -> None:
    plotted = files_of_report(["ort"], plotted=True)
    assert plotted[2] == "* [pictures-ort.png](pictures-ort.png): float and int8 pictures of ort, and their difference"
    assert len(plotted) == 3 + len(PLOTS)
    assert files_of_report(["ort"], plotted=False) == plotted[:3]


def test_a_factor_is_named_where_there_is_one() -> None:
    assert text_of_difference(8).splitlines() == ["difference", "x8"]
    assert text_of_difference(1).splitlines() == ["difference", " "]


@pytest.mark.parametrize(
    ("decibels", "span"),
    [([40.0, 43.0], (31.5, 51.5)), ([20.0, 60.0], (20.0, 60.0)), ([np.nan, 30.0], (20.0, 40.0)), ([np.nan], (0, 20))],
)
def test_colours_cover_at_least_twenty_decibels(decibels: list[float], span: tuple[float, float]) -> None:
    assert span_of(np.array(decibels)) == pytest.approx(span)


def test_held_out_pictures_are_no_larger_than_the_model_was_trained_on() -> None:
    assert {one.lr.shape[:2] for one in held_out_originals(None)} == {(32, 32)}
    small = held_out_originals(16)
    assert len(small) == len(held_out_originals(64)) == 6
    assert {(one.lr.shape[:2], one.size) for one in small} == {((16, 16), (64, 64))}
