"""Names that say what differs, counterparts in float32, and what is refused before the work, on a tiny bundle."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deploy.checkpoint.load import load_checkpoint
from deploy.errors import BundleError, PlanError
from deploy.export.export import export_bundle
from deploy.images.sizes import Size
from deploy.measure.evaluation.contenders import Setting
from deploy.measure.evaluation.ways import (
    Description,
    Offered,
    Way,
    counterpart_of,
    names_from_descriptions,
    opened_settings,
)
from deploy.sampling.choices import Choices
from tests.checkpoints import save_idm


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ways")
    checkpoint = load_checkpoint(save_idm(folder), config={"norm_groups": 8, "image_size": 16})
    return export_bundle(checkpoint, folder / "micro.bundle").path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def settings(stack: ExitStack, ways: list[Way], told: list[str] | None = None) -> list[Setting]:
    notice = (lambda _: None) if told is None else told.append
    return opened_settings(stack, ways, threads=1, seed=0, notice=notice)


def offered(bundle: Path, **parts: object) -> list[Way]:
    return Offered(bundles=[bundle], engines=["onnxruntime-cpu"], **parts).ways()  # type: ignore[arg-type]


def names(stack: ExitStack, ways: list[Way]) -> list[str]:
    return [setting.name for setting in settings(stack, ways)]


def test_every_combination_is_a_way(bundle: Path) -> None:
    ways = offered(bundle, precisions=["fp32", "bf16"], presets=["draft", "best"], steps=[1, 2, 3])
    assert len(ways) == 12
    assert ways[0] == Way(
        bundle=bundle, engine="onnxruntime-cpu", precision="fp32", choices=Choices(preset="draft", steps=1)
    )
    assert ways[-1].choices == Choices(preset="best", steps=3)
    assert offered(bundle) == [Way(bundle=bundle, engine="onnxruntime-cpu")]


def test_names_say_only_what_differs(bundle: Path, stack: ExitStack) -> None:
    assert names(stack, offered(bundle)) == ["balanced"]
    assert names(stack, offered(bundle, presets=["draft", "best"])) == ["draft", "best"]
    assert names(stack, offered(bundle, presets=["draft", "best"], steps=[3])) == ["draft", "best"]
    assert names(stack, offered(bundle, steps=[1, 20])) == ["1 step", "20 steps"]
    two = offered(bundle, equations=["ddim", "dpmpp-2m"], starts=[0.0, 0.5])
    assert names(stack, two) == ["ddim from noise", "ddim start 0.5", "dpmpp-2m from noise", "dpmpp-2m start 0.5"]
    assert names(stack, [*offered(bundle), *offered(bundle, published=True)]) == ["balanced", "published"]


def test_what_one_way_leaves_to_its_preset_is_told_from_what_another_says(bundle: Path, stack: ExitStack) -> None:
    (open_, said) = settings(stack, [*offered(bundle), *offered(bundle, steps=[3], placements=[(0.2, 0.5, 0.9)])])
    steps = open_.upscaler.sampling(open_.choices).plan.steps
    assert (open_.name, said.name) == (f"{steps} steps uniform", "3 steps 0.2,0.5,0.9")
    assert (open_.label, said.label) == (f"{steps} steps", "3 steps")
    assert (open_.series, said.series) == ("uniform", "0.2,0.5,0.9")


def test_the_same_way_twice_is_numbered_and_shares_its_engine(bundle: Path, stack: ExitStack) -> None:
    first, second = settings(stack, [*offered(bundle), *offered(bundle)])
    assert (first.name, second.name) == ("balanced", "balanced (2)")
    assert first.upscaler is second.upscaler


def test_bundles_of_one_name_are_called_by_their_paths(bundle: Path, tmp_path: Path, stack: ExitStack) -> None:
    other = tmp_path / "micro.bundle"
    shutil.copytree(bundle, other)
    first, second = settings(stack, [*offered(bundle), *offered(other)])
    assert (first.name, second.name) == (str(bundle), str(other))
    assert (first.counterpart, second.counterpart) == (None, str(bundle))


def described(precision: str, preset: str = "balanced", engine: str = "onnxruntime-cpu") -> Description:
    values = {"bundle": "a", "engine": engine, "precision": precision, "preset": preset}
    return Description(values=values, said=frozenset(values))


def test_float_of_the_same_sampling_is_the_counterpart_wherever_it_stands() -> None:
    ways = [
        described("int8"),
        described("int8", "draft"),
        described("fp32"),
        described("bf16"),
        described("fp32", engine="openvino-cpu"),
        described("fp32", "draft"),
        described("int8", "best"),
    ]
    assert [counterpart_of(index, ways) for index in range(len(ways))] == [2, 5, None, 2, 2, None, None]
    # Without a float one, the first.
    assert [counterpart_of(index, ways[:1] + ways[3:4]) for index in range(2)] == [None, 0]
    assert names_from_descriptions(ways)[0] == "onnxruntime-cpu int8 balanced"


def test_what_cannot_be_run_is_refused_before_the_work(bundle: Path, stack: ExitStack) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graphs\. Make them with `idm-deploy quantize`"):
        settings(stack, offered(bundle, precisions=["fp32", "int8"]))
    with pytest.raises(PlanError, match=r"The preset 'beast' is unknown, the nearest is 'best'"):
        settings(stack, offered(bundle, presets=["best", "beast"]))


def test_a_notice_is_told_once(bundle: Path, stack: ExitStack) -> None:
    told: list[str] = []
    (setting,) = settings(stack, offered(bundle, steps=[1]), told)
    lr = np.zeros((4, 4, 3), np.uint8)
    for _ in range(2):
        assert setting.enlarged(lr, Size.square(40), 0).shape == (40, 40, 3)  # 10x, past the training's 8x
    (line,) = told
    assert line.startswith("scale 10 is beyond the trained 1 to 8")
