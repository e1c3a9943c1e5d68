"""Pictures as tensors of the Open Inference Protocol, whoever speaks it: `serve` itself, or Triton for us.

A tensor `image` has pixels, UINT8 of shape [N, H, W, 3]; a tensor `file` has files of pictures, BYTES of shape [N, 1].
The fields of /v1/upscale are parameters of the request, but for the model and the format, which is PNG.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from deploy.images.files import encode_image
from deploy.images.values import Pixels
from deploy.serving.asked import FIELDS, Asked
from deploy.serving.problems import Problem

IMAGE, FILE = "image", "file"
"""Names of the tensors, of which a request has one; its answer has the same."""

MOST_AT_ONCE = 32
"""Pictures in one message."""


def asked_of_parameters(parameters: Mapping[str, Any], **more: Any) -> Asked:
    """What a request's parameters ask for; `more` is said for the client. Problem where they are no fields."""
    said_otherwise = {"model", "format"}
    fields = {name: value for name, value in parameters.items() if name != "binary_data_output"}
    for name in said_otherwise.intersection(fields):
        known = ", ".join(known for known in FIELDS if known not in said_otherwise)
        raise Problem(422, f"The parameter {name} is none of this protocol's; known are {known}.")
    return Asked.of({**fields, **more, "format": "png"})


def files_of_pixels(pixels: Pixels) -> list[bytes]:
    """A file for each picture of a tensor [N, H, W, 3]."""
    return [encode_image(picture, "png") for picture in pixels]


def pixels_of_files(files: list[bytes]) -> Pixels:
    """The tensor [N, H, W, 3] of pictures that have one size."""
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
