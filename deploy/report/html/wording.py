"""Numbers as people read them."""

import json


def text_from_bytes(count: float) -> str:
    """E.g. "11.9 MB"; megabytes are 10^6 bytes, as in the other commands."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 100 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} bytes"


def text_from_seconds(seconds: float) -> str:
    """E.g. "24.0 ms" or "3.2 s"."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def text_from_ratio(ratio: float) -> str:
    """E.g. "3.4×" or "112×"."""
    return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


def signed(value: float, decimals: int) -> str:
    """A change with its sign, a true minus where it falls; one too small for the decimals is ±0."""
    text = f"{value:+.{decimals}f}"
    return f"±{abs(value):.{decimals}f}" if not text.strip("+-0.") else text.replace("-", "−")


def with_interval(mean: float, half_width: float | None, decimals: int, *, sign: bool = False) -> str:
    """E.g. "27.31 ±0.80"."""
    text = signed(mean, decimals) if sign else f"{mean:.{decimals}f}".replace("-", "−")
    return text if half_width is None else f"{text} ±{half_width:.{decimals}f}"


def count_of(number: int, one: str, many: str | None = None) -> str:
    """E.g. "1 picture", "3 pictures"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def plain_value(value: object) -> str:
    """A JSON value in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def listing(names: list[str]) -> str:
    """E.g. "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
