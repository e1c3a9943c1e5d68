"""IDM's exact rewrites by name, for readers; `rewrites` makes them."""

from collections.abc import Mapping

from deploy.families.contract import Rewrite
from deploy.families.rewriting.identities import DROP_UNUSED, SPLIT_SHORTCUT

REWRITES: Mapping[str, Rewrite] = {
    "drop-unused": DROP_UNUSED,
    "hoist-condition": Rewrite(
        title="Hoist the condition",
        what="Everything made of the low-resolution picture and the scaling factor is computed once per picture.",
        saves="the whole conditioning network in every step",
    ),
    "fold-implicit": Rewrite(
        title="Fold the implicit decoder",
        what="Two linear layers without an activation between them are one: W2·(W1·[y; r] + b1) + b2, applied "
        "before the look-up, at the lower resolution.",
        saves="most of the decoder's multiplications",
    ),
    "tabulate-noise": Rewrite(
        title="Tabulate the noise level",
        what="Everything made of the noise level is one table row per step, in float32.",
        saves="the embedding and its layers in every step",
    ),
    "split-shortcut": SPLIT_SHORTCUT,
}
