"""Int8 graphs that are tried before the user's bundle changes: a copy of the bundle."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace as changed

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.naming import MANIFEST_NAME
from deploy.bundle.quantization import Int8Target, LevelCorrection, Quantization
from deploy.errors import FolderError
from deploy.int8.storing.storing import GraphsOfTarget, TargetGraphs, write_decoder, write_targets

NoiseCorrections = Mapping[str, Sequence[LevelCorrection]]
"""Per target, the correction at each recorded level."""


@dataclass
class Draft:
    """A scratch bundle; `bundle` is what was tried last."""

    bundle: Bundle
    levels: tuple[float, ...]
    decoder: Mapping[str, GraphsOfTarget] = field(default_factory=dict)
    """The latent decoder's int8 graphs by target, which all trials use."""

    def tried(self, made: Sequence[TargetGraphs], corrections: NoiseCorrections | None = None) -> Bundle:
        """The scratch bundle with these int8 graphs and no others."""
        with BundleWriter.update(self.bundle) as writer:
            targets = written_targets(writer, self.bundle, made, corrections or {}, self.decoder)
            quantization = Quantization(targets=targets, noise_levels=self.levels)
            self.bundle = writer.commit(replace(self.bundle.manifest, quantization=quantization))
        return self.bundle


@contextmanager
def drafted(bundle: Bundle, folder: Path, levels: Sequence[float]) -> Iterator[Draft]:
    """A scratch copy in `folder`, gone when the block is left."""
    for remains in folder.glob("draft-*"):  # of a calibration that was killed
        shutil.rmtree(remains, ignore_errors=True)
    with TemporaryDirectory(dir=folder, prefix="draft-") as scratch:
        place = Path(scratch) / "draft.bundle"
        place.mkdir()
        try:
            for name in [MANIFEST_NAME, *bundle.manifest.files]:  # not linked: onnx refuses weights with two names
                shutil.copyfile(bundle.path / name, place / name)
        except OSError as error:
            raise FolderError(
                f"copying {bundle.path} to {folder}, to try int8 on: {error.strerror}. Make room there, or name "
                "another folder with `cache_dir`."
            ) from error
        plain = Bundle.open(place, verify="sizes")
        yield Draft(plain, tuple(levels))


def written_targets(
    writer: BundleWriter,
    bundle: Bundle,
    made: Sequence[TargetGraphs],
    corrections: NoiseCorrections,
    decoder: Mapping[str, GraphsOfTarget],
) -> dict[str, Int8Target]:
    """What the manifest says of the graphs, once they are in the bundle."""
    targets = write_targets(writer, made, bundle.manifest.graphs["denoise"].weights)
    decoders = write_decoder(writer, bundle, {name: graphs for name, graphs in decoder.items() if name in targets})
    return {
        name: changed(target, noise_corrections=tuple(corrections.get(name, ())), decoder=decoders.get(name))
        for name, target in targets.items()
    }
