"""The smallest networks and picture stores that training code can run on."""

import numpy as np
import torch

from deploy.families.compvis.config import UNetConfig
from deploy.families.idm.config import IdmConfig
from deploy.families.latent.config import FirstStageConfig, LatentConfig
from training.idm import IdmBatches, IdmTask
from training.pictures import PictureStore

CPU = torch.device("cpu")
SMALL_IDM = IdmConfig(
    inner_channel=16,
    channel_multiplier=(1, 2),
    attn_res=(8,),
    res_blocks=1,
    norm_groups=4,
    image_size=16,
    implicit_hidden=16,
    n_resblocks=1,
    n_feats=8,
)
SMALL_FIRST_STAGE = FirstStageConfig(
    double_z=True,
    z_channels=4,
    resolution=32,
    ch=16,
    ch_mult=(1, 2, 2),
    num_res_blocks=1,
    hidden_list=(24, 16),
    norm_groups=4,
)
SMALL_LATENT = LatentConfig(
    kind="super-resolution",
    first_stage=SMALL_FIRST_STAGE,
    unet=UNetConfig(
        image_size=8,
        in_channels=8,
        out_channels=4,
        model_channels=16,
        attention_resolutions=(2,),
        num_res_blocks=1,
        channel_mult=(1, 2),
        num_head_channels=16,
        norm_groups=4,
    ),
    image_size=8,
    channels=4,
    inp_size=32,
    lr_size=8,
    default_output_size=32,
    conditioning_key="concat",
    linear_end=0.0155,
)


def small_store(count: int = 3, side: int = 40) -> PictureStore:
    """Smooth random pictures, the same ones on every call."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:side, 0:side] / side
    pictures = []
    for _ in range(count):
        waves = rng.normal(size=(3, 2)) * 6
        picture = np.stack([np.sin(a * y + b * x) for a, b in waves], axis=-1)
        pictures.append(np.rint((picture * 0.5 + 0.5) * 255).astype(np.uint8))
    return PictureStore.from_pictures(pictures, [1.0] * count, CPU)


def small_held_out(count: int = 2, side: int = 16) -> torch.Tensor:
    """Pictures for the checks, in [-1, 1]."""
    crops = small_store().crops(count, (side, side), torch.Generator().manual_seed(3))
    return crops.float() / 127.5 - 1


def small_idm_task(seed: int = 0, *, compiled: bool = False) -> IdmTask:
    """A task whose steps take milliseconds."""
    batches = IdmBatches(pixels=2 * 16 * 16, squares=(16,), any_side=(12, 20))
    return IdmTask(small_store(), small_held_out(), config=SMALL_IDM, batches=batches, seed=seed, compiled=compiled)
