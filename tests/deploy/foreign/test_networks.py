"""Well-known networks of others are named, in every layout that is about; ours and the unknown are not mistaken."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from safetensors.torch import save_file

from deploy.checkpoint.load import load_checkpoint
from deploy.errors import CheckpointError
from deploy.foreign.networks import FOREIGN_NETWORKS, foreign_network
from tests.recordings import REFERENCE, manifest

ATTENTION = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
UNET = (f"model.diffusion_model.{ATTENTION}", "model.diffusion_model.input_blocks.0.0.weight")
VAE = (
    "encoder.conv_in.weight",
    "encoder.down.0.block.0.conv1.weight",
    "decoder.conv_in.weight",
    "decoder.up.0.block.0.conv1.weight",
    "quant_conv.weight",
)
FIRST_STAGE = tuple(f"first_stage_model.{name}" for name in VAE)
RRDB_OLD = ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight", "model.1.sub.23.weight", "model.10.weight")
RRDB_MIDDLE = ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight", "trunk_conv.weight", "conv_last.weight")
RRDB_NEW = ("conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight", "conv_up1.weight", "conv_last.weight")
SWIN = "layers.0.residual_group.blocks.0.attn"

NAMES: list[tuple[str, tuple[str, ...]]] = [
    (
        "a LoRA adapter",
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "x.lora_up.weight", "x.alpha"),
    ),
    ("a LoRA adapter", ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",)),
    ("a LoRA adapter", ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",)),
    ("a LoRA adapter", ("unet.down_blocks.0.attentions.0.attn1.to_q.lora.down.weight",)),
    ("a ControlNet", ("control_model.input_blocks.0.0.weight", "control_model.input_hint_block.0.weight", *UNET)),
    ("a Flux", ("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "img_in.weight")),
    (
        "a Flux",
        tuple(f"model.diffusion_model.{n}.weight" for n in ("double_blocks.0.img_attn.qkv", "single_blocks.0.linear1")),
    ),
    (
        "a Stable Diffusion 3",
        tuple(f"model.diffusion_model.{n}.weight" for n in ("joint_blocks.0.context_block.attn.qkv", "x_embedder.proj"))
        + FIRST_STAGE,
    ),
    ("a Stable Diffusion XL", (*UNET, "conditioner.embedders.0.transformer.text_model.x.weight", *FIRST_STAGE)),
    ("a Stable Diffusion XL", (ATTENTION, "label_emb.0.0.weight", "input_blocks.0.0.weight")),
    ("a Stable Diffusion 2", (*UNET, "cond_stage_model.model.transformer.resblocks.0.ln_1.weight", *FIRST_STAGE)),
    ("a Stable Diffusion 1", (*UNET, "cond_stage_model.transformer.text_model.x.weight", *FIRST_STAGE)),
    ("a U-Net of Stable Diffusion", UNET),
    ("a latent diffusion model .LDM.", ("model.diffusion_model.input_blocks.0.0.weight", *FIRST_STAGE)),
    ("an image auto-encoder", VAE),
    (
        "the DDPM network of Image-Super-Resolution-via-Iterative-Refinement, which is not SR3",
        (
            "denoise_fn.downs.0.weight",
            "denoise_fn.time_mlp.1.weight",
            "denoise_fn.time_mlp.0.inv_freq",
            "denoise_fn.downs.1.res_block.mlp.1.weight",
            "denoise_fn.ups.3.conv.weight",
            "denoise_fn.final_conv.block.3.weight",
            "betas",
        ),
    ),
    ("ESRGAN or Real-ESRGAN .RRDB.", RRDB_OLD),
    ("ESRGAN or Real-ESRGAN .RRDB.", RRDB_MIDDLE),
    ("ESRGAN or Real-ESRGAN .RRDB.", RRDB_NEW),
    (
        "Real-ESRGAN's compact network",
        ("body.0.weight", "body.0.bias", "body.1.weight", "body.2.weight", "body.2.bias", "body.3.weight"),
    ),
    (
        "HAT",
        (
            "conv_first.weight",
            f"{SWIN}.relative_position_bias_table",
            "layers.0.residual_group.overlap_attn.relative_position_bias_table",
        ),
    ),
    ("SwinIR or Swin2SR", ("conv_first.weight", f"{SWIN}.relative_position_bias_table")),
    ("SwinIR or Swin2SR", ("conv_first.weight", f"{SWIN}.cpb_mlp.0.weight", f"{SWIN}.logit_scale")),
    ("a ResNet", ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.0.conv1.weight", "fc.weight")),
    ("a vision transformer", ("cls_token", "pos_embed", "blocks.0.attn.qkv.weight")),
    ("a language model", ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight")),
]


def tensors(names: Any) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize(("title", "names"), NAMES)
def test_a_state_dict_is_refused_by_what_it_is_and_what_runs_it(
    tmp_path: Path, title: str, names: tuple[str, ...]
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tensors(names), path)
    with pytest.raises(CheckpointError, match=rf"model.safetensors holds {title}.*, not a network that .* Run it with"):
        load_checkpoint(path)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in tensors(names).items()}}, wrapped)
    with pytest.raises(CheckpointError, match=rf"wrapped.pth holds {title}"):
        load_checkpoint(wrapped)


def test_every_entry_of_the_table_is_tried() -> None:
    assert {foreign_network(names) for _, names in NAMES} == set(FOREIGN_NETWORKS)


SMALL_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": 8,
}
SMALL_TRANSFORMER: dict[str, Any] = {
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 1,
    "joint_attention_dim": 8,
    "pooled_projection_dim": 8,
    "in_channels": 4,
}


@pytest.mark.parametrize(
    ("title", "network"),
    [
        (
            "a U-Net of Stable Diffusion",
            lambda: UNet2DConditionModel(**SMALL_UNET, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
        ),
        (
            "a Stable Diffusion XL network",
            lambda: UNet2DConditionModel(
                **SMALL_UNET,
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=56,
            ),
        ),
        (
            "a ControlNet, which steers another network",
            lambda: ControlNetModel(
                **{name: value for name, value in SMALL_UNET.items() if name != "sample_size"},
                conditioning_embedding_out_channels=(8, 8),
            ),
        ),
        (
            "an image auto-encoder (VAE or VQGAN) as latent diffusion uses it",
            lambda: AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        ),
        (
            "a Flux transformer",
            lambda: FluxTransformer2DModel(**SMALL_TRANSFORMER, num_single_layers=1, axes_dims_rope=(4, 6, 6)),
        ),
        (
            "a Stable Diffusion 3 transformer",
            lambda: SD3Transformer2DModel(
                **SMALL_TRANSFORMER, sample_size=8, caption_projection_dim=16, pos_embed_max_size=8
            ),
        ),
    ],
)
def test_the_networks_of_diffusers_are_known_by_the_names_that_it_gives_them(title: str, network: Any) -> None:
    recognised = foreign_network(network().state_dict())
    assert recognised is not None
    assert recognised.title == title


OURS = sorted(path.stem for path in (REFERENCE / "manifests").glob("[!bw]*.json"))


@pytest.mark.parametrize("name", OURS)
def test_no_checkpoint_of_ours_is_taken_for_another_network_whole_or_in_parts(name: str) -> None:
    names = list(manifest(name))
    parts = Counter(".".join(entry.split(".")[:depth]) for entry in names for depth in (1, 2))
    assert foreign_network(names) is None
    for prefix in (part for part, count in parts.items() if count > 9):
        without = [entry for entry in names if not entry.startswith(prefix)]
        alone = [entry.removeprefix(f"{prefix}.") for entry in names if entry.startswith(f"{prefix}.")]
        assert foreign_network(without) is None, f"without {prefix}"
        assert foreign_network(alone) is None, f"{prefix} alone"


def test_a_network_that_nobody_knows_keeps_the_general_message(tmp_path: Path) -> None:
    torch.save(tensors(["conv_first.weight", "body.0.conv1.weight", "encoder.weight"]), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"holds another network \(tensors: 3\); the nearest known family"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_a_moving_average_alone_is_no_reason_to_ask_for_it_if_the_network_is_another(
    tmp_path: Path, weights: Any
) -> None:
    path = tmp_path / "RealESRGAN_x4plus.pth"
    torch.save({"params_ema": tensors(RRDB_NEW)}, path)
    with pytest.raises(CheckpointError, match=r"x4plus.pth holds ESRGAN or Real-ESRGAN \(RRDB\).*spandrel or chaiNNer"):
        load_checkpoint(path, weights=weights)
    torch.save({"params_ema": tensors(["conv.weight"])}, path)
    with pytest.raises(CheckpointError, match="holds another network"):
        load_checkpoint(path, weights=weights)


def test_a_network_in_numbers_that_are_not_read_is_named_all_the_same(tmp_path: Path) -> None:
    weights = {name: torch.zeros(4).to(torch.float8_e4m3fn) for name in NAMES[5][1]}
    save_file(weights, tmp_path / "flux1-dev-fp8.safetensors")
    with pytest.raises(CheckpointError, match=r"fp8.safetensors holds a Flux transformer"):
        load_checkpoint(tmp_path / "flux1-dev-fp8.safetensors")
