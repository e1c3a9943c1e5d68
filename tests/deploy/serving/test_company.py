"""What pictures have to do with others that are made beside them: turns, memory, and not a byte."""

import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from deploy.images.files import encode_image
from deploy.measure.metrics import psnr
from tests.deploy.serving.service import Service, served
from tests.deploy.serving.test_life import start, until
from tests.deploy.serving.test_upscale import form

pytestmark = pytest.mark.slow

PICTURES = [
    encode_image(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8), "png") for number in range(12)
]


def made(service: Service, pictures: list[bytes], clients: int) -> list[bytes]:
    """The results of pictures that so many clients ask for at the same time."""

    def ask(picture: bytes) -> bytes:
        with service.client() as client:
            answer: httpx2.Response = client.post("/v1/upscale", files=form(picture), data={"scale": "4"})
        assert answer.status_code == 200, answer.text
        return answer.content

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(ask, pictures))


def sizes_of_batches(service: Service) -> dict[float, int]:
    """How many batches there were of at most so many pictures."""
    with service.client() as client:
        figures = client.get("/metrics").text
    counts = re.findall(r'^idm_batch_size_bucket\{le="([\d.]+)"\} (\d+)', figures, re.MULTILINE)
    return {float(size): int(count) for size, count in counts}


def test_company_changes_no_byte_and_batches_are_tried(tmp_path: Path) -> None:
    with served(tmp_path / "tmp", options=("--max-queue", "100")) as service:
        alone = made(service, PICTURES, 1)
        assert made(service, PICTURES, 12) == alone
        assert made(service, PICTURES * 6, 12) == alone * 6  # with the trial among them, and what it has chosen
        sizes = sizes_of_batches(service)
        assert sizes[8.0] > sizes[2.0], "some were made together at least in the trial"
        assert service.files() == []
    with served(tmp_path / "tmp8", options=("--batch", "8")) as service:
        together = made(service, PICTURES, 12)
        assert sizes_of_batches(service)[8.0] > sizes_of_batches(service)[4.0]
        for one, other in zip(together, alone, strict=True):
            pixels = [np.asarray(Image.open(io.BytesIO(file))) for file in (one, other)]
            assert one == other or psnr(pixels[0], pixels[1]) >= 80


def test_a_large_picture_stops_no_small_one_and_memory_is_set_aside(tmp_path: Path) -> None:
    """A worker's second place is for short ones; two large ones do not fit, and one that never will is refused."""
    with served(tmp_path / "tmp", options=("--max-memory", "320MiB")) as service:
        large = {"scale": "60", "stages": "once", "draws": "40"}  # 960x720, some minutes here
        jobs = [start(service, large) for _ in range(2)]
        until(service, jobs[0]["links"]["self"], {"running"}, 20)
        began = time.monotonic()
        with service.client() as client:
            for _ in range(3):
                assert client.post("/v1/upscale", files=form(), data={"scale": "2"}).status_code == 200
            states = [client.get(job["links"]["self"]).json() for job in jobs]
            assert [state["state"] for state in states] == ["running", "queued"]
            assert time.monotonic() - began < states[0]["expected_seconds"]
            stopped = threading.Thread(target=lambda: client.delete(jobs[0]["links"]["self"]))
            stopped.start()
            stopped.join(5)
            until(service, jobs[1]["links"]["self"], {"running"}, 20)
            client.delete(jobs[1]["links"]["self"])
            wide = encode_image(np.zeros((6000, 6000, 3), np.uint8), "png")
            for crop, sentence in (
                ("", "needs about [0-9.]+ GiB of memory, 240.0 MiB are allowed. Ask for a smaller picture"),
                ("0,0,8,8", "takes about 274.7 MiB of memory before it is enlarged"),
            ):
                refused = client.post("/v1/upscale", files=form(wide), data={"scale": "1", "crop": crop})
                assert refused.status_code == 413 and re.search(sentence, refused.text), refused.text
    limits = ("--max-memory", "320MiB", "--max-pixels", "30000000", "--max-kept", "40kB")
    with served(tmp_path / "tmp2", options=limits) as service:
        # What clients sent counts among what is kept.
        wide = [start(service, {"scale": "1"}, PICTURES[0] + bytes(30_000)) for _ in range(2)]
        until(service, wide[0]["links"]["self"], {"expired"}, 20)
        until(service, wide[1]["links"]["self"], {"done"}, 1)
        # Pictures of the largest kind that is taken at all are cut into tiles that leave room for small ones.
        with service.client() as client:
            estimate = client.post("/v1/estimate", json={"width": 50, "height": 50, "scale": 100, "stages": "once"})
        assert estimate.json()["bytes"] <= 240 << 20
