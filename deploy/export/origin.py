"""The checkpoint that a bundle came from, read again for comparison."""

from pathlib import Path

from deploy.bundle import Bundle
from deploy.checkpoint.load import Checkpoint, load_checkpoint, weights_named
from deploy.checkpoint.state_dicts import state_from_contents
from deploy.checkpoint.weights_files import open_weights
from deploy.errors import BundleError
from deploy.families.table import family_named, recorded_config
from deploy.foreign.networks import refuse_foreign_network


def load_origin(bundle: Bundle, path: Path) -> Checkpoint:
    """The checkpoint that the bundle was exported from, with the configuration and weights chosen then.

    A file of another size is refused, for what it is if that is known, before its weights are read: it may be of
    another family, which the bundle's configuration does not fit.
    """
    manifest = bundle.manifest
    if path.is_file() and path.stat().st_size != manifest.source["bytes"]:
        refuse_foreign_network(path, state_from_contents(open_weights(path), manifest.weights).shapes)
        raise _another_file(bundle, path, "sizes")
    config = family_named(manifest.family).as_mapping(recorded_config(manifest.family, manifest.configuration))
    checkpoint = load_checkpoint(path, config=config, weights=weights_named(manifest.weights))
    refuse_other_origin(bundle, checkpoint)
    return checkpoint


def refuse_other_origin(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """A BundleError unless the checkpoint's file is the one that the bundle was exported from."""
    if bundle.manifest.source["sha256"] != checkpoint.sha256:
        raise _another_file(bundle, checkpoint.path, "SHA-256")


def _another_file(bundle: Bundle, path: Path, difference: str) -> BundleError:
    return BundleError(
        f"{bundle.path} was exported from another file than {path} (their {difference} differ); name the checkpoint "
        f"it came from, {bundle.manifest.source['file']}."
    )
