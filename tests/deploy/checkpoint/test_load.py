"""Checkpoints in every format give back the network they were made of, its configuration and its schedule."""

import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import deploy
from deploy.bundle.records import ConfiguredValue
from deploy.checkpoint.load import Checkpoint, load_checkpoint, metadata_for
from deploy.errors import CheckpointError, ConfigError
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.network import unused_shapes
from deploy.sampling.schedule import NoiseSchedule
from tests.checkpoints import IDM_SCHEDULE, idm_state
from tests.idm_models import filled, idm_config, idm_network
from tests.latent_checkpoints import latent_schedule, latent_state
from tests.latent_models import LATENT_NAMES, ema_name, latent_config, latent_network
from tests.recordings import recorded_case
from tests.rounding import assert_same_but_for_rounding

State = dict[str, torch.Tensor]
SMALL = IdmConfig(
    inner_channel=8, channel_multiplier=(1, 2), attn_res=(), res_blocks=1, norm_groups=8, n_feats=8, n_resblocks=2
)


def save_zip(state: State, path: Path) -> None:
    torch.save(state, path)


def save_legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_safetensors(state: State, path: Path) -> None:
    save_file({name: value.contiguous() for name, value in state.items()}, path)


SAVERS = {"torch zip": save_zip, "torch pickle": save_legacy, "safetensors": save_safetensors}


def assert_holds(checkpoint: Checkpoint, state: State) -> None:
    """The network has exactly the numbers of `state`, ready for inference."""
    found = checkpoint.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.items())
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert not checkpoint.network.training
    assert not any(parameter.requires_grad for parameter in checkpoint.network.parameters())
    assert checkpoint.unused == {name: tuple(value.shape) for name, value in state.items() if name not in found}


@pytest.mark.parametrize("save_format", SAVERS)
def test_idm_in_every_format(tmp_path: Path, save_format: str) -> None:
    path, state = tmp_path / "model.any", idm_state("idm_micro")
    SAVERS[save_format](state, path)
    found = deploy.load_checkpoint(path)
    assert (found.family, found.format, found.weights) == ("idm", save_format, "raw")
    assert (found.path, found.size) == (path, path.stat().st_size)
    assert found.schedule == IDM_SCHEDULE
    assert found.config.level_channels == idm_config("idm_micro").level_channels
    assert (found.value_range, found.scale_range) == ((-1.0, 1.0), (1.0, 8.0))
    assert_holds(found, state)
    assert found.unused.keys() >= unused_shapes(found.config).keys()
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("save_format", SAVERS)
@pytest.mark.parametrize("name", ["latent_sr_tiny", "latent_gen_tiny"])
def test_latent_in_every_format(tmp_path: Path, name: str, save_format: str) -> None:
    path, state = tmp_path / "model.any", latent_state(name)
    SAVERS[save_format](state, path)
    found = load_checkpoint(path)
    assert (found.family, found.config.kind) == ("latent", latent_config(name).kind)
    assert found.schedule == latent_schedule(name)
    assert found.scale_range == ((1.0, 4.0) if name == "latent_sr_tiny" else None)
    assert_holds(found, state)


def test_the_loaded_idm_computes_what_was_recorded(tmp_path: Path) -> None:
    save_zip(idm_state("idm_micro"), tmp_path / "a.pth")
    settings = {"norm_groups": 8, "image_size": 16}
    network = load_checkpoint(tmp_path / "a.pth", config=settings).network
    case = {key: torch.from_numpy(value) for key, value in recorded_case("idm_unet_micro", "h12_w30_corrected").items()}
    cond = network.encode(case["lr"], (12, 30))
    out = network.denoise(case["x_t"], cond, case["scaler"][None], case["noise_level"])
    assert_same_but_for_rounding(out, case["out"], network)


CONFIGS = [
    SMALL,
    IdmConfig(inner_channel=16, channel_multiplier=(1, 1, 3), attn_res=(64, 32), res_blocks=2, norm_groups=16),
    IdmConfig(inner_channel=32, channel_multiplier=(2,), attn_res=(128,), res_blocks=3, implicit_hidden=256),
    IdmConfig(inner_channel=8, channel_multiplier=(1, 4), attn_res=(), res_blocks=1, norm_groups=8, implicit_hidden=24),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_constructor_arguments_are_recovered_from_the_weights(tmp_path: Path, config: IdmConfig) -> None:
    torch.save(filled(config).state_dict(), tmp_path / "model.pt")  # no unused parameters, no tables
    found = load_checkpoint(tmp_path / "model.pt")
    assert found.config == config
    assert found.sources["schedule"] == "assumed"
    assert not found.unused


@pytest.mark.parametrize("name", [name for name in LATENT_NAMES if "tiny" in name])
def test_latent_arguments_are_recovered_with_the_metadata(tmp_path: Path, name: str) -> None:
    config, schedule = latent_config(name), latent_schedule(name)
    state = {key: value for key, value in latent_state(name).items() if not key.startswith("model_ema.")}
    save_file(state, tmp_path / "model.safetensors", metadata=metadata_for(config, schedule))
    found = load_checkpoint(tmp_path / "model.safetensors")
    assert (found.config, found.schedule) == (config, schedule)
    # No conditioning is written as nothing.
    nothing = {"conditioning_key"} if config.conditioning_key is None else set()
    assert {field for field, source in found.sources.items() if source != "metadata"} == nothing
    heads = config.unet.num_head_channels if config.unet else None
    assert found.configuration["unet.num_head_channels"] == ConfiguredValue(value=heads, source="metadata")


def test_idm_metadata_reaches_configuration_and_schedule(tmp_path: Path) -> None:
    config = idm_config("idm_micro", s_max=4.0)
    schedule = NoiseSchedule.from_kind("cosine", 50)
    half = {name: value.half() for name, value in filled(config).state_dict().items()}
    save_file(half, tmp_path / "model.safetensors", metadata=metadata_for(config, schedule))
    found = load_checkpoint(tmp_path / "model.safetensors")
    assert (found.config, found.schedule) == (config, schedule)
    assert found.scale_range == (1.0, 4.0)
    assert_holds(found, {name: value.float() for name, value in half.items()})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("save_format", SAVERS)
def test_other_float_types_become_float32(tmp_path: Path, dtype: torch.dtype, save_format: str) -> None:
    state = {name: value.to(dtype) for name, value in filled(SMALL).state_dict().items()}
    SAVERS[save_format](state, tmp_path / "model.any")
    assert_holds(load_checkpoint(tmp_path / "model.any"), {name: value.float() for name, value in state.items()})


def test_a_first_stage_alone(tmp_path: Path) -> None:
    prefix = "first_stage_model."
    state = {name: value for name, value in latent_state("latent_gen_tiny").items() if name.startswith(prefix)}
    alone = {name.removeprefix(prefix): value for name, value in state.items()}
    torch.save({"state_dict": {**alone, "loss.logvar": torch.zeros(())}}, tmp_path / "first.ckpt")
    found = load_checkpoint(tmp_path / "first.ckpt")
    assert (found.config.kind, found.scale_range, dict(found.unused)) == ("first-stage", None, {"loss.logvar": ()})
    z = torch.zeros(1, 3, 4, 4)
    expected = latent_network("latent_gen_tiny").first_stage_model.decode(z, (7, 9))
    with torch.no_grad():
        assert torch.equal(found.network.decode(z, (7, 9)), expected.detach())


NESTINGS: dict[str, Callable[[State], Any]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"epoch": torch.tensor(3), "model": state},
    "params": lambda state: {"params": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "network": lambda state: {"network": state},
    "net": lambda state: {"net": state},
    "twice": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {"state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
    "parameters": lambda state: {name: torch.nn.Parameter(value) for name, value in state.items()},
    "beside step": lambda state: {**state, "iter": 5},
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_the_usual_places_of_a_state_dict(tmp_path: Path, nesting: str) -> None:
    state = filled(SMALL).state_dict()
    torch.save(NESTINGS[nesting](state), tmp_path / "model.pt")
    assert_holds(load_checkpoint(tmp_path / "model.pt"), state)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path: Path, save: Callable[[State, Path], None]) -> None:
    state = filled(SMALL).state_dict()
    flat = torch.cat([value.flatten() for value in state.values()])
    views, start = {}, 0
    for name, value in state.items():
        views[name] = flat[start : start + value.numel()].view(value.shape)
        start += value.numel()
    last = "denoise_fn.noise_level_mlp.1.weight"
    views[last] = views[last].t().contiguous().t()
    assert not views[last].is_contiguous()
    save(views, tmp_path / "model.pt")
    assert_holds(load_checkpoint(tmp_path / "model.pt"), state)


@pytest.fixture
def lightning() -> Iterator[types.ModuleType]:
    """The packages that a Lightning checkpoint mentions, gone once the file is written."""
    module = types.ModuleType("pytorch_lightning_absent")
    exec(
        "class ModelCheckpoint:\n  pass\nclass DictConfig(dict):\n  pass\nclass Container(list):\n  pass", vars(module)
    )
    for value in list(vars(module).values()):
        if isinstance(value, type):
            value.__module__ = module.__name__
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


@pytest.mark.parametrize("save_format", ["torch zip", "torch pickle"])
def test_a_lightning_checkpoint_with_foreign_objects(
    tmp_path: Path, lightning: types.ModuleType, save_format: str
) -> None:
    state = latent_state("latent_sr_tiny")
    moments = {"exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3), "step": 5}
    whole: Any = {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {lightning.ModelCheckpoint: {"monitor": "val/loss", "best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [
            {"state": {0: moments}, "param_groups": [{"lr": np.float64(1e-6), "betas": (0.9, 0.999)}]}
        ],
        "lr_schedulers": [lightning.Container([lightning.DictConfig(a=1)])],
        "hyper_parameters": lightning.DictConfig(
            config=lightning.DictConfig(path=Path("x"), device=torch.device("cpu"))
        ),
        "dtype": torch.float16,
    }
    SAVERS[save_format](whole, tmp_path / "last.ckpt")
    sys.modules.pop(lightning.__name__)
    assert_holds(load_checkpoint(tmp_path / "last.ckpt"), state)


def test_moving_average_of_a_latent_model(tmp_path: Path) -> None:
    state = latent_state("latent_sr_tiny")
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    found = load_checkpoint(tmp_path / "last.ckpt", weights="ema")
    assert found.weights == "ema"
    for name, value in found.network.state_dict().items():
        source = ema_name(name) if name.startswith("model.") else name
        assert torch.equal(value, state[source])
    case = {key: torch.from_numpy(array) for key, array in recorded_case("latent_unet_tiny", "sr16_t500").items()}
    expected = torch.from_numpy(recorded_case("latent_unet_tiny", "sr16_t500_ema")["out"])
    with_heads = load_checkpoint(tmp_path / "last.ckpt", {"unet.num_head_channels": 16}, weights="ema")
    with torch.no_grad():
        out = with_heads.network.denoise(case["x_t"], case["c_concat"], case["t"])
    # The timestep's embedding differs by less than 3e-4 from processor to processor, see there.
    assert_same_but_for_rounding(out, expected, with_heads.network.model.diffusion_model, before=3e-4)


@pytest.mark.parametrize("key", ["ema", "params_ema", "model_ema", "ema_state_dict"])
def test_moving_average_under_its_own_key(tmp_path: Path, key: str) -> None:
    raw = filled(SMALL).state_dict()
    averaged = {name: value + 1 for name, value in raw.items()}
    torch.save({"params": raw, key: averaged}, tmp_path / "both.pt")
    assert_holds(load_checkpoint(tmp_path / "both.pt"), raw)
    assert_holds(load_checkpoint(tmp_path / "both.pt", weights="ema"), averaged)


def test_a_moving_average_that_is_not_there(tmp_path: Path) -> None:
    torch.save(filled(SMALL).state_dict(), tmp_path / "raw.pt")
    with pytest.raises(
        CheckpointError, match=r"raw.pt: the moving average .* but the file holds none. Use weights 'raw'"
    ):
        load_checkpoint(tmp_path / "raw.pt", weights="ema")
    state = latent_state("latent_sr_tiny")
    torch.save({name: value for name, value in state.items() if "output_blocks" not in name}, tmp_path / "part.ckpt")
    gone = {name: value for name, value in state.items() if name != "model_ema.diffusion_modelout2bias"}
    torch.save(gone, tmp_path / "part.ckpt")
    with pytest.raises(CheckpointError, match=r"but the file lacks model_ema.diffusion_modelout2bias"):
        load_checkpoint(tmp_path / "part.ckpt", weights="ema")
    torch.save({"ema": filled(SMALL).state_dict()}, tmp_path / "ema.pt")
    with pytest.raises(CheckpointError, match=r"holds only the moving average of the weights; use weights 'ema'"):
        load_checkpoint(tmp_path / "ema.pt")


def test_a_choice_of_weights_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The weights to load are 'average', expected 'raw' or 'ema'"):
        load_checkpoint(tmp_path / "any.pt", weights="average")  # type: ignore[arg-type]


def test_quantizer_buffers_are_left_out_and_counted(tmp_path: Path) -> None:
    state = filled(SMALL).state_dict()
    trained = {**state, "denoise_fn.downs.0._input_quantizer._amax": torch.ones(1)}
    torch.save(trained, tmp_path / "qat.pt")
    found = load_checkpoint(tmp_path / "qat.pt")
    assert_holds(found, trained)
    assert found.parameters_by_part["quantizers"] == {"used": 0, "unused": 1}


def test_parameters_by_part_add_up(tmp_path: Path) -> None:
    save_zip(idm_state("idm_micro"), tmp_path / "a.pth")
    found = load_checkpoint(tmp_path / "a.pth")
    parts = found.parameters_by_part
    network = idm_network("idm_micro")
    assert parts["encoder"] == {"used": sum(p.numel() for p in network.encoder.parameters()), "unused": 24}
    assert parts["denoiser"]["used"] == sum(p.numel() for p in network.denoise_fn.parameters())
    # 66*256 + 256, three times 256*256 + 256, 256*3 + 3
    assert parts["outer imnet"] == {"used": 0, "unused": 17152 + 3 * 65792 + 771}
    assert parts["tables"] == {"used": 0, "unused": 13 * 2000}


def test_unused_tensors_can_be_had(tmp_path: Path) -> None:
    state = idm_state("idm_micro")
    save_zip(state, tmp_path / "a.pth")
    tensors = load_checkpoint(tmp_path / "a.pth").unused_tensors()
    assert np.array_equal(tensors["denoise_fn.final_linear.weight"], state["denoise_fn.final_linear.weight"].numpy())


def test_changing_the_network_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_zip(filled(SMALL).state_dict(), path)
    before = path.read_bytes()
    load_checkpoint(path).network.encoder.head[0].weight.zero_()
    assert path.read_bytes() == before
