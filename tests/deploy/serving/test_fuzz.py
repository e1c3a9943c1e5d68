"""Whatever is sent: an answer below 500, and a refusal is problem+json with a sentence. No service falls over."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.serving.asked import FIELDS, Asked
from deploy.serving.problems import Problem
from tests.deploy.serving.service import Service
from tests.deploy.serving.test_upscale import PICTURE

SAFE = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["2", "-1", "1e400", "nan", "0x10", "4,3", "once", "auto", "64x64", "0,0,4,4", "true", "9" * 30, "٣"]
    ),
)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
names = st.one_of(st.sampled_from([*FIELDS]), st.text(max_size=12))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as asking:
        yield asking


def check(answer: httpx2.Response) -> None:
    """The answer is one that a program and a person can work with."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert len(problem["detail"]) > 10 and problem["detail"][-1] in ".'\"?)", problem


@given(st.dictionaries(names, values, max_size=5))
@settings(SAFE, max_examples=40)
def test_fields_are_read_or_refused(fields: dict[str, Any]) -> None:
    """Without a service, so of many more kinds; what was read is read again from JSON."""
    try:
        asked = Asked.of(fields)
    except Problem:
        return
    again = json.loads(json.dumps(asked.as_json()))
    assert Asked.of(again).as_json() == asked.as_json()


@pytest.mark.slow
@given(st.dictionaries(names, texts, max_size=4), st.one_of(st.just(PICTURE), st.binary(max_size=200)), st.booleans())
@SAFE
def test_forms(client: httpx2.Client, fields: dict[str, str], picture: bytes, is_usual: bool) -> None:
    fields = fields | ({"scale": "2"} if is_usual else {})
    answer = client.post("/v1/upscale?wait=false", files={"image": ("a", picture)}, data=fields)
    check(answer)
    if answer.status_code == 202:
        check(client.delete(answer.json()["links"]["self"]))


@pytest.mark.slow
@given(
    st.sampled_from(
        ["/v1/estimate", "/v2/models/idm-demo/infer", "/sdapi/v1/extra-single-image", "/sdapi/v1/extra-batch-images"]
    ),
    st.one_of(
        st.dictionaries(names, values, max_size=4),
        st.fixed_dictionaries({"width": values, "height": values}),
        st.fixed_dictionaries(
            {
                "inputs": st.lists(
                    st.dictionaries(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), values),
                    max_size=2,
                )
            }
        ),
        st.fixed_dictionaries({"image": texts, "upscaling_resize": values, "resize_mode": values}),
        values,
    ),
)
@SAFE
def test_json(client: httpx2.Client, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    check(client.post(path, content=content))
    check(client.post(path, content=content[:-1]))


@pytest.mark.slow
@given(
    st.binary(max_size=300), st.sampled_from(["multipart/form-data; boundary=b", "multipart/form-data", "text/plain"])
)
@SAFE
def test_bodies_of_bytes(client: httpx2.Client, content: bytes, kind: str) -> None:
    for path in ("/v1/upscale", "/v2/models/idm-demo/infer"):
        check(client.post(path, content=b"--b\r\n" + content, headers={"Content-Type": kind}))
        check(client.post(path, content=content, headers={"Inference-Header-Content-Length": "3"}))


@pytest.mark.slow
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40))
@SAFE
def test_addresses(client: httpx2.Client, name: str) -> None:
    for path in ("/v1/jobs/{}", "/v1/jobs/{}/result", "/v2/models/{}", "/{}"):
        check(client.get(path.format(quote(name, safe=""))))
