"""The upscaler as a library user meets it, on exported bundles with synthetic weights."""

from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import deploy
import deploy.engine.choice as engine_choice
from deploy import Upscaler
from deploy.bundle import Bundle
from deploy.bundle.records import Preset
from deploy.errors import BundleError, MissingPackage, OutputError, PlanError, SizeError
from deploy.families.compvis.config import PASSES
from deploy.images.resize import data_consistency, downscale, upscale
from deploy.images.sizes import Size, output_size
from deploy.picture.run import Progress
from deploy.sampling.choices import Choices
from engines.backends import BACKENDS
from engines.contract import Availability, Engine
from engines.errors import EngineError

GENERATOR = np.random.default_rng(2)
PICTURE = GENERATOR.integers(0, 256, (9, 12, 3), np.uint8)
OTHERS = [GENERATOR.integers(0, 256, (9, 12, 3), np.uint8) for _ in range(3)]


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-9)))


@pytest.fixture(scope="module")
def generator(latent_gen: Bundle) -> Iterator[Upscaler]:
    with Upscaler(latent_gen, threads=1) as upscaler:
        yield upscaler


def test_the_size_is_exact_and_the_kind_is_kept(up: Upscaler) -> None:
    made = up.upscale(PICTURE, scale=3.7, steps=2)
    assert made.shape == (round(3.7 * 9), round(3.7 * 12), 3) and made.dtype == np.uint8
    image = up.upscale(Image.fromarray(PICTURE), scale=3.7, steps=2)
    np.testing.assert_array_equal(np.asarray(image), made)
    listed = up.upscale([PICTURE], 3.7, steps=2)
    assert isinstance(listed, list)
    np.testing.assert_array_equal(listed[0], made)
    assert up.upscale(PICTURE, size=(50, 31), steps=1).shape == (31, 50, 3)
    assert up.upscale(PICTURE, long_edge=40, steps=1).shape == (30, 40, 3)


@pytest.mark.parametrize("scale", [1, 17.0])
def test_a_single_pixel_is_a_picture(up: Upscaler, scale: float) -> None:
    made = up.upscale(np.full((1, 1, 3), 90, np.uint8), scale=scale, steps=2)
    assert made.shape == (round(scale), round(scale), 3)


def test_the_same_seed_gives_the_same_picture_and_another_another(up: Upscaler) -> None:
    first = up.upscale(PICTURE, 3.0, steps=3)
    np.testing.assert_array_equal(up.upscale(PICTURE, 3.0, steps=3, seed=0), first)
    for change in ({"seed": 1}, {"sample": 1}):
        assert psnr(up.upscale(PICTURE, 3.0, steps=3, **change), first) < 40


def test_choices_made_before_are_the_same_as_keywords_which_go_before_them(up: Upscaler) -> None:
    made = up.upscale(PICTURE, 3.0, equation="ddpm", steps=3, start=0.5)
    choices = Choices(equation="ddpm", steps=3, start=0.5)
    np.testing.assert_array_equal(up.upscale(PICTURE, 3.0, choices=choices), made)
    np.testing.assert_array_equal(up.upscale(PICTURE, 3.0, choices=replace(choices, steps=9), steps=3), made)
    # 0 is a choice too: from pure noise, which has another first step.
    assert psnr(up.upscale(PICTURE, 3.0, choices=choices, start=0.0), made) < 60


@pytest.mark.parametrize("name", ["up", "latent"])
def test_pictures_do_not_depend_on_the_batch_or_the_threads(name: str, request: pytest.FixtureRequest) -> None:
    """The issue's 80 dB; on 8-bit pixels that is one level off in about every 650th value."""
    upscaler = request.getfixturevalue(name)
    small = np.ascontiguousarray(PICTURE[:, :9])
    together = upscaler.upscale([PICTURE, OTHERS[0], small, *OTHERS[1:]], 2.5, steps=4)
    assert [made.shape for made in together] == [(22, 30, 3)] * 2 + [(22, 22, 3)] + [(22, 30, 3)] * 2
    with Upscaler(upscaler.bundle, threads=2) as two_threads:
        for alone, made in zip([PICTURE, OTHERS[0], small, *OTHERS[1:]], together, strict=True):
            assert psnr(upscaler.upscale(alone, 2.5, steps=4), made) > 80
        assert psnr(two_threads.upscale(PICTURE, 2.5, steps=4), together[0]) > 80


def test_a_callable_replaces_the_seeded_noise(up: Upscaler) -> None:
    asked: list[tuple[tuple[int, ...], int]] = []

    def noise(shape: tuple[int, ...], step_index: int) -> NDArray[np.float32]:
        asked.append((shape, step_index))
        return np.random.default_rng(step_index + 5).standard_normal(shape).astype(np.float32)

    made = up.upscale(PICTURE, 2.0, equation="ddpm", steps=3, noise=noise)
    assert asked == [((1, 3, 18, 24), index) for index in (-1, 0, 1)]  # the last step adds none
    np.testing.assert_array_equal(up.upscale(PICTURE, 2.0, equation="ddpm", steps=3, noise=noise, seed=9), made)


def test_the_posterior_draw_of_the_latent_family_is_asked_for(latent: Upscaler) -> None:
    asked: list[int] = []

    def noise(shape: tuple[int, ...], step_index: int) -> NDArray[np.float32]:
        asked.append(step_index)
        return np.zeros(shape, np.float32)

    latent.upscale(PICTURE, 2.0, steps=2, noise=noise)
    assert asked == [-2, -1]


def test_data_consistency_brings_the_result_back_to_the_input(up: Upscaler) -> None:
    """The mean of the enlargement is that of the input, whatever the synthetic network paints."""
    flat = np.full((8, 8, 3), 100, np.uint8)
    plain = up.upscale(flat, 4.0, steps=3, start=0.5)
    aided = up.upscale(flat, 4.0, steps=3, start=0.5, consistency=1.0)
    assert abs(aided.mean() - 100) < 0.5 * abs(plain.mean() - 100)


@pytest.mark.parametrize(("scale", "strength"), [(3.7, 1.0), (8.0, 0.5)])
def test_a_decoded_picture_is_back_projected_in_rows_as_it_would_be_whole(
    latent: Upscaler, monkeypatch: pytest.MonkeyPatch, scale: float, strength: float
) -> None:
    monkeypatch.setattr("deploy.families.latent.model.PIXELS_PER_THREAD", 100)  # blocks of one to three rows
    size = output_size(Size.of(PICTURE), scale=scale)
    made = {}
    for consistency in (0.0, strength):
        sampling = latent.sampling(Choices(steps=2, consistency=consistency))
        with latent.sampled_together([PICTURE, OTHERS[0]], size, sampling) as sampled:
            rows = sampled.subject.picture_rows(sampled.state, sampled.decode_bytes, sampled.consistency)
            made[consistency] = sampled.state.copy(), np.concatenate(list(rows), axis=2)
    (state, picture), (same_state, found) = made.values()
    np.testing.assert_array_equal(state, same_state)  # what int8 is calibrated on
    lr = np.moveaxis(np.stack([PICTURE, OTHERS[0]]) / 127.5 - 1, -1, -3).astype(np.float32)
    for _ in range(PASSES):
        data_consistency(picture, lr, strength)
    # float32, of values up to a few, through weighted sums of a few hundred.
    np.testing.assert_allclose(found, picture, atol=5e-5)


def test_a_decoded_picture_agrees_with_its_input_in_any_depth_and_with_alpha(latent: Upscaler) -> None:
    """The synthetic network paints beyond black and white; what is cut off is missing after any correction."""
    smooth = upscale(GENERATOR.uniform(0.2, 0.8, (4, 3, 4)).astype(np.float32), (12, 16)).transpose(1, 2, 0)
    for levels, dtype in ((255, np.uint8), (65535, np.uint16)):
        image = np.rint(smooth * levels).astype(dtype)
        told: list[float] = []
        for consistency in (0.0, 1.0):
            made = latent.upscale(image, 3.0, steps=2, consistency=consistency)
            assert made.dtype == dtype and made.shape == (36, 48, 4)
            small = downscale(np.moveaxis(made / levels, -1, 0), (12, 16))
            told.append(float(np.abs(small - np.moveaxis(image / levels, -1, 0))[:3].mean()))
        assert told[1] < 0.2 * told[0]


def test_published_sampling_leaves_consistency_out_unless_it_is_asked_for(latent_sr: Bundle) -> None:
    presets = {"balanced": Preset(equation="ddim", steps=10, consistency=1.0)}
    manifest = replace(latent_sr.manifest, presets=presets, default_preset="balanced")
    with Upscaler(replace(latent_sr, manifest=manifest), threads=1) as upscaler:
        assert upscaler.sampling().describe().endswith("from pure noise, data consistency 1")
        assert upscaler.sampling(Choices(published=True)).consistency == 0.0
        assert upscaler.sampling(Choices(published=True, consistency=0.5)).consistency == 0.5


def test_tiles_of_flat_areas_gradients_and_textures_have_no_seams(up: Upscaler) -> None:
    """Along the lines where tiles meet, neighbouring pixels differ by no more than 1.1 times as elsewhere.

    The synthetic network paints noise whose strength follows the input, so "elsewhere" is taken relative to the
    picture made in one piece.
    """
    pictures = {
        "flat": np.full((12, 48), 128.0),
        "gradient": np.tile(np.linspace(40, 215, 48), (12, 1)),
        "texture": GENERATOR.uniform(0, 255, (12, 48)),
    }
    # 192 pixels in tiles of 64 that share 16: the middles of the overlaps are at 56, 104 and 136.
    lines = np.zeros(191, bool)
    for middle in (56, 104, 136):
        lines[middle - 8 : middle + 8] = True
    for name, grey in pictures.items():
        picture = np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)
        share = {}
        for tile in (64, None):
            made = up.upscale(picture, 4.0, steps=3, start=0.5, consistency=1.0, tile=tile).astype(float)
            steps = np.abs(np.diff(made, axis=1)).mean(axis=(0, 2))
            share[tile] = steps[lines].mean() / steps[~lines].mean()
        assert share[64] < 1.1 * share[None], name


def test_progress_ends_at_one_and_notices_tell_of_scales_beyond_training(up: Upscaler, latent: Upscaler) -> None:
    progress: list[Progress] = []
    told: list[str] = []
    up.upscale(PICTURE, 9.0, steps=3, progress=progress.append, notice=told.append)
    assert [done.step for done in progress] == [1, 2, 3] and progress[-1].seconds_left == 0
    assert told == [
        "scale 9 is beyond the trained 1 to 8 (scaling factor 1.143, trained 0 to 1): the network extrapolates"
    ]
    told.clear()
    up.upscale(PICTURE, 8.0, steps=1, notice=told.append)
    assert told == []
    latent.upscale(PICTURE, 30.0, steps=1, notice=told.append)
    largest = latent.bundle.manifest.scale_range.trained[1]
    assert told == [f"scale 30 is beyond the trained 1 to {largest:g}: the decoder extrapolates"]


def test_progress_counts_the_pictures_of_a_list(up: Upscaler) -> None:
    """Two of one size are made together, then one of another."""
    progress: list[Progress] = []
    small = np.ascontiguousarray(PICTURE[:, :9])
    up.upscale([PICTURE, small, OTHERS[0]], 2.0, steps=2, progress=progress.append)
    assert [(done.step, done.steps, done.finished, done.at_once, done.pictures) for done in progress] == [
        (1, 2, 0, 2, 3),
        (2, 2, 0, 2, 3),
        (1, 2, 2, 1, 3),
        (2, 2, 2, 1, 3),
    ]
    assert [done.fraction for done in progress] == pytest.approx([1 / 3, 2 / 3, 5 / 6, 1.0])
    seconds = [done.seconds for done in progress]
    assert seconds == sorted(seconds) and progress[-1].seconds_left == pytest.approx(0.0)


def test_the_signature_says_nothing_that_is_no_python() -> None:
    for method in (Upscaler, Upscaler.upscale, Upscaler.generate):
        assert " at 0x" not in str(signature(method))


def test_the_public_names_are_complete_and_documented() -> None:
    assert deploy.__all__ == sorted(deploy.__all__)
    for name in deploy.__all__:
        assert getattr(deploy, name).__doc__
    undocumented = [name for name in Progress.__annotations__ if name not in str(Progress.__doc__)]
    assert undocumented == []


def test_evaluations_are_counted_as_they_are_made(up: Upscaler) -> None:
    from deploy.sampling.choices import Choices

    for choices, made in ((Choices(steps=5), 5), (Choices(published=True, steps=5), 4)):
        with up.sampled(PICTURE, Size(18, 24), up.sampling(choices)) as sampled:
            assert sampled.evaluations == made  # the published grid of 5 has no last step


def test_the_work_counts_the_tiles_that_memory_or_the_user_asks_for(up: Upscaler) -> None:
    """Twelve tiles of 32 pixels cover 96x72 (starts 0, 24, 48 and 64, and 0, 24 and 40); steps as in the plan."""
    sampling = up.sampling()
    whole, tiled = (up.work(Size(9, 12), Size(72, 96), sampling, tile=tile) for tile in (None, 32))
    assert (whole.tile, whole.tiles, whole.window, whole.state, whole.output) == (None, 1, 6912, 6912, 6912)
    assert (tiled.tile, tiled.tiles, tiled.window, tiled.state, tiled.output) == (32, 12, 1024, 6912, 6912)
    assert tiled.evaluations == 12 * whole.evaluations == 12 * len(up.session.plan(sampling))
    with pytest.raises(SizeError, match="A tile of 5 pixels does not suit this network"):
        up.work(Size(9, 12), Size(72, 96), sampling, tile=5)


def test_a_plan_is_made_again_only_for_another_way_to_sample(up: Upscaler) -> None:
    from deploy.sampling.choices import Choices

    three, four = (up.sampling(Choices(steps=steps)) for steps in (3, 4))
    assert up.session.plan(three) is up.session.plan(three)
    assert [len(up.session.plan(sampling)) for sampling in (three, four, three)] == [3, 4, 3]


@pytest.mark.parametrize("engine", [name for name in sorted(BACKENDS) if BACKENDS[name].probe().available])
def test_the_engines_agree(idm_micro: Bundle, up: Upscaler, engine: str) -> None:
    """Twenty float32 steps apart by rounding alone: 8-bit pictures agree to 60 dB."""
    with Upscaler(idm_micro, engine=engine, threads=1) as other:
        found = other.upscale(PICTURE, 3.0, steps=5, start=0.5)
    assert psnr(found, up.upscale(PICTURE, 3.0, steps=5, start=0.5)) > 60


def test_one_latent_gives_several_sizes_and_the_count_changes_nothing(generator: Upscaler) -> None:
    (first,), (second,) = (generator.generate([(40, 40)], seed=3, sample=sample)[0] for sample in (0, 1))
    both = generator.generate([(40, 40), (64, 48)], count=2, seed=3)
    assert [[made.shape for made in sizes] for sizes in both] == [[(40, 40, 3), (48, 64, 3)]] * 2
    np.testing.assert_array_equal(both[0][0], first)
    np.testing.assert_array_equal(both[1][0], second)
    assert psnr(first, second) < 40
    assert generator.generate()[0][0].shape == (64, 64, 3)
    assert generator.generate([(30, 60)], latent=(8, 16))[0][0].shape == (60, 30, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"count": 0}, r"pictures to generate must be 1 or more, found 0"),
        ({"latent": (15, 16)}, r"latent of 15x16 does not suit this U-Net: both sides must be multiples of 4"),
        ({"sizes": [(0, 9)]}, r"whole pixels above 0"),
        ({"sizes": [(40_000, 40_000)]}, r"40000x40000 has 1600000000 pixels, the limit is 1000000000"),
    ],
)
def test_impossible_generation_is_refused(generator: Upscaler, options: dict[str, Any], told: str) -> None:
    with pytest.raises((PlanError, SizeError), match=told):
        generator.generate(**options)


def test_each_family_is_asked_for_what_it_can(up: Upscaler, latent: Upscaler, generator: Upscaler) -> None:
    from deploy.sampling.choices import Choices

    with pytest.raises(PlanError, match=r"holds a model that enlarges pictures and makes none"):
        up.generate()
    with pytest.raises(PlanError, match=r"makes pictures from noise and has no input to enlarge; use `generate`"):
        generator.upscale(PICTURE, 2.0)
    with pytest.raises(PlanError, match=r"no input to begin from; leave out the start"):
        generator.generate(choices=Choices(start=0.5))
    with pytest.raises(PlanError, match=r"noise alone has no input to be consistent with; leave out `consistency`"):
        generator.generate(choices=Choices(consistency=0.5))
    assert latent.upscale(PICTURE, 2.0, steps=2, start=0.5).shape == (18, 24, 3)


def test_a_network_that_fails_is_told_by_step_and_writes_nothing(up: Upscaler) -> None:
    def noise(shape: tuple[int, ...], _step: int) -> NDArray[np.float32]:
        return np.full(shape, np.inf, np.float32)

    with pytest.raises(OutputError, match=r"Step 1 of 4 .* not finite .*fp32"):
        up.upscale(PICTURE, 2.0, steps=4, noise=noise)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"scale": 2.0, "tile": 30}, r"tile of 30 pixels does not suit this network"),
        ({"scale": 2.0, "steps": 3000}, r"3000 steps were asked for"),
        ({"scale": 2.0, "steps": 0}, r"number of steps must be a positive integer"),
        ({}, r"exactly one of scale, size, long edge, fit and megapixels"),
        ({"scale": 2.0, "seed": -1}, r"The seed must be a whole number from 0 to 2\^64 - 1, found -1"),
        ({"scale": 2.0, "seed": 1 << 64}, r"The seed must be a whole number .*, found 18446744073709551616"),
        ({"scale": 2.0, "seed": 0.5}, r"The seed must be a whole number .*, found 0\.5"),
        ({"scale": 2.0, "sample": 1 << 32}, r"The sample must be a whole number from 0 to 2\^32 - 1"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(
    up: Upscaler, options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "run", None)
    with pytest.raises((PlanError, SizeError), match=told):
        up.upscale(PICTURE, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"engine": "tensorflow"}, r"There is no engine called 'tensorflow'"),
        ({"precision": "int4"}, r"has no precision 'int4'"),
        ({"threads": 0}, r"cannot run on 0 threads"),
        ({"device": "cuda:1"}, r"The device must be the number of a GPU, such as 0 or 1, found 'cuda:1'"),
        ({"device": 99}, r"Device 99 cannot be used: .* `idm-deploy doctor` shows what is here"),
        ({"max_memory": "lots"}, r"'lots' is no amount of memory"),
        ({"max_memory": -5}, r"max_memory must be a positive number of bytes"),
    ],
)
def test_impossible_upscalers_are_refused(idm_micro: Bundle, options: dict[str, Any], told: str) -> None:
    with pytest.raises((EngineError, SizeError), match=told):
        Upscaler(idm_micro, **options)


def test_a_family_of_a_later_version_is_refused(idm_micro: Bundle) -> None:
    other = replace(idm_micro, manifest=replace(idm_micro.manifest, family="later"))
    with pytest.raises(BundleError, match=r"no family of networks called 'later' in this version; it runs latent, idm"):
        Upscaler(other)


def test_without_any_engine_the_pip_lines_are_told(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [
        Availability(name=name, available=False, version=None, reason="not installed", install=f"pip install {name}")
        for name in sorted(BACKENDS)
    ]
    monkeypatch.setattr(engine_choice, "probe_all", lambda: absent)
    with pytest.raises(MissingPackage, match=r"No engine is installed .* pip install .* or pip install"):
        Upscaler(idm_micro)
