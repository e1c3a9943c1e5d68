"""What must be installed to quantize: checked before the first expensive step."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from calibration.targets.table import TARGETS, target_named
from deploy.errors import MissingPackage
from deploy.int8.settings import TARGET_NAMES
from engines.backends import DEFAULT_BACKEND, backend_named
from engines.saturation import is_refused

Say = Callable[[str], None]

INSTALL = "pip install 'idm-deploy[quantize]'"


def backend_of_target(target: str) -> str:
    """What runs a target's graphs here: the reference where the int8 sums of its own are wrong, with the same codes."""
    backend = target_named(target).tried_on
    return DEFAULT_BACKEND if is_refused(backend) else backend


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
    for name in (target for target in chosen if target in TARGETS):  # settings refuse unknown names
        probe = backend_named(target_named(name).tried_on).probe()
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
