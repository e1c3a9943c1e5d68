"""Under which licences the packages stand that an installation brings, and why each of them is no obstacle.

What a package declares is taken at its word; what a wheel carries besides its own code stands in CARRIED.
"""

import importlib.metadata
import re
from collections.abc import Iterator, Mapping

_PERMISSIVE = "use and pass on freely, with its notice"
_WEAK = "its own files stay under it when changed; we change none"

ALLOWED: Mapping[str, str] = {
    "0BSD": _PERMISSIVE,
    "Apache-2.0": _PERMISSIVE,
    "Apache-2.0 WITH LLVM-exception": _PERMISSIVE,
    "BSD-2-Clause": _PERMISSIVE,
    "BSD-3-Clause": _PERMISSIVE,
    "BSL-1.0": _PERMISSIVE,
    "CC0-1.0": "in the public domain",
    "CNRI-Python": _PERMISSIVE,
    "ISC": _PERMISSIVE,
    "MIT": _PERMISSIVE,
    "MIT-CMU": _PERMISSIVE,
    "MPL-2.0": _WEAK,
    "PSF-2.0": _PERMISSIVE,
    "Zlib": _PERMISSIVE,
}
"""SPDX identifier -> why a package of a user may stand under it."""

CARRIED: Mapping[str, str] = {
    "pillow-heif": "libheif, libde265 (LGPL-3.0) and libx265 (GPL-2.0): for whoever installs the extra `images`; "
    "the container images, which are passed on, leave it out",
    "numpy": "libgfortran, libquadmath (GPL-3.0 with GCC's run-time exception, LGPL-2.1): free to pass on",
}
"""Package -> libraries under other licences in its wheels, as its own list of licences says."""

FOR_GPUS = ("cuda-", "nvidia-")
"""How the names of NVIDIA's libraries begin, which stand under NVIDIA's own terms. The extra gpu brings them, and
torch where its build for CPUs alone is not asked for; nothing that runs on a CPU needs them."""

_WORDS: Mapping[str, str] = {
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psf": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
"""How packages name their licence that do not use SPDX's expressions -> SPDX."""


def packages_of(extras: frozenset[str], root: str = "idm-deploy") -> dict[str, importlib.metadata.Distribution]:
    """Every installed package that `root` with some of its extras brings, by normalised name."""
    from packaging.requirements import Requirement

    found: dict[str, importlib.metadata.Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(root, extra) for extra in sorted(extras | {""})]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in asked:
            continue
        asked.add((name, extra))
        found[name] = importlib.metadata.distribution(name)
        for line in found[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(normal_name(needed.name), one) for one in {"", *needed.extras}]
    return found


def licence_of(package: importlib.metadata.Distribution) -> str:
    """The SPDX expression of a package: its own, or of what its classifiers or its free words say; else those words."""
    told = package.metadata
    if "License-Expression" in told:
        return str(told["License-Expression"])
    classifiers = [str(line).rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if "License ::" in line]
    free = told["License"].strip() if "License" in told else ""
    words = classifiers or free.splitlines()[:1] or ["nothing"]
    return " OR ".join(_WORDS.get(word.lower(), word) for word in words)


def obstacles(expression: str) -> Iterator[str]:
    """The licences of an expression that are not allowed: all that AND joins must be, of what OR joins one."""
    for part in re.split(r"\s+AND\s+", expression):
        choices = re.split(r"\s+OR\s+", part.strip(" ()"))
        if not any(choice.strip(" ()") in ALLOWED for choice in choices):
            yield part


def normal_name(name: str) -> str:
    """A package's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()
