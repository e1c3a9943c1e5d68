"""What holds for every test: one thread per process, as processes run side by side, no clock, and a cache of its own.

Set before torch, NumPy and ONNX Runtime are imported, because they look at their import only.
"""

import atexit
import os
import shutil
import tempfile

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Engines, measurements and resumable searches are cached here, not where the user keeps theirs.
_CACHE = tempfile.mkdtemp(prefix="idm-deploy-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

# No example of hypothesis has to be done in 0.2 seconds: a machine with other work takes longer.
hypothesis.settings.register_profile("untimed", hypothesis.settings(deadline=None))
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where oneDNN is kept from instructions that the processor has, tests that run OpenVINO are skipped.

    It crashes at some shapes then: its own kernels use those instructions all the same.
    """
    if isa := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        skipped = pytest.mark.skip(
            reason=f"OpenVINO crashes under ONEDNN_MAX_CPU_ISA={isa}, its own kernels heed it not"
        )
        for item in items:
            if "openvino" in item.nodeid or item.get_closest_marker("runs_openvino"):
                item.add_marker(skipped)
