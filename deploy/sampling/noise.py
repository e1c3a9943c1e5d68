"""Gaussian noise as a function of where it is used, the same for any batch, tile or thread count.

Every value depends on (seed, image, sample, step, channel, row, column) and on nothing else, so a tile makes
its own part of the field and no state is carried. To reproduce it in another language, all integers being
unsigned and little words first:

1. `philox(counter, key)` is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"):
   four 32-bit words from a counter of four and a key of two.
2. Stream key, once per field: the first two words of
   philox(counter=(image low, image high, sample, step), key=(seed low, seed high)),
   where `step` is the step index modulo 2^32 (-1, the start noise, is 0xFFFFFFFF; -2, the draw from the
   posterior of a latent encoder, is 0xFFFFFFFE) and `image` is the number of `image_key`.
3. Four neighbouring columns 4b .. 4b+3 share one call: w = philox(counter=(b, row, channel, 0), key=stream key).
   Row and column are those of the whole output grid.
4. u[i] = (w[i] + 0.5) / 2^32, then Box-Muller in float64: with r = sqrt(-2 ln u[0]) and a = 2 pi u[1] columns 4b
   and 4b+1 are r cos a and r sin a; u[2] and u[3] give columns 4b+2 and 4b+3. Each is rounded to float32 once.

Step 4 calls the platform's logarithm, sine and cosine: where these differ in the last bit of float64, about one
value in 10^8 differs in the last bit of float32.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

START_NOISE: Final = -1
POSTERIOR_NOISE: Final = -2

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_COLUMNS_PER_CALL = 4
_CALLS_PER_CHUNK = 8192  # the working arrays of a chunk (about 0.5 MB) stay in a core's cache

Words = NDArray[np.uint64]


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Four arrays of 32-bit words (held as uint64) from four equally shaped arrays of counter words."""
    c0, c1, c2, c3 = (np.array(word, dtype=np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0 = (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1 = product1 & _MASK
        c3 = product0 & _MASK
        k0 = (k0 + _KEY_INCREMENTS[0]) & 0xFFFFFFFF
        k1 = (k1 + _KEY_INCREMENTS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def image_key(pixels: NDArray[np.uint8]) -> int:
    """The first 64 bits, big-endian, of the SHA-256 of a decoded picture of shape (height, width, 3), uint8.

    Hashed are height and width as little-endian 32-bit integers, then the RGB bytes row by row.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"an RGB uint8 picture is needed for its noise key, found {pixels.dtype} {pixels.shape}")
    digest = hashlib.sha256(np.array(pixels.shape[:2], dtype="<u4").tobytes())
    digest.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(digest.digest()[:8], "big")


def key_of_stage(image: int, stage: int) -> int:
    """The key of a picture in a stage of its enlargement, from 0: its own in the first one.

    In later ones the first 64 bits, big-endian, of the SHA-256 of both as little-endian 64-bit integers.
    """
    if stage == 0:
        return image
    digest = hashlib.sha256(np.array([image, stage], dtype="<u8").tobytes())
    return int.from_bytes(digest.digest()[:8], "big")


def normal_field(
    *, seed: int, image: int, sample: int, step: int, channels: int, rows: range, columns: range
) -> NDArray[np.float32]:
    """Standard normal noise for a window of the output grid, shape (channels, len(rows), len(columns)).

    Equal to the same window cut from the whole field. `seed` and `image` have 64 bits, `sample` (the number of
    the draw) 32; `step` is the step index, or START_NOISE or POSTERIOR_NOISE.
    """
    _check_window(seed, image, sample, step, channels, rows, columns)
    stream = _stream_key(seed, image, sample, step)
    field = np.empty((channels, len(rows), len(columns)), dtype=np.float32)
    if field.size == 0:
        return field
    first_block = columns.start // _COLUMNS_PER_CALL
    blocks = np.arange(first_block, -(-columns.stop // _COLUMNS_PER_CALL), dtype=np.uint64)
    skipped = columns.start - first_block * _COLUMNS_PER_CALL
    # A line is one row of one channel; some lines at a time keep the working memory small.
    lines = np.arange(channels * len(rows), dtype=np.uint64)
    flat = field.reshape(lines.size, len(columns))
    lines_per_chunk = max(1, _CALLS_PER_CHUNK // blocks.size)
    for begin in range(0, lines.size, lines_per_chunk):
        part = lines[begin : begin + lines_per_chunk, np.newaxis]
        shape = (part.size, blocks.size)
        channel, row = part // np.uint64(len(rows)), part % np.uint64(len(rows)) + np.uint64(rows.start)
        words = philox4x32(
            (
                np.broadcast_to(blocks, shape),
                np.broadcast_to(row, shape),
                np.broadcast_to(channel, shape),
                np.zeros(shape, dtype=np.uint64),
            ),
            stream,
        )
        values = _normals(words).reshape(part.size, -1)
        flat[begin : begin + part.size] = values[:, skipped : skipped + len(columns)]
    return field


def _stream_key(seed: int, image: int, sample: int, step: int) -> tuple[int, int]:
    """The key of one field: two words of a Philox call over everything but the position."""
    low, high, draw, index = (
        np.array([word], dtype=np.uint64) for word in (image & 0xFFFFFFFF, image >> 32, sample, step & 0xFFFFFFFF)
    )
    words = philox4x32((low, high, draw, index), (seed & 0xFFFFFFFF, seed >> 32))
    return int(words[0][0]), int(words[1][0])


def _normals(words: tuple[Words, ...]) -> NDArray[np.float64]:
    """Box-Muller: four normals per counter in a last axis of 4."""
    out = np.empty((*words[0].shape, _COLUMNS_PER_CALL), dtype=np.float64)
    for pair in (0, 2):
        radius = words[pair].astype(np.float64)
        radius += 0.5
        radius *= 2.0**-32
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle = words[pair + 1].astype(np.float64)
        angle += 0.5
        angle *= 2.0**-32 * 2.0 * np.pi
        np.multiply(radius, np.cos(angle), out=out[..., pair])
        np.multiply(radius, np.sin(angle), out=out[..., pair + 1])
    return out


def _check_window(seed: int, image: int, sample: int, step: int, channels: int, rows: range, columns: range) -> None:
    problems = [
        f"{name} must be an integer from 0 to 2^{bits} - 1, found {value}"
        for name, value, bits in (("seed", seed, 64), ("image", image, 64), ("sample", sample, 32))
        if not 0 <= value < 1 << bits
    ]
    if not -(1 << 31) <= step < 1 << 31:
        problems.append(f"step must fit in 32 bits, found {step}")
    problems += [
        f"{name} must be a range of step 1 within 0 .. 2^32 - 1, found {window}"
        for name, window in (("rows", rows), ("columns", columns))
        if window.step != 1 or window.start < 0 or window.stop >= 1 << 32
    ]
    if channels < 0:
        problems.append(f"channels must not be negative, found {channels}")
    if problems:
        raise ValueError(f"no noise field can be made: {'; '.join(problems)}")
