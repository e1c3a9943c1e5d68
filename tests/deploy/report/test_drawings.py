"""Where shapes stand, by hand arithmetic."""

import math
import re

import pytest

from deploy.report.html.drawings import NoiseAxis, ValueAxis, bar, heat_map, shade_of, short_name, steps_chart, whisker


def attribute(made: str, name: str) -> list[str]:
    return re.findall(rf' {name}="([^"]*)"', made)


@pytest.mark.parametrize(("share", "width"), [(0.25, "25.00%"), (1.7, "100.00%"), (-1.0, "0.00%")])
def test_a_bar_is_as_wide_as_its_share(share: float, width: str) -> None:
    assert attribute(bar(share, "x"), "width") == [width]


def test_a_whisker_stands_on_its_axis() -> None:
    made = whisker(15.0, 2.5, ValueAxis(low=10.0, high=20.0), "x")
    assert attribute(made, "cx") == ["50.00%"]  # 10 + 80 * 0.5
    assert attribute(made, "x1")[-1:] + attribute(made, "x2")[-1:] == ["30.00%", "70.00%"]
    assert made.count('class="grid"') == 2 and made.count('class="reach"') == 1
    assert 'class="reach"' not in whisker(15.0, None, ValueAxis(low=10.0, high=20.0), "x")


def test_a_whisker_of_the_only_value_is_drawn() -> None:
    assert attribute(whisker(15.0, None, ValueAxis(low=15.0, high=15.0), "x"), "cx") == ["10.00%"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (10, 20, [10, 20]),
        (22.03, 31.35, [25, 30]),
        (28.3, 28.9, [28.4, 28.6, 28.8]),
        (-3.1, 0.4, [-2, 0]),
        (5.1, 14.9, [6, 8, 10, 12, 14]),
        (99, 101, [99, 100, 101]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, ticks: list[float]) -> None:
    axis = ValueAxis(low=low, high=high)
    assert axis.ticks == pytest.approx(ticks)
    shown = axis.html("PSNR, dB")
    assert "PSNR, dB" in shown and shown.count("<text") == len(ticks)
    assert f">{ticks[0]:g}".replace("-", "−") in shown


def test_the_axis_is_even_in_log_snr() -> None:
    axis = NoiseAxis(noisiest=0.1, cleanest=math.sqrt(0.99))
    # log-SNR is log(.01/.99) and log(.99/.01) at the ends, and 0 where picture and noise have the same variance.
    assert axis.place(0.1) == pytest.approx(2)
    assert axis.place(math.sqrt(0.5)) == pytest.approx(50)
    assert axis.place(math.sqrt(0.99)) == pytest.approx(98)
    assert (axis.place(0.0), axis.place(1.0)) == (2, 98)


def test_every_step_is_a_dot_and_every_inner_edge_a_line() -> None:
    axis = NoiseAxis(noisiest=0.01, cleanest=0.999)
    made = steps_chart([("draft", [0.5, 0.9]), ("<best>", [0.2, 0.5, 0.9])], axis, [0.0, 0.3, 0.7, 1.0])
    assert made.count("<circle") == 5
    assert made.count('class="edge"') == 2 * 2
    assert made.count('class="band"') == 2  # every second range of the three, in both rows
    assert "&lt;best&gt;: 3 steps at noise levels 0.2, 0.5, 0.9" in made


def test_shades_go_from_nothing_to_the_largest() -> None:
    assert [shade_of(value, 2.0) for value in (0.0, 0.19, 0.2, 1.0, 1.99, 2.0)] == [0, 0, 1, 5, 9, 9]
    assert shade_of(0.0, 0.0) == 0


def test_a_heat_map_has_a_cell_per_value_and_lines_between_ranges() -> None:
    made = heat_map("shares", [("a/Conv", [1.0, 2.0, 4.0]), ("b", [0.0, 0.0, 0.0])], ["x", "y", "z"], [0, 1, 3])
    assert made.count("<rect") == 6
    assert made.count("<line") == 2  # only 1 lies between two columns
    assert "1 to 4" in made and ">0<" in made  # each row's values for those who cannot hover
    assert re.findall(r'class="h(\d)"', made) == ["2", "5", "9", "0", "0", "0"]


def test_names_lose_what_all_of_them_have() -> None:
    names = ["denoise_fn.downs.1.res_block.block1.block.3/Conv", "denoise_fn.downs.1.res_block/Add.out", "x"]
    assert [short_name(name) for name in names] == ["downs.1.block1", "downs.1", "x"]
