"""The tests against recorded tensors once more, on kernels that other processors would be given.

Libraries choose their kernels by the processor, and can be told to choose as on a lesser one. Each choice sums in
another order and has another exp. What cannot be told so (ONNX Runtime) is left as it is.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORDED = (
    "tests/deploy/families/networks",
    "tests/deploy/sampling",
    "tests/deploy/families/rewriting/test_idm.py",
    "tests/deploy/picture/test_recorded_runs.py",
    "tests/deploy/picture/test_recorded_latent_runs.py",
    "tests/deploy/checkpoint/test_load.py",
    "tests/deploy/images/test_coordinates.py",
    "tests/deploy/images/test_shifted_lookup.py",
    "tests/test_synthetic.py",
)
LIMITS = {
    "PyTorch without vector instructions": {"ATEN_CPU_CAPABILITY": "default"},
    "PyTorch, NumPy and OpenBLAS with AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
    "oneDNN, and so OpenVINO, with AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN with VNNI but no bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "the C library's sines and exponentials without FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4"},
}


def numpy_beyond_avx2() -> str:
    """The instruction sets of this CPU that NumPy would use beyond AVX2, by its names for them."""
    used: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return " ".join(name for name in used if name.startswith(("AVX512", "X86_V4")))


ALWAYS = ("oneDNN, and so OpenVINO, with AVX2",)
"""What is furthest from this processor in what a deployed bundle runs on; the others run in `make test-long`."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.long) for name in LIMITS]
)
def test_recordings_hold_on_kernels_of_other_processors(limits: str, tmp_path: Path) -> None:
    limited = dict(LIMITS[limits])
    if "OPENBLAS_CORETYPE" in limited:
        limited["NPY_DISABLE_CPU_FEATURES"] = numpy_beyond_avx2()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *RECORDED]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | limited | {"HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{limited}:\n{done.stdout[-4000:]}"
