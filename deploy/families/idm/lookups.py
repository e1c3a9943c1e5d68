"""Where the implicit layers look: indices and offsets along each axis, made outside the graphs."""

from collections.abc import Mapping
from functools import lru_cache

from deploy.families.contract import Array
from deploy.images.coordinates import axis_lookup
from deploy.images.sizes import Size


@lru_cache(maxsize=64)
def lookup_tables(size: Size, levels: int) -> Mapping[str, Array]:
    """The look-ups of the implicit layers: layer k goes from ceil(m / 2) to m = ceil(size / 2^(k-1)) per axis.

    Kept for the sizes that were asked for last, by whichever run.
    """
    tables: dict[str, Array] = {}
    for axis, count in zip(("row", "column"), size, strict=True):
        finer = count
        for level in range(1, levels):
            coarser = -(-finer // 2)
            lookup = axis_lookup(coarser, finer)
            tables[f"{axis}_index_{level}"] = lookup.index
            tables[f"{axis}_offset_{level}"] = lookup.relative
            finer = coarser
    return tables
