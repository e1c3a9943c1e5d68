"""Folders of diffusers: what is taken, in which order, and what is refused by its name."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deploy import load_checkpoint
from deploy.errors import CheckpointError, ConfigError, DeployError
from deploy.export.export import default_path, export_bundle
from tests.ldm_models import SMALL, networks, save_folder

WEIGHTS = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("pipelines") / "ldm-sr", *networks(SMALL))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / saved.name))


def changed(file: Path, **values: Any) -> None:
    """The JSON file has these values; one of ... is taken out."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def older_names(file: Path) -> None:
    """Attention as the published folder calls it, in a pickle."""
    state = load_file(file)
    older = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new, old in older.items():
        state = {name.replace(new, old): value for name, value in state.items()}
    torch.save(state, file.with_suffix(".bin"))
    file.unlink()


def sharded(file: Path) -> None:
    """In two shards beside an index."""
    state = load_file(file)
    names = sorted(state)
    halves = [names[::2], names[1::2]]
    shards = [f"{WEIGHTS}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard, half in zip(shards, halves, strict=True):
        save_file({name: state[name] for name in half}, file.with_name(shard))
    index = {name: shard for shard, half in zip(shards, halves, strict=True) for name in half}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    file.unlink()


def halved(file: Path) -> None:
    """In sixteen bits alone."""
    save_file(
        {name: value.half() for name, value in load_file(file).items()}, file.with_name(f"{WEIGHTS}.fp16.safetensors")
    )
    file.unlink()


@pytest.mark.parametrize("store", [older_names, sharded, halved])
def test_weights_are_taken_from_whatever_holds_them(saved: Path, folder: Path, store: Callable[[Path], None]) -> None:
    before = load_checkpoint(saved)
    for part in ("unet", "vqvae"):
        store(folder / part / f"{WEIGHTS}.safetensors")
    after = load_checkpoint(folder)
    rounding = 2e-3 if store is halved else 0.0  # half a unit in the last place of fp16, of numbers up to four
    pairs = zip(before.network.state_dict().values(), after.network.state_dict().values(), strict=True)
    assert all((a - b).abs().max() <= rounding for a, b in pairs)
    assert before.sha256 != after.sha256 and not before.remarks
    told = "only weights in sixteen bits are there (diffusion_pytorch_model.fp16.safetensors), so these are taken"
    assert after.remarks == ((f"unet: {told}", f"vqvae: {told}") if store is halved else ())
    assert after.size == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_the_variant_in_sixteen_bits_is_left_where_the_whole_is_there(folder: Path) -> None:
    save_file({"conv_in.weight": torch.zeros(1)}, folder / "unet" / f"{WEIGHTS}.fp16.safetensors")
    assert not load_checkpoint(folder).remarks


class Command:
    """What a hostile pickle holds: a call of the system's shell."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch executed",)


def hostile(folder: Path) -> None:
    (folder / "unet" / f"{WEIGHTS}.safetensors").unlink()
    torch.save({"conv_in.weight": Command()}, folder / "unet" / f"{WEIGHTS}.bin", pickle_module=pickle)


def index_of(folder: Path, **weight_map: str) -> None:
    unet = folder / "unet"
    (unet / f"{WEIGHTS}.safetensors").rename(unet / "shard.safetensors")
    (unet / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def without_queries(folder: Path) -> None:
    file = folder / "unet" / f"{WEIGHTS}.safetensors"
    save_file({name: value for name, value in load_file(file).items() if ".to_q." not in name}, file)


def with_another(folder: Path) -> None:
    file = folder / "unet" / f"{WEIGHTS}.safetensors"
    save_file({**load_file(file), "down_blocks.0.extra.weight": torch.zeros(1)}, file)


UNET, FIRST, SCHEDULER = "unet/config.json", "vqvae/config.json", "scheduler/scheduler_config.json"
REFUSED: dict[str, Callable[[Path], object]] = {
    r"is a diffusers folder \(StableDiffusionPipeline\); run it with diffusers\. Of such .*LDMSup": lambda folder: (
        changed(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    ),
    r"says that vqvae is AutoencoderKL, expected VQModel": lambda folder: changed(
        folder / "model_index.json", vqvae=["diffusers", "AutoencoderKL"]
    ),
    r"says that unet is nothing, expected UNet2DModel": lambda folder: changed(folder / "model_index.json", unet=...),
    r"lacks vqvae/config\.json, which a folder of LDMSuperResolutionPipeline needs": lambda folder: shutil.rmtree(
        folder / "vqvae"
    ),
    r"lacks unet/diffusion_pytorch_model\.safetensors \(or its \.bin\)": lambda folder: (
        folder / "unet" / f"{WEIGHTS}.safetensors"
    ).unlink(),
    r"lacks scheduler/scheduler_config\.json": lambda folder: (folder / SCHEDULER).unlink(),
    r"diffusion_pytorch_model\.bin .*(posix|os|nt)\.system": hostile,
    r"names the file '\.\./\.\./secret' outside its own folder": lambda folder: index_of(folder, a="../../secret"),
    r"names other\.safetensors, which is not there": lambda folder: index_of(folder, a="other.safetensors"),
    r"shard\.safetensors lacks a, which .* says it holds": lambda folder: index_of(folder, a="shard.safetensors"),
    r"is no index of shards: .*weight_map": lambda folder: (
        index_of(folder),
        (folder / "unet" / f"{WEIGHTS}.safetensors.index.json").write_text("{}"),
    ),
    r"has unet\..* but nothing for q beside it": without_queries,
    r"also holds unet\.down_blocks\.0\.extra\.weight": with_another,
    r"unet/config\.json describes a network that is not run: .*flip_sin_to_cos": lambda folder: changed(
        folder / UNET, flip_sin_to_cos=False
    ),
    r"attention_head_dim is null": lambda folder: changed(folder / UNET, attention_head_dim=None),
    r"attn_norm_num_groups is 4, and only norm_num_groups, 8, is run": lambda folder: changed(
        folder / UNET, attn_norm_num_groups=4
    ),
    r"freq_shift is 1 and mid_block_scale_factor 1, and only 0 and 1 are run": lambda folder: changed(
        folder / UNET, freq_shift=1
    ),
    r"block_out_channels \[16, 24\] are not multiples": lambda folder: changed(
        folder / UNET, block_out_channels=[16, 24]
    ),
    r"do not make one attention with heads of 32": lambda folder: changed(folder / UNET, attention_head_dim=32),
    r"the weights have 16": lambda folder: changed(folder / UNET, block_out_channels=[32, 64, 96]),
    r"vqvae/config\.json describes a network that is not run: .*norm_type": lambda folder: changed(
        folder / FIRST, norm_type="spatial"
    ),
    r"scheduler_config\.json describes a network that is not run: .*prediction_type": lambda folder: changed(
        folder / SCHEDULER, prediction_type="v_prediction"
    ),
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_is_refused_and_what_is_told(folder: Path, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    REFUSED[told](folder)
    with pytest.raises(DeployError, match=told) as caught:
        load_checkpoint(folder)
    assert isinstance(caught.value, CheckpointError | ConfigError)
    assert not (folder / "executed").exists()


def test_betas_that_are_listed_are_the_schedule(folder: Path) -> None:
    changed(folder / SCHEDULER, trained_betas=[0.1, 0.2, 0.3], num_train_timesteps=3)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.schedule.timesteps == checkpoint.config.timesteps == 3
    changed(folder / SCHEDULER, trained_betas=..., beta_schedule="linear", num_train_timesteps=10)
    assert str(load_checkpoint(folder).schedule).startswith("linear, 10 timesteps, beta 0.0015 to 0.0155")


def test_the_current_folder_may_be_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    place = default_path(Path())
    assert place == Path("ldm-sr.bundle")
    assert export_bundle(load_checkpoint("."), folder.parent / place).manifest.source.file == "ldm-sr"
