"""Which numbers serve a noise level, on hand-made manifests."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.targets.range_rows import RowWriter
from deploy.bundle import Bundle
from deploy.bundle.quantization import ConstantFiles, Quantization, RangeFiles
from deploy.engine.choice import engine_choice
from deploy.engine.graphs import EngineChoice
from deploy.engine.int8 import (
    Int8Denoiser,
    has_int8,
    read_array,
    target_of_backend,
)
from deploy.errors import BundleError
from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from deploy.sampling.step import advance, estimate_picture
from engines.backends import BACKENDS, backend_named
from engines.errors import EngineError
from engines.machine.host import Cpu
from tests.deploy.quantizations import correction, int8_target


@dataclass(frozen=True)
class FakeManifest:
    quantization: Quantization | None


@dataclass(frozen=True)
class FakeBundle:
    """A folder of arrays and what a manifest says of them."""

    path: Path
    manifest: FakeManifest

    def file(self, name: str) -> Path:
        return self.path / name


def denoiser(folder: Path, target: str = "ort", quantized: bool = True, constant: bool = False) -> Int8Denoiser:
    writer = RowWriter("range_numbers", 2)
    writer.add("scale", np.array([0.5, 0.25]))
    rows = {}
    for name, array in writer.rows().to_arrays().items():
        np.save(folder / f"{name}.npy", array)
        rows[name] = f"{name}.npy"
    files = RangeFiles(**rows)
    described = int8_target(
        graph="a.onnx",
        edges=(0.0, 0.6, 1.0),
        rows={} if constant else {"range_numbers": files},
        constants={"range_numbers": ConstantFiles(names=("m.scale",), rows=files)} if constant else {},
        noise_corrections=(correction(0.2, 1.0, 0.0, 0.01), correction(0.4, 2.0, 1.0, 0.03)),
    )
    told = Quantization(noise_levels=(0.2, 0.4, 0.8), equations=("ddim",), targets={"ort": described})
    bundle: Any = FakeBundle(folder, FakeManifest(told if quantized else None))
    return Int8Denoiser(bundle, target)


def test_each_step_is_fed_the_row_of_its_range(tmp_path: Path) -> None:
    asked = [replace(PlanRow.evaluation(level), feeds={"noise_row": np.ones(1)}) for level in (0.2, 0.8)]
    first, second = map(denoiser(tmp_path).row, asked)
    assert (first.range_index, second.range_index) == (0, 1)
    assert first.feeds["range_numbers"].tolist() == [0.5] and first.feeds["noise_row"] is asked[0].feeds["noise_row"]
    assert second.feeds["range_numbers"].tolist() == [0.25]


def test_scales_that_are_constants_need_an_engine_per_range(tmp_path: Path) -> None:
    int8 = denoiser(tmp_path)
    assert (int8.graph, int8.engines, int8.constants(0)) == (tmp_path / "a.onnx", 1, {})
    int8 = denoiser(tmp_path, constant=True)
    assert int8.engines == 2
    assert [{name: value.item() for name, value in int8.constants(k).items()} for k in (0, 1)] == [
        {"m.scale": 0.5},
        {"m.scale": 0.25},
    ]
    row = int8.row(PlanRow.evaluation(0.8))
    assert row.range_index == 1 and not row.feeds


def test_the_correction_between_two_levels_is_interpolated(tmp_path: Path) -> None:
    """Half-way from 0.2 to 0.4: gain 1.5, offset 0.5; a prediction of 2 becomes 3.5."""
    correction = denoiser(tmp_path).row(PlanRow.evaluation(0.3)).correction
    assert correction is not None
    assert (correction.gain.item(), correction.offset.item()) == pytest.approx((1.5, 0.5))
    assert correction.of(np.full((1, 1, 2, 2), 2.0, np.float32)) == pytest.approx(3.5)


def plan_of(levels: tuple[float, ...], equation: str = "ddim", eta: float = 0.0) -> Plan:
    schedule = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
    settings = PlanSettings(equation=equation, steps=len(levels), placement=levels, eta=eta)
    return make_plan(schedule, settings, rules=IDM_SAMPLING)


@pytest.mark.parametrize(("equation", "eta"), [("ddpm", 0.0), ("ddim", 1.0), ("ddim", 0.5)])
def test_int8_noise_and_fresh_noise_together_are_what_the_step_wants(equation: str, eta: float, tmp_path: Path) -> None:
    """An estimate with white noise of the variance that was recorded at 0.3 (0.02, between 0.01 and 0.03)."""
    wanted = plan_of((0.3, 0.8), equation, eta)
    reduced = denoiser(tmp_path).plan_with_own_noise(wanted)
    before, after = wanted.rows[0], reduced.rows[0]
    assert 0.9 * before.noise < after.noise < 0.999 * before.noise
    rng = np.random.default_rng(0)
    shape = (1, 1, 1000, 1000)
    state, scratch, estimate = np.zeros(shape), np.empty(shape), np.empty(shape)
    error = 0.02**0.5 * after.noise_level / after.sigma  # of the prediction, where 0 is right
    estimate_picture(after, state, error * rng.standard_normal(shape), out=estimate, scratch=scratch)
    advance(after, state, [estimate], rng.standard_normal(shape), scratch)
    # the deviation of a million draws is known to 0.07 %
    assert state.std() == pytest.approx(before.noise, rel=0.003)


def test_steps_without_noise_stay_as_they_are_and_none_adds_less_than_nothing(tmp_path: Path) -> None:
    int8 = denoiser(tmp_path)
    plain = plan_of((0.2, 0.3, 0.8))
    assert int8.plan_with_own_noise(plain) == plain
    noisy = plan_of((0.2, 0.3, 0.8), "ddim", 1e-3)
    assert [row.noise for row in int8.plan_with_own_noise(noisy).rows] == [0.0, 0.0, 0.0]
    assert min(row.noise for row in noisy.rows[:-1]) > 0


def test_estimates_without_limits_were_not_measured(tmp_path: Path) -> None:
    """Where a picture model samples without clipping, what was measured with it says nothing."""
    settings = PlanSettings(equation="ddpm", steps=2, placement=(0.3, 0.8), clip=False)
    plan = make_plan(NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2), settings, rules=IDM_SAMPLING)
    assert denoiser(tmp_path).plan_with_own_noise(plan) == plan


@pytest.mark.parametrize(
    ("levels", "equation", "told"),
    [
        ((0.2, 0.8), "ddim", None),
        ((0.2, 0.5, 0.8), "ddim", "int8: 1 of 3 steps lie at noise levels that were not calibrated; each step uses"),
        ((0.2, 0.8), "ddpm", "int8: calibrated with ddim, not ddpm; each step uses the scales of the range"),
        ((0.3, 0.8), "ddpm", "int8: calibrated with ddim, not ddpm; 1 of 2 steps lie at noise levels"),
    ],
)
def test_another_way_to_sample_than_the_calibrated_one_is_told_in_one_line(
    levels: tuple[float, ...], equation: str, told: str | None, tmp_path: Path
) -> None:
    found = denoiser(tmp_path).notice_of_plan(plan_of(levels, equation))
    assert (found is None) is (told is None)
    assert found is None or (found.startswith(str(told)) and "\n" not in found)


def test_a_bundle_without_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graphs\. Make them with `idm-deploy quantize`"):
        denoiser(tmp_path, quantized=False)
    with pytest.raises(BundleError, match=r"no int8 graphs for the target openvino, only for ort.*--targets"):
        denoiser(tmp_path, target="openvino")


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"x\.npy is not a \.npy array.*Quantize again"):
        read_array(tmp_path / "x.npy")


def test_a_precision_that_no_target_has(idm_tiny: Bundle) -> None:
    with pytest.raises(EngineError, match="has no precision 'int4'"):
        engine_choice(idm_tiny, "onnxruntime-cpu", "int4")


@pytest.mark.parametrize(
    ("has_bf16", "features", "isa", "precision"),
    [
        (True, {"AMX": True, "BF16": True}, "", "bf16"),
        (True, {"AMX": False, "BF16": True}, "", "fp32"),  # an Intel: no AMD
        (True, {"AMX": False, "BF16": False}, "", "fp32"),  # AVX-512 alone, where OpenVINO converts
        (True, {"AMX": True, "BF16": True}, "AVX512_CORE_VNNI", "fp32"),
        (False, {"AMX": True, "BF16": True}, "", "fp32"),
    ],
)
def test_openvino_computes_in_bf16_around_int8_where_that_is_faster(
    has_bf16: bool, features: dict[str, bool], isa: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = Cpu(model="", cores=1, usable_cores=1, features=features, vendor="GenuineIntel")
    assert replace(cpu, vendor="AuthenticAMD").computes_bf16_fast == features["BF16"]
    monkeypatch.setattr("engines.adapters.openvino_engine.has_bf16", lambda: has_bf16)
    monkeypatch.setattr("engines.adapters.openvino_engine.find_cpu", lambda: cpu)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    around = {name: EngineChoice(backend=name, precision="int8").precision_of_engines for name in BACKENDS}
    assert (around["openvino-cpu"], around["onnxruntime-cpu"]) == (precision, "fp32")
    assert backend_named("openvino-cpu").precisions_here() == (("fp32", "bf16") if has_bf16 else ("fp32",))


def test_a_backend_without_int8(idm_tiny: Bundle) -> None:
    assert not has_int8(idm_tiny, "onnxruntime-cuda")
    with pytest.raises(EngineError, match=r"The engine onnxruntime-cuda runs no int8 graphs\. It has fp32, fp16\."):
        target_of_backend("onnxruntime-cuda")


def test_a_bundle_type_fits(idm_tiny: Bundle) -> None:
    """The fakes above stand for this type: an exported bundle is refused in the same words."""
    with pytest.raises(BundleError, match="has no int8 graphs"):
        Int8Denoiser(idm_tiny, "ort")
