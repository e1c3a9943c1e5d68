"""Dead leaves: pictures of occluding shapes with power-law sizes, which train restoration networks well.

Statistics as in Lee, Mumford and Huang, "Occlusion models for natural images" (2001); that such pictures can
stand in for photographs in training is from Achddou et al., "Synthetic images as a regularity prior for image
restoration neural networks" (2021). A picture is a function of its seed: even seeds train, odd ones are held out.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Picture = NDArray[np.uint8]

SMALLEST_RADII = (2.0, 24.0)
"""The smallest radius differs between pictures: all small would leave no calm areas, which photographs have."""
RADIUS_EXPONENT = 3.0
"""Density of the radii ~ r^-3: then reducing such a picture gives a picture of the same statistics."""


def training_seeds(count: int) -> range:
    """The first `count` seeds that training may use."""
    return range(0, 2 * count, 2)


def held_out_seeds(count: int) -> range:
    """The first `count` seeds that no training ever uses."""
    return range(1, 2 * count, 2)


def dead_leaves_stack(seeds: range, size: int, processes: int = 1) -> Picture:
    """One picture per seed, (count, size, size, 3). The number of processes changes nothing but the time."""
    paint = partial(dead_leaves, size=size)
    if processes == 1:
        return np.stack([paint(seed) for seed in seeds])
    # Spawned, not forked: the caller may hold threads and a GPU.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return np.stack(list(pool.map(paint, seeds, chunksize=8)))


def dead_leaves(seed: int, size: int) -> Picture:
    """The picture (size, size, 3) of a seed."""
    rng = np.random.default_rng([seed, size])
    textures = [_texture(rng, size) for _ in range(4)]
    palette = _palette(rng)
    canvas = np.empty((size, size, 3), dtype=np.float32)
    canvas[:] = _surface(rng, textures, palette, (0, size), (0, size))
    coverage = float(rng.uniform(1.0, 3.0))
    softness = float(np.exp(rng.uniform(np.log(0.7), np.log(2.0))))
    smallest = float(np.exp(rng.uniform(*np.log(SMALLEST_RADII))))
    largest = max(size * float(rng.uniform(0.15, 0.6)), smallest + 1.0)
    covered = 0.0
    while covered < coverage * size * size:
        radius = _radius(rng, smallest, largest)
        covered += np.pi * radius * radius
        _paint_leaf(rng, canvas, textures, palette, radius, softness)
    if rng.random() < 0.3:
        canvas += rng.normal(0.0, rng.uniform(0.002, 0.01), canvas.shape).astype(np.float32)
    picture: Picture = np.rint(np.clip(canvas, 0.0, 1.0) * 255.0).astype(np.uint8)
    return picture


def _radius(rng: np.random.Generator, smallest: float, largest: float) -> float:
    """A radius between the two with density r^-3, by inversion of its distribution."""
    power = 1.0 - RADIUS_EXPONENT
    low, high = smallest**power, largest**power
    return float((low + rng.random() * (high - low)) ** (1.0 / power))


def _palette(rng: np.random.Generator) -> Float:
    """A few colours around a common hue, as scenes have them: (count, 3) in [0, 1]."""
    count = int(rng.integers(3, 9))
    common = rng.normal(0.0, 0.08, 3)
    lightness = rng.beta(1.2, 1.2, (count, 1))
    chroma = rng.normal(0.0, rng.uniform(0.01, 0.15), (count, 3))
    return np.clip(lightness + (common + chroma) * (0.3 + 0.7 * rng.random((count, 1))), 0, 1).astype(np.float32)


def _texture(rng: np.random.Generator, size: int) -> Float:
    """Noise with a 1/f^a spectrum, often drawn out along one direction (fur, grain, brushed metal): unit deviation."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    angle, stretch = rng.uniform(0, np.pi), float(np.exp(rng.uniform(0, np.log(8)) if rng.random() < 0.6 else 0.0))
    along = np.cos(angle) * rows + np.sin(angle) * columns
    across = -np.sin(angle) * rows + np.cos(angle) * columns
    frequency = np.sqrt((along * stretch) ** 2 + across**2)
    frequency[0, 0] = 1.0
    spectrum = frequency ** -rng.uniform(0.6, 1.8)
    spectrum[0, 0] = 0.0
    phase = np.exp(2j * np.pi * rng.random(spectrum.shape))
    field = np.fft.irfft2(spectrum * phase, s=(size, size))
    return np.asarray(field / (field.std() + 1e-12), dtype=np.float32)


def _surface(
    rng: np.random.Generator,
    textures: list[Float],
    palette: Float,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Float:
    """Colours (h, w, 3) of a leaf's surface within a window: a colour, a gradient, and a texture or stripes."""
    y = np.arange(*rows, dtype=np.float32)[:, None]
    x = np.arange(*columns, dtype=np.float32)[None, :]
    reach = max(rows[1] - rows[0], columns[1] - columns[0])
    tilt = rng.normal(0, 0.25, 2) / reach
    light = (y - y.mean()) * np.float32(tilt[0]) + (x - x.mean()) * np.float32(tilt[1])
    kind = rng.random()
    if kind < 0.55:
        field = textures[int(rng.integers(len(textures)))]
        size = field.shape[0]
        shift = rng.integers(size, size=2)
        window = field[(y.astype(int) + shift[0]) % size, (x.astype(int) + shift[1]) % size]
        light = light + window * np.float32(np.exp(rng.uniform(np.log(0.01), np.log(0.15))))
    elif kind < 0.7:
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2.5), np.log(24)))
        wave = np.sin((np.cos(angle) * y + np.sin(angle) * x) * (2 * np.pi / period) + rng.uniform(0, 6.3))
        sharp = np.tanh(wave * np.exp(rng.uniform(0, 2.5)))
        light = light + sharp.astype(np.float32) * np.float32(rng.uniform(0.02, 0.25))
    colour = palette[int(rng.integers(len(palette)))] + rng.normal(0, 0.03, 3).astype(np.float32)
    tint = (1.0 + rng.normal(0, 0.15, 3)).astype(np.float32)
    return np.asarray(colour + light[..., None] * tint, dtype=np.float32)


def _paint_leaf(
    rng: np.random.Generator,
    canvas: Float,
    textures: list[Float],
    palette: Float,
    radius: float,
    softness: float,
) -> None:
    """Paints one shape onto the canvas, with an edge `softness` pixels wide and some shading towards it."""
    size = canvas.shape[0]
    centre = rng.uniform(-0.3 * radius, size + 0.3 * radius, 2)
    elongation = float(np.exp(rng.uniform(0, np.log(6)))) if rng.random() < 0.4 else 1.0
    half = radius * np.sqrt(elongation) * 1.42 + softness
    (top, left), (bottom, right) = (
        np.clip([np.floor(centre - half), np.ceil(centre + half)], 0, size).astype(int).tolist()
    )
    if bottom <= top or right <= left:
        return
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(centre[1])
    inside = _depth(rng, y, x, radius, elongation)
    blur = softness * (float(rng.uniform(2, 5)) if rng.random() < 0.1 else 1.0)
    alpha = np.clip(inside / blur + 0.5, 0.0, 1.0)[..., None]
    surface = _surface(rng, textures, palette, (top, bottom), (left, right))
    if rng.random() < 0.5:
        rim = np.clip(1.0 - inside / radius, 0.0, 1.0) ** 2
        surface = surface * (1.0 - np.float32(rng.uniform(0.1, 0.6)) * rim[..., None])
    window = canvas[top:bottom, left:right]
    window += alpha * (surface - window)


def _depth(rng: np.random.Generator, y: Float, x: Float, radius: float, elongation: float) -> Float:
    """Distance to the shape's edge in pixels, positive inside: an ellipse, a convex polygon or a ring."""
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * y + np.sin(angle) * x, -np.sin(angle) * y + np.cos(angle) * x
    long, short = radius * np.sqrt(elongation), radius / np.sqrt(elongation)
    kind = rng.random()
    if kind < 0.5:
        # The level set's distance, exact for circles and within a few percent at a soft edge otherwise.
        level = np.sqrt((along / long) ** 2 + (across / short) ** 2)
        depth = (1.0 - level) * short
    elif kind < 0.9:
        sides = int(rng.integers(3, 8))
        turns = (np.arange(sides) + rng.uniform(-0.3, 0.3, sides)) * (2 * np.pi / sides)
        planes = [short - (np.cos(t) * along * (short / long) + np.sin(t) * across) for t in turns]
        depth = np.minimum.reduce(planes)
    else:
        level = np.sqrt((along / long) ** 2 + (across / short) ** 2)
        width = rng.uniform(0.08, 0.3)
        depth = (width / 2 - np.abs(level - (1 - width))) * short
    return np.asarray(depth, dtype=np.float32)
