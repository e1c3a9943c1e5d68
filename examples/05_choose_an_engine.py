"""Time the engines that are installed on one photograph, and say which is fastest.

    python examples/05_choose_an_engine.py ckpt.bundle photo.png

`idm-deploy build-engine` does this with more care: it takes turns, holds each to float32 and to the budget of int8,
and remembers its choice, which engine="auto" then takes.
"""

import sys
import time

from PIL import Image

from deploy import Bundle, Upscaler
from deploy.errors import DeployError
from engines.errors import EngineError

bundle = Bundle.open(sys.argv[1])
photograph = Image.open(sys.argv[2]).convert("RGB")

seconds = {}
for engine, precision in (
    ("onnxruntime-cpu", "fp32"),
    ("onnxruntime-cpu", "int8"),
    ("openvino-cpu", "fp32"),
    ("openvino-cpu", "bf16"),
    ("openvino-cpu", "int8"),
    ("onnxruntime-cuda", "fp16"),
):
    try:
        with Upscaler(bundle, engine=engine, precision=precision) as upscaler:
            upscaler.upscale(photograph, scale=4.0)  # the first picture opens the graphs
            began = time.perf_counter()
            upscaler.upscale(photograph, scale=4.0)
            seconds[engine, precision] = time.perf_counter() - began
    except (DeployError, EngineError) as refusal:  # not installed, no GPU, not quantized: the message says which
        print(f"{engine} {precision}: {refusal}")
    else:
        print(f"{engine} {precision}: {seconds[engine, precision]:.2f} s")

if seconds:
    print("fastest:", *min(seconds, key=lambda choice: seconds[choice]))
