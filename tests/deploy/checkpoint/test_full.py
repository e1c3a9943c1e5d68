"""What loading the full published model costs: 116.6 million parameters, 466 MB."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints import IDM_SCHEDULE
from tests.recordings import manifest

# Measured in a process of its own, after torch is imported; the file is in the page cache for both readers.
MEASURE = """
import json, sys, time
from pathlib import Path
import torch
import deploy.families.idm.network
from deploy.checkpoint.load import load_checkpoint

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

def seconds(read):
    start = time.perf_counter()
    kept = read()
    return time.perf_counter() - start

path = Path(sys.argv[1])
with path.open("rb") as file:
    while file.read(1 << 20):
        pass
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = resident("VmRSS")
checkpoint = load_checkpoint(path)
grown = resident("VmHWM") - before
del checkpoint
# In turn, so that whoever else uses the machine slows both.
plain_read = torch.load if path.suffix == ".pth" else None
pairs = [(seconds(lambda: load_checkpoint(path)), plain_read and seconds(lambda: plain_read(path))) for _ in range(5)]
ours, plain = (min(column) if all(column) else None for column in zip(*pairs))
print(json.dumps({"grown": grown, "size": path.stat().st_size, "ours": ours, "plain": plain}))
"""


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    tables = IDM_SCHEDULE.training_tables()
    return {
        name: torch.from_numpy(tables[name].astype(np.float32)) if name in tables else torch.full(shape, 0.01)
        for name, (shape, _) in manifest("idm_ffhq_16_128").items()
    }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_memory_and_time(tmp_path: Path, state: dict[str, torch.Tensor], form: str) -> None:

    path = tmp_path / ("full.safetensors" if form == "safetensors" else "full.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    try:
        run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    finally:
        path.unlink()
    found = json.loads(run.stdout)
    print(f"{form}: {found['grown'] / found['size']:.2f} of the file, {found['ours']:.2f} s, torch {found['plain']}")
    assert found["size"] > 466e6
    assert found["grown"] <= 1.5 * found["size"]
    # torch.load does not read a safetensors file, whose own library only maps it and looks at no number.
    assert found["plain"] is None or found["ours"] <= 2 * found["plain"]
