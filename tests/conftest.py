"""What holds for every test: one thread per process, since the processes run side by side, and nobody is told of it.

Set before torch, NumPy and ONNX Runtime are imported, because they look at their import only.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
