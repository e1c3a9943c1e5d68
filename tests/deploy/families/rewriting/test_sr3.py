"""Every rewrite of SR3 against the network as published, alone and together, at many sizes."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.families.rewriting.ops import Part
from deploy.families.rewriting.torch_ops import PartRunner
from deploy.families.sr3.condition import doubling_tables
from deploy.families.sr3.family import REWRITES
from deploy.families.sr3.network import Sr3Network
from deploy.families.sr3.rewrites import Sr3Parts
from deploy.images.sizes import Size
from tests.rounding import rounding_of_network
from tests.sr3_models import MICRO, sr3_filled

SIDES = st.integers(1, 70)


@cache
def network() -> Sr3Network:
    return sr3_filled(MICRO)


@cache
def parts(rewrites: frozenset[str]) -> list[Part]:
    weights = {name: value.numpy() for name, value in network().state_dict().items()}
    return Sr3Parts(MICRO, weights, rewrites).parts()


def one_step(rewrites: frozenset[str], size: tuple[int, int], batch: int) -> float:
    """The largest difference of one random step, as a share of what rounding explains."""
    generator = torch.Generator().manual_seed(sum(size) + batch)
    x, cond = (torch.randn(batch, 3, *size, generator=generator) for _ in range(2))
    feeds = {name: torch.from_numpy(table) for name, table in doubling_tables(Size(*size), MICRO.levels).items()}
    feeds |= {"x": x, "cond": cond, "noise_level": torch.full((1, 1), 0.4)}
    for part in parts(rewrites):
        feeds |= PartRunner(part).run({spec.name: feeds[spec.name] for spec in part.inputs})
    with torch.inference_mode():
        published = network().denoise(x, cond, torch.full((batch, 1), 0.4))
    rounding = rounding_of_network(network(), float(published.abs().max()))
    return float((feeds["noise"] - published).abs().max()) / rounding


@settings(max_examples=8, deadline=None)
@given(height=SIDES, width=SIDES, batch=st.integers(1, 2))
@pytest.mark.parametrize(
    "rewrites",
    [*({name} for name in sorted(REWRITES)), set(REWRITES), set()],
    ids=lambda names: " ".join(sorted(names)) or "none",
)
def test_rewrites_change_nothing(rewrites: set[str], height: int, width: int, batch: int) -> None:
    assert one_step(frozenset(rewrites), (height, width), batch) < 1


def test_what_each_rewrite_leaves_of_the_graphs() -> None:
    assert [part.name for part in parts(frozenset())] == ["denoise"]
    every = {part.name: part for part in parts(frozenset(REWRITES))}
    assert list(every) == ["tabulate", "condition", "denoise"]
    assert [spec.name for spec in every["denoise"].inputs][:3] == ["x", "noise_row", "first"]
