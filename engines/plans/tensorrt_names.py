"""TensorRT and TensorRT-RTX: two packages with one interface, and what tells them apart."""

from dataclasses import dataclass

from engines.packages import installed_version, is_importable


@dataclass(frozen=True, kw_only=True)
class TensorRtPackage:
    """`distributions` maps the names that pip may know it by to the CUDA it was made with, where the name says so."""

    backend: str
    module: str
    distributions: dict[str, tuple[int, int] | None]
    install: str
    has_timing_cache: bool
    """TensorRT-RTX takes the calls of one, but they do nothing: it has a runtime cache instead."""

    def version(self) -> str | None:
        """What is installed; None if nothing is. Nothing is imported."""
        installed = self._installed()
        return None if installed is None else installed[0]

    def needed_cuda(self) -> tuple[int, int] | None:
        """The CUDA that the driver must have for the installed one, where its name says."""
        installed = self._installed()
        return None if installed is None else self.distributions[installed[1]]

    def _installed(self) -> tuple[str, str] | None:
        if not is_importable(self.module):
            return None
        names = ((installed_version(name), name) for name in self.distributions)
        return next(((version, name) for version, name in names if version), None)


TENSORRT = TensorRtPackage(
    backend="tensorrt",
    module="tensorrt",
    distributions={"tensorrt-cu13": (13, 0), "tensorrt-cu12": (12, 0), "tensorrt": None},
    install="pip install 'idm-deploy[tensorrt]' --extra-index-url https://pypi.nvidia.com",
    has_timing_cache=True,
)
TENSORRT_RTX = TensorRtPackage(
    backend="tensorrt-rtx",
    module="tensorrt_rtx",
    distributions={"tensorrt-rtx-cu13": (13, 0), "tensorrt-rtx-cu12": (12, 0), "tensorrt-rtx": None},
    install="pip install 'idm-deploy[tensorrt-rtx]'",
    has_timing_cache=False,
)
