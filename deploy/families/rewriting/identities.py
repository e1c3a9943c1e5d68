"""The rewrites that families share: what readers are told, and the arithmetic on the weights."""

from collections.abc import Mapping
from typing import Literal

from deploy.families.contract import Rewrite
from deploy.families.rewriting.ops import Array

DROP_UNUSED = Rewrite(
    title="Drop what is never used",
    what="Parameters that no output depends on are accepted on loading and not carried.",
    saves="space and loading time; 14 % of the published IDM's parameters",
)

SPLIT_SHORTCUT = Rewrite(
    title="Split the shortcut",
    what="W·[a; b] = Wa·a + Wb·b: the convolution over two joined feature maps becomes two.",
    saves="the joining; and each half has an int8 scale of its own, where one would serve both badly",
)

TABULATE_NOISE = Rewrite(
    title="Tabulate the noise level",
    what="Everything made of the noise level is one table row per step, in float32.",
    saves="the embedding and its layers in every step",
)


def split_convolution(
    weights: Mapping[str, Array], name: str, first: int, *, bias: Literal["a", "b"]
) -> dict[str, Array]:
    """W [a; b] + bias = Wa a + Wb b + bias with `first` channels in a; `bias` says with which half it stays.

    It stays with the half that is computed once per picture, where one is: then the other has less to do in each step.
    """
    weight = weights[f"{name}.weight"]
    return {
        f"{name}.a.weight": weight[:, :first].copy(),
        f"{name}.b.weight": weight[:, first:].copy(),
        f"{name}.{bias}.bias": weights[f"{name}.bias"],
    }
