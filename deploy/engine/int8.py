"""The int8 denoiser of a bundle at run time: its graph, and the scales that serve each noise level.

Scales change from one timestep range to the next. Where they are inputs of the graph, they come with the row of each
step (`Int8Denoiser.row`), so the loop knows nothing of ranges. Where they are constants, there is an engine per range,
chosen by the row's index: all of them open the one graph, each with the constants of its range.
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
    """Whether a backend can run the int8 graphs of any target."""
    return target_of_form(backend_named(backend).int8_form) is not None


def target_of_backend(backend: str) -> str:
    """The int8 target whose graphs a backend runs; an EngineError if it runs none."""
    record = backend_named(backend)
    target = target_of_form(record.int8_form)
    if target is None:
        raise EngineError(f"The engine {backend} runs no int8 graphs. It has {', '.join(record.precisions)}.")
    return target.name


def has_int8(bundle: Bundle, backend: str) -> bool:
    """Whether the bundle has int8 graphs that this backend runs."""
    quantization = bundle.manifest.quantization
    return quantization is not None and runs_int8(backend) and target_of_backend(backend) in quantization.targets


class Int8Denoiser:
    """The int8 form of `denoise` for one target."""

    def __init__(self, bundle: Bundle, target: str) -> None:
        quantization = bundle.manifest.quantization
        if quantization is None:
            raise BundleError(f"{bundle.path} has no int8 graphs. Make them with `idm-deploy quantize`.")
        if target not in quantization.targets:
            targets = sorted(quantization.targets)
            raise BundleError(
                f"{bundle.path} has no int8 graphs for the target {target}, only for {', '.join(targets)}."
                f" Quantize again with --force --targets {','.join([*targets, target])}."
            )
        self.bundle = bundle
        self.target = target
        self._quantization = quantization
        self._record = quantization.targets[target]
        self._ranges = TimestepRanges(self._record.edges)

    @property
    def graph(self) -> Path:
        """The graph of all ranges; an engine is given it by `graph_files.int8_graph_file`, which looks at it."""
        return self.bundle.file(self._record.graph)

    @property
    def digest(self) -> str:
        """The SHA-256 of what decides what the graphs compute."""
        return self._record.digest

    @property
    def engines(self) -> int:
        """How many engines serve all ranges: one, or as many as there are ranges."""
        return len(self._ranges) if self._constants else 1

    def constants(self, index: int) -> dict[str, Array]:
        """The graph's constants in the engine of a range, by name; empty if one engine serves all ranges."""
        return {name: value for entry in self._constants for name, value in entry.in_range(index).items()}

    def row(self, row: PlanRow) -> PlanRow:
        """The step with its timestep range, that range's scales among its feeds, and the correction of its level."""
        index = self._ranges.index_of(min(max(float(row.noise_level), 0.0), 1.0))
        numbers = {rows.input: rows.row(index) for rows in self._rows}
        correction = self._correction(row.noise_level)
        return replace(row, range_index=index, correction=correction, feeds={**row.feeds, **numbers})

    def plan_with_own_noise(self, plan: Plan) -> Plan:
        """The plan with less fresh noise in its steps, by as much as the error of the int8 estimates brings by itself.

        The variances add up: a step wants noise of scale d, the estimate's error of variance v enters it with the
        factor b, and sqrt(d^2 - b^2 v) is left to be added. That matters little where int8 is good:
        docs/measurements.md, fresh noise beside int8.
        """
        corrections = self._record.noise_corrections
        if not corrections or plan.settings.fitted:  # fitted rows say what was best with int8 as it is
            return plan
        levels, variances = zip(*((entry.noise_level, entry.estimate_variance) for entry in corrections), strict=True)
        measured_with_clip = plan.rules.clip
        rows = []
        for row in plan.rows:
            variance = float(np.interp(row.noise_level, levels, variances)) if row.clip == measured_with_clip else 0.0
            rows.append(replace(row, noise=remaining_noise_scale(row.noise, row.x0[0], variance)))
        return replace(plan, rows=tuple(rows))

    def notice_of_plan(self, plan: Plan) -> str | None:
        """A line for people where equation or steps are not those of the calibration; None where they are."""
        calibrated = np.array(self._quantization.noise_levels)
        levels = np.array([row.noise_level for row in plan.rows])
        strange = int((np.abs(levels[:, None] - calibrated).min(axis=1) > SAME_LEVEL).sum())
        equations = self._quantization.equations  # a calibration's trials do not say
        remarks = []
        if equations and plan.settings.equation not in equations:
            remarks.append(f"calibrated with {' and '.join(equations)}, not {plan.settings.equation}")
        if strange:
            remarks.append(f"{strange} of {len(levels)} steps lie at noise levels that were not calibrated")
        if not remarks:
            return None
        return f"int8: {'; '.join(remarks)}; each step uses the scales of the range that holds its noise level"

    @cached_property
    def _rows(self) -> list[RangeRows]:
        return [self._read(name, files) for name, files in sorted(self._record.rows.items())]

    @cached_property
    def _constants(self) -> list[RangeConstants]:
        return [
            RangeConstants(names=constants.names, rows=self._read(name, constants.rows))
            for name, constants in sorted(self._record.constants.items())
        ]

    def _read(self, name: str, files: RangeFiles) -> RangeRows:
        arrays = {key: read_array(self.bundle.file(file)) for key, file in files.by_array.items()}
        return RangeRows.from_arrays(name, arrays)

    @cached_property
    def _corrections(self) -> tuple[Array, Array, Array] | None:
        """Noise levels (rising), gains and offsets (levels, channels)."""
        corrections = self._record.noise_corrections
        if not corrections:
            return None
        levels, gains, offsets = zip(
            *((entry.noise_level, entry.gain, entry.offset) for entry in corrections), strict=True
        )
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


def read_array(path: Path) -> Array:
    """One array of a bundle; nothing in the file is executed."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is not a .npy array of numbers ({error}). Quantize again with --force.") from error
