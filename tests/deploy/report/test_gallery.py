"""Which pictures a page shows, and in which ways."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from msgspec.structs import replace as changed
from PIL import Image

from deploy.bundle import Bundle, BundleWriter
from deploy.errors import DeployError, SizeError
from deploy.images.sizes import Size
from deploy.packaged.places import IDM_BUNDLE
from deploy.report.gallery import (
    LONGEST_SIDE,
    GallerySettings,
    chosen_pictures,
    kinds_of_engine,
    make_gallery,
)
from engines.errors import EngineError
from tests.deploy.quantizations import int8_target, quantization
from tests.deploy.report.facts_for_tests import packaged_bundle, quantization_entry

ORT = "onnxruntime-cpu"


def ignore(doing: str, fraction: float) -> None:
    del doing, fraction


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (24, 24)), ("b.png", (25, 33)), ("c.png", (24, 24))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def with_samples(folder: Path, *pictures: Path) -> Bundle:
    """A copy of the packaged bundle whose samples are these pictures."""
    bundle = Bundle.open(copytree(IDM_BUNDLE, folder / "own.bundle"))
    with BundleWriter.update(bundle) as writer:
        names = [writer.add_bytes(path.stem, "png", path.read_bytes()) for path in pictures]
        return writer.commit(replace(bundle.manifest, samples=names))


def test_the_packaged_samples_are_shown_with_their_originals() -> None:
    chosen = chosen_pictures(packaged_bundle(), 5, 4.0)
    assert chosen.are_known
    names = [one.name for one in chosen.pictures]
    assert names[:3] == ["chelsea.png", "coffee.png", "flower.png"]
    assert len(set(names)) == 5
    assert [one.size for one in chosen.pictures] == [(256, 256)] * 3 + [(128, 128)] * 2
    assert chosen.pictures[0].lr.shape == (64, 64, 3)


def test_samples_of_ones_own_are_shown_without_an_original(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    large = rng.integers(0, 256, (200, 10, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "mine.png")
    chosen = chosen_pictures(with_samples(tmp_path, tmp_path / "mine.png"), 3, 4.0)
    (picture,) = chosen.pictures
    assert not chosen.are_known
    assert picture.name == "mine"
    limit = LONGEST_SIDE // 4
    np.testing.assert_array_equal(picture.lr, large[(200 - limit) // 2 :][:limit])  # the middle of what is too long
    assert picture.size == Size(LONGEST_SIDE, 40)


def test_named_originals_come_first_and_are_spread(originals: Path) -> None:
    chosen = chosen_pictures(packaged_bundle(), 1, 4.0, originals)
    assert [one.name for one in chosen.pictures] == ["a.png"]
    assert chosen.origin == "originals from originals"


@pytest.mark.parametrize(
    ("count", "scale", "told"),
    [
        (0, 4.0, "at least 1 picture, found 0"),
        (1, 0.5, "a scale of 1 or more, found 0.5"),
        (1, float("nan"), "found nan"),
    ],
)
def test_impossible_wishes_are_refused(count: int, scale: float, told: str) -> None:
    with pytest.raises(SizeError, match=told):
        chosen_pictures(packaged_bundle(), count, scale)


def test_kinds_of_engine_are_what_the_bundle_has() -> None:
    settings = GallerySettings(engine=ORT)
    quantized = packaged_bundle(quantization=quantization_entry())
    assert list(kinds_of_engine(packaged_bundle(), settings)) == [("float32", ORT, "fp32")]
    assert list(kinds_of_engine(quantized, settings)) == [("float32", ORT, "fp32"), ("int8", ORT, "int8")]
    assert list(kinds_of_engine(quantized, GallerySettings()))[1] == ("int8", ORT, "int8")
    # These int8 graphs are for ONNX Runtime and TensorRT only.
    assert list(kinds_of_engine(quantized, GallerySettings(engine="openvino-cpu"))) == [
        ("float32", "openvino-cpu", "fp32")
    ]
    graphs = {name: graph for name, graph in quantized.manifest.graphs.items() if name != "denoise"}
    only_int8 = replace(quantized, manifest=replace(quantized.manifest, graphs=graphs))
    assert list(kinds_of_engine(only_int8, settings)) == [("int8", ORT, "int8")]
    with pytest.raises(DeployError, match=r"no engine here runs any of its graphs.*--no-pictures"):
        make_gallery(replace(only_int8, manifest=replace(only_int8.manifest, quantization=None)), settings, ignore)


def test_every_way_of_every_picture_is_made_and_measured(originals: Path) -> None:
    settings = GallerySettings(pictures=2, originals=originals, scale=4.0, engine=ORT, threads=1)
    gallery = make_gallery(packaged_bundle(), settings, ignore)
    assert [scene.name for scene in gallery.scenes] == ["a", "b"]
    ways = ["input", "bicubic", "bicubic, 5 back-projections", "float32", "original"]
    assert [one.name for one in gallery.scenes[0].variants] == ways
    assert [one.pixels.shape for one in gallery.scenes[1].variants] == [(6, 8, 3)] + [(24, 32, 3)] * 4
    assert gallery.scenes[1].size == Size(24, 32)
    assert "dB, detail" in gallery.scenes[0].variants[3].figures
    assert gallery.evaluation is not None
    assert [row["name"] for row in gallery.evaluation["rows"]] == ways[1:4]
    assert gallery.failures == {}
    assert f"on {ORT} fp32" in gallery.ways["float32"]


def test_pictures_without_an_original_have_no_figures(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 6, 3), 90, np.uint8)).save(tmp_path / "flat.png")
    bundle = with_samples(tmp_path, tmp_path / "flat.png")
    gallery = make_gallery(bundle, GallerySettings(engine=ORT, threads=1), ignore)
    assert [one.name for one in gallery.scenes[0].variants][-1] == "float32"
    assert {one.figures for one in gallery.scenes[0].variants[1:]} == {""}
    assert gallery.evaluation is None


def test_a_way_that_fails_says_why_and_the_others_go_on(originals: Path) -> None:
    quantized = packaged_bundle(quantization=quantization(ort=int8_target()))
    settings = GallerySettings(pictures=1, originals=originals, scale=4.0, engine=ORT, threads=1)
    gallery = make_gallery(quantized, settings, ignore)
    assert [one.name for one in gallery.scenes[0].variants][-2:] == ["float32", "original"]
    assert "no-such-file" in gallery.failures["int8"]


def test_an_engine_that_is_unknown_is_refused() -> None:
    with pytest.raises(EngineError, match="nonsense"):
        make_gallery(packaged_bundle(), GallerySettings(engine="nonsense"), ignore)


def test_a_model_that_generates_shows_draws(tmp_path: Path) -> None:
    from deploy.checkpoint.load import load_checkpoint
    from deploy.export.export import export_bundle
    from tests.checkpoints import save_latent

    bundle = export_bundle(load_checkpoint(save_latent(tmp_path, "latent_gen_tiny")), tmp_path / "g.bundle")
    short = {name: changed(preset, steps=1) for name, preset in bundle.manifest.presets.items()}
    quick = replace(bundle, manifest=replace(bundle.manifest, presets=short))
    gallery = make_gallery(quick, GallerySettings(pictures=2, engine=ORT, threads=1), ignore)
    assert [scene.name for scene in gallery.scenes] == ["draw 1", "draw 2"]
    assert [one.name for one in gallery.scenes[0].variants] == ["float32"]
    assert gallery.scale is None
    assert not np.array_equal(gallery.scenes[0].variants[0].pixels, gallery.scenes[1].variants[0].pixels)
