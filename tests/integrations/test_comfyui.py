"""The nodes have what ComfyUI asks of nodes, and enlarge tensors as the Python API does."""

import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from deploy import Bundle, Upscaler
from deploy.packaged.places import IDM_BUNDLE
from integrations import comfyui
from integrations.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, IdmDeployBundle, IdmDeployUpscale

PICTURES = np.random.default_rng(5).random((2, 10, 12, 3), np.float32)


class Interrupted(Exception):  # noqa: N818  ComfyUI's own is called like this too
    """The user has pressed Cancel."""


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """ComfyUI's two functions that are called while pictures are made: where its bar is, and whether to stop."""
    state: dict[str, Any] = {"bar": [], "stops_at": None}

    class ProgressBar:
        def __init__(self, total: int) -> None:
            state["total"] = total

        def update_absolute(self, value: int, total: int) -> None:
            assert total == state["total"]
            state["bar"].append(value)

    def throw_exception_if_processing_interrupted() -> None:
        if state["stops_at"] is not None and len(state["bar"]) >= state["stops_at"]:
            raise Interrupted

    utils, management = ModuleType("comfy.utils"), ModuleType("comfy.model_management")
    utils.ProgressBar = ProgressBar  # type: ignore[attr-defined]
    management.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted  # type: ignore[attr-defined]
    for module in (ModuleType("comfy"), utils, management):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return state


@pytest.fixture(scope="module")
def upscaler() -> Iterator[Upscaler]:
    (opened,) = IdmDeployBundle().open("", "onnxruntime-cpu", "fp32")
    with opened:
        yield opened


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_a_node_has_what_comfyui_asks_for(name: str) -> None:
    # As comfy/comfy_types/node_typing.py and docs.comfy.org/custom-nodes/backend/server_overview have it: names,
    # types and options of inputs, which the function takes by name.
    node = NODE_CLASS_MAPPINGS[name]
    assert name in NODE_DISPLAY_NAME_MAPPINGS and isinstance(node.CATEGORY, str)
    inputs = node.INPUT_TYPES()
    assert inputs.keys() <= {"required", "optional", "hidden"}
    told = {"default", "min", "max", "step", "tooltip", "control_after_generate"}  # of InputTypeOptions, those of ours
    known = {"IMAGE", "INT", "FLOAT", "STRING", "BOOLEAN", comfyui.UPSCALER}
    for kind, *options in inputs["required"].values():
        assert (isinstance(kind, list) and kind) or kind in known
        assert len(options) <= 1 and all(each.keys() <= told for each in options)
    assert isinstance(node.RETURN_TYPES, tuple) and {*node.RETURN_TYPES} <= known
    taken = inspect.signature(getattr(node(), node.FUNCTION)).parameters
    assert [*taken] == [*inputs["required"]]


def test_tensors_are_enlarged_as_arrays_are(comfy: dict[str, Any], upscaler: Upscaler) -> None:
    node = IdmDeployUpscale()
    (larger,) = node.upscale(upscaler, torch.from_numpy(PICTURES), 1.5, "draft", 7)
    assert larger.dtype == torch.float32 and larger.shape == (2, 15, 18, 3)
    expected = upscaler.upscale([*PICTURES], 1.5, seed=7, preset="draft")
    assert np.array_equal(larger.numpy(), np.stack(expected).clip(0, 1))
    assert comfy["total"] == 100 and comfy["bar"][-1] == 100 and comfy["bar"] == sorted(comfy["bar"])
    with_alpha = np.concatenate([PICTURES, np.ones_like(PICTURES[..., :1])], -1)
    (larger,) = node.upscale(upscaler, torch.from_numpy(with_alpha), 1.0, comfyui.USUAL, 7)
    assert larger.shape == (2, 10, 12, 4)


def test_cancel_stops_within_a_step(comfy: dict[str, Any], upscaler: Upscaler) -> None:
    comfy["stops_at"] = 1
    with pytest.raises(Interrupted):
        IdmDeployUpscale().upscale(upscaler, torch.from_numpy(PICTURES), 2.0, "best", 0)
    assert len(comfy["bar"]) == 1


def test_a_folder_that_is_no_bundle_is_told_before_the_work(tmp_path: Any) -> None:
    assert IdmDeployBundle.VALIDATE_INPUTS("") is True
    assert IdmDeployBundle.VALIDATE_INPUTS(str(IDM_BUNDLE)) is True
    assert "bundle" in str(IdmDeployBundle.VALIDATE_INPUTS(str(tmp_path)))
    same = IdmDeployBundle.IS_CHANGED("", "auto", "auto")
    assert same == IdmDeployBundle.IS_CHANGED(str(Bundle.open(IDM_BUNDLE).path), "auto", "auto")
    assert same != IdmDeployBundle.IS_CHANGED("", "auto", "fp32")
