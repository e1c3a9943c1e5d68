"""How originals become what is compared, in one line that stands in every report; and the protocols of the papers.

Figures of two papers differ by decibels through what is said nowhere else: whether the original or the input has the
same size at every scale, which filter reduces, what is cut off, and over which colours a mean is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CURVE = (2.0, 4.0, 8.0, 12.0, 16.0)
"""The scales of `--curve`."""
KERNEL = "antialiased bicubic (Keys, a = -1/2, as in Pillow), rounded to 8 bits"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How originals are prepared. `data` says what the papers ran it on, as the user has to find it."""

    name: str = "plain"
    scales: tuple[float, ...] = (4.0,)
    lr_side: int | None = None
    """Of every original the middle square is taken; reduced to so many pixels a side it is the input at every scale,
    reduced to scale times as many the original. None: the originals stay as they are, and the inputs shrink."""
    data: str | None = None

    def line(self, *, crop: int | None = None) -> str:
        """E.g. "protocol plain: originals fixed, inputs reduced by the scale; LR by antialiased bicubic ..; .."."""
        if self.lr_side is None:
            fixed = "originals fixed, inputs reduced by the scale"
            cropping = "the middle of each original" if crop is None else f"the middle {crop}x{crop} pixels"
            cut = f"{cropping}, to what whole LR pixels enlarge to"
        else:
            fixed = f"inputs fixed at {self.lr_side}x{self.lr_side}, originals reduced to the scale times that"
            cut = "the middle square of each original"
        return (
            f"protocol {self.name}: {fixed}; LR by {KERNEL}; cropping: {cut}; no border left out; PSNR, SSIM over RGB, "
            "PSNR Y over the luma of BT.601"
        )


PLAIN = Protocol()
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="idm-faces-8x",
            scales=(8.0,),
            lr_side=16,
            data="faces cut as in CelebA-HQ, which IDM enlarged from 16x16 to 128x128 after training on FFHQ",
        ),
        Protocol(
            name="div2k-4x", data="the 100 pictures of DIV2K's validation set, of which both papers tell PSNR and SSIM"
        ),
        Protocol(
            name="latent-selfssim",
            scales=(2.0, 4.0, 8.0),
            lr_side=32,
            data="any pictures; the latent paper tells SelfSSIM of 5000 generated ones between sizes",
        ),
    )
}
"""What `--protocol` offers. The papers leave open how originals are cut; the line says how it is done here."""
