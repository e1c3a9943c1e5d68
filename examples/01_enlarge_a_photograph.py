"""Enlarge one photograph with the packaged model.

    python examples/01_enlarge_a_photograph.py photo.png

Writes ./enlarged.png, four times as large. Needs `idm-deploy[cpu]` or another engine, and no torch.
"""

import sys

from PIL import Image

from deploy import Bundle, Upscaler
from deploy.packaged.places import IDM_BUNDLE

photograph = Image.open(sys.argv[1]).convert("RGB")
with Upscaler(Bundle.open(IDM_BUNDLE)) as upscaler:
    enlarged = upscaler.upscale(photograph, scale=4.0)
enlarged.save("enlarged.png")
print(f"{photograph.size} -> {enlarged.size}: enlarged.png")
