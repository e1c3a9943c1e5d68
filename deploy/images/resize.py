"""Antialiased bicubic resizing, the one the models were trained with, and what is built on it.

The rule is that of Pillow's BICUBIC: output sample i sits at (i + 1/2) * n_in/n_out in input pixels, is a
weighted mean of the input pixels within reach of a cubic kernel (Keys 1981, a = -1/2), and the kernel is
stretched by n_in/n_out when the picture shrinks. Weights are normalised where the border cuts the kernel.

An axis is a few small dense matrices, one per run of outputs, because a run of neighbouring outputs reads
only a short run of inputs: small pictures are one matrix product per axis, large ones never meet an
(n_out, n_in) matrix, and any region can be computed alone. Pictures are (..., H, W) float32; sizes are
(height, width). Only numpy is used.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deploy.errors import SizeError

FloatImage = NDArray[np.float32]
Span = tuple[int, int]  # half-open: first, one past the last

# Outputs per matrix. Short runs waste fewer products outside the band, long ones suit the matrix product
# better. Data consistency at 2048x2048 from 512x512, one thread, runs of 16, 32, 64, 128, 256: 52, 42, 35,
# 72, 140 ms; smaller pictures have the same optimum.
_RUN = 64


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run of outputs along an axis: outputs[outputs) = weights @ inputs[inputs)."""

    outputs: Span
    inputs: Span
    weights: FloatImage


def resize(image: NDArray[np.floating], size: tuple[int, int]) -> FloatImage:
    """The picture (..., H, W) at `size` = (height, width), antialiased bicubic, not clipped or rounded."""
    return resize_region(image, size, (0, size[0]), (0, size[1]))


def upscale(image: NDArray[np.floating], size: tuple[int, int]) -> FloatImage:
    """The picture enlarged to `size`; a size below the picture's own is refused."""
    if size[0] < image.shape[-2] or size[1] < image.shape[-1]:
        raise SizeError(f"enlarging a {_text(image.shape)} picture: {_text(size)} is smaller; use downscale.")
    return resize(image, size)


def downscale(image: NDArray[np.floating], size: tuple[int, int]) -> FloatImage:
    """The picture reduced to `size`; a size above the picture's own is refused."""
    if size[0] > image.shape[-2] or size[1] > image.shape[-1]:
        raise SizeError(f"reducing a {_text(image.shape)} picture: {_text(size)} is larger; use upscale.")
    return resize(image, size)


def resize_region(image: NDArray[np.floating], size: tuple[int, int], rows: Span, columns: Span) -> FloatImage:
    """Rows and columns (half-open) of what `resize` returns, reading only the input they depend on.

    Equal to cutting the region out of the whole result, to float32 rounding. The input may be memory-mapped.
    """
    _check_size(image, size)
    return _region(image, 0, image.shape[-2], size, rows, columns)


def resize_rows(strip: FloatImage, top: int, height: int, size: tuple[int, int], rows: Span) -> FloatImage:
    """Rows (half-open) of what `resize` makes of a picture of `height` rows, of which `strip` has those from `top` on.

    The strip must have all rows that `rows_read` says.
    """
    _check_size(strip, size)
    read, held = rows_read(height, size[0], rows), (top, top + strip.shape[-2])
    if read[0] < held[0] or held[1] < read[1]:
        raise SizeError(f"resizing a strip: rows {list(read)} of the picture are read, the strip has {list(held)}.")
    return _region(strip, top, height, size, rows, (0, size[1]))


def rows_read(height: int, new_height: int, rows: Span) -> Span:
    """Which rows of a picture of `height` rows these rows of it resized depend on."""
    first, last = reaches(height, new_height)
    return int(first[rows[0]]), int(last[rows[1] - 1])


def rows_ready(height: int, new_height: int, known: int) -> int:
    """How many rows of a picture resized from `height` rows follow from its first `known` ones."""
    return int(np.searchsorted(reaches(height, new_height)[1], known, side="right"))


def _region(
    image: NDArray[np.floating], top: int, height: int, size: tuple[int, int], rows: Span, columns: Span
) -> FloatImage:
    """Rows and columns of a picture of `height` rows, resized; `image` has those from `top` on."""
    _check_region(size, rows, columns)
    width = image.shape[-1]
    column_runs = _cut(width, size[1], columns)
    left, right = _reach(column_runs)
    result = np.empty((*image.shape[:-2], rows[1] - rows[0], columns[1] - columns[0]), np.float32)
    for run in _cut(height, size[0], rows):
        strip = np.asarray(image[..., run.inputs[0] - top : run.inputs[1] - top, left:right], np.float32)
        target = result[..., run.outputs[0] - rows[0] : run.outputs[1] - rows[0], :]
        columns_first = size[1] * height < size[0] * width  # the axis that shrinks more (or grows less)
        if columns_first:
            target[...] = np.matmul(run.weights, _resize_columns(strip, column_runs, left))
        else:
            target[...] = _resize_columns(np.matmul(run.weights, strip), column_runs, left)
    return result


def data_consistency(x0: FloatImage, lr: FloatImage, strength: float) -> FloatImage:
    """`x0` itself, changed in place to x0 + strength * upscale(lr - downscale(x0)): closer to the LR picture.

    x0 is (..., H, W) float32, the estimate; lr is (..., h, w) in the same value range. With strength 1 the
    result shrinks back to lr almost exactly (not quite: enlarging and reducing by bicubic is no projection).
    The range-null-space idea of DDNM (Wang et al. 2023, eq. 7) with the enlargement for the pseudo-inverse.
    Works in strips of rows, so that a memory-mapped x0 stays on disk.
    """
    if x0.dtype != np.float32:
        raise TypeError(f"data_consistency works in place on float32, found {x0.dtype}.")
    height, width = x0.shape[-2:]
    difference = np.asarray(lr, np.float32) - resize(x0, (lr.shape[-2], lr.shape[-1]))
    difference *= np.float32(strength)
    for top in range(0, height, 4 * _RUN):
        bottom = min(top + 4 * _RUN, height)
        x0[..., top:bottom, :] += resize_region(difference, (height, width), (top, bottom), (0, width))
    return x0


def back_project(lr: NDArray[np.floating], size: tuple[int, int], iterations: int = 5) -> FloatImage:
    """The best that bicubic alone gives: lr enlarged to `size`, then corrected until it shrinks back to lr.

    Iterative back-projection (Irani and Peleg 1991): the model-free row beside every quality figure.
    """
    image = upscale(lr, size)
    for _ in range(iterations):
        data_consistency(image, np.asarray(lr, np.float32), 1.0)
    return image


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel, a = -1/2, at non-negative distances in (stretched) pixels."""
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = -0.5 * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


@lru_cache(maxsize=64)
def reaches(n_in: int, n_out: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each output, the first input that it reads and the one past the last: both never fall."""
    step = n_in / n_out
    stretch = max(step, 1.0)
    centre = (np.arange(n_out) + 0.5) * step
    # Pillow's rule for the reach: ends rounded half up to whole pixels, cut at the border.
    first = np.maximum(np.floor(centre - 2.0 * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum(np.floor(centre + 2.0 * stretch + 0.5).astype(np.int64), n_in)
    first.setflags(write=False)
    last.setflags(write=False)
    return first, last


@lru_cache(maxsize=64)
def _axis_runs(n_in: int, n_out: int) -> tuple[_Run, ...]:
    """The runs that resize an axis of n_in pixels to n_out; weights are made in float64, kept in float32."""
    step = n_in / n_out
    stretch = max(step, 1.0)
    firsts, lasts = reaches(n_in, n_out)
    runs = []
    for start in range(0, n_out, _RUN):
        stop = min(start + _RUN, n_out)
        centre = (np.arange(start, stop) + 0.5) * step
        first, last = firsts[start:stop], lasts[start:stop]
        low, high = int(first[0]), int(last[-1])
        pixel = np.arange(low, high)
        inside = (pixel >= first[:, None]) & (pixel < last[:, None])
        weights = np.where(inside, _cubic(np.abs(pixel + 0.5 - centre[:, None]) / stretch), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        single = weights.astype(np.float32)
        single.setflags(write=False)  # shared by every caller through the cache
        runs.append(_Run(outputs=(start, stop), inputs=(low, high), weights=single))
    return tuple(runs)


def _cut(n_in: int, n_out: int, span: Span) -> list[_Run]:
    """The runs of an axis that cover the outputs in `span`, those at its ends shortened to it."""
    cut = []
    for run in _axis_runs(n_in, n_out)[span[0] // _RUN : (span[1] - 1) // _RUN + 1]:
        start, stop = max(run.outputs[0], span[0]), min(run.outputs[1], span[1])
        weights = run.weights[start - run.outputs[0] : stop - run.outputs[0]]
        if weights.shape[0] < run.weights.shape[0]:
            used = np.flatnonzero(weights.any(axis=0))
            low, high = int(used[0]), int(used[-1]) + 1
            inputs = (run.inputs[0] + low, run.inputs[0] + high)
            cut.append(_Run(outputs=(start, stop), inputs=inputs, weights=weights[:, low:high]))
        else:
            cut.append(run)
    return cut


def _reach(runs: list[_Run]) -> Span:
    return min(run.inputs[0] for run in runs), max(run.inputs[1] for run in runs)


def _resize_columns(strip: FloatImage, runs: list[_Run], left: int) -> FloatImage:
    """The strip's last axis resized; its column 0 is the picture's column `left`."""
    pieces = [np.matmul(strip[..., run.inputs[0] - left : run.inputs[1] - left], run.weights.T) for run in runs]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)


def _check_size(image: NDArray[np.floating], size: tuple[int, int]) -> None:
    if image.ndim < 2 or min(image.shape[-2:]) < 1 or min(size) < 1:
        raise SizeError(
            f"resizing a picture of shape {tuple(image.shape)} to {_text(size)} (height x width): "
            "both must have at least one row and one column."
        )


def _check_region(size: tuple[int, int], rows: Span, columns: Span) -> None:
    for name, (start, stop), length in (("rows", rows, size[0]), ("columns", columns, size[1])):
        if not 0 <= start < stop <= length:
            raise SizeError(f"resizing a region: {name} [{start}, {stop}) are not within 0 to {length}.")


def _text(size: tuple[int, ...]) -> str:
    return f"{size[-2]}x{size[-1]}"
