"""Figures in aligned columns."""

from deploy.cli.tables import text_from_cells


def test_columns_are_aligned_and_remarks_are_not() -> None:
    cells = [["", "PSNR", "s"], ["bicubic", "28.16", "0.1"], ["a", "9", "12"], ["broken engine", "out of memory"]]
    assert text_from_cells("two", cells).splitlines() == [
        "two",
        "                PSNR    s",
        "bicubic        28.16  0.1",
        "a                  9   12",
        "broken engine  out of memory",
    ]


def test_a_table_without_title_or_rows_is_its_heading() -> None:
    assert text_from_cells("", [["step", "seconds"]]) == "step  seconds"
