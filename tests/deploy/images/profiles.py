"""Small ICC profiles, version 2, written byte by byte: Pillow itself can make none but sRGB's."""

import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
# Display P3's primaries adapted to D50, as Apple's profile has them.
P3_COLORANTS = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}


def linear_from_srgb(encoded: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, values 0 to 1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, values 0 to 1."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0) ** (1 / 2.4) - 0.055)


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s12s48s",
        offset + len(body), bytes(4), 0x02400000, kind, space, pcs, bytes(12), b"acsp", bytes(28), _numbers(D50),
        bytes(48),
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body


def _numbers(values: tuple[float, ...]) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(values)


def _curve(table: np.ndarray) -> bytes:
    return b"curv" + struct.pack(">II", 0, len(table)) + table.astype(">u2").tobytes()


def _named(text: bytes) -> bytes:
    return b"desc" + struct.pack(">II", 0, len(text) + 1) + text + bytes(1 + 8 + 3 + 67)


def display_p3() -> bytes:
    """Display P3: wider primaries than sRGB's, and sRGB's curve in 1024 steps."""
    curve = _curve(np.rint(65535 * linear_from_srgb(np.arange(1024) / 1023)))
    tags = {b"desc": _named(b"Display P3"), b"wtpt": _xyz(D50)}
    tags |= {name: _xyz(values) for name, values in P3_COLORANTS.items()}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_gamma(gamma: float) -> bytes:
    """Grey with a plain power as its curve."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"desc": _named(b"Grey\x07 gamma"), b"wtpt": _xyz(D50), b"kTRC": curve})


def cmyk_of_grey_inks() -> bytes:
    """CMYK whose cyan halves the lightness, whose black takes all of it, and whose other inks do nothing."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T  # C, M, Y, K; the last varies fastest
    lightness = 255 * (1 - 0.5 * corners[:, 0]) * (1 - corners[:, 3])
    lab = np.stack([lightness, np.full(16, 128), np.full(16, 128)], -1)
    straight = bytes(range(256))
    table = (
        b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _numbers((1, 0, 0, 0, 1, 0, 0, 0, 1))
        + straight * 4 + np.rint(lab).astype(np.uint8).tobytes() + straight * 3
    )  # fmt: skip
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"desc": _named(b"Inks"), b"wtpt": _xyz(D50), b"A2B0": table})


def rgb_by_table(*, both_ways: bool) -> bytes:
    """RGB whose lightness is that of red alone; with the way back, which gives three equal channels, or without."""
    corners = np.indices((2, 2, 2)).reshape(3, -1).T  # R, G, B; the last varies fastest
    straight, unit = bytes(range(256)), _numbers((1, 0, 0, 0, 1, 0, 0, 0, 1))

    def table(values: np.ndarray) -> bytes:
        head = b"mft1" + bytes(4) + bytes([3, 3, 2, 0]) + unit + straight * 3
        return head + np.rint(values).astype(np.uint8).tobytes() + straight * 3

    lab = np.stack([255 * corners[:, 0], np.full(8, 128), np.full(8, 128)], -1)
    tags = {b"desc": _named(b"Scanner"), b"wtpt": _xyz(D50), b"A2B0": table(lab)}
    if both_ways:
        tags[b"B2A0"] = table(np.repeat(255.0 * corners[:, :1], 3, axis=1))
    return _profile(b"scnr" if not both_ways else b"prtr", b"RGB ", b"Lab ", tags)


def wide_gamut(kind: int, values: tuple[float, ...]) -> bytes:
    """Adobe's primaries (1998) with a parametric curve of one of the five types."""
    curve = b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _numbers(values)
    colorants = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
    tags = {b"desc": _named(b"Wide"), b"wtpt": _xyz(D50)}
    tags |= {name: _xyz(xyz) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))
