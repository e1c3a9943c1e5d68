"""SSIMULACRA2, how near a picture looks to its original (Sneyers, Cloudinary 2022), with numpy alone.

Both pictures go to the XYB colours of JPEG XL. At up to six sizes, each half of the last, three maps are made of every
colour: how much structure is lost (as SSIM tells it, without its luminance term in the denominator), edges that the
original does not have (ringing, grain), and edges that it had (blur). Their means and their fourth-power means, each
with a weight that was fitted to what people said of pictures, are one number: 100 for equal pictures, 90 where people
do not see a difference, 70 good, 50 middling, 30 poor; below 0 as bad as it likes.

Weights and constants are those of the reference (libjxl, BSD-3-Clause). Borders are treated and sizes halved as in the
package `ssimulacra2` 0.3.0, to which tests hold this to four digits; docs/quality.md says why that is not used itself.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.measure.metrics import check_same

Pixels = NDArray[np.uint8] | NDArray[np.floating]
Planes = NDArray[np.float64]

SMALLEST_SIDE = 8
"""Below it no size is left to look at."""
SIZES = 6

_ABSORBANCE = np.array(
    [
        [0.30, 1.0 - 0.078 - 0.30, 0.078],
        [0.23, 1.0 - 0.078 - 0.23, 0.078],
        [0.24342268924547819, 0.20476744424496821, 1.0 - 0.24342268924547819 - 0.20476744424496821],
    ]
)
_BIAS = 0.0037930732552754493
_C2 = 0.0009

_SIGMA, _RADIUS = 1.5, 5
_TAPS = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
_TAPS /= _TAPS.sum()

# [colour, size, mean or fourth-power mean, (structure, new edges, lost edges)]; fewer sizes take the first ones in the
# order in which they stand here, colour by colour, as the reference does. fmt: off
_WEIGHTS = np.array(
    [
        0.0,
        0.0007376606707406586,
        0.0,
        0.0,
        0.0007793481682867309,
        0.0,
        0.0,
        0.0004371155730107379,
        0.0,
        1.1041726426657346,
        0.00066284834129271,
        0.00015231632783718752,
        0.0,
        0.0016406437456599754,
        0.0,
        1.8422455520539298,
        11.441172603757666,
        0.0,
        0.0007989109436015163,
        0.000176816438078653,
        0.0,
        1.8787594979546387,
        10.94906990605142,
        0.0,
        0.0007289346991508072,
        0.9677937080626833,
        0.0,
        0.00014003424285435884,
        0.9981766977854967,
        0.00031949755934435053,
        0.0004550992113792063,
        0.0,
        0.0,
        0.0013648766163243398,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        7.466890328078848,
        0.0,
        17.445833984131262,
        0.0006235601634041466,
        0.0,
        0.0,
        6.683678146179332,
        0.00037724407979611296,
        1.027889937768264,
        225.20515300849274,
        0.0,
        0.0,
        19.213238186143016,
        0.0011401524586618361,
        0.001237755635509985,
        176.39317598450694,
        0.0,
        0.0,
        24.43300999870476,
        0.28520802612117757,
        0.0004485436923833408,
        0.0,
        0.0,
        0.0,
        34.77906344483772,
        44.835625328877896,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0008680556573291698,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0005313191874358747,
        0.0,
        0.00016533814161379112,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0004179171803251336,
        0.0017290828234722833,
        0.0,
        0.0020827005846636437,
        0.0,
        0.0,
        8.826982764996862,
        23.19243343998926,
        0.0,
        95.1080498811086,
        0.9863978034400682,
        0.9834382792465353,
        0.0012286405048278493,
        171.2667255897307,
        0.9807858872435379,
        0.0,
        0.0,
        0.0,
        0.0005130064588990679,
        0.0,
        0.00010854057858411537,
    ]
)
# fmt: on


def ssimulacra2(picture: Pixels, original: Pixels) -> float:
    """How near `picture` looks to `original`, both (H, W, 3) in 0..255 sRGB: 100 equal, 70 good, 0 and less: bad.

    It is not symmetric. Below 225 pixels a side there are fewer than six sizes, and scores are not those of a larger
    picture with the same flaws: compare pictures of one size.
    """
    check_same(picture, original, "SSIMULACRA2", least_side=SMALLEST_SIDE)
    linear = np.stack([_linear(original), _linear(picture)])
    sizes = [_positive_xyb(at_size) for at_size in _halved(linear)]
    # Colour by colour, which is the order of the weights, and takes a third of the memory.
    return _score(np.stack([[_figures(a[colour], b[colour]) for a, b in sizes] for colour in range(3)]))


def _score(figures: Planes) -> float:
    flat = figures.ravel()
    error = 0.9562382616834844 * float(flat @ _WEIGHTS[: flat.size])
    error = 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100.0 - 10.0 * float(error**0.6276336467831387) if error > 0 else 100.0


def _linear(pixels: Pixels) -> Planes:
    """sRGB (H, W, 3) in 0..255 -> linear light (3, H, W) in 0..1."""
    values = np.moveaxis(pixels, -1, 0) / 255.0
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _halved(linear: Planes) -> Iterator[Planes]:
    """The pictures (2, 3, H, W), then each of half the size before, at most six, none below 8 pixels a side."""
    for _ in range(SIZES):
        if min(linear.shape[2:]) < SMALLEST_SIDE:
            return
        yield linear
        # An odd last row or column is its own mean: it is repeated to make a pair.
        odd = [(0, 0), (0, 0), *((0, side % 2) for side in linear.shape[2:])]
        even = np.pad(linear, odd, mode="edge") if linear.shape[2] % 2 or linear.shape[3] % 2 else linear
        rows = even[:, :, ::2] + even[:, :, 1::2]
        linear = (rows[..., ::2] + rows[..., 1::2]) / 4


def _positive_xyb(linear: Planes) -> Planes:
    """Linear RGB (2, 3, H, W) -> XYB, shifted and scaled so that all values are positive and about as large."""
    mixed = np.einsum("ij,njhw->nihw", _ABSORBANCE, linear) + _BIAS
    l, m, s = np.moveaxis(np.cbrt(np.maximum(mixed, 0.0)) - np.cbrt(_BIAS), 1, 0)  # noqa: E741  cones' names
    x, y = (l - m) / 2, (l + m) / 2
    return np.stack([14.0 * x + 0.42, y + 0.01, s - y + 0.55], axis=1)


def _figures(original: Planes, picture: Planes) -> Planes:
    """Of one colour (H, W) the mean and the fourth-power mean, (2, 3), of lost structure, new and lost edges."""
    products = (original, picture, original**2, picture**2, original * picture)
    mean_a, mean_b, square_a, square_b, product = _blurred(np.stack(products))
    spread = (square_a - mean_a**2) + (square_b - mean_b**2) + _C2
    likeness = (1.0 - (mean_a - mean_b) ** 2) * (2.0 * (product - mean_a * mean_b) + _C2) / spread
    edges = (1.0 + np.abs(picture - mean_b)) / (1.0 + np.abs(original - mean_a)) - 1.0
    maps = np.maximum(np.stack([1.0 - likeness, edges, -edges]), 0.0)
    fourth = np.square(np.square(maps)).mean(axis=(1, 2)) ** 0.25
    return np.stack([maps.mean(axis=(1, 2)), fourth])


def _blurred(planes: Planes) -> Planes:
    """(..., H, W) under a Gaussian of sigma 1.5, 11 pixels long: mirrored above and below, zeros left and right."""
    height, width = planes.shape[-2:]
    still = [(0, 0)] * (planes.ndim - 2)
    tall = np.pad(planes, [*still, (_RADIUS, _RADIUS), (0, 0)], mode="symmetric")
    rows = sum(tap * tall[..., k : k + height, :] for k, tap in enumerate(_TAPS))
    wide = np.pad(np.asarray(rows), [*still, (0, 0), (_RADIUS, _RADIUS)])
    return np.asarray(sum(tap * wide[..., k : k + width] for k, tap in enumerate(_TAPS)))
