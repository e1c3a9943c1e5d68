"""idm-deploy: ship implicit diffusion super-resolution models.

A checkpoint becomes a picture in this order:
`checkpoint` and `families` read it, `networks` compute what the authors' networks compute, `rewrite` makes
them cheaper without changing the result, `export` writes ONNX graphs into a `bundle`, and `runtime` runs the
bundle on an engine with the equations of `sampling` and the pictures of `images`.

The names below are imported on first use, so that `import deploy` brings in neither torch nor an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.bundle import Bundle as Bundle
    from deploy.checkpoint.load import load_checkpoint as load_checkpoint
    from deploy.folders.enlarge import enlarge as enlarge
    from deploy.folders.outcome import Outcome as Outcome
    from deploy.picture.run import Progress as Progress
    from deploy.picture.upscaler import Upscaler as Upscaler

__version__ = "0.1.0"
__all__ = ["Bundle", "Outcome", "Progress", "Upscaler", "__version__", "enlarge", "load_checkpoint"]

_HOMES = {
    "Bundle": "deploy.bundle",
    "Outcome": "deploy.folders.outcome",
    "Progress": "deploy.picture.run",
    "Upscaler": "deploy.picture.upscaler",
    "enlarge": "deploy.folders.enlarge",
    "load_checkpoint": "deploy.checkpoint.load",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'deploy' has no attribute {name!r}")
