"""What counts as the same picture, beyond what `infer` shows: models, numeric forms, notes of other versions."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from deploy.bundle import Bundle, Manifest
from deploy.bundle.records import Preset
from deploy.engine.chosen import AUTO
from deploy.engine.graphs import EngineChoice
from deploy.errors import ImageError
from deploy.images.sizes import Size
from deploy.images.writing import Saving
from deploy.picture.existing import DIFFERENCES, Making, form_of, forms_that_will_do, note_of_existing
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.deploy.quantizations import HELD_OUT


def made_with(bundle: Bundle, precision: str = "fp32", engine: str = AUTO, preset: str | None = None) -> Making:
    with Upscaler(bundle, engine=engine, precision=precision, threads=1) as upscaler:
        sampling = upscaler.sampling(Choices(preset=preset, steps=3))
        return Making.of_run(upscaler, sampling, seed=0, tile=None).of_source("00", Size(8, 12), Saving(), "png")


def recalibrated(manifest: Manifest, **changes: object) -> Manifest:
    quantization = manifest.quantization
    assert quantization is not None
    targets = {name: changed(target, **changes) for name, target in quantization.targets.items()}
    return replace(manifest, quantization=quantization.with_targets(targets))


def test_every_record_is_compared_and_told_in_words(quantized_idm: Bundle) -> None:
    making = made_with(quantized_idm)
    forms = frozenset([making.form])
    assert set(DIFFERENCES) == set(making.__dataclass_fields__)
    assert making.differences(making.note(), forms) == []
    for name, template in DIFFERENCES.items():
        other = replace(making, **{name: "other"})
        words = template.format(before="other", now=getattr(making, name))
        assert making.differences(other.note(), forms) == [words]
    for unreadable in (b"", b"\xff", b"[1]", b'{"seed": {}}', b"[" * 50_000):
        assert len(making.differences(unreadable, forms)) == len(DIFFERENCES)
    for hostile in ("\x1b[2J", "7" * 50_000):
        told = " ".join(making.differences(replace(making, seed=hostile).note(), forms))
        assert told == f"with seed something unreadable instead of {making.seed}"


def test_the_engine_is_no_difference_and_the_numeric_form_only_if_it_was_named(quantized_idm: Bundle) -> None:
    manifest = quantized_idm.manifest
    in_float, in_int8 = made_with(quantized_idm), made_with(quantized_idm, "int8", "onnxruntime-cpu")
    assert in_float == made_with(quantized_idm, "fp32", "openvino-cpu")
    assert replace(in_int8, form="fp32") == in_float  # nothing else follows from the precision
    assert in_float.differences(in_int8.note(), forms_that_will_do(manifest, AUTO, in_float.form)) == []
    assert in_int8.differences(in_float.note(), forms_that_will_do(manifest, AUTO, in_int8.form)) == []
    named = forms_that_will_do(manifest, "int8", in_int8.form)
    assert in_int8.differences(in_float.note(), named) == [f"in fp32 instead of {in_int8.form}"]


def test_another_calibration_is_another_form_and_what_was_measured_since_is_not(quantized_idm: Bundle) -> None:
    manifest = quantized_idm.manifest
    int8 = EngineChoice(precision="int8")
    form = form_of(manifest, int8)
    assert form_of(recalibrated(manifest, held_out=HELD_OUT), int8) == form
    other = recalibrated(manifest, edges=(0.0, 0.5, 1.0))
    assert form_of(other, int8) != form != "int8"
    assert form_of(other, EngineChoice()) == "fp32"
    assert form not in forms_that_will_do(other, AUTO, "fp32")


def test_what_surrounds_int8_counts_where_it_is_named(quantized_idm: Bundle) -> None:
    manifest = quantized_idm.manifest
    usual, exact = (
        form_of(manifest, EngineChoice(backend="openvino-cpu", precision="int8", around=around))
        for around in ("bf16", "fp32")
    )
    assert exact == f"{usual}-fp32"
    for asked in (AUTO, "int8"):
        assert {usual, exact} <= forms_that_will_do(manifest, asked, usual)
    assert forms_that_will_do(manifest, "int8", exact, "fp32") == {exact}


def test_neither_presets_nor_int8_nor_samples_make_another_model_but_weights_do(quantized_idm: Bundle) -> None:
    def model_of(**changes: object) -> str:
        return made_with(Bundle(quantized_idm.path, replace(quantized_idm.manifest, **changes))).model  # type: ignore[arg-type]

    manifest = quantized_idm.manifest
    usual = made_with(quantized_idm).model
    presets = {**manifest.presets, "draft": Preset(equation="ddim", steps=1)}
    assert model_of(samples=(), presets=presets, quantization=None, calibration_images=None) == usual
    graphs = {
        name: changed(graph, weights=("weights-0123456789abcdef.bin",)) for name, graph in manifest.graphs.items()
    }
    assert model_of(graphs=graphs) != usual


def test_another_file_of_the_same_pixels_is_another_one_and_a_stripped_one_says_nothing(quantized_idm: Bundle) -> None:
    made = made_with(quantized_idm)
    forms = forms_that_will_do(quantized_idm.manifest, AUTO, made.form)
    for saving, format in ((Saving(), "tiff"), (Saving(quality=9), "png"), (Saving(color_fix="wavelet"), "png")):
        other = made.of_source("00", Size(8, 12), saving, format)
        assert made.differences(other.note(), forms) == ["with other settings of the file"]
        assert made.differences(other.sealed(), forms) == ["from other things or settings"]
    assert made.differences(made.sealed(), forms) == []
    assert replace(made, form="bf16").differences(made.sealed(), forms) == []  # in any form that will do
    assert replace(made, input="", size="").differences(made.sealed(), forms) == []  # not known yet
    assert b"seed" not in made.sealed() and len(made.sealed()) < 60


def test_before_an_input_is_read_the_rest_is_compared(quantized_idm: Bundle) -> None:
    made = made_with(quantized_idm)
    run = replace(made, input="", size="")
    assert run.differences(made.note(), frozenset([made.form])) == []
    other = replace(made, seed="1", size="9x9")
    assert run.differences(other.note(), frozenset([made.form])) == ["with seed 1 instead of 0"]


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    assert note_of_existing(tmp_path / "new.png") is None
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match=r"link\.png: a file of that name exists, and idm-deploy did not make it"):
        note_of_existing(tmp_path / "link.png")
    assert note_of_existing(tmp_path / "link.png", force=True) is None
    with pytest.raises(ImageError, match="there is a folder of that name"):
        note_of_existing(tmp_path, force=True)
