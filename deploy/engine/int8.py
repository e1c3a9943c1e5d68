"""The int8 graphs of a bundle at run time: which numbers serve a noise level.

What changes from one timestep range to the next comes with the row of each step (`Int8Denoiser.row`), so the loop
knows nothing of ranges. A target whose scales are constants needs an engine per range instead, chosen by the row's
index: all of them open the one graph, each with the constants of its range.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from calibration.choose.correction import remaining_noise_scale
from calibration.choose.ranges import TimestepRanges
from calibration.targets.range_rows import RangeConstants, RangeRows
from calibration.targets.table import target_of_form
from deploy.bundle import Bundle
from deploy.bundle.quantization import RangeFiles
from deploy.errors import BundleError
from deploy.sampling.plan import Correction, Plan, PlanRow
from engines.arrays import Array
from engines.backends import backend_named
from engines.errors import EngineError

SAME_LEVEL = 1e-6
"""Noise levels closer than this are one: plans are made in float64 from the same schedule."""


def runs_int8(backend: str) -> bool:
    """Whether a backend has int8 at all: some target's graphs are in the form that it runs."""
    return target_of_form(backend_named(backend).int8_form) is not None


def target_of_backend(backend: str) -> str:
    """Whose graphs a backend runs in int8."""
    record = backend_named(backend)
    target = target_of_form(record.int8_form)
    if target is None:
        raise EngineError(f"The engine {backend} runs no int8 graphs. It has {', '.join(record.precisions)}.")
    return target.name


def has_int8(bundle: Bundle, backend: str) -> bool:
    """Whether the bundle was quantized for what this backend runs."""
    quantization = bundle.manifest.quantization
    return quantization is not None and runs_int8(backend) and target_of_backend(backend) in quantization.targets


class Int8Denoiser:
    """The int8 form of `denoise` for one target."""

    def __init__(self, bundle: Bundle, target: str) -> None:
        quantization = bundle.manifest.quantization
        if quantization is None:
            raise BundleError(f"{bundle.path} has no int8 graphs. Make them with `idm-deploy quantize`.")
        if target not in quantization.targets:
            known = sorted(quantization.targets)
            raise BundleError(
                f"{bundle.path} has no int8 graphs for the target {target}, only for {', '.join(known)}."
                f" Quantize again with --force --targets {','.join([*known, target])}."
            )
        self.bundle = bundle
        self.target = target
        self._quantization = quantization
        self._described = quantization.targets[target]
        self._ranges = TimestepRanges(self._described.edges)

    @property
    def graph(self) -> Path:
        """The graph of all ranges."""
        return self.bundle.file(self._described.graph)

    @property
    def engines(self) -> int:
        """How many engines serve all ranges: one, or as many as there are ranges."""
        return len(self._ranges) if self._constants else 1

    def constants(self, index: int) -> dict[str, Array]:
        """What the graph's constants are in the engine of a range; empty if one engine serves all ranges."""
        return {name: value for one in self._constants for name, value in one.in_range(index).items()}

    def row(self, row: PlanRow) -> PlanRow:
        """The same step with its range, the numbers of that range among its feeds, and the correction of its level."""
        index = self._ranges.index_of(min(max(float(row.noise_level), 0.0), 1.0))
        numbers = {rows.input: rows.row(index) for rows in self._rows}
        correction = self._correction(row.noise_level)
        return replace(row, range_index=index, correction=correction, feeds={**row.feeds, **numbers})

    def plan_with_own_noise(self, plan: Plan) -> Plan:
        """The plan whose steps add as much less fresh noise as the error of the int8 estimates brings by itself.

        The variances add up: a step wants noise of scale d, the estimate's error of variance v enters it with the
        factor b, and sqrt(d^2 - b^2 v) is left to be added. That matters little where int8 is good: on the demo model
        (ONNX Runtime, ddpm with 20 steps, six held-out pictures) no scale falls by more than 0.02 %, and pictures are
        52.21 dB from float ones instead of 52.19.
        """
        found = self._described.noise_corrections
        if not found:
            return plan
        levels, variances = [one.noise_level for one in found], [one.estimate_variance for one in found]
        measured_with_clip = plan.rules.clip
        rows = []
        for row in plan.rows:
            variance = float(np.interp(row.noise_level, levels, variances)) if row.clip == measured_with_clip else 0.0
            rows.append(replace(row, noise=remaining_noise_scale(row.noise, row.x0[0], variance)))
        return replace(plan, rows=tuple(rows))

    def notice_of_plan(self, plan: Plan) -> str | None:
        """One line when equation or steps are not those of the calibration; None when they are."""
        known = np.array(self._quantization.noise_levels)
        levels = np.array([row.noise_level for row in plan.rows])
        strange = int((np.abs(levels[:, None] - known).min(axis=1) > SAME_LEVEL).sum())
        equations = self._quantization.equations  # a calibration's trials do not say
        told = []
        if equations and plan.settings.equation not in equations:
            told.append(f"calibrated with {' and '.join(equations)}, not {plan.settings.equation}")
        if strange:
            told.append(f"{strange} of {len(levels)} steps lie at noise levels that were not calibrated")
        if not told:
            return None
        return f"int8: {'; '.join(told)}; each step uses the scales of the range that holds its noise level"

    @cached_property
    def _rows(self) -> list[RangeRows]:
        return [self._read(name, files) for name, files in sorted(self._described.rows.items())]

    @cached_property
    def _constants(self) -> list[RangeConstants]:
        return [
            RangeConstants(names=constants.names, rows=self._read(name, constants.rows))
            for name, constants in sorted(self._described.constants.items())
        ]

    def _read(self, name: str, files: RangeFiles) -> RangeRows:
        arrays = {key: read_array(self.bundle.file(file)) for key, file in files.by_array.items()}
        return RangeRows.from_arrays(name, arrays)

    @cached_property
    def _corrections(self) -> tuple[Array, Array, Array] | None:
        """Noise levels (rising), gains and offsets (levels, channels)."""
        found = self._described.noise_corrections
        if not found:
            return None
        levels, gains, offsets = zip(*((one.noise_level, one.gain, one.offset) for one in found), strict=True)
        return np.array(levels), np.array(gains), np.array(offsets)

    def _correction(self, level: float) -> Correction | None:
        if self._corrections is None:
            return None
        levels, *tables = self._corrections
        gain, offset = (
            np.array([np.interp(level, levels, column) for column in table.T], np.float32).reshape(1, -1, 1, 1)
            for table in tables
        )
        return Correction(gain=gain, offset=offset)


def int8_decoder_graph(bundle: Bundle, target: str, name: str) -> Path | None:
    """The int8 form of a graph of the latent decoder; None where it stays in float."""
    described = None if bundle.manifest.quantization is None else bundle.manifest.quantization.targets.get(target)
    if described is None or described.decoder is None or name not in described.decoder.graphs:
        return None
    return bundle.file(described.decoder.graphs[name])


def read_array(path: Path) -> Array:
    """One array of a bundle; nothing in the file is executed."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is not a .npy array of numbers ({error}). Quantize again with --force.") from error
