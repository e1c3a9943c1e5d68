"""`/v1`: pictures at once and as jobs, what is known of them beforehand, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.images.files import encode_image
from tests.deploy.serving.service import Service
from tests.json_schema import checked

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
PICTURE = encode_image(PIXELS, "png")
FINAL = {"done", "failed", "cancelled", "expired"}


def form(picture: bytes = PICTURE, name: str = "a.png") -> dict[str, Any]:
    return {"image": (name, picture, "image/png")}


def events_of(service: Service, address: str) -> list[tuple[str, dict[str, Any]]]:
    """All events of a job, to its end."""
    with service.client() as client, client.stream("GET", address) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in zip(lines[::2], lines[1::2], strict=True)
    ]


def test_ready_is_said_as_the_schema_says(service: Service) -> None:
    assert checked("serve", service.line)["models"][0]["name"] == "idm-demo"
    with service.client() as client:
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/healthz").status_code == 200


def test_the_bytes_are_those_of_infer(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(PICTURE)
    settings = {"scale": "2.5", "seed": "3", "steps": "2", "format": "jpeg", "quality": "90"}
    words = [part for name, value in settings.items() for part in (f"--{name}", value)]
    engine = ["--engine", "onnxruntime-cpu", "--precision", "fp32", "--threads", "1"]
    assert CliRunner().invoke(app, ["infer", "a.png", "-o", "b.jpg", *words, *engine]).exit_code == 0
    with service.client() as client:
        answer = client.post("/v1/upscale", files=form(), data=settings)
    assert answer.status_code == 200, answer.text
    assert answer.content == (tmp_path / "b.jpg").read_bytes()
    assert (answer.headers["content-type"], answer.headers["x-idm-size"]) == ("image/jpeg", "40x30")
    assert (answer.headers["x-idm-seed"], answer.headers["x-idm-evaluations"]) == ("3", "2")
    assert "a_x2.5.jpg" in answer.headers["content-disposition"]
    assert service.files() == []  # nothing of a picture that was sent back is kept


def test_a_job_goes_from_the_queue_to_its_files(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        alone = client.post("/v1/upscale", files=form(), data={"scale": "2", "steps": "4"})
        answer = client.post("/v1/upscale?wait=false&previews=2", files=form(), data={"scale": "2", "steps": "4"})
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == job["links"]["self"]
        events = events_of(service, job["links"]["events"])
        assert events[-1][1]["state"] == "done"
        assert {data["step"] for name, data in events if name == "preview"} <= {2, 4}
        assert any(name == "preview" for name, _ in events)
        steps = [data["step"] for name, data in events if name == "job"]
        assert steps == sorted(steps) and steps[-1] == events[-1][1]["steps"] == 4
        links = job["links"]
        assert client.get(links["result"]).content == alone.content  # previews change no byte on a processor
        shown = {}
        for kind in ("input", "bicubic"):
            (tmp_path / kind).write_bytes(client.get(links[kind]).content)
            shown[kind] = np.asarray(Image.open(tmp_path / kind))
        assert np.array_equal(shown["input"], PIXELS.repeat(2, 0).repeat(2, 1))
        channels = [Image.fromarray(PIXELS[:, :, channel].astype(np.float32)) for channel in range(3)]
        bicubic = [np.asarray(channel.resize((32, 24), Image.Resampling.BICUBIC)) for channel in channels]
        plain = np.clip(np.stack(bicubic, -1), 0, 255)
        assert np.abs(shown["bicubic"] - plain).max() < 0.51  # rounding alone
        assert client.delete(links["self"]).json()["state"] == "done"
        assert client.get(links["self"]).status_code == 404
    assert service.files() == []


def test_an_estimate_is_what_becomes_of_it(service: Service) -> None:
    with service.client() as client:
        listed = client.get("/v1/models").json()
        model = listed["models"][0]
        assert (model["engine"], model["default"], listed["limits"]["max_pixels"]) == ("onnxruntime-cpu", True, 1000000)
        asked = {"scale": 3, "preset": "best", "crop": "2,2,8,8"}
        estimate = client.post("/v1/estimate", json={"width": 16, "height": 12, **asked}).json()
        made = client.post("/v1/upscale", files=form(), data={name: str(value) for name, value in asked.items()})
        assert made.headers["x-idm-size"] == f"{estimate['width']}x{estimate['height']}" == "24x24"
        assert int(made.headers["x-idm-evaluations"]) == estimate["evaluations"]
        assert estimate["seconds"] > 0 and estimate["bytes"] > 1 << 20


def test_the_reference_has_every_address_and_field(service: Service) -> None:
    with service.client() as client:
        schema, page = client.get("/openapi.json").json(), client.get("/docs").text
        assert client.get("/docs.css").headers["content-type"].startswith("text/css")
    for path, operations in schema["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in page
    form_fields = schema["paths"]["/v1/upscale"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert all(f"<code>{name}</code>" in page for name in form_fields["properties"])
    assert "<script" not in page


def test_cancelling_ends_within_a_step(service: Service) -> None:
    with service.client() as client:
        job = client.post(
            "/v1/upscale?wait=false", files=form(), data={"scale": "20", "stages": "once", "draws": "64"}
        ).json()
        assert client.delete(job["links"]["self"]).json()["state"] == "cancelled"
        last = events_of(service, job["links"]["events"])[-1][1]
        assert (last["state"], last["error"]) == ("cancelled", None)
        assert client.get(job["links"]["result"]).status_code == 410
        assert client.post("/v1/upscale", files=form(), data={"scale": "1"}).status_code == 200
    assert service.files() == []


@pytest.mark.parametrize(
    ("fields", "picture", "status", "sentence"),
    [
        ({"scale": "0.5"}, PICTURE, 422, "give a scale of 1 or more"),
        ({"scale": "nan"}, PICTURE, 422, "scale is a number such as 4 or 2.5, found 'nan'"),
        ({"scal": "2"}, PICTURE, 422, "There is no field 'scal'; the nearest is 'scale'"),
        ({}, PICTURE, 422, "exactly one of scale, size"),
        ({"scale": "2", "model": "x"}, PICTURE, 422, "There is no model 'x' here"),
        ({"scale": "2", "steps": "99999"}, PICTURE, 422, "choose at most"),
        ({"scale": "2", "seed": "-1"}, PICTURE, 422, "seed"),
        ({"scale": "2", "crop": "10,0,10,5"}, PICTURE, 422, "reaches beyond the picture"),
        ({"size": "9x"}, PICTURE, 422, "size is WIDTHxHEIGHT"),
        ({"scale": "100"}, PICTURE, 422, "the limit is 1000000"),
        ({"scale": "2"}, b"no picture", 422, "The picture cannot be read: this is not a PNG"),
        ({"scale": "2"}, PICTURE[:-40], 422, "damaged or cut short"),
        ({"scale": "2"}, b"", 422, "the file is empty"),
        ({"scale": "2"}, encode_image(np.zeros((1001, 1000, 3), np.uint8), "png"), 413, "this service takes 1000000"),
        ({"scale": "2", "format": "gif"}, PICTURE, 422, "format"),
        ({"scale": "2", "steps": "1" * 3000}, PICTURE, 422, "3000 characters"),
    ],
)
def test_what_is_refused_is_refused_in_a_sentence(
    service: Service, fields: dict[str, str], picture: bytes, status: int, sentence: str
) -> None:
    with service.client() as client:
        answer = client.post("/v1/upscale", files=form(picture, "../../etc/x\\y.png"), data=fields)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert sentence in problem["detail"], problem
    assert problem["status"] == status and problem["title"]
    assert str(service.folder) not in answer.text
    assert service.files() == []
