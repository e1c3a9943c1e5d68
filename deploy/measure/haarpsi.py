"""HaarPSI, a second opinion on how near a picture looks to its original (Reisenhofer et al. 2018), with numpy alone.

Both pictures are halved. Haar wavelets of two fine sizes say, at every pixel and in two directions, how alike the
edges are; those of a third, coarser size say how much the pixel matters. Likenesses go through a logistic function,
are averaged with those weights, and come back: 1 for equal pictures, and everything below is worse.
"""

import numpy as np
from numpy.typing import NDArray

from deploy.measure.metrics import check_same

Pixels = NDArray[np.uint8] | NDArray[np.floating]
Planes = NDArray[np.float64]

SMALLEST_SIDE = 16
"""Halved, the coarsest wavelet, 8 pixels, fits once."""

_C, _ALPHA = 30.0, 4.2
"""Fitted by the authors to what people said of pictures."""
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def haarpsi(picture: Pixels, original: Pixels) -> float:
    """How near `picture` looks to `original`, both (H, W, 3) in 0..255: from 0, nothing alike, to 1, equal."""
    check_same(picture, original, "HaarPSI", least_side=SMALLEST_SIDE)
    a, b = _halved_yiq(picture), _halved_yiq(original)
    likenesses, weights = [], []
    for turned in (False, True):
        luma = [np.abs(_wavelets(planes[0].T if turned else planes[0])) for planes in (a, b)]
        likeness, weight = _likeness(luma[0][:2], luma[1][:2]).mean(axis=0), np.maximum(luma[0][2], luma[1][2])
        likenesses.append(likeness.T if turned else likeness)
        weights.append(weight.T if turned else weight)
    chroma = [np.abs(_summed(_summed(planes[1:], 1, 0, 2), 2, 0, 2)) / 4 for planes in (a, b)]
    likenesses.append(_likeness(chroma[0], chroma[1]).mean(axis=0))
    weights.append((weights[0] + weights[1]) / 2)
    total = float(np.sum(weights))
    if total == 0:  # two pictures without any edge
        return 1.0 if np.array_equal(picture, original) else float(np.mean(likenesses[2]))
    mean = float(np.sum(np.stack(weights) / (1.0 + np.exp(-_ALPHA * np.stack(likenesses))))) / total
    return float((np.log(mean / (1.0 - mean)) / _ALPHA) ** 2)


def _likeness(a: Planes, b: Planes) -> Planes:
    return (2.0 * a * b + _C) / (a**2 + b**2 + _C)


def _halved_yiq(pixels: Pixels) -> Planes:
    """(H, W, 3) -> luma and two colours (3, H/2, W/2): means of 2x2 pixels, zeros beyond the border."""
    planes = np.einsum("ij,hwj->ihw", _YIQ, pixels.astype(np.float64))
    return np.ascontiguousarray(_summed(_summed(planes, 1, 0, 2), 2, 0, 2)[:, ::2, ::2] / 4)


def _wavelets(plane: Planes) -> Planes:
    """Responses (3, H, W) to Haar wavelets of 2, 4 and 8 pixels that lie along the rows."""
    responses = []
    for half in (1, 2, 4):
        across = _summed(plane, 1, 1 - half, 1 + half)
        responses.append((_summed(across, 0, 1 - half, 1) - _summed(across, 0, 1, 1 + half)) / (2 * half))
    return np.stack(responses)


def _summed(planes: Planes, axis: int, first: int, end: int) -> Planes:
    """At every place the sum of the values at the offsets from `first` to before `end` along an axis, zeros outside."""
    reach = [(0, 0)] * planes.ndim
    reach[axis] = (max(-first, 0), end)
    padded, length = np.pad(planes, reach), planes.shape[axis]
    start = max(-first, 0)
    parts = [padded.take(range(start + offset, start + offset + length), axis) for offset in range(first, end)]
    return np.asarray(sum(parts[1:], parts[0]))
