"""Upscalers on the small bundles, one thread each, open while a module's tests run."""

from collections.abc import Iterator

import pytest

from deploy import Bundle, Upscaler


@pytest.fixture(scope="module")
def up(idm_micro: Bundle) -> Iterator[Upscaler]:
    with Upscaler(idm_micro, threads=1) as upscaler:
        yield upscaler


@pytest.fixture(scope="module")
def latent(latent_sr: Bundle) -> Iterator[Upscaler]:
    with Upscaler(latent_sr, threads=1) as upscaler:
        yield upscaler
