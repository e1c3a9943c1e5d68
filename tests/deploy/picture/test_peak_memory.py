"""The memory of a process without torch stays below what it was allowed, whatever the output size."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle
from deploy.picture.memory import bytes_from_text

PROGRAM = """
import json, sys
sys.argv = ["idm-deploy", "infer", *sys.argv[1:]]
from deploy.cli.main import main
try:
    main()
finally:
    # Not resource's ru_maxrss: it begins at what the parent had before the fork.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(json.dumps({"peak": peak, "torch": "torch" in sys.modules}), file=sys.stderr)
"""


def peak_of(bundle: Bundle, place: Path, *arguments: str) -> int:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(place / "64.png")
    Image.fromarray(pixels[:16, :16]).save(place / "16.png")
    command = [sys.executable, "-c", PROGRAM, *arguments, "--bundle", str(bundle.path), "--threads", "1"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    measured = json.loads(done.stderr.splitlines()[-1])
    assert not measured["torch"]
    return int(measured["peak"])


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of resident memory is read from /proc"
)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["4", "12"])
@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_an_idm_bundle_keeps_its_budget_at_any_scale(
    idm_micro: Bundle, tmp_path: Path, scale: str, engine: str
) -> None:
    """In one piece the larger would take 90 MB of state and conditions and 5 GB of attention on ONNX Runtime."""
    allowed = "320MiB"
    peak = peak_of(
        idm_micro, tmp_path, "64.png", "--scale", scale, "--steps", "1", "--max-memory", allowed, "--engine", engine
    )
    assert peak < bytes_from_text(allowed)


@pytest.mark.slow
@pytest.mark.long
def test_stages_and_draws_keep_it_too(idm_micro: Bundle, tmp_path: Path) -> None:
    """1024x1024 pixels at the end; what stages and draws collect is 1 and 13 MB of floats, the latter on disk."""
    allowed = "320MiB"
    ways = ["--scale", "16", "--steps", "1", "--stages", "4,4", "--draws", "2", "--engine", "onnxruntime-cpu"]
    assert peak_of(idm_micro, tmp_path, "64.png", *ways, "--max-memory", allowed) < bytes_from_text(allowed)


@pytest.mark.slow
def test_a_latent_decodes_to_200_times_its_size_in_flat_memory(latent_sr: Bundle, tmp_path: Path) -> None:
    """3200 x 3200 pixels are 123 MB of colours alone; rows are queried and written as they come."""
    small, large = (
        peak_of(latent_sr, tmp_path, "16.png", "--scale", scale, "--steps", "1", "--max-memory", "1GiB")
        for scale in ("50", "200")
    )
    assert large < small + (32 << 20) and large < 1 << 30
    with Image.open(tmp_path / "16_x200.png") as image:
        assert image.size == (3200, 3200)
