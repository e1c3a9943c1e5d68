"""The latent family's exact rewrites by name, for readers; `rewrites` makes them."""

from collections.abc import Mapping

from deploy.families.contract import Rewrite
from deploy.families.rewriting.identities import DROP_UNUSED, SPLIT_SHORTCUT

REWRITES: Mapping[str, Rewrite] = {
    "drop-unused": DROP_UNUSED,
    "condition-once": Rewrite(
        title="Condition once",
        what="The condition's half of the first convolution is computed once per picture.",
        saves="half of that convolution in every step",
    ),
    "tabulate-time": Rewrite(
        title="Tabulate the timestep",
        what="Everything made of the timestep is one table row per step, in float32.",
        saves="the embedding and its layers in every step",
    ),
    "fold-first-layer": Rewrite(
        title="Fold the decoder's first layer",
        what="The first layer of the implicit decoder is linear: its part on the features is applied per latent "
        "pixel, before the look-up.",
        saves="that layer per output pixel; the larger the picture, the more",
    ),
    "split-shortcut": SPLIT_SHORTCUT,
}
