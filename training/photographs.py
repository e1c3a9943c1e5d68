"""The photographs that scikit-image and scikit-learn carry inside their wheels: nothing is downloaded."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.errors import MissingPackage

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph, where it lies, under which licence, and whether training may see it."""

    name: str
    file: str
    package: str = "skimage"
    licence: str
    weight: float = 1.0
    """How often crops are taken from it: plain textures and medical pictures less often than scenes."""
    held_out: bool = False


FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
PUBLIC_DOMAIN, CC0 = "public domain", "CC0"
NO_RESTRICTIONS = "no known copyright restrictions"
MIDDLEBURY = "Middlebury 2014 stereo data, to be cited (Scharstein et al., GCPR 2014)"

PHOTOGRAPHS = (
    Photograph(name="astronaut", file="astronaut.png", licence=PUBLIC_DOMAIN),
    Photograph(name="brick", file="brick.png", licence=CC0, weight=0.4),
    Photograph(name="camera", file="camera.png", licence=CC0, weight=0.7),
    Photograph(name="chelsea", file="chelsea.png", licence=CC0, held_out=True),
    Photograph(name="china", file="china.jpg", package="sklearn", licence="CC BY 2.0, danielbuechele"),
    Photograph(name="coffee", file="coffee.png", licence=CC0, held_out=True),
    Photograph(name="coins", file="coins.png", licence=NO_RESTRICTIONS, weight=0.5),
    Photograph(name="flower", file="flower.jpg", package="sklearn", licence="CC BY 2.0, danielbuechele", held_out=True),
    Photograph(name="grass", file="grass.png", licence=CC0, weight=0.4),
    Photograph(name="gravel", file="gravel.png", licence=CC0, weight=0.4),
    Photograph(name="hubble_deep_field", file="hubble_deep_field.jpg", licence=PUBLIC_DOMAIN, weight=0.4),
    Photograph(name="immunohistochemistry", file="ihc.png", licence=NO_RESTRICTIONS, weight=0.5),
    Photograph(name="motorcycle_left", file="motorcycle_left.png", licence=MIDDLEBURY),
    Photograph(name="motorcycle_right", file="motorcycle_right.png", licence=MIDDLEBURY),
    Photograph(name="retina", file="retina.jpg", licence=CC0, weight=0.4),
    Photograph(name="rocket", file="rocket.jpg", licence=PUBLIC_DOMAIN),
)


def training_photographs() -> tuple[Photograph, ...]:
    """The photographs that training sees."""
    return tuple(photograph for photograph in PHOTOGRAPHS if not photograph.held_out)


def held_out_photographs() -> tuple[Photograph, ...]:
    """The photographs that no training ever sees, for evaluation."""
    return tuple(photograph for photograph in PHOTOGRAPHS if photograph.held_out)


def read_photograph(photograph: Photograph, folder: Path | None = None) -> Picture:
    """The pixels (height, width, 3) of a photograph, from `folder` if it is given, else from the package."""
    path = (folder or package_folder(photograph.package)) / photograph.file
    if not path.is_file():
        raise MissingPackage(
            f"The photograph {photograph.name} is not at {path}; install {DISTRIBUTIONS[photograph.package]} as a "
            "complete wheel, or name a folder that has the files with --photographs."
        )
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def package_folder(package: str) -> Path:
    """The folder with the pictures of an installed package. The package itself is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackage(
            f"The training photographs of {DISTRIBUTIONS[package]} are needed and it is not installed; "
            f"run: pip install {DISTRIBUTIONS[package]}"
        )
    return Path(spec.origin).parent / FOLDERS[package]


def reductions(picture: Picture, factors: tuple[float, ...], smallest_side: int) -> list[Picture]:
    """The picture reduced by each factor with an antialiased filter, as long as no side falls below the limit."""
    height, width = picture.shape[:2]
    reduced = []
    for factor in factors:
        size = round(width / factor), round(height / factor)
        if min(size) >= smallest_side:
            image = Image.fromarray(picture)
            reduced.append(np.array(image if factor == 1 else image.resize(size, Image.Resampling.LANCZOS)))
    return reduced
