"""What a model that makes pictures from noise alone is worth: one picture at several sizes, and many at one.

There is no original to hold a picture against. Whether its sizes show the same picture, SelfSSIM says; how much
pictures differ, their spread; how near they are to real ones, FID, KID, precision and recall, where Inception's weights
lie on disk and there are enough of both (`deploy.measure.inception`).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ImageError, PlanError
from deploy.images.files import READ_SUFFIXES, read_image
from deploy.images.sizes import UserSize
from deploy.measure.evaluation.contenders import Setting
from deploy.measure.evaluation.tables import text_from_interval
from deploy.measure.inception import LEAST, Features, Inception, distribution_figures
from deploy.measure.metrics import SSIM_SIDE, Interval, mean_with_interval, self_ssim
from engines.progress import Progress

SIZES = (1.0, 1.25, 1.5)
"""Times the size of the training, as the latent paper's 128, 160 and 192."""
PICTURES = 16
"""So many are made where nothing else is said."""
WITHOUT_ORIGINALS: Mapping[str, Any] = {
    "scales": [],
    "samples": 1,
    "measures": {},
    "protocol": "generation: 1, 1.25 and 1.5 times the size of the training, of one latent; the larger one reduced by "
    "antialiased bicubic",
    "photographs": 0,
    "rule": "",
    "originals": [],
    "rows": [],
    "recommended": [],
}
"""What `report.report_from_evaluations` tells of originals, where there are none."""
HEADINGS = {"fid": "FID", "kid": "KID", "precision": "precision", "recall": "recall"}


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One setting's figures. `self_ssim`: of each pair of sizes (width, height), smaller first."""

    name: str
    text: str
    evaluations: int
    seconds: float
    self_ssim: Mapping[tuple[UserSize, UserSize], Interval]
    diversity: float | None
    """Standard deviation of a value between the pictures, in levels; None for one picture."""
    distribution: Mapping[str, float] = field(default_factory=dict)


def evaluate_generation(
    settings: Sequence[Setting],
    count: int,
    *,
    inception: Inception | None = None,
    real: Features | None = None,
    progress: Progress,
) -> list[Generated]:
    """`count` pictures of every setting, each at three sizes of one latent, beside the features of real ones."""
    if count < 1:
        raise PlanError(f"An evaluation needs at least 1 generated picture, found {count}.")
    rows = []
    for index, setting in enumerate(settings):
        usual = setting.upscaler.session.model.generation(1, None, None).size
        sizes = [(round(usual[1] * times), round(usual[0] * times)) for times in SIZES]
        pairs = [pair for pair in combinations(sizes, 2) if min(pair[0]) >= SSIM_SIDE]
        alike: dict[tuple[UserSize, UserSize], list[float]] = {pair: [] for pair in pairs}
        spread, features, seconds = _Spread(), [], []
        for number in range(count):
            progress(f"{setting.name}, picture {number + 1}", (index + number / count) / len(settings))
            began = time.perf_counter()
            made = setting.upscaler.generate(sizes, 1, setting.seed, sample=number, choices=setting.choices)[0]
            seconds.append(time.perf_counter() - began)
            by_size = dict(zip(sizes, made, strict=True))
            for pair, values in alike.items():
                values.append(self_ssim(by_size[pair[1]], by_size[pair[0]]))
            spread.add(made[0])
            if inception is not None and real is not None:
                features.append(inception.features(made[0]))
        about = setting.about()
        rows.append(
            Generated(
                name=setting.name,
                text=about.text,
                evaluations=about.evaluations or 0,
                seconds=float(np.median(seconds)),
                self_ssim={pair: mean_with_interval(values) for pair, values in alike.items()},
                diversity=spread.deviation(),
                distribution=distribution_figures(np.stack(features), real) if features and real is not None else {},
            )
        )
    return rows


class _Spread:
    """The standard deviation of every value between pictures, without keeping the pictures."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: NDArray[np.float64] | None = None
        self._squares: NDArray[np.float64] | None = None

    def add(self, picture: NDArray[np.uint8]) -> None:
        values = picture.astype(np.float64)
        if self._mean is None or self._squares is None:
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
        self._count += 1
        apart = values - self._mean
        self._mean += apart / self._count
        self._squares += apart * (values - self._mean)

    def deviation(self) -> float | None:
        """Averaged as `metrics.diversity` does; None below two pictures."""
        if self._squares is None or self._count < 2:
            return None
        return float(np.sqrt(self._squares.mean() / (self._count - 1)))


def real_features(folder: Path, inception: Inception, progress: Progress) -> Features:
    """What Inception sees of every picture in a folder."""
    paths = picture_paths(folder)
    features = []
    for number, path in enumerate(paths):
        progress(f"real picture {number + 1} of {len(paths)}", number / len(paths))
        features.append(inception.features(read_image(path).pixels))
    return np.stack(features)


def picture_paths(folder: Path) -> list[Path]:
    """The pictures of a folder by name; there must be some."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in READ_SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise ImageError(f"reading real pictures: {folder} holds none; name the folder that holds the pictures.")
    return paths


def reason_for_no_distribution(generated: int, real: int | None) -> str | None:
    """Which figures of distributions are left out for want of pictures, in a line; None: none of them."""
    if real is None:
        return "FID, KID, precision and recall were not measured: name a folder of real pictures"
    short = {least: [HEADINGS[name] for name in LEAST if LEAST[name] == least] for least in LEAST.values()}
    missing = [
        f"{' and '.join(names)} at least {least}" for least, names in short.items() if min(generated, real) < least
    ]
    if not missing:
        return None
    return f"of {generated} generated and {real} real pictures, left out: {', '.join(missing)} of both"


def table_from_generation(rows: Sequence[Generated]) -> list[list[str]]:
    """The heading and a line for each setting."""
    pairs = list(dict.fromkeys(pair for row in rows for pair in row.self_ssim))
    names = [name for name in HEADINGS if any(name in row.distribution for row in rows)]
    heading = ["", "steps", *(f"SelfSSIM {_text(a)}, {_text(b)}" for a, b in pairs), "diversity"]
    lines = [[*heading, *(HEADINGS[name] for name in names), "s/picture"]]
    for row in rows:
        cells = [row.name, str(row.evaluations)]
        cells += [text_from_interval(row.self_ssim[pair], 3) if pair in row.self_ssim else "-" for pair in pairs]
        cells.append("-" if row.diversity is None else f"{row.diversity:.1f}")
        cells += [f"{row.distribution[name]:.4g}" if name in row.distribution else "-" for name in names]
        lines.append([*cells, f"{row.seconds:.3f}"])
    return lines


def record_from_generation(rows: Sequence[Generated], count: int, real: int | None) -> dict[str, Any]:
    """The same in JSON's types."""
    return {
        "pictures": count,
        "real_pictures": real,
        "rows": [
            {
                "name": row.name,
                "description": row.text,
                "evaluations": row.evaluations,
                "seconds": row.seconds,
                "self_ssim": [
                    {"smaller": list(a), "larger": list(b), "mean": value.mean, "half_width": value.half_width}
                    for (a, b), value in row.self_ssim.items()
                ],
                "diversity": row.diversity,
                **{name: row.distribution.get(name) for name in HEADINGS},
            }
            for row in rows
        ],
    }


def _text(size: UserSize) -> str:
    return f"{size[0]}x{size[1]}"
