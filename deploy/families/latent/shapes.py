"""What the shapes of a latent model's weights reveal about its U-Net and its auto-encoder."""

from typing import Any

from deploy.families.detection import Stored, common_count

UNET = "model.diffusion_model."


def first_stage_prefix(stored: Stored) -> str:
    """What stands before the auto-encoder's names: nothing if it was saved alone."""
    inside = any(name.startswith("first_stage_model.") for name in stored.shapes)
    return "first_stage_model." if inside else ""


def first_stage_from_shapes(stored: Stored, prefix: str) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The fields of `FirstStageConfig` that shapes reveal, and the encoder's levels with attention."""
    encoder, decoder = f"{prefix}encoder.0.", f"{prefix}decoder."
    ch, in_channels = stored.shape(f"{encoder}conv_in.weight", 4)[:2]
    z_channels = stored.shape(f"{decoder}decoder.0.weight", 4)[1]
    levels = stored.numbers_after(f"{encoder}down.")
    widths = [stored.shape(f"{encoder}down.{level}.block.0.conv1.weight", 4)[0] for level in levels]
    blocks = [len(stored.numbers_after(f"{encoder}down.{level}.block.")) for level in levels]
    attention = [level for level in levels if f"{encoder}down.{level}.attn.0.q.weight" in stored.shapes]
    perceptron = f"{decoder}inr.imnet.layers."
    layers = [stored.shape(f"{perceptron}{n}.weight", 2) for n in stored.numbers_after(perceptron)]
    finest = widths[0] if widths else ch
    read = {
        "double_z": stored.shape(f"{prefix}encoder.1.weight", 4)[0] == 2 * z_channels,
        "z_channels": z_channels,
        "ch": ch,
        "ch_mult": tuple(max(1, width // ch) for width in widths),
        "num_res_blocks": common_count(stored, "the encoder", blocks),
        "in_channels": in_channels,
        "out_ch": layers[-1][0],
        "hidden_list": tuple(width for width, _ in layers[:-1]),
        # Inputs of the perceptron: features, two relative coordinates, and with cells two more.
        "cell_decode": layers[0][1] == finest + 4,
    }
    return read, tuple(attention)


def unet_from_shapes(stored: Stored) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The fields of `UNetConfig` that shapes reveal, and the levels with attention."""
    model_channels, in_channels = stored.shape(f"{UNET}input_blocks.0.0.weight", 4)[:2]
    blocks = [0]  # per level, finest first
    widths: dict[int, int] = {}
    attention: set[int] = set()
    for number in stored.numbers_after(f"{UNET}input_blocks.")[1:]:
        block = f"{UNET}input_blocks.{number}."
        if f"{block}0.op.weight" in stored.shapes:  # halves the size: the next level begins
            blocks.append(0)
            continue
        level = len(blocks) - 1
        widths[level] = stored.shape(f"{block}0.out_layers.3.weight", 4)[0]
        blocks[level] += 1
        if f"{block}1.qkv.weight" in stored.shapes:
            attention.add(level)
    read = {
        "model_channels": model_channels,
        "in_channels": in_channels,
        "out_channels": stored.shape(f"{UNET}out.2.weight", 4)[0],
        "num_res_blocks": common_count(stored, "the U-Net", blocks),
        "channel_mult": tuple(max(1, width // model_channels) for width in widths.values()),
    }
    return read, tuple(sorted(attention))
