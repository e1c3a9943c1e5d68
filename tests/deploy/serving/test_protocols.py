"""What clients already speak, by their own programs: tritonclient and webuiapi."""

import base64
import io
import threading
import time
import warnings
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.deploy.serving.service import Service
from tests.deploy.serving.test_upscale import PICTURE, PIXELS, form

SETTINGS = {"scale": 2, "seed": 5}
SMALL = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3]}


@pytest.fixture
def made(service: Service) -> bytes:
    """The file that the service's own interface gives."""
    with service.client() as client:
        return client.post(
            "/v1/upscale", files=form(), data={name: str(value) for name, value in SETTINGS.items()}
        ).content


def pixels_of(file: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_tritonclient_gets_the_same_pixels(service: Service, made: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of gevent, on which it stands
        import tritonclient.http as triton
    client = triton.InferenceServerClient(urlsplit(service.address).netloc)
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("idm-demo")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata("idm-demo", "1")
        assert metadata["inputs"][0]["datatype"] == "UINT8"
        two = np.stack([PIXELS, PIXELS[::-1]])
        for is_binary in (True, False):
            tensor = triton.InferInput("image", list(two.shape), "UINT8")
            tensor.set_data_from_numpy(two, binary_data=is_binary)
            wanted = [triton.InferRequestedOutput("image", binary_data=is_binary)]
            answer = client.infer("idm-demo", [tensor], outputs=wanted, parameters=SETTINGS, request_id="7")
            result = answer.as_numpy("image")
            assert (answer.get_response()["id"], result.shape, result.dtype) == ("7", (2, 24, 32, 3), np.uint8)
            assert np.array_equal(result[0], pixels_of(made)) and not np.array_equal(result[1], result[0])
        for name, shape in (("image", [1]), ("file", [1, 1])):  # the second as repositories of `export-triton` have it
            tensor = triton.InferInput(name, shape, "BYTES")
            tensor.set_data_from_numpy(np.array([PICTURE], object).reshape(shape))
            answer = client.infer("idm-demo", [tensor], parameters=SETTINGS).as_numpy(name)
            assert [*answer.shape] == shape and np.array_equal(pixels_of(answer.item()), pixels_of(made))
        with pytest.raises(triton.InferenceServerException, match="There is no field 'scal'"):
            client.infer("idm-demo", [tensor], parameters={"scal": 2})
    finally:
        client.close()


@pytest.mark.parametrize(
    ("message", "status", "sentence"),
    [
        ({}, 422, "one input, named image"),
        ({"inputs": [{"name": "image", "datatype": "FP64", "shape": [1]}]}, 422, "is UINT8 (pixels) or BYTES"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [0, 2, 3]}]}, 422, "whole numbers from 1"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [2, 2, 3], "data": [1]}]}, 422, "has 12 values"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 300]}]}, 422, "255"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}]}, 422, "[H, W, 3]"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}, 422, "binary data"),
        ({"inputs": [{"name": "file", "datatype": "UINT8", "shape": [1], "data": [1]}]}, 422, "and file is BYTES"),
        (
            {
                "inputs": [
                    {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "parameters": {"binary_data_size": 9}}
                ]
            },
            400,
            "9 bytes, and 0 are there",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    service: Service, message: dict[str, Any], status: int, sentence: str
) -> None:
    with service.client() as client:
        answer = client.post("/v2/models/idm-demo/infer", json=message)
        assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
        header = {"Inference-Header-Content-Length": "999999"}
        assert client.post("/v2/models/idm-demo/infer", json=message, headers=header).status_code == 400
        assert client.post("/v2/models/other/infer", json=message).status_code == 404


def test_webuiapi_gets_the_same_pixels(service: Service) -> None:
    import webuiapi

    place = urlsplit(service.address)
    api = webuiapi.WebUIApi(host=place.hostname, port=place.port)
    image = Image.fromarray(PIXELS)
    assert [each["name"] for each in api.get_upscalers()] == ["idm-demo"]
    with service.client() as client:
        seedless = client.post("/v1/upscale", files=form(), data={"scale": "2"}).content
    result = api.extra_single_image(image, upscaler_1="idm-demo", upscaling_resize=2)
    assert np.array_equal(np.asarray(result.image), pixels_of(seedless))
    assert "idm-demo, 32x24" in result.info
    # As chaiNNer sends it: sizes are cut off, and of a box the middle.
    assert api.extra_single_image(image, upscaler_1="R-ESRGAN 4x+", upscaling_resize=1.7).image.size == (27, 20)
    boxed = {"resize_mode": 1, "upscaling_resize_w": 40, "upscaling_resize_h": 40}
    assert api.extra_single_image(image, **boxed, upscaling_crop=True).image.size == (40, 40)
    assert api.extra_single_image(image, **boxed, upscaling_crop=False).image.size == (53, 40)
    both = api.extra_batch_images([image, image.transpose(Image.Transpose.ROTATE_90)], upscaling_resize=2)
    assert [each.size for each in both.images] == [(32, 24), (24, 32)]
    for wrong, sentence in (
        ({"upscaler_1": "mine"}, "There is no upscaler .*; there is idm-demo"),
        ({"gfpgan_visibility": 0.5}, "gfpgan_visibility must be 0"),
        ({"upscaling_resize": 0.5}, "smaller than the input"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            api.extra_single_image(image, **wrong)
    assert api.get_progress()["progress"] == 0
    stopped: list[Exception] = []

    def ask_for_much() -> None:
        try:
            api.extra_single_image(image, upscaling_resize=50)
        except RuntimeError as error:
            stopped.append(error)

    asking = threading.Thread(target=ask_for_much)
    asking.start()
    while not api.get_progress()["state"]["job_count"]:
        time.sleep(0.005)
    assert api.interrupt() == {}
    asking.join(30)
    assert "was cancelled" in str(stopped[0])
    assert service.files() == []


def test_pictures_in_json_are_refused_as_others_are(service: Service) -> None:
    with service.client() as client:
        for image, sentence in (
            (None, "base64 of its file"),
            ("%%%", "not base64"),
            ("https://example.org/a.png", "not fetched"),
            (base64.b64encode(b"no picture").decode(), "is not a PNG"),
        ):
            answer = client.post("/sdapi/v1/extra-single-image", json={"image": image})
            assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True), answer.text
        assert client.post("/sdapi/v1/extra-batch-images", json={"imageList": [1]}).status_code == 422
        assert client.get("/sdapi/v1/options").status_code == 200
