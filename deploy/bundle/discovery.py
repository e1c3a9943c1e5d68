"""Which bundle a command means when none is named."""

import os
from pathlib import Path

from deploy.bundle.naming import MANIFEST_NAME
from deploy.errors import BundleError
from deploy.foreign.places import kind_of_folder, refusal_of_address
from deploy.hub import local_path


def discover(
    folder: str | Path | None = None, explicit: str | Path | None = None, fallback: Path | None = None
) -> Path:
    """The folder of the bundle: `explicit` if given, else `folder` (default: the current one), else its only child.

    Where there is none at all it is `fallback`, if that is given. Hidden children are passed over: a killed export
    may have left one.
    """
    if explicit is not None:
        place = local_path(explicit)
        if not holds_manifest(place):
            raise BundleError(refusal_of_bundle(place))
        return place
    here = Path.cwd() if folder is None else Path(folder)
    if holds_manifest(here):
        return here
    bundles = _children_with_manifest(here)
    if not bundles and fallback is not None:
        return fallback
    if not bundles:
        raise BundleError(
            f"found no bundle in {here} or the folders in it. Name its folder, or make one with "
            "`idm-deploy export CKPT`."
        )
    if len(bundles) > 1:
        names = ", ".join(path.name for path in bundles)
        raise BundleError(f"found {len(bundles)} bundles in {here}: {names}. Name the one you mean.")
    return bundles[0]


def refusal_of_bundle(path: Path) -> str:
    """What to say of a path where a bundle is expected and there is none: what is there, and how to get a bundle."""
    address = refusal_of_address(path)
    if address is not None:
        return address
    if _is_file(path):
        return (
            f"{path} is not a bundle but a file, and a bundle is a folder. If it is a checkpoint, `idm-deploy export "
            f"{path}` makes a bundle of it."
        )
    if not os.path.lexists(path):
        return f"{path} does not exist. Name the folder of a bundle, or make one with `idm-deploy export CKPT`."
    kind = kind_of_folder(path)
    if kind is not None:
        return f"{path} is not a bundle but {kind}. `idm-deploy export CKPT` makes a bundle from a checkpoint file."
    return f"{path} is not a bundle: it has no {MANIFEST_NAME}. `idm-deploy export CKPT` makes a bundle."


def _is_file(path: Path) -> bool:
    """Whether it is one; what cannot be looked at is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def holds_manifest(folder: Path) -> bool:
    """Whether `folder` claims to be a bundle; one that cannot be looked into does not."""
    return os.path.lexists(folder / MANIFEST_NAME)


def _children_with_manifest(here: Path) -> list[Path]:
    try:
        children = sorted(here.iterdir())
    except OSError as error:
        raise BundleError(f"cannot look for a bundle in {here}: {error.strerror}.") from error
    return [child for child in children if not child.name.startswith(".") and holds_manifest(child)]
