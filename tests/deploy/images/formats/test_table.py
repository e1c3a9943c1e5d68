"""A format that the product has never seen is one record: read, written, and known again, by the same commands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.cli.options import format_names
from deploy.errors import ImageError
from deploy.images.formats import table
from deploy.images.reading import read_picture
from deploy.images.writing import Saving
from deploy.picture.upscaler import Upscaler
from tests.deploy.images.formats.ppm import PPM
from tests.deploy.picture.test_files import EnlargingModel, made


@pytest.fixture
def portable() -> Iterator[None]:
    table.register(PPM)
    yield
    del table.FORMATS["ppm"]
    table.WRITTEN.remove("ppm")
    for suffix in PPM.suffixes:
        del table.SUFFIXES[suffix], table.WRITTEN_SUFFIXES[suffix]


@pytest.mark.usefixtures("portable")
def test_a_new_format_goes_in_and_out(tmp_path: Path, idm_micro: Bundle) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 9, 3), np.uint16)
    (tmp_path / "a.ppm").write_bytes(b"P6\n9 6\n65535\n" + pixels.astype(">u2").tobytes())
    with Upscaler(idm_micro, threads=1) as up:
        up.session.model = EnlargingModel()  # type: ignore[assignment]
        again: dict[str, Any] = {"output": tmp_path, "output_is_folder": True}
        (row,) = made(up, tmp_path / "a.ppm", **again)["pictures"]
        assert Path(row["output"]).name == "a_x1.ppm"
        np.testing.assert_array_equal(read_picture(tmp_path / "a_x1.ppm").colour, pixels)
        assert made(up, tmp_path / "a.ppm", **again)["skipped"] == [row["output"]]
        made(up, tmp_path / "a.ppm", output=tmp_path / "b.png")
        made(up, tmp_path / "b.png", saving=Saving(format="ppm"), output=tmp_path / "c.ppm")
    np.testing.assert_array_equal(read_picture(tmp_path / "c.ppm").colour, pixels)
    assert "ppm" in format_names()  # what the shell offers
    with pytest.raises(ImageError, match="There is a format called 'ppm' already"):
        table.register(PPM)
