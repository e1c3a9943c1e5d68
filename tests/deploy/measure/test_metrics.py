"""Metrics against hand arithmetic and scikit-image."""

import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deploy.errors import SizeError
from deploy.images.resize import back_project, downscale, upscale
from deploy.measure.metrics import (
    consistency_between_scales,
    diversity,
    fidelity,
    high_frequency_energy,
    lr_consistency,
    mean_colour_error,
    mean_with_interval,
    paired_difference,
    psnr,
    psnr_y,
    self_ssim,
    ssim,
    student_t_quantile,
)

Pixels = np.ndarray


def _planes(picture: Pixels) -> Pixels:
    return np.moveaxis(picture, -1, 0).astype(np.float32)


def _pixels(planes: Pixels) -> Pixels:
    return np.moveaxis(np.rint(np.clip(planes, 0, 255)), 0, -1).astype(np.uint8)


@pytest.fixture(scope="module")
def crops() -> list[tuple[Pixels, Pixels]]:
    """The 128-pixel centres of two photographs, each with its 8-bit LR picture at a quarter of the size."""
    pairs = []
    for picture in (data.coffee(), data.chelsea()):
        top, left = (picture.shape[0] - 128) // 2, (picture.shape[1] - 128) // 2
        original = picture[top : top + 128, left : left + 128]
        pairs.append((original, _pixels(downscale(_planes(original), (32, 32)))))
    return pairs


def test_psnr_by_hand() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    b = a.copy()
    b[..., 0] += 3  # mean square 9/3 = 3
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 3))
    assert psnr(b, a) == fidelity(a, b) == psnr(a, b)
    # Y differs by 3 * 65.481/255 everywhere.
    assert psnr_y(a, b) == pytest.approx(20 * math.log10(255 / (3 * 65.481 / 255)))
    assert psnr(a, a) == math.inf


def test_psnr_leaves_out_the_border() -> None:
    a = np.zeros((6, 6, 3), np.uint8)
    b = a.copy()
    b[0], b[2, 2] = 255, 5
    assert psnr(a, b, border=1) == pytest.approx(10 * math.log10(255**2 / (25 / 16)))
    with pytest.raises(SizeError, match="border of 3 pixels leaves nothing of 6x6"):
        psnr(a, b, border=3)


def test_psnr_and_ssim_equal_scikit_image(crops: list[tuple[Pixels, Pixels]]) -> None:
    original, lr = crops[0]
    other = _pixels(upscale(_planes(lr), (128, 128)))[:, :97]
    original = original[:, :97]
    assert psnr(original, other) == pytest.approx(peak_signal_noise_ratio(original, other))
    expected = structural_similarity(
        original, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
    )
    assert ssim(original, other) == pytest.approx(expected, abs=1e-10)
    assert ssim(original, original) == pytest.approx(1.0)


def test_ssim_needs_room_for_its_window() -> None:
    small = np.zeros((10, 30, 3), np.uint8)
    with pytest.raises(SizeError, match="10x30, its window needs 11"):
        ssim(small, small)


def test_pictures_of_different_shape_are_refused() -> None:
    with pytest.raises(SizeError, match=r"measuring PSNR: the pictures differ in shape, \(4, 4, 3\) and \(4, 5, 3\)"):
        psnr(np.zeros((4, 4, 3)), np.zeros((4, 5, 3)))


def test_lr_consistency_knows_the_original_and_the_back_projection(crops: list[tuple[Pixels, Pixels]]) -> None:
    for original, lr in crops:
        # Only the rounding of lr to 8 bits is left: variance 1/12, 58.9 dB; over 3072 values +- 0.2 dB.
        assert lr_consistency(original, lr) == pytest.approx(10 * math.log10(255**2 * 12), abs=0.3)
        bicubic = _pixels(upscale(_planes(lr), (128, 128)))
        corrected = _pixels(back_project(_planes(lr), (128, 128)))
        assert lr_consistency(corrected, lr) > lr_consistency(bicubic, lr) + 10


def test_consistency_between_scales_by_hand() -> None:
    larger, smaller = np.full((8, 8, 3), 60, np.uint8), np.full((4, 4, 3), 58, np.uint8)
    assert consistency_between_scales(larger, smaller) == pytest.approx(10 * math.log10(255**2 / 4), abs=1e-4)


def test_detail_counts_only_above_the_nyquist_frequency_and_in_amplitude() -> None:
    row = np.arange(64)
    low = np.cos(2 * np.pi * row * 6 / 64)  # below the LR Nyquist of 8 periods
    high = np.cos(2 * np.pi * row * 20 / 64)

    def stripes(amount: float, detail: float, transposed: bool) -> Pixels:
        plane = np.broadcast_to(128 + amount * low + detail * high, (64, 64))
        return np.repeat((plane.T if transposed else plane)[..., None], 3, axis=2)

    for transposed in (False, True):
        original = stripes(20, 40, transposed)
        assert high_frequency_energy(stripes(50, 20, transposed), original, (16, 16)) == pytest.approx(0.5)
        assert high_frequency_energy(stripes(50, 0, transposed), original, (16, 16)) < 1e-6
    # Each axis has a Nyquist frequency of its own: 20 periods are within reach of 48 columns.
    assert math.isnan(high_frequency_energy(stripes(0, 20, False), stripes(20, 40, False), (16, 48)))


def test_detail_of_bicubic_on_photographs(crops: list[tuple[Pixels, Pixels]]) -> None:
    values = [high_frequency_energy(_pixels(upscale(_planes(lr), (128, 128))), o, (32, 32)) for o, lr in crops]
    # About a fifth on such crops at 4x in an independent measurement of the same definition.
    assert 0.15 < np.mean(values) < 0.27
    assert high_frequency_energy(crops[0][0], crops[0][0], (32, 32)) == 1.0


def test_detail_of_a_flat_original_is_no_number() -> None:
    flat = np.full((32, 32, 3), 77, np.uint8)
    assert math.isnan(high_frequency_energy(flat, flat, (8, 8)))


def test_mean_colour_error_is_the_worst_channel_whatever_the_sizes() -> None:
    a = np.full((4, 4, 3), 10, np.uint8)
    b = np.full((8, 6, 3), 10, np.uint8)
    b[..., 1], b[:4, :, 2] = 8, 16
    assert mean_colour_error(a, b) == pytest.approx(3.0)


def test_student_quantiles_of_the_printed_tables() -> None:
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 23: 2.069, 120: 1.980, 4000: 1.9605}
    for degrees, value in printed.items():
        assert student_t_quantile(degrees) == pytest.approx(value, abs=6e-4)


def test_interval_by_hand() -> None:
    # Mean 3, standard deviation 1, three values: 4.303 / sqrt(3).
    interval = mean_with_interval([2.0, 3.0, 4.0])
    assert (interval.mean, interval.count) == (3.0, 3)
    assert interval.half_width == pytest.approx(2.484, abs=1e-3)


def test_intervals_leave_out_what_is_no_number_and_keep_infinity() -> None:
    assert mean_with_interval([1.0, math.nan, 1.0]).count == 2
    alone = mean_with_interval([5.0])
    assert (alone.mean, alone.half_width, alone.count) == (5.0, None, 1)
    infinite = mean_with_interval([40.0, math.inf])
    assert (infinite.mean, infinite.half_width) == (math.inf, None)
    with pytest.raises(ValueError, match="the mean of 1 values, none of them a number"):
        mean_with_interval([math.nan])


def test_the_interval_is_that_of_a_bootstrap_of_whole_photographs() -> None:
    """Values of 12 photographs with 1 to 4 crops each, that resemble one another; 20 000 resamplings of photographs.

    The spread of the resampled means agrees with the formula to 3 %: 0.5 % is the error of 20 000 draws, the rest what
    the formula leaves out, by how much the number of pictures varies.
    """
    rng = np.random.default_rng(0)
    groups = [rng.normal(rng.normal(0, 3), 1, count) for count in (1, 2, 3, 4) * 3]
    values = np.concatenate(groups)
    names = [str(number) for number, group in enumerate(groups) for _ in group]
    interval = mean_with_interval(values.tolist(), names)
    sums, counts = np.array([group.sum() for group in groups]), np.array([len(group) for group in groups])
    drawn = rng.integers(0, 12, (20_000, 12))
    spread = (sums[drawn].sum(1) / counts[drawn].sum(1)).std()
    assert (interval.count, interval.photographs) == (30, 12)
    assert interval.half_width is not None
    assert interval.half_width == pytest.approx(2.201 * math.sqrt(12 / 11) * spread, rel=0.03)
    alone = mean_with_interval(values.tolist())
    assert alone.half_width is not None and interval.half_width > 1.3 * alone.half_width


def test_crops_of_one_photograph_say_nothing_of_others() -> None:
    one = mean_with_interval([1.0, 2.0, 3.0], ["a", "a", "a"])
    assert (one.mean, one.half_width, one.count, one.photographs) == (2.0, None, 3, 1)
    gain = paired_difference([2.0, 3.0, 5.0], [1.0, 2.0, 3.0], ["a", "a", "b"])
    # Two photographs, (1, 1) and (2): m = 4/3, deviations of the sums -2/3 and 2/3; t of one degree is 12.706.
    assert gain.half_width == pytest.approx(12.706 * math.sqrt(2 * (4 / 9) * 2) / 3, rel=1e-4)


def test_self_ssim_and_diversity_by_hand() -> None:
    larger, smaller = np.full((48, 48, 3), 120.0), np.full((24, 24, 3), 100.0)
    c1 = 2.55**2
    assert self_ssim(larger, smaller) == pytest.approx((2 * 120 * 100 + c1) / (120**2 + 100**2 + c1), abs=1e-6)
    draws = [np.zeros((2, 2, 3)), np.zeros((2, 2, 3))]
    draws[1][0, 0, 0] = 12.0  # one of twelve values differs: variance 12^2 / 2
    assert diversity(draws) == pytest.approx(math.sqrt(72 / 12))
    with pytest.raises(ValueError, match="the spread of 1 draws is not defined"):
        diversity(draws[:1])


def test_paired_differences_cancel_what_the_pictures_share() -> None:
    base = [20.0, 30.0, 40.0, math.inf]
    interval = paired_difference([20.5, 30.5, 40.5, math.inf], base)
    assert interval.mean == pytest.approx(0.375) and interval.count == 4
    with pytest.raises(ValueError, match="argument"):
        paired_difference([1.0], [1.0, 2.0])
