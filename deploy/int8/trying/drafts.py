"""Int8 graphs that are tried before the user's bundle changes: a copy of the bundle."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from calibration.choose.correction import NoiseCorrection
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.naming import MANIFEST_NAME
from deploy.engine.int8_decoder import KEY
from deploy.int8.storing.storing import GraphsOfTarget, TargetGraphs, write_decoder, write_targets


@dataclass(frozen=True, kw_only=True)
class LevelCorrection:
    """What the sampler makes of the int8 prediction at one noise level.

    estimate_variance: of the difference between the pictures estimated in float and in int8, both limited as the
    family's sampler limits them; averaged over channels, each without its mean, which `noise` takes away.
    """

    noise: NoiseCorrection
    estimate_variance: float


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
            quantization = quantization_of(writer, self.bundle, made, self.levels, corrections or {}, self.decoder)
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
        for name in [MANIFEST_NAME, *bundle.manifest.files]:  # not linked: onnx refuses weights with two names
            shutil.copyfile(bundle.path / name, place / name)
        plain = Bundle.open(place, verify="sizes")
        yield Draft(plain, tuple(levels))


def quantization_of(
    writer: BundleWriter,
    bundle: Bundle,
    made: Sequence[TargetGraphs],
    levels: Sequence[float],
    corrections: NoiseCorrections,
    decoder: Mapping[str, GraphsOfTarget],
) -> dict[str, Any]:
    """What the manifest says of the graphs, once they are in the bundle."""
    targets = write_targets(writer, made, bundle.manifest.graphs["denoise"]["weights"])
    for target, rows in corrections.items():
        targets[target]["noise_corrections"] = json_from_corrections(rows)
    chosen = {target: graphs for target, graphs in decoder.items() if target in targets}
    for target, entry in write_decoder(writer, bundle, chosen).items():
        targets[target][KEY] = entry
    return {"targets": targets, "noise_levels": list(levels)}


def json_from_corrections(rows: Sequence[LevelCorrection]) -> list[dict[str, Any]]:
    """The corrections as the manifest and calibration.json hold them."""
    return [
        {
            "noise_level": row.noise.noise_level,
            "gain": list(row.noise.gain),
            "offset": list(row.noise.offset),
            "estimate_variance": row.estimate_variance,
        }
        for row in rows
    ]
