"""Everything that idm-deploy refuses, as exceptions with a sentence for the user.

DeployError
 |- CheckpointError    a file that is not a checkpoint, or not one of a known family
 |- ClusterError       a Ray cluster that cannot be reached, or that lacks what is needed
 |- ConfigError        a configuration that is malformed or contradicts the weights
 |- BundleError        a bundle that is missing, altered, newer than this tool, or would be overwritten
 |- FolderError        an output folder that cannot be used
 |- HubError           a model on a hub that cannot be fetched or uploaded
 |- ImageError         a picture that cannot be read or written
 |- SizeError          an output size, scale or tile that cannot be honoured
 |- PlanError          an impossible choice of equation, steps or placement
 |- ParameterError     a parameter of the Python API of another kind than it takes; a TypeError too
 |- OutputError        a network produced values that are not numbers
 |- QuantizationError  int8 that would cost more quality than was allowed
 `- MissingPackage     an optional dependency is not installed

The message says what was being done to which file, what was expected and found, and what to do next. The
command line prints it and exits with 1; anything that is not a DeployError (or the base error of the
packages below) is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_MESSAGE = 2000
"""Characters of a message; of a longer one, which quotes a stranger's file, the middle is left out."""


def readable(text: str) -> str:
    """Text as a terminal may have it: no control characters, and not without end."""
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[: 3 * LONGEST_MESSAGE // 4]} ... {text[-LONGEST_MESSAGE // 4 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


class DeployError(Exception):
    """Base of every error that deploy raises on purpose; its message can be shown on a terminal, whatever it quotes."""

    def __init__(self, message: str = "") -> None:
        super().__init__(readable(message))


class BundleError(DeployError):
    """A bundle is missing, altered, newer than this tool, or would be overwritten."""


class CheckpointError(DeployError):
    """A file is not a checkpoint, or not one of a known family."""


class ClusterError(DeployError):
    """A Ray cluster cannot be reached, or lacks what is needed."""


class ConfigError(DeployError):
    """A configuration is malformed or contradicts the weights."""


class FolderError(DeployError):
    """An output folder cannot be used: it is not empty, or cannot be written to."""


class HubError(DeployError):
    """A model on a hub cannot be fetched or uploaded."""


class ImageError(DeployError):
    """A picture cannot be read or written."""


class MissingPackage(DeployError):  # noqa: N818  a state of the installation rather than an error of the user
    """An optional dependency is not installed; the message carries the pip command."""


class OutputError(DeployError):
    """A network produced values that are not numbers."""


class ParameterError(DeployError, TypeError):
    """A parameter of the Python API is of another kind than it takes."""


class PlanError(DeployError):
    """An impossible choice of denoising equation, steps or placement."""


class QuantizationError(DeployError):
    """Int8 that would cost more quality than was allowed."""


class SizeError(DeployError):
    """An output size, scale or tile that cannot be honoured."""


def nearest_name(name: object, known: Iterable[str]) -> str:
    """Of the known names the one that a person who wrote `name` most probably meant, however unlike it is."""
    return get_close_matches(str(name)[:100], known, n=1, cutoff=0.0)[0]
