"""What holds for every test: one thread per process, since processes run side by side, and a cache of its own.

Set before torch, NumPy and ONNX Runtime are imported, because they look at their import only.
"""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Engines, measurements and resumable searches are cached here, not where the user keeps theirs.
_CACHE = tempfile.mkdtemp(prefix="idm-deploy-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
