"""A bundle computes what the published network computes, on every engine, without torch; and is written safely."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from deploy.bundle import Bundle
from deploy.checkpoint.load import Checkpoint, load_checkpoint
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError, ConfigError, ImageError
from deploy.export.export import chosen_rewrites, export_bundle
from deploy.export.onnx_ops import compacted
from deploy.families.cases import chain
from deploy.families.idm.family import REWRITES
from deploy.families.idm.family import trial as idm_trial
from deploy.families.idm.model import IdmModel, Window
from deploy.sampling.plan import PlanRow
from engines.backends import BACKENDS
from engines.errors import EngineError
from tests.checkpoints import idm_state
from tests.rounding import rounding_of_network

BACKEND_NAMES = [name for name, backend in BACKENDS.items() if backend.probe().available]
CASES = (((8, 8), (32, 32), 1), ((9, 9), (77, 77), 1), ((12, 20), (96, 160), 3), ((16, 16), (128, 128), 1))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def differences(bundle: Bundle, checkpoint: Checkpoint, backend: str, case: tuple) -> np.ndarray:  # type: ignore[type-arg]
    """What one step through the bundle's graphs differs by from the published network."""
    lr_size, size, batch = case
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(batch, 3, *lr_size, generator=generator) * 2 - 1
    x = torch.randn(batch, 3, *size, generator=generator)
    with GraphSet(bundle, EngineChoice(backend=backend, threads=1)) as graphs:
        model = IdmModel(graphs)
        condition = model.condition(lr.numpy(), size, Window.whole(size))
        (row,) = model.rows([PlanRow.evaluation(0.3)])
        noise = model.predict(x.numpy(), condition, row)
        scaler = torch.full((batch, 1), model.scaler_from_size(lr_size[1], size[1]))
    with torch.inference_mode():
        network = checkpoint.network
        published = network.denoise(x, network.encode(lr, size), scaler, torch.full((batch, 1), 0.3))
    return np.abs(noise - published.numpy())


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bundle_computes_the_published_network(
    bundle: Bundle, checkpoint: Checkpoint, backend: str, case: tuple
) -> None:  # type: ignore[type-arg]
    """The issue's bar: 2e-5 mean and 2e-4 maximum; float32 kernels that sum in other orders give about 5e-6."""
    found = differences(bundle, checkpoint, backend, case)
    assert found.mean() < 2e-5
    assert found.max() < 2e-4


@pytest.mark.parametrize("left_out", sorted(REWRITES))
def test_a_bundle_without_one_rewrite_computes_the_same(checkpoint: Checkpoint, tmp_path: Path, left_out: str) -> None:
    made = export_bundle(checkpoint, tmp_path / "b.bundle", without=[left_out])
    assert left_out not in made.manifest.rewrites
    assert differences(made, checkpoint, "onnxruntime-cpu", CASES[1]).max() < 2e-4


def test_a_window_of_the_condition_is_cut_from_the_whole(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """The first feature map depends on the LR pixels within reach only; away from the border it is the same."""
    rng = np.random.default_rng(0)
    lr = rng.uniform(-1, 1, (1, 3, 60, 8)).astype(np.float32)
    size, window = (240, 32), Window(top=96, left=0, bottom=160, right=32)
    with GraphSet(bundle, EngineChoice(threads=1)) as graphs:
        model = IdmModel(graphs)
        whole = model.condition(lr, size, Window.whole(size))["first"]
        part = model.condition(lr, size, window)["first"]
    inner = part[:, :, 2:-2]
    rounding = rounding_of_network(checkpoint.network.encoder, float(np.abs(inner).max()))
    assert np.abs(inner - whole[:, :, 98:158]).max() < rounding


def test_the_same_checkpoint_gives_the_same_bytes(bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    again = export_bundle(checkpoint, tmp_path / "again.bundle")
    assert files_of(again.path) == files_of(bundle.path)


@pytest.mark.parametrize("form", ["group", "instance"])
def test_the_step_graph_is_clean(bundle: Bundle, form: str) -> None:
    """No control flow, no grid sampling, and every node named after the module it stands for."""
    model = onnx.load(str(bundle.graph("denoise", form)), load_external_data=False)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert not {"If", "Loop", "NonZero", "GridSample", "Scan"} & set(kinds)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(name.startswith(("denoise_fn.", "noise/")) for name in names)
    weights = {tensor.name for tensor in model.graph.initializer}
    assert "denoise_fn.downs.1.res_block.block1.block.3.weight" in weights


def test_graphs_share_one_weights_file(bundle: Bundle) -> None:
    locations = set()
    for graph in bundle.manifest.graphs.values():
        for name in graph.forms.values():
            model = onnx.load(str(bundle.file(name)), load_external_data=False)
            entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
            locations |= {entry.value for entry in entries if entry.key == "location"}
    assert len(locations) == 1
    assert locations <= set(bundle.manifest.files)


def test_graphs_pass_the_onnx_checker(bundle: Bundle) -> None:
    for graph in bundle.manifest.graphs.values():
        for name in graph.forms.values():
            onnx.checker.check_model(str(bundle.file(name)))


def test_unused_parameters_are_carried_only_when_asked(bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    carried = export_bundle(checkpoint, tmp_path / "all.bundle", without=["drop-unused"])

    def weights_bytes(made: Bundle) -> int:
        return sum(record.bytes for name, record in made.manifest.files.items() if name.startswith("weights-"))

    unused = 4 * sum(int(np.prod(shape)) for name, shape in checkpoint.unused.items() if "imnet" in name)
    assert weights_bytes(carried) >= weights_bytes(bundle) + unused


def test_an_existing_bundle_is_kept_unless_forced(bundle: Bundle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    place = tmp_path / "here.bundle"
    shutil.copytree(bundle.path, place)
    before = files_of(place)
    with pytest.raises(BundleError, match="--force"):
        export_bundle(checkpoint, place)
    assert files_of(place) == before
    assert export_bundle(checkpoint, place, force=True).manifest == bundle.manifest


def test_too_little_disk_is_said_before_anything_is_written(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1 << 20))
    with pytest.raises(BundleError, match=r"the disk has 1\.0 MB free"):
        export_bundle(checkpoint, tmp_path / "b.bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_rewrite_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rewrite 'fold-everything'"):
        chosen_rewrites("idm", ["fold-everything"])


def test_a_sample_that_is_no_picture_is_refused_before_anything_is_written(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    text = tmp_path / "sample.png"
    text.write_text("not a picture")
    with pytest.raises(ImageError):
        export_bundle(checkpoint, tmp_path / "b.bundle", samples=[text])
    assert list(tmp_path.iterdir()) == [text]


def test_a_bundle_runs_where_torch_cannot_be_imported(bundle: Bundle) -> None:
    program = f"""
import sys
for name in ("torch", "onnx"):
    sys.modules[name] = None
import numpy as np
from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.families.idm.model import IdmModel, Window
from deploy.sampling.plan import PlanRow
with GraphSet(Bundle.open({str(bundle.path)!r}), EngineChoice(threads=1)) as graphs:
    model = IdmModel(graphs)
    lr = np.zeros((1, 3, 8, 8), dtype=np.float32)
    condition = model.condition(lr, (16, 16), Window.whole((16, 16)))
    (row,) = model.rows([PlanRow.evaluation(0.5)])
    noise = model.predict(np.zeros((1, 3, 16, 16), dtype=np.float32), condition, row)
print(noise.shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 3, 16, 16)"


def test_configuration_values_carry_their_source(bundle: Bundle) -> None:
    configuration = json.loads((bundle.path / "bundle.json").read_text())["configuration"]
    assert configuration["inner_channel"] == {"source": "weights", "value": 16}
    assert configuration["norm_groups"] == {"source": "config", "value": 8}
    assert configuration["s_max"]["source"] == "assumed"


def fp16_checkpoint(folder: Path) -> Checkpoint:
    """A small IDM whose weights are fp16 numbers, as a checkpoint in half precision loads."""
    path = folder / "half.pth"
    torch.save({name: tensor.half().float() for name, tensor in idm_state("idm_micro").items()}, path)
    return load_checkpoint(path, config={"norm_groups": 8, "image_size": 16})


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_compact_weights_take_less_room_and_change_nothing(tmp_path: Path, backend: str) -> None:
    checkpoint = fp16_checkpoint(tmp_path)
    plain = export_bundle(checkpoint, tmp_path / "plain.bundle")
    compact = export_bundle(checkpoint, tmp_path / "compact.bundle", compact=True)
    answers = []
    for made in (plain, compact):
        with GraphSet(made, EngineChoice(backend=backend, threads=1)) as graphs:
            model = IdmModel(graphs)
            lr, x = np.full((1, 3, 8, 8), 0.25, np.float32), np.full((1, 3, 32, 32), -0.5, np.float32)
            condition = model.condition(lr, (32, 32), Window.whole((32, 32)))
            answers.append(model.predict(x, condition, model.rows([PlanRow.evaluation(0.3)])[0]))
    np.testing.assert_array_equal(*answers)
    sizes = [sum(p.stat().st_size for p in made.path.glob("weights-*")) for made in (plain, compact)]
    assert sizes[1] < sizes[0]


def test_only_what_fp16_holds_exactly_is_stored_in_it() -> None:
    weights = {
        "exact": np.array([1.0, -0.5, 65504.0], np.float32),
        "rounded": np.array([1.0, 0.1], np.float32),
        "too_large": np.array([1e6], np.float32),
    }
    nodes, stored = compacted(weights)
    assert {name: value.dtype.name for name, value in stored.items()} == {
        "exact.half": "float16",
        "rounded": "float32",
        "too_large": "float32",
    }
    assert [(node.op_type, *node.input, *node.output) for node in nodes] == [("Cast", "exact.half", "exact")]


def test_a_graph_can_be_compiled_for_the_sizes_it_is_fed(bundle: Bundle, checkpoint: Checkpoint) -> None:
    trial = idm_trial(checkpoint.config, (17, 20), 2)
    with GraphSet(bundle, EngineChoice(threads=1)) as graphs:
        feeds = chain(trial, ["tabulate", "encode", "denoise"], graphs.run)
        graphs.fix_sizes("denoise", feeds)
        rounding = rounding_of_network(checkpoint.network.denoise_fn, float(np.abs(feeds["noise"]).max()))
        assert np.abs(graphs.run("denoise", feeds)["noise"] - feeds["noise"]).max() < rounding
        with pytest.raises(EngineError):
            graphs.run("denoise", feeds | {"x": feeds["x"][:, :, :-1]})
