"""Counter-based noise: the published Philox vectors, windows of one field, and its distribution."""

import hashlib
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.sampling.noise import POSTERIOR_NOISE, START_NOISE, image_key, normal_field, philox4x32

ONES = 0xFFFFFFFF
# philox4x32, 10 rounds, from kat_vectors of the authors' Random123 library: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def field(rows: range = range(8), columns: range = range(8), channels: int = 3, **changes: int) -> np.ndarray:
    where: dict[str, Any] = {"seed": 5, "image": 6, "sample": 0, "step": 3} | changes
    return normal_field(**where, channels=channels, rows=rows, columns=columns)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    a, b, c, d = (np.array([word], dtype=np.uint64) for word in counter)
    assert tuple(int(word[0]) for word in philox4x32((a, b, c, d), key)) == expected


def philox_in_plain_integers(counter: list[int], key: list[int]) -> list[int]:
    """The definition of the paper (section 3.3) on Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(c[0] * 0xD2511F53, 1 << 32)
        high1, low1 = divmod(c[2] * 0xCD9E8D57, 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % (1 << 32), (k[1] + 0xBB67AE85) % (1 << 32)]
    return c


@given(
    seed=st.integers(0, 2**64 - 1),
    image=st.integers(0, 2**64 - 1),
    sample=st.integers(0, 2**32 - 1),
    step=st.integers(-2, 2000),
    channel=st.integers(0, 3),
    row=st.integers(0, 10**6),
    column=st.integers(0, 10**6),
)
def test_one_value_follows_the_documented_recipe(
    seed: int, image: int, sample: int, step: int, channel: int, row: int, column: int
) -> None:
    halves = [seed % 2**32, seed >> 32]
    stream = philox_in_plain_integers([image % 2**32, image >> 32, sample, step % 2**32], halves)[:2]
    words = philox_in_plain_integers([column // 4, row, channel, 0], stream)
    pair = 2 * (column % 4 // 2)
    radius = math.sqrt(-2 * math.log((words[pair] + 0.5) / 2**32))
    angle = 2 * math.pi * (words[pair + 1] + 0.5) / 2**32
    expected = radius * (math.cos(angle) if column % 2 == 0 else math.sin(angle))
    value = normal_field(
        seed=seed,
        image=image,
        sample=sample,
        step=step,
        channels=channel + 1,
        rows=range(row, row + 1),
        columns=range(column, column + 1),
    )[channel, 0, 0]
    # The angle's rounding moves a sine by up to 1e-15, then each is rounded to float32 (6e-8).
    assert value == pytest.approx(expected, rel=1.2e-7, abs=1e-14)


@settings(deadline=None)
@given(data=st.data())
def test_any_window_equals_the_slice_of_the_whole_field(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    top, left = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    bottom, right = data.draw(st.integers(top, height)), data.draw(st.integers(left, width))
    whole = field(range(height), range(width))
    np.testing.assert_array_equal(field(range(top, bottom), range(left, right)), whole[:, top:bottom, left:right])


def test_a_field_larger_than_a_chunk_equals_its_rows_made_one_by_one_by_threads() -> None:
    whole = field(range(70), range(1200))
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda r: field(range(r, r + 1), range(1200)), range(70)))
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole)


def test_every_part_of_the_address_changes_the_noise() -> None:
    base = field()
    others = [field(**{name: 7}) for name in ("seed", "image", "sample", "step")]  # type: ignore[arg-type]
    others += [field(seed=5 + 2**32), field(image=6 + 2**32)]
    others += [field(step=START_NOISE), field(step=POSTERIOR_NOISE)]
    for index, other in enumerate(others):
        assert not np.any(other == base), index
        assert all(not np.any(other == another) for another in others[:index])


def test_the_values_are_standard_normal_and_independent() -> None:
    # Each bound is five standard errors of the mean of n independent values: 1, 2, 15 and 96 are the variances
    # of a standard normal's first four powers.
    values = field(range(1000), range(1000), channels=4, seed=1).astype(np.float64)
    n = values.size
    assert n == 4_000_000
    assert abs(values.mean()) < 5 / math.sqrt(n)
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((values**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / n)
    for axis in (0, 1, 2):
        neighbours = np.roll(values, 1, axis=axis)
        assert abs((values * neighbours).mean()) < 5 / math.sqrt(n)
    # Largest of 4 million normals: 5.0 expected, 6.8 is the limit of 32-bit uniforms.
    assert 4.3 < np.abs(values).max() < 6.8


def test_a_field_is_float32_and_may_be_empty() -> None:
    assert field().dtype == np.float32
    assert field(range(3, 3)).shape == (3, 0, 8)
    assert field(columns=range(5, 5)).shape == (3, 8, 0)


def test_the_image_key_is_the_start_of_the_documented_hash() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    digest = hashlib.sha256(struct.pack("<II", 2, 3) + bytes(range(18))).hexdigest()
    assert image_key(pixels) == int(digest[:16], 16)
    turned = np.ascontiguousarray(pixels.transpose(1, 0, 2)).transpose(1, 0, 2)  # the same pixels, other memory
    assert image_key(turned) == image_key(pixels)
    assert image_key(pixels.reshape(3, 2, 3)) != image_key(pixels)


def test_something_else_than_an_rgb_picture_has_no_key() -> None:
    with pytest.raises(ValueError, match=r"RGB uint8 picture is needed .* float32 \(2, 3, 3\)"):
        image_key(np.zeros((2, 3, 3), dtype=np.float32))


def test_all_impossible_addresses_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"seed must .* found -1; sample must .* rows must be a range of step 1"):
        field(rows=range(0, 8, 2), seed=-1, sample=2**32)
    with pytest.raises(ValueError, match=r"step must fit in 32 bits, found 4294967296; channels must not be negative"):
        field(step=2**32, channels=-1)
