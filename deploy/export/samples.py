"""The sample pictures of a bundle: what `infer` enlarges where no picture is named."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.bundle import Bundle, BundleWriter, stem_from_name
from deploy.bundle.naming import content_name
from deploy.errors import ImageError
from deploy.images.files import read_image
from deploy.images.formats.table import FORMATS
from deploy.packaged.places import FREE_SAMPLES

SUFFIX_OF_FORMAT = {record.name: record.suffixes[0][1:] for record in FORMATS.values()}
"""A sample is named after its content: the user's file may have another suffix, or none."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture that goes into a bundle as it is; `stem` and `suffix` make its name there."""

    stem: str
    suffix: str
    content: bytes

    @property
    def name(self) -> str:
        """The name of its file in a bundle."""
        return content_name(self.stem, self.suffix, hashlib.sha256(self.content).hexdigest())


def read_samples(paths: Iterable[Path]) -> list[Sample]:
    """The pictures in these files, each once; one that `infer` could not read is refused."""
    samples = []
    for path in paths:
        suffix = SUFFIX_OF_FORMAT[read_image(path).origin.format]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ImageError(f"reading {path}: {error.strerror}. Check that it stays while it is copied.") from error
        samples.append(Sample(stem=stem_from_name(path.name), suffix=suffix, content=content))
    return list(dict.fromkeys(samples))


def default_samples(trained: Sequence[float] | None) -> list[Sample]:
    """Packaged pictures; none where there are no scales of training: such a model makes pictures from noise alone."""
    return [] if trained is None else read_samples(FREE_SAMPLES)


def add_samples(writer: BundleWriter, samples: Sequence[Sample]) -> tuple[str, ...]:
    """The names of the samples in the bundle that is written."""
    return tuple(writer.add_bytes(sample.stem, sample.suffix, sample.content) for sample in samples)


def with_samples(bundle: Bundle, samples: Sequence[Sample]) -> Bundle:
    """The bundle, updated in place, with these samples instead of those it had."""
    if [sample.name for sample in samples] == list(bundle.manifest.samples):
        return bundle
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, samples=add_samples(writer, samples)))
