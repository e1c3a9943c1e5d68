"""What programs write of the docs: the page of the commands has everything, the picture of the README is theirs."""

import re

import numpy as np
from PIL import Image
from typer.core import TyperGroup
from typer.main import get_command

from benchmarks.pages import command_line, four_panels
from deploy.cli.main import app


def test_every_command_and_option_stands_on_the_page() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    common, *sections = re.split(r"^## (?=[a-z])", command_line.page(), flags=re.MULTILINE)
    assert [section.split("\n", 1)[0] for section in sections] == list(group.commands)
    for section, command in zip(sections, group.commands.values(), strict=True):
        options = {option for p in command.params for option in [*p.opts, *p.secondary_opts] if option.startswith("-")}
        options -= {"--help", "-h"}
        assert {option for option in options if f"`{option}`" not in section + common} == set()


def test_defaults_lists_and_choices_are_told() -> None:
    page = command_line.page()
    section = page.partition("\n## quantize\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(--[\w-]+)`[^|]* (\|.*)$", section, re.MULTILINE))
    assert rows["--crop"].startswith("| whole number |")
    assert "*default: `128`*" in rows["--crop"]
    assert "default: `4.0, 8.0, 2.0`" in rows["--scale"]
    assert rows["--weights"].startswith("| `raw` or `ema` |")
    assert rows["--force"].startswith("|  |")


def test_the_picture_of_the_readme_is_what_the_model_makes() -> None:
    """Three panels are exact; the network's own may differ by float rounding: one level in 255 at most, 48.1 dB."""
    assert four_panels.PICTURE.stat().st_size < 300_000
    made = np.asarray(four_panels.four_panels(), np.float64)
    kept = np.asarray(Image.open(four_panels.PICTURE), np.float64)
    assert made.shape == kept.shape
    width = (made.shape[1] + four_panels.GAP) // 4
    for number in (0, 1, 3):
        assert np.array_equal(made[:, number * width :][:, :width], kept[:, number * width :][:, :width])
    assert np.mean((made - kept) ** 2) < 1.0
