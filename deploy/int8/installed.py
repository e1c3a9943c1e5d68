"""What must be installed to quantize: checked before the first expensive step."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from deploy.errors import MissingPackage
from deploy.int8.settings import TARGET_NAMES
from engines.backends import backend_named
from engines.saturation import is_refused

Say = Callable[[str], None]

INSTALL = "pip install 'idm-deploy[quantize]'"

BACKEND_OF_TARGET = {"ort": "onnxruntime-cpu", "openvino": "openvino-cpu", "tensorrt": "onnxruntime-cpu"}
"""What runs a target's graphs on a CPU. Those for TensorRT keep their codes there but compute in float."""


def backend_of_target(target: str) -> str:
    """What runs a target's graphs here: ONNX Runtime where OpenVINO's int8 sums are wrong, with the same codes."""
    backend = BACKEND_OF_TARGET[target]
    return BACKEND_OF_TARGET["ort"] if is_refused(backend) else backend


def refuse_without_onnx() -> None:
    """A MissingPackage if graphs cannot be written."""
    if find_spec("onnx") is None:
        raise MissingPackage(f"Quantizing writes ONNX graphs and needs the package onnx: {INSTALL}.")


def targets_here(asked: Sequence[str] | None, say: Say) -> tuple[str, ...]:
    """The targets that were asked for, all of them runnable here; or, if none were, every one that is.

    A target's graphs are tried on its backend before they are kept, so the backend must be installed.
    """
    chosen = TARGET_NAMES if asked is None else tuple(asked)
    lacking = {}
    for name in (one for one in chosen if one in BACKEND_OF_TARGET):  # settings refuse unknown names
        probe = backend_named(BACKEND_OF_TARGET[name]).probe()
        if not probe.available:
            lacking[name] = probe.install
    if not lacking:
        return chosen
    here = tuple(name for name in chosen if name not in lacking)
    names, lines = " and ".join(lacking), " and ".join(dict.fromkeys(lacking.values()))
    if asked is not None or not here:
        raise MissingPackage(
            f"Quantizing for {names} tries the graphs before it keeps them, and what runs them is not installed. Type"
            f" {lines}, or choose others with --targets."
        )
    say(f"no graphs for {names}, which cannot be tried here: {lines}")
    return here
