"""Well-known networks of others, recognised by the names in their state dicts, so that a refusal can name them.

The table is asked only about what no family of ours has taken. Its order matters where one network contains
another: adapters before what they adapt, newer networks before the older ones they grew from. An entry that names
too little is worse than none: what is not surely recognised keeps the general message.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """A network that is run by other tools.

    `marks` are regular expressions of which each must be found in the list of names, one name a line; `without`
    must not be found.
    """

    title: str
    tool: str
    marks: tuple[str, ...]
    without: str | None = None


DIFFUSERS = "diffusers or ComfyUI"
SPANDREL = "spandrel or chaiNNer"
# A whole Stable Diffusion file has the U-Net below model.diffusion_model, a file of the U-Net alone has no prefix.
UNET = r"^(model\.diffusion_model\.)?"

FOREIGN_NETWORKS = (
    ForeignNetwork(
        title="a LoRA adapter, a small change to another network's weights",
        tool="diffusers, ComfyUI or PEFT, together with the network it was trained for",
        marks=(r"[._](lora[._](up|down|A|B|linear_layer)|lora_layer\.(up|down)|hada_w1_a|lokr_w[12](_a)?)\b",),
    ),
    ForeignNetwork(
        title="a ControlNet, which steers another network",
        tool=f"{DIFFUSERS}, together with the network it was trained for",
        marks=(
            r"(^|\.)(input_hint_block\.0|controlnet_cond_embedding\.conv_in|controlnet_blocks\.0"
            r"|controlnet_x_embedder)\.weight$",
        ),
    ),
    ForeignNetwork(
        title="a Flux transformer",
        tool=DIFFUSERS,
        marks=(
            r"(^|\.)(double_blocks\.0\.img_attn\.qkv|transformer_blocks\.0\.attn\.add_q_proj)\.weight$",
            r"(^|\.)(single_blocks\.0\.linear1|single_transformer_blocks\.0\.attn\.to_q)\.weight$",
        ),
    ),
    ForeignNetwork(
        title="a Stable Diffusion 3 transformer",
        tool=DIFFUSERS,
        marks=(
            r"(^|\.)(joint_blocks\.0\.context_block\.attn\.qkv|transformer_blocks\.0\.attn\.add_k_proj)\.weight$",
            r"(^|\.)(x_embedder|pos_embed)\.proj\.weight$",
        ),
    ),
    ForeignNetwork(
        title="a Stable Diffusion XL network",
        tool=DIFFUSERS,
        marks=(
            r"\.transformer_blocks\.0\.attn2\.to_k\.weight$",
            r"^(conditioner\.embedders\.|add_embedding\.linear_1\.weight$)"
            r"|" + UNET + r"label_emb\.0\.0\.weight$",
        ),
    ),
    ForeignNetwork(
        title="a Stable Diffusion 2 checkpoint",
        tool=DIFFUSERS,
        marks=(r"\.transformer_blocks\.0\.attn2\.to_k\.weight$", r"^cond_stage_model\.model\.transformer\."),
    ),
    ForeignNetwork(
        title="a Stable Diffusion 1 checkpoint",
        tool=DIFFUSERS,
        marks=(r"\.transformer_blocks\.0\.attn2\.to_k\.weight$", r"^cond_stage_model\.transformer\."),
    ),
    ForeignNetwork(
        title="a U-Net of Stable Diffusion",
        tool=DIFFUSERS,
        marks=(
            r"^(model\.diffusion_model\.|)(input_blocks|down_blocks)\..*\.transformer_blocks\.0\.attn2\.to_k\.weight$",
        ),
    ),
    ForeignNetwork(
        title="a latent diffusion model (LDM) with a decoder of one fixed scale",
        tool="its authors' code (CompVis/latent-diffusion)",
        marks=(
            r"^model\.diffusion_model\.input_blocks\.0\.0\.weight$",
            r"^first_stage_model\.encoder\.conv_in\.weight$",
            r"^first_stage_model\.decoder\.conv_in\.weight$",
        ),
    ),
    ForeignNetwork(
        title="an image auto-encoder (VAE or VQGAN) as latent diffusion uses it",
        tool=DIFFUSERS,
        marks=(
            r"^(first_stage_model\.)?encoder\.conv_in\.weight$",
            r"^(first_stage_model\.)?encoder\.down(_blocks)?\.0\.",
            r"^(first_stage_model\.)?decoder\.conv_in\.weight$",
            r"^(first_stage_model\.)?decoder\.up(_blocks)?\.0\.",
        ),
    ),
    ForeignNetwork(
        title="the DDPM network of Image-Super-Resolution-via-Iterative-Refinement, which is not SR3",
        tool="its authors' code",
        marks=(
            r"^denoise_fn\.downs\.0\.weight$",
            r"^denoise_fn\.time_mlp\.1\.weight$",
            r"^denoise_fn\.downs\.1\.res_block\.mlp\.1\.weight$",
        ),
    ),
    ForeignNetwork(
        title="ESRGAN or Real-ESRGAN (RRDB)",
        tool=SPANDREL,
        marks=(
            r"^(conv_first|model\.0)\.weight$",
            r"^(body\.0\.rdb1\.conv1|RRDB_trunk\.0\.RDB1\.conv1|model\.1\.sub\.0\.RDB1\.conv1(x1)?(\.0)?)\.weight$",
        ),
    ),
    ForeignNetwork(
        title="Real-ESRGAN's compact network (SRVGG)",
        tool=SPANDREL,
        # Nothing but numbered layers, every other of which is a PReLU: one weight and no bias.
        marks=(r"\A(body\.\d+\.(weight|bias)(\n|\Z))+\Z", r"^body\.0\.bias$", r"^body\.1\.weight$"),
        without=r"^body\.1\.bias$",
    ),
    ForeignNetwork(
        title="HAT",
        tool=SPANDREL,
        marks=(
            r"^conv_first\.weight$",
            r"^layers\.0\.residual_group\.overlap_attn\.relative_position_bias_table$",
        ),
    ),
    ForeignNetwork(
        title="SwinIR or Swin2SR",
        tool=SPANDREL,
        marks=(
            r"^conv_first(\.1)?\.weight$",
            r"^layers\.0\.residual_group\.blocks\.0\.attn\.(relative_position_bias_table|cpb_mlp\.0\.weight)$",
        ),
    ),
    ForeignNetwork(
        title="a ResNet, which classifies pictures",
        tool="torchvision or timm",
        marks=(
            r"^conv1\.weight$",
            r"^bn1\.running_mean$",
            r"^layer1\.0\.conv1\.weight$",
            r"^layer4\.0\.conv1\.weight$",
        ),
    ),
    ForeignNetwork(
        title="a vision transformer or CLIP",
        tool="transformers or timm",
        marks=(
            r"^(cls_token|visual\.class_embedding|(vision_model|text_model)\.embeddings\."
            r"(class_embedding|token_embedding\.weight))$",
            r"^(blocks\.0\.attn\.qkv|visual\.transformer\.resblocks\.0\.attn\.in_proj_weight"
            r"|(vision_model|text_model)\.encoder\.layers\.0\.self_attn\.q_proj)",
        ),
    ),
    ForeignNetwork(
        title="a language model",
        tool="transformers",
        marks=(r"^model\.layers\.0\.self_attn\.q_proj\.weight$", r"^model\.embed_tokens\.weight$"),
    ),
)


def foreign_network(names: Iterable[str]) -> ForeignNetwork | None:
    """The first entry of the table that fits a state dict with these names."""
    text = "\n".join(names)
    for network in FOREIGN_NETWORKS:
        present = all(re.search(mark, text, re.MULTILINE) for mark in network.marks)
        if present and not (network.without and re.search(network.without, text, re.MULTILINE)):
            return network
    return None


def refuse_foreign_network(path: Path, names: Iterable[str], ours: Iterable[str]) -> None:
    """A CheckpointError that says what the file holds and what runs it, if the table knows it; `ours` are taken."""
    network = foreign_network(names)
    if network is not None:
        raise CheckpointError(
            f"{path} holds {network.title}, not a network that idm-deploy can deploy. Run it with {network.tool}; "
            f"idm-deploy takes {'; '.join(ours)}."
        )
