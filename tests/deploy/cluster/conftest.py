"""Clusters of Ray on loopback, with statistics off. Ray reads these when it is imported, so they are said first."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 is taken as it is
    "RAY_AUTH_MODE": "disabled",
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}

NODE = {
    "num_cpus": 1,
    "object_store_memory": 100_000_000,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.1",
}


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of one node with one processor, whose workers keep bundles in a folder of their own."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # Workers import the tests' checkout, wherever pytest was started.
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
        running = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            yield running
        finally:
            running.shutdown()
