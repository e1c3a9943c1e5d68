"""A bundle always has a picture to try it on, whatever the user named, and nothing else of it depends on that."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle, BundleWriter
from deploy.checkpoint.load import Checkpoint
from deploy.errors import ImageError
from deploy.export.export import export_bundle
from deploy.export.samples import default_samples, read_samples, with_samples
from deploy.images.files import read_image
from deploy.int8.command import Source, quantize
from deploy.int8.settings import Places, QuantizeSettings
from deploy.packaged.places import FREE_SAMPLES
from tests.deploy.export.test_export import files_of


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A JPEG under a name that says nothing of it."""
    path = tmp_path / "Mein Bild (2)"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)).save(path, "JPEG")
    return path


def test_without_a_named_sample_there_are_packaged_ones(bundle: Bundle) -> None:
    for path, packaged in zip(bundle.sample_images(), FREE_SAMPLES, strict=True):
        assert path.read_bytes() == packaged.read_bytes() and path.name.startswith(packaged.stem)
        assert read_image(path).size == (64, 64)


def test_samples_are_named_after_their_content_and_change_nothing_else(
    bundle: Bundle, checkpoint: Checkpoint, picture: Path, tmp_path: Path
) -> None:
    made = export_bundle(checkpoint, tmp_path / "own.bundle", samples=[picture, picture])
    (path,) = made.sample_images()
    assert path.name.startswith("Mein-Bild-2-") and path.suffix == ".jpg"
    assert path.read_bytes() == picture.read_bytes()
    assert replace(made.manifest, samples=(), files={}) == replace(bundle.manifest, samples=(), files={})
    without = [
        {
            name: content
            for name, content in files_of(one.path).items()
            if name not in {"bundle.json", *one.manifest.samples}
        }
        for one in (made, bundle)
    ]
    assert without[0] == without[1]


def test_a_bundle_of_an_earlier_version_gets_them(bundle: Bundle, picture: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "old.bundle")
    with BundleWriter.update(Bundle.open(tmp_path / "old.bundle")) as writer:
        old = writer.commit(replace(bundle.manifest, samples=()))
    assert old.sample_images() == []
    filled = with_samples(old, default_samples(old.manifest.scale_range.trained))
    assert filled.manifest == bundle.manifest and files_of(filled.path) == files_of(bundle.path)
    other = with_samples(filled, read_samples([picture]))
    assert [path.suffix for path in other.sample_images()] == [".jpg"] and not other.unlisted()


def test_a_model_that_enlarges_nothing_gets_none() -> None:
    assert default_samples(None) == []


def test_a_sample_that_cannot_be_read_is_refused_before_quantize_exports(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    text = tmp_path / "sample.png"
    text.write_text("not a picture")
    source = Source(path=checkpoint.path, output=tmp_path / "b.bundle", samples=(text,))
    with pytest.raises(ImageError, match=r"sample\.png: this is not a PNG, JPEG, .* picture by its content"):
        quantize(source, QuantizeSettings(), Places(), say=print, progress=lambda *_: None)
    assert list(tmp_path.iterdir()) == [text]
