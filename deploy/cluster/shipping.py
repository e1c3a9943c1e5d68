"""A bundle on its way to workers: its files go into the cluster's store once, and each machine keeps them by hash."""

import hashlib
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from deploy.bundle.naming import MANIFEST_NAME
from deploy.errors import BundleError, ClusterError
from engines.cache import default_cache_dir

FOLDER = "bundles"
"""Where machines keep bundles that came to them, in the user's cache."""


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """The files of a bundle in the cluster's store. sha256: of its bundle.json, which has those of the others."""

    name: str
    sha256: str
    files: dict[str, Any]


def shipped(ray: Any, bundle: Bundle) -> Shipment:
    """The bundle, ready to be taken by any worker."""
    import numpy as np

    names = [MANIFEST_NAME, *bundle.manifest.files]
    digest = hashlib.sha256((bundle.path / MANIFEST_NAME).read_bytes()).hexdigest()
    # As arrays, which workers of one machine read where they lie, without copies.
    files = {name: ray.put(np.fromfile(bundle.path / name, np.uint8)) for name in names}
    return Shipment(name=bundle.path.resolve().name, sha256=digest, files=files)


def unpacked(ray: Any, shipment: Shipment) -> Bundle:
    """The bundle as this machine keeps it, each hash checked; taken from the store where it is not here yet."""
    folder = default_cache_dir() / FOLDER / shipment.sha256 / shipment.name
    with suppress(BundleError):
        return _opened(folder, shipment)
    coming = folder.parent.parent / f".coming-{secrets.token_hex(8)}"
    try:
        coming.mkdir(parents=True)
        for name, reference in shipment.files.items():
            (coming / name).parent.mkdir(parents=True, exist_ok=True)
            with (coming / name).open("wb") as file:
                file.write(memoryview(ray.get(reference)))
        _opened(coming, shipment)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another worker of this machine was faster
            coming.rename(folder)
        return _opened(folder, shipment)
    except OSError as error:
        raise ClusterError(
            f"keeping the bundle {shipment.name} in {folder.parent.parent}: {error.strerror}. Make room there, or let "
            "XDG_CACHE_HOME name another folder before Ray is started."
        ) from error
    finally:
        shutil.rmtree(coming, ignore_errors=True)


def _opened(folder: Path, shipment: Shipment) -> Bundle:
    bundle = Bundle.open(folder)
    found = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    if found != shipment.sha256:
        raise BundleError(f"{folder} holds another bundle than its name says.")
    return bundle
