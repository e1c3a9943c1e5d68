"""What the shapes of a checkpoint reveal of the U-Net, and which noise schedule it was trained with."""

from collections.abc import Mapping
from typing import Any

from deploy.bundle.records import ValueSource
from deploy.families.detection import Resolved, Settings, Shape, Stored
from deploy.sampling.schedule import NoiseSchedule

UNET = "model.diffusion_model."


def averaged_names(names: Mapping[str, Shape]) -> dict[str, str]:
    """Live name of each U-Net parameter -> name of its moving average, which has the dots removed."""
    return {
        name: "model_ema." + name.removeprefix("model.").replace(".", "") for name in names if name.startswith(UNET)
    }


def unet_from_shapes(stored: Stored) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The fields of `UNetConfig` that shapes reveal, and the levels with attention."""
    model_channels, in_channels = stored.shape(f"{UNET}input_blocks.0.0.weight", 4)[:2]
    blocks, widths, attention = stored.levels_of(
        f"{UNET}input_blocks.", halving="0.op.weight", width="0.out_layers.3.weight", attention="1.qkv.weight"
    )
    read = {
        "model_channels": model_channels,
        "in_channels": in_channels,
        "out_channels": stored.shape(f"{UNET}out.2.weight", 4)[0],
        "num_res_blocks": blocks,
        "channel_mult": tuple(max(1, width // model_channels) for width in widths),
    }
    return read, attention


def schedule_of(
    stored: Stored, settings: list[Settings], tables: NoiseSchedule | None, resolved: Resolved
) -> tuple[NoiseSchedule, ValueSource]:
    """The stored betas are the truth; without them the schedule is that of `linear_start` and `linear_end`."""
    for setting in settings:
        chosen = setting.schedules.get("schedule")
        if chosen is None:
            continue
        if tables is not None and chosen != tables:
            stored.refuse_contradictions(
                [f"{setting.label} gives the noise schedule {chosen}, the stored tables are {tables}"]
            )
        return chosen, setting.source
    if tables is not None:
        return tables, "weights"
    values = resolved.values
    # What the authors call linear is linear in the square root.
    schedule = NoiseSchedule.from_kind("sqrtlinear", values["timesteps"], values["linear_start"], values["linear_end"])
    return schedule, resolved.sources["linear_start"]
