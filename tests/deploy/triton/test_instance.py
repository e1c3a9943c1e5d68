"""An instance answers requests with the bytes of `infer`, and refuses in sentences, whatever else is in the batch."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.packaged.places import IDM_BUNDLE
from deploy.triton.instance import Instance, instance_of_arguments
from deploy.triton.settings import TritonError
from tests.deploy.triton import stand_in
from tests.deploy.triton.stand_in import InferenceRequest

PIXELS = np.random.default_rng(4).integers(0, 256, (12, 16, 3), np.uint8)
SETTINGS = {"scale": 2, "seed": 3}


def arguments(**changes: str) -> dict[str, str]:
    """Of `initialize`, for an instance on one thread whose config.pbtxt has these parameters."""
    given = {"engine": "onnxruntime-cpu", "precision": "fp32", "threads": "1", "max_pixels": "100000", **changes}
    config = {"parameters": {name: {"string_value": value} for name, value in given.items()}}
    kind = {"model_instance_kind": "CPU", "model_instance_device_id": "0"}
    return {"model_config": json.dumps(config), "model_name": "demo", **kind}


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with instance_of_arguments(IDM_BUNDLE, arguments(batch="4")) as opened:
        yield opened


def file_of(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def of_files(*files: bytes, **parameters: Any) -> InferenceRequest:
    return InferenceRequest({"file": np.array(files, object)}, {**SETTINGS, **parameters})


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that `infer` makes of PIXELS."""
    from typer.testing import CliRunner

    from deploy.cli.main import app

    place = tmp_path_factory.mktemp("infer")
    (place / "a.png").write_bytes(file_of(PIXELS))
    words = ["infer", place / "a.png", "-o", place / "b.png", "--bundle", IDM_BUNDLE, "--scale", "2", "--seed", "3"]
    words += ["--engine", "onnxruntime-cpu", "--precision", "fp32", "--threads", "1"]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return (place / "b.png").read_bytes()


def test_files_and_pixels_are_those_of_infer_alone_and_in_batches(instance: Instance, expected: bytes) -> None:
    wrong = of_files(b"no picture")
    requests = [of_files(file_of(PIXELS)), wrong, *(of_files(file_of(PIXELS)) for _ in range(4))]
    requests.append(InferenceRequest({"image": np.stack([PIXELS, PIXELS[::-1]])}, SETTINGS))
    answers = instance.responses(requests, stand_in)
    assert answers[1].error.code == stand_in.TritonError.INVALID_ARG and "cannot be read" in answers[1].error.message
    for answer in (answers[0], *answers[2:6]):
        (tensor,) = answer.tensors
        assert tensor.name() == "file" and [*tensor.as_numpy()] == [expected]
    (tensor,) = answers[6].tensors
    pixels = np.asarray(Image.open(io.BytesIO(expected)))
    assert tensor.name() == "image" and np.array_equal(tensor.as_numpy()[0], pixels)
    assert tensor.as_numpy().shape == (2, 24, 32, 3) and not np.array_equal(tensor.as_numpy()[1], pixels)


@pytest.mark.parametrize(
    ("inputs", "parameters", "code", "sentence"),
    [
        ({}, {"scal": 2}, "INVALID_ARG", "no field 'scal'; the nearest is 'scale'"),
        ({}, {"format": "jpeg"}, "INVALID_ARG", "format is none of this protocol's; known are scale"),
        ({}, {"scale": 1000}, "INVALID_ARG", "the limit is 100000 pixels"),
        ({"image": np.zeros((1, 1000, 101, 3), np.uint8)}, {}, "INVALID_ARG", "101x1000 pixels; this model takes 1000"),
        ({"image": np.zeros((1, 0, 4, 3), np.uint8)}, {}, "INVALID_ARG", "each from 1, found"),
        ({"image": PIXELS[None], "file": np.array([b""], object)}, {}, "INVALID_ARG", "either image or file"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    instance: Instance, inputs: dict[str, Any], parameters: dict[str, Any], code: str, sentence: str
) -> None:
    request = InferenceRequest(inputs or {"image": PIXELS[None]}, {**SETTINGS, **parameters})
    (answer,) = instance.responses([request], stand_in)
    assert answer.error.code == getattr(stand_in.TritonError, code)
    assert sentence in answer.error.message


def test_a_request_that_nobody_waits_for_ends_and_its_neighbour_does_not(instance: Instance, expected: bytes) -> None:
    for gone_after in (0, 3):
        gone = InferenceRequest({"image": PIXELS[None]}, {"scale": 3, "steps": 50}, leaves_after=gone_after)
        answers = instance.responses([gone, of_files(file_of(PIXELS))], stand_in)
        assert answers[0].error.code == stand_in.TritonError.CANCELLED
        assert answers[1].tensors[0].as_numpy().item() == expected
    assert not list(instance.place.iterdir())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"engin": "auto"}, "a parameter 'engin'; the nearest that is known is 'engine'"),
        ({"engine": "onnxruntime"}, "no engine 'onnxruntime'; the nearest is 'onnxruntime-cpu'"),
        ({"threads": "two"}, "threads of config.pbtxt is a whole number, found 'two'"),
        ({"batch": "0"}, "`batch` is a number from 1, found 0"),
        ({"engine": "onnxruntime-cuda"}, "runs on GPUs, and the instances of config.pbtxt are of KIND_CPU"),
    ],
)
def test_a_changed_configuration_is_read_or_refused(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(TritonError, match=sentence):
        instance_of_arguments(IDM_BUNDLE, arguments(**changes))
