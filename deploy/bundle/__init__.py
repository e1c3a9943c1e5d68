"""The artefact: a directory that holds everything the run time needs, described and hashed by its bundle.json.

`manifest` says what bundle.json may contain, `quantization` what it says of int8; `reading` opens and verifies a
bundle, `writing` makes or updates one so that a kill at any moment leaves the old one whole, `discovery` finds the
bundle a command means. Everything here needs numpy, msgspec and the standard library only.
"""

from deploy.bundle.discovery import discover
from deploy.bundle.manifest import SCHEMA, Manifest
from deploy.bundle.naming import stem_from_name
from deploy.bundle.reading import Bundle
from deploy.bundle.records import FileRecord
from deploy.bundle.writing import BundleWriter

__all__ = ["SCHEMA", "Bundle", "BundleWriter", "FileRecord", "Manifest", "discover", "stem_from_name"]
