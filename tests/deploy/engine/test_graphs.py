"""A bundle's graphs on an engine: what is kept from run to run, and the form that is compiled for one size."""

from typing import Any

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.engine.graphs import DENOISE, EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, trial_step
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from engines.backends import BACKENDS, backend_named
from engines.contract import Engine, Held
from engines.errors import EngineError, OutOfMemory
from tests.backends import carry_state
from tests.engines.following import follow
from tests.idm_models import idm_network
from tests.rounding import rounding_of_network

BACKEND_NAMES = [name for name, backend in BACKENDS.items() if backend.probe().available]
ROW = ("x", "noise_row")
"""What changes from step to step."""


def feeds_of(graphs: GraphSet, size: tuple[int, int] = (16, 12)) -> dict[str, Any]:
    return trial_step(graphs, TrialSettings(size=size)).feeds


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("fixed", [False, True])
def test_what_is_kept_changes_nothing_and_is_handed_over_once(
    idm_micro: Bundle, backend: str, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[set[str]] = []
    hold = Engine.hold

    def counted(engine: Engine, feeds: Any) -> Held:
        held.append(set(feeds))
        return hold(engine, feeds)

    monkeypatch.setattr(Engine, "hold", counted)
    with GraphSet(idm_micro, EngineChoice(backend=backend, threads=1)) as graphs, graphs.lease() as lease:
        feeds = feeds_of(graphs)
        expected = graphs.run(DENOISE, feeds, fixed=fixed)["noise"]
        row = {name: feeds[name] for name in ROW}
        kept = {name: array for name, array in feeds.items() if name not in ROW}
        for _ in range(3):
            np.testing.assert_array_equal(
                graphs.run(DENOISE, row, kept=kept, fixed=fixed, lease=lease)["noise"], expected
            )
        assert len(held) == 1 and held[0] == {spec.name for spec in graphs.engine(DENOISE).inputs} - set(ROW)
        # Another picture: the mapping is another one, and what it holds is used.
        other = {name: array * np.float32(0.5) if name == "first" else array for name, array in kept.items()}
        found = graphs.run(DENOISE, row, kept=other, fixed=fixed, lease=lease)["noise"]
        assert not np.array_equal(found, expected)
        lease.let_go()
        assert held[1:] == [held[0]]
        np.testing.assert_array_equal(graphs.run(DENOISE, feeds, fixed=fixed)["noise"], expected)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_form_for_one_size_takes_the_place_of_the_open_one(idm_micro: Bundle, backend: str) -> None:
    with GraphSet(idm_micro, EngineChoice(backend=backend, threads=1)) as graphs:
        feeds, larger = feeds_of(graphs), feeds_of(graphs, (24, 16))
        expected = graphs.run(DENOISE, feeds)["noise"]
        open_form = graphs.engine(DENOISE)
        found = graphs.run(DENOISE, feeds, fixed=True)["noise"]
        network = idm_network("idm_micro").denoise_fn
        assert np.abs(found - expected).max() < rounding_of_network(network, float(np.abs(expected).max()))
        fixed_form = graphs.engine(DENOISE)
        assert open_form.closed and not fixed_form.closed
        assert all(isinstance(side, int) for spec in fixed_form.inputs for side in spec.shape)
        graphs.run(DENOISE, feeds, fixed=True)
        assert graphs.engine(DENOISE) is fixed_form
        graphs.run(DENOISE, larger, fixed=True)
        assert fixed_form.closed
        np.testing.assert_array_equal(graphs.run(DENOISE, feeds)["noise"], expected)
        assert graphs.engine(DENOISE).inputs == open_form.inputs


def test_sizes_fixed_for_good_refuse_others(idm_micro: Bundle) -> None:
    with GraphSet(idm_micro, EngineChoice(threads=1)) as graphs:
        feeds, larger = feeds_of(graphs), feeds_of(graphs, (24, 16))
        graphs.fix_sizes(DENOISE, feeds)
        assert graphs.run(DENOISE, feeds)["noise"].shape == (1, 3, 16, 12)
        with pytest.raises(EngineError, match=r"axis \d must be"):
            graphs.run(DENOISE, larger)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("equation", ["ddim", "ddpm", "dpmpp-2m", "dpmpp-3m"])
def test_an_engine_that_carries_the_state_makes_the_same_picture(
    idm_micro: Bundle, backend: str, equation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA does it, on engines for CPUs between whose runs the update is run. Two pictures of one size: a batch."""
    lr = [np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8) for seed in (0, 1)]
    followed: list[str] = []

    def counted(engine: Engine, *arguments: Any) -> Any:
        followed.append(engine.name)
        return follow(engine, *arguments)

    def made() -> tuple[list[Any], list[float]]:
        told: list[float] = []
        with Upscaler(idm_micro, backend, "fp32", 1) as upscaler:
            pictures = upscaler.upscale(
                lr,
                scale=4.0,
                choices=Choices(equation=equation, steps=5, start=0.0, consistency=0.0),
                progress=lambda done: told.append(done.fraction),
            )
        return pictures, told

    expected, fractions = made()
    carry_state(monkeypatch, backend)
    monkeypatch.setattr(Engine, "follow", counted)
    found, told = made()
    assert followed == [backend]
    assert told == fractions == [0.2, 0.4, 0.6, 0.8, 1.0]
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1  # a value on the border between two codes


def test_what_the_engine_cannot_carry_is_done_step_by_step(idm_micro: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data consistency works on every estimate; an engine out of memory, or with values that are no numbers."""
    carry_state(monkeypatch, "onnxruntime-cpu")
    lr = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    plain = Choices(equation="ddim", steps=2, start=0.0, consistency=0.0)

    def full(*_: Any) -> Any:
        raise OutOfMemory("no room")

    with Upscaler(idm_micro, "onnxruntime-cpu", "fp32", 1) as upscaler:
        expected = upscaler.upscale(lr, scale=4.0, choices=plain)
        for fails in (full, lambda _engine, _name, _output, start, _steps, _held: np.full_like(start, np.nan)):
            monkeypatch.setattr(Engine, "follow", fails)
            assert np.abs(upscaler.upscale(lr, scale=4.0, choices=plain).astype(int) - expected).max() <= 1
        monkeypatch.setattr(Engine, "follow", None)
        upscaler.upscale(lr, scale=4.0, choices=Choices(equation="ddim", steps=2, start=0.0, consistency=1.0))


@pytest.mark.parametrize(
    ("backend", "evaluations", "pays"),
    [
        ("openvino-cpu", 499.0, False),
        ("openvino-cpu", 500.0, True),
        ("onnxruntime-cpu", 1e9, False),
        ("onnxruntime-cuda", 5.0, True),
    ],
)
def test_when_compiling_for_one_size_pays(backend: str, evaluations: float, pays: bool) -> None:
    assert backend_named(backend).fixed_sizes_pay(evaluations) is pays
