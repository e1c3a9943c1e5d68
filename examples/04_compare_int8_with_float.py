"""The same photograph from the same noise in float32 and int8: how alike, and how long each took.

    python examples/04_compare_int8_with_float.py ckpt.bundle photo.png

The bundle must be quantized (see 03). `idm-deploy evaluate` measures the same on many originals.
"""

import sys
import time

import numpy as np
from PIL import Image

from deploy import Bundle, Upscaler

bundle = Bundle.open(sys.argv[1])
photograph = Image.open(sys.argv[2]).convert("RGB")

pictures = {}
for precision in ("fp32", "int8"):
    with Upscaler(bundle, engine="onnxruntime-cpu", precision=precision) as upscaler:
        upscaler.upscale(photograph, scale=4.0)  # the first picture opens the graphs
        began = time.perf_counter()
        pictures[precision] = np.asarray(upscaler.upscale(photograph, scale=4.0, seed=0), np.float64)
        print(f"{precision}: {time.perf_counter() - began:.2f} s")

difference = np.mean((pictures["int8"] - pictures["fp32"]) ** 2)
print(f"PSNR between them: {10 * np.log10(255**2 / max(difference, 1e-9)):.1f} dB")
