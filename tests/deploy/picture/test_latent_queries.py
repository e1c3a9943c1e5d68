"""How many output pixels the latent decoder is asked for at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.families.latent.model import LARGEST_QUERY_BYTES, LatentModel


class Counted(GraphSet):
    """Remembers how many output pixels every query had, of all pictures."""

    pixels: list[int]

    def run(self, name: str, feeds: Mapping[str, Any], **kept: Any) -> dict[str, Any]:
        made = super().run(name, feeds, **kept)
        if name == "query":
            batch, _, rows, columns = made["colours"].shape
            self.pixels.append(batch * rows * columns)
        return made


def queried(bundle: Bundle, batch: int, side: int, threads: int, room: int = LARGEST_QUERY_BYTES) -> list[int]:
    with Counted(bundle, EngineChoice(threads=threads)) as graphs:
        graphs.pixels = []
        model = LatentModel(graphs)
        latent = np.random.default_rng(0).standard_normal((batch, model.channels, 8, 8)).astype(np.float32)
        rows = [
            block.shape[2] for block in model.subject_of_latents(batch, (8, 8), (side, side)).picture_rows(latent, room)
        ]
    assert sum(rows) == side
    assert sum(graphs.pixels) == batch * side * side
    return graphs.pixels


@pytest.mark.parametrize(
    ("batch", "side", "threads", "largest"),
    [
        (1, 40, 1, 1600),  # the whole picture
        (1, 100, 1, 4000),  # 40 rows of 100
        (1, 100, 2, 8100),  # 81 rows
        (3, 100, 1, 3900),  # 4096 // 3 = 1365 pixels each: 13 rows of 100, three pictures
    ],
)
def test_a_chunk_is_as_large_as_its_threads_run_fastest(
    latent_sr: Bundle, batch: int, side: int, threads: int, largest: int
) -> None:
    assert max(queried(latent_sr, batch, side, threads)) == largest


def test_a_chunk_is_never_larger_than_the_room(latent_sr: Bundle) -> None:
    with GraphSet(latent_sr, EngineChoice(threads=1)) as graphs:
        per_pixel = LatentModel(graphs).memory.query_bytes_per_pixel
    assert max(queried(latent_sr, 1, 40, 1, room=per_pixel * 90)) == 80  # two rows of 40
    assert max(queried(latent_sr, 1, 40, 1, room=per_pixel * 25)) == 25  # part of a row
