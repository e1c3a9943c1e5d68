"""What of the recorded trajectories is read again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.lanes import lanes_for
from calibration.passes.inputs import DenoiserInput
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.fitted import FittedEquation, FittedStep, FittedTo
from deploy.bundle.records import Preset
from deploy.int8.recording.pictures import calibration_pictures
from deploy.int8.recording.trajectories import Trajectories, calibration_plans, groups_of_pictures
from deploy.int8.settings import PLAIN_STEPS, QuantizeSettings
from deploy.picture.session import Session
from deploy.picture.upscaler import Upscaler
from deploy.sampling.turns import TURNS

SCALES = (2.0, 4.0, 8.0)


@pytest.fixture
def recorded(
    request: pytest.FixtureRequest, micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Trajectories]:
    """Groups as many as the test's parameter says, under a preset of three steps and plain ddim with four."""
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 4)
    presets = {"quick": Preset(equation="ddim", steps=3)}
    with BundleWriter.update(micro) as writer:
        bundle = writer.commit(replace(micro.manifest, presets=presets, default_preset="quick"))
    settings = QuantizeSettings(scales=SCALES[: request.param], crop=16, pictures=request.param)
    groups = groups_of_pictures(calibration_pictures(photographs, settings, lambda _: None))
    assert len(groups) == request.param
    with Upscaler(bundle, "onnxruntime-cpu", "fp32", 1) as upscaler:
        trajectories = Trajectories(upscaler.session, groups, calibration_plans(upscaler.session), tmp_path, seed=0)
        trajectories.record(lanes_for(2), lambda _doing, _fraction: None)
        yield trajectories


def scaler_of(one: DenoiserInput) -> float:
    """Each group has a magnification of its own."""
    return float(one.feeds["scaler"][0, 0])


def test_a_turned_step_is_read_with_the_condition_of_the_turned_picture(
    micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network predicts of what is read again what was recorded, whichever way the step turned the picture."""
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    steps = [
        FittedStep(noise_level=level, x=0.0, x0=(level + 0.2,), noise=0.1, turn=turn)
        for level, turn in zip((0.4, 0.6, 0.8), TURNS[1:], strict=True)
    ]
    to = FittedTo(family="idm", engine="onnxruntime-cpu", precision="fp32", pictures=2, scales=(4.0,), seed=0)
    equation = FittedEquation(steps=tuple(steps), from_guess=True, consistency=1.0, fitted_to=to)
    manifest = replace(
        micro.manifest,
        fitted={"fitted-3": equation},
        presets={"quick": Preset(equation="fitted-3", steps=3, start=0.4, consistency=1.0)},
        default_preset="quick",
    )
    settings = QuantizeSettings(scales=(4.0,), crop=16, pictures=1)
    groups = groups_of_pictures(calibration_pictures(photographs, settings, lambda _: None))
    with Upscaler(replace(micro, manifest=manifest), "onnxruntime-cpu", "fp32", 1) as upscaler:
        session = upscaler.session
        trajectories = Trajectories(session, groups, calibration_plans(session), tmp_path, seed=0)
        trajectories.record(lanes_for(1), lambda _doing, _fraction: None)
        read = list(trajectories.inputs())
        assert len(read) == 3 + 2
        for one in read:
            predicted = session.graphs.run("denoise", one.feeds)["noise"]
            assert np.allclose(predicted, one.predicted, atol=1e-5)


@pytest.mark.parametrize("recorded", [3], indirect=True)
def test_one_in_three_inputs_meets_every_group_and_level(recorded: Trajectories) -> None:
    everything = list(recorded.inputs())
    assert len(everything) == recorded.count() == 3 * (3 + 4)
    some = list(recorded.inputs(3))
    assert len(some) == recorded.count(3) == len(everything) // 3
    assert {scaler_of(one) for one in some} == {scaler_of(one) for one in everything}
    assert {one.level_index for one in some} == set(range(len(recorded.plans.levels)))
    for one in some:
        assert any(is_same(one, other) for other in everything)


def is_same(one: DenoiserInput, other: DenoiserInput) -> bool:
    pairs = [(one.feeds["x"], other.feeds["x"]), (one.predicted, other.predicted)]
    return one.level_index == other.level_index and all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("recorded", [1, 2], indirect=True)
def test_every_level_is_met_with_fewer_groups_too(recorded: Trajectories) -> None:
    some = list(recorded.inputs(3))
    assert len(some) == recorded.count(3)
    assert {scaler_of(one) for one in some} == {scaler_of(one) for one in recorded.inputs()}
    assert {one.level_index for one in some} == set(range(len(recorded.plans.levels)))


@pytest.mark.parametrize("recorded", [2], indirect=True)
def test_pictures_are_encoded_once_for_all_their_steps(recorded: Trajectories, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = recorded._session.graphs
    run, encoded = graphs.run, []

    def watched(name: str, *arguments: Any) -> Any:
        encoded.append(name)
        return run(name, *arguments)

    monkeypatch.setattr(graphs, "run", watched)
    assert len(list(recorded.inputs())) == 14
    assert encoded.count("encode") == 2


@pytest.mark.parametrize(("of", "count"), [("latent_sr", 1), ("micro", 2)])
def test_ways_that_differ_after_the_last_state_alone_are_recorded_once(
    request: pytest.FixtureRequest, of: str, count: int
) -> None:
    """Where the decoded picture is made consistent, trajectories are the same with and without."""
    bundle: Bundle = request.getfixturevalue(of)
    presets = {"plain": Preset(equation="ddim", steps=PLAIN_STEPS, consistency=1.0)}
    manifest = replace(bundle.manifest, presets=presets, default_preset="plain")
    with Session(replace(bundle, manifest=manifest)) as session:
        assert len(calibration_plans(session).plans) == count
