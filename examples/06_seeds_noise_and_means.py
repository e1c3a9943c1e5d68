"""One photograph, several pictures: seeds, draws and their mean, and noise of your own.

    python examples/06_seeds_noise_and_means.py ckpt.bundle photo.png

The model draws from what the original may have been. The mean of draws is closer to the original and has less detail.
"""

import sys

import numpy as np
from PIL import Image

from deploy import Bundle, Upscaler

photograph = Image.open(sys.argv[2]).convert("RGB")
with Upscaler(Bundle.open(sys.argv[1])) as upscaler:
    # The same seed gives the same picture, another seed another one.
    first = upscaler.upscale(photograph, scale=4.0, seed=0)
    assert np.array_equal(first, upscaler.upscale(photograph, scale=4.0, seed=0))

    # `sample` numbers the draws of one seed.
    draws = [np.asarray(upscaler.upscale(photograph, scale=4.0, sample=number), np.float64) for number in range(4)]
    mean = np.mean(draws, axis=0)
    Image.fromarray(np.round(mean).astype(np.uint8)).save("mean.png")
    print(f"a draw differs from the mean of four by {np.mean(np.abs(draws[0] - mean)):.1f} levels of 255")

    # Noise of your own: step_index is -1 for the start, then counts the steps.
    random = np.random.default_rng(0)

    def noise(shape: tuple[int, ...], step_index: int) -> np.ndarray:
        print(f"noise for step {step_index}: {shape}")
        return random.standard_normal(shape, np.float32)

    upscaler.upscale(photograph, scale=4.0, noise=noise).save("own-noise.png")
