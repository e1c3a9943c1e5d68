"""Scales that a checkpoint brings along: recognised, carried by the bundle, used where they were asked for."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from calibration.choose.quantizer import Asymmetric, Shifted, Symmetric
from calibration.observe.layers import layers_of, read_graph
from calibration.passes.gathering import quantizable_layers
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.checkpoint.load import load_checkpoint
from deploy.checkpoint.quantizer_scales import TABLE, activation_amax, amax_of_layers, library_of, table_from_amax
from deploy.cli.main import app
from deploy.errors import BundleError, PlanError
from deploy.export.export import export_bundle
from deploy.int8.pipeline import Calibrated, quantize_bundle
from deploy.int8.settings import CHECKPOINT, Places, QuantizeSettings
from deploy.int8.trying.foreign_scales import amax_from_bundle, quantizer_from_amax
from tests.checkpoints import idm_state, save_latent
from tests.deploy.int8.conftest import CONFIG

SETTINGS = QuantizeSettings(
    activation_scales=CHECKPOINT,
    scales=(2.0,),
    crop=16,
    pictures=2,
    max_psnr_drop=50.0,
    float_share=0.0,
    correct_noise=False,
)
CONVOLUTION = "denoise_fn.downs.1.res_block.block1.block.3"
SHORTCUT = "denoise_fn.ups.0.res_block.res_conv"


def with_quantizers(state: dict[str, torch.Tensor], before: str = "_") -> dict[str, torch.Tensor]:
    """The state dict after calibration by pytorch-quantization, or by modelopt with nothing `before` its names."""
    layers = [name.removesuffix(".weight") for name, value in state.items() if value.ndim == 4 and "weight" in name]
    made = dict(state)
    for number, layer in enumerate(layers):
        made[f"{layer}.{before}input_quantizer._amax"] = torch.tensor(1.0 + number)
        made[f"{layer}.{before}weight_quantizer._amax"] = torch.ones(state[f"{layer}.weight"].shape[0], 1, 1, 1)
    return made


@pytest.fixture
def calibrated_elsewhere(tmp_path: Path) -> Path:
    path = tmp_path / "calibrated.pth"
    torch.save(with_quantizers(idm_state("idm_micro")), path)
    return path


@pytest.mark.parametrize(("before", "library"), [("_", "pytorch-quantization"), ("", "nvidia-modelopt")])
def test_the_buffers_of_both_libraries_are_recognised(before: str, library: str, tmp_path: Path) -> None:
    state = with_quantizers(idm_state("idm_micro"), before)
    torch.save(state, tmp_path / "calibrated.pth")
    loaded = load_checkpoint(tmp_path / "calibrated.pth", config=CONFIG)
    assert library_of(loaded.stored) == library
    amax = activation_amax(loaded.stored)
    assert amax[CONVOLUTION] == state[f"{CONVOLUTION}.{before}input_quantizer._amax"].item()
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "calibrated.pth"), "--json"])
    assert json.loads(result.stdout)["quantizers"] == {"library": library, "activation_scales": len(amax)}
    table = CliRunner().invoke(app, ["inspect", str(tmp_path / "calibrated.pth")]).stdout
    assert f"activation scales of {len(amax)} layers, by {library}" in " ".join(table.split())


def test_a_plain_checkpoint_has_none(micro_checkpoint: Path, micro: Bundle) -> None:
    loaded = load_checkpoint(micro_checkpoint, config=CONFIG)
    assert library_of(loaded.stored) is None
    assert activation_amax(loaded.stored) == {}
    assert "quantizers" not in CliRunner().invoke(app, ["inspect", str(micro_checkpoint)]).stdout
    assert micro.manifest.tables == {}
    with pytest.raises(BundleError, match=r"carries no activation scales: .* Leave out --scales checkpoint"):
        amax_from_bundle(micro)


def test_quantizers_that_hold_no_single_positive_number_are_passed_over(tmp_path: Path) -> None:
    state = idm_state("idm_micro")
    values = {"nan": torch.tensor(math.nan), "zero": torch.zeros(1), "many": torch.ones(4), "one": torch.full((1,), 2)}
    buffers = {f"{name}._input_quantizer._amax": value for name, value in values.items()}
    buffers |= {"right._input_quantizer._amax": torch.full((1, 1, 1, 1), 2.5)}
    torch.save(state | buffers, tmp_path / "odd.pth")
    # "one" holds a whole number, which no calibration writes.
    assert activation_amax(load_checkpoint(tmp_path / "odd.pth", config=CONFIG).stored) == {"right": 2.5}


def test_halves_share_and_folded_layers_have_none(calibrated_elsewhere: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(calibrated_elsewhere, config=CONFIG)
    bundle = export_bundle(loaded, tmp_path / "a.bundle")
    amax, known = amax_from_bundle(bundle), activation_amax(loaded.stored)
    assert amax[f"{SHORTCUT}.a"] == amax[f"{SHORTCUT}.b"] == known[SHORTCUT]
    assert amax[CONVOLUTION] == known[CONVOLUTION]
    layers = layers_of(read_graph(bundle.graph("denoise", "instance")))
    without = {layer.module for layer in layers} - set(amax)
    assert without == {layer.module for layer in layers if layer.module.endswith("imnet.features")} != set()
    # Nothing of the encoder and of what is computed once per picture, and the shortcut whole where it is not split.
    assert all(name.startswith("denoise_fn.") for name in amax)
    whole = export_bundle(loaded, tmp_path / "b.bundle", without=["split-shortcut"])
    assert amax_from_bundle(whole)[SHORTCUT] == known[SHORTCUT]
    shown = CliRunner().invoke(app, ["inspect", str(bundle.path)]).stdout
    assert "activation scales of the checkpoint" in shown


def test_the_latent_family_has_them_too(tmp_path: Path) -> None:
    path = save_latent(tmp_path)
    state = with_quantizers(torch.load(path)["state_dict"])
    torch.save({"state_dict": state}, path)
    bundle = export_bundle(load_checkpoint(path), tmp_path / "latent.bundle")
    layers = quantizable_layers(bundle.graph("denoise", "instance"))
    convolutions = [one for one in layers if one.module in amax_from_bundle(bundle)]
    # Attention projections are one-dimensional convolutions in the file, which this test gave no quantizers.
    assert {one.module.rsplit(".", 1)[1] for one in layers if one not in convolutions} == {"qkv", "proj_out"}
    assert len(convolutions) > 10


def test_a_table_is_what_was_stored(micro: Bundle) -> None:
    amax = {"b": 0.5, "a.long.name": 3.25}
    table = table_from_amax(amax)
    assert table["module"].tolist() == ["a.long.name", "b"]
    with BundleWriter.update(micro) as writer:
        name = writer.add_array("checkpoint-amax", np.zeros(3))
        changed = writer.commit(replace(micro.manifest, tables={TABLE: name}))
    with pytest.raises(BundleError, match=r"the table checkpoint_amax has the columns None, expected module and amax"):
        amax_from_bundle(changed)


def test_a_scale_is_the_127th_part_in_every_form() -> None:
    for form, lowest, highest in ((Symmetric(), -127, 127), (Shifted(), -127, 127), (Asymmetric(), -128, 127)):
        made = quantizer_from_amax(2.54, form)
        assert made.scale == pytest.approx(0.02, rel=1e-6)
        assert (made.lowest, made.highest) == (lowest, highest)
        assert made.codes(np.array([1.0, 3.0, -1.0], np.float32)).tolist() == [50, 127, -50]
    assert quantizer_from_amax(2.54, Shifted()).shift == 0.0


def test_a_layer_is_named_as_its_module_or_as_a_half_of_it(calibrated_elsewhere: Path, tmp_path: Path) -> None:
    bundle = export_bundle(load_checkpoint(calibrated_elsewhere, config=CONFIG), tmp_path / "a.bundle")
    layers = layers_of(read_graph(bundle.graph("denoise", "instance")))
    assert amax_of_layers(layers, {SHORTCUT: 2.0, "elsewhere": 3.0}) == {f"{SHORTCUT}.a": 2.0, f"{SHORTCUT}.b": 2.0}


def quantized(bundle: Bundle, photographs: Path, cache: Path, said: list[str]) -> Calibrated:
    places = Places(calibration=photographs, cache=cache, threads=1)
    return quantize_bundle(bundle, SETTINGS, places, say=said.append, progress=lambda *_: None)


def test_quantize_takes_them_and_says_how_many(
    calibrated_elsewhere: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=2)})
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    bundle = export_bundle(load_checkpoint(calibrated_elsewhere, config=CONFIG), tmp_path / "a.bundle")
    amax = amax_from_bundle(bundle)
    said: list[str] = []
    found = quantized(bundle, photographs, tmp_path / "cache", said)
    layers = [one.layer for one in found.findings.layers.values()]
    taken = [layer for layer in layers if layer.module in amax]
    assert 0 < len(taken) < len(layers)
    (line,) = [line for line in said if line.startswith("activation scales:")]
    assert f"{len(taken)} of {len(layers)} layers take theirs from the checkpoint" in line
    for scales in found.scales.values():
        assert len(scales.ranges) == 1
        for layer in taken:
            readers = [amax[one.module] for one in taken if one.input == layer.input]
            (quantizer,) = scales.quantizers[layer.input]
            assert quantizer.scale == pytest.approx(max(readers) / 127, rel=1e-6)
    assert found.record["settings"]["activation_scales"] == CHECKPOINT


def test_they_are_refused_where_there_are_none_and_for_several_ranges(
    micro: Bundle, photographs: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"carries no activation scales"):
        quantized(micro, photographs, tmp_path / "cache", [])
    assert not list((tmp_path / "cache").rglob("trajectory-*"))
    with pytest.raises(PlanError, match=r"scales of a checkpoint hold for all timesteps: 4 ranges cannot be honoured"):
        QuantizeSettings(activation_scales=CHECKPOINT, ranges=4)
    with pytest.raises(PlanError, match=r"the origin of scales 'checkpoints' is unknown \(did you mean 'checkpoint'"):
        QuantizeSettings(activation_scales="checkpoints")
