"""The rewrites and graphs of each family, by its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.families.idm import rewrites as idm
from deploy.families.latent import rewrites as latent
from deploy.families.rewriting.ops import Array
from deploy.families.rewriting.parts import Part


@dataclass(frozen=True, kw_only=True)
class FamilyRewrites:
    """`rewrites` maps a name to what it does; `parts` describes the graphs under a choice of them."""

    rewrites: Mapping[str, str]
    parts: Callable[[Any, Mapping[str, Array], frozenset[str]], list[Part]]


REWRITES_OF_FAMILY: Mapping[str, FamilyRewrites] = {
    "idm": FamilyRewrites(
        rewrites=idm.REWRITES,
        parts=lambda config, weights, chosen: idm.IdmParts(config, weights, chosen).parts(),
    ),
    "latent": FamilyRewrites(
        rewrites=latent.REWRITES,
        parts=lambda config, weights, chosen: latent.LatentParts(config, weights, chosen).parts(),
    ),
}
