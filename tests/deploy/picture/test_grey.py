"""Grey pictures stay grey: three equal channels, one channel where the input has one, in Python and in files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle
from deploy.folders.request import Request
from deploy.folders.run import infer_pictures
from deploy.images.formats.table import FORMATS
from deploy.images.sizes import Size
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.deploy.images.profiles import display_p3

GREY = np.random.default_rng(8).integers(0, 256, (9, 12), np.uint8)
COLOUR = np.random.default_rng(9).integers(0, 256, (9, 12, 3), np.uint8)
NEUTRAL = np.repeat(GREY[:, :, None], 3, axis=2)
SAMPLING: dict[str, Any] = {"scale": 2, "steps": 2}


@pytest.mark.parametrize("bundle", ["idm_micro", "latent_sr"])
def test_each_channel_of_a_grey_result_is_the_mean_of_what_the_network_makes(
    bundle: str, request: pytest.FixtureRequest
) -> None:
    with Upscaler(request.getfixturevalue(bundle), threads=1) as up:
        sampling = up.sampling(Choices(steps=2))
        with up.sampled(NEUTRAL, Size(18, 24), sampling) as sampled:
            made, unchanged = sampled.pixels()[0], replace(sampled, grey=()).pixels()[0].astype(float)
        assert np.ptp(unchanged, axis=2).max() > 8  # the network by itself does not keep it
        assert (np.ptp(made, axis=2) == 0).all()
        # The mean of three numbers, each up to a level from what it was rounded or cut to, cut to a level itself.
        np.testing.assert_allclose(made[:, :, 0], unchanged.mean(axis=2), atol=1.0)
        with up.sampled(COLOUR, Size(18, 24), sampling) as sampled:
            assert sampled.grey == (False,)
        nearly = NEUTRAL.copy()
        nearly[4, 5, 2] ^= 1
        with up.sampled(nearly, Size(18, 24), sampling) as sampled:
            assert sampled.grey == (False,)


def test_the_result_has_as_many_channels_as_the_input_and_the_same_values(idm_micro: Bundle) -> None:
    told: list[str] = []
    with Upscaler(idm_micro, threads=1) as up:
        expected = up.upscale(NEUTRAL, **SAMPLING)
        assert (np.ptp(expected, axis=2) == 0).all()
        plane = up.upscale(GREY, **SAMPLING)
        assert plane.shape == (18, 24)
        np.testing.assert_array_equal(plane, expected[:, :, 0])
        images = [
            Image.fromarray(GREY),
            Image.fromarray(GREY).convert("LA"),
            Image.fromarray(GREY.astype(np.uint16) * 257),
            Image.fromarray(GREY.astype(np.int32)),
            Image.fromarray(NEUTRAL),
            Image.fromarray(COLOUR),
        ]
        results = up.upscale(images, **SAMPLING, notice=told.append)
        alone = up.upscale(COLOUR, **SAMPLING)
    assert [result.mode for result in results] == ["L", "LA", "I;16", "L", "RGB", "RGB"]
    for result in (results[0], results[1].getchannel(0), results[3]):
        np.testing.assert_array_equal(np.asarray(result), plane)
    # The same noise in 16 bits, so the same picture before it is rounded: half a level of 8 bits is 128.5 of 16.
    assert np.abs(np.asarray(results[2]).astype(int) - 257 * plane.astype(int)).max() <= 129
    np.testing.assert_array_equal(np.asarray(results[4]), expected)
    # In a batch with grey ones the coloured one is what it is alone: 80 dB is a level of 255 in 40 000 numbers.
    assert np.abs(np.asarray(results[5]).astype(int) - alone).max() <= 1
    assert not [line for line in told if "picture" in line]


def test_an_image_comes_back_in_the_colours_of_its_profile(idm_micro: Bundle) -> None:
    image = Image.fromarray(COLOUR)
    image.info |= {"icc_profile": display_p3(), "dpi": (300, 300)}
    told: list[str] = []
    with Upscaler(idm_micro, threads=1) as up:
        converted = up.upscale(image, **SAMPLING, notice=told.append)
        assert (np.asarray(converted) != up.upscale(COLOUR, **SAMPLING)).any()
    assert not [line for line in told if "picture" in line]
    assert converted.info["icc_profile"] == display_p3() and converted.info["dpi"] == (300, 300)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "webp"])
def test_files_of_one_channel_become_files_of_one_channel(tmp_path: Path, idm_micro: Bundle, suffix: str) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "grey.png")
    Image.fromarray(NEUTRAL).save(tmp_path / "rgb.png")
    told: list[str] = []
    with Upscaler(idm_micro, threads=1) as up:
        expected = up.upscale(GREY, **SAMPLING)
        for name in ("grey", "rgb"):
            request = Request(
                images=(tmp_path / f"{name}.png",),
                scale=2,
                output=tmp_path / f"{name}-made.{suffix}",
                choices=Choices(steps=2),
            )
            report = infer_pictures(up, request, say=told.append, progress=lambda *_: None)
            assert report["failed"] == []
            deeper = name == "grey" and suffix != "png"
            changes = [f"16 bits per channel become 8 bits in {FORMATS[suffix].title}"] if deeper else []
            assert json.loads(json.dumps(report))["pictures"][0]["changes"] == changes
    assert sum(part.startswith(f"{tmp_path / 'grey.png'}: 16 bits") for part in told) == (suffix != "png")
    assert not any(part.startswith(f"{tmp_path / 'rgb.png'}: ") for part in told)
    with Image.open(tmp_path / f"grey-made.{suffix}") as one, Image.open(tmp_path / f"rgb-made.{suffix}") as three:
        assert one.mode == {"webp": "RGB", "png": "I;16", "jpeg": "L"}[suffix]  # WebP has no grey pictures
        assert three.mode == "RGB"
        if suffix == "webp":
            np.testing.assert_array_equal(np.asarray(one.convert("L")), expected)
        if suffix == "png":  # half a level of 8 bits is 128.5 of 16
            assert np.abs(np.asarray(one).astype(int) - 257 * expected.astype(int)).max() <= 129
        np.testing.assert_array_equal(np.ptp(np.asarray(three), axis=2), 0)
