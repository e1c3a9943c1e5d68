"""Why there is no connection to a cluster, in seconds and in a sentence."""

import json
import platform
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deploy.cluster import connection
from deploy.cluster.connection import ask, check_installed, check_versions, connected
from deploy.errors import ClusterError, MissingPackage


@contextmanager
def mute_server() -> Iterator[int]:
    """Something that is no Ray: it takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []
        accepting = threading.Thread(target=lambda: held.extend(server.accept()[0] for _ in range(2)), daemon=True)
        accepting.start()
        yield server.getsockname()[1]
        accepting.join(10)
        for taken in held:
            taken.close()


def test_what_no_command_can_connect_to_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"ray://head:10001 is the address of a Ray client.*`ray job submit` does"):
        ask("ray://head:10001")
    import ray

    same = {"address": "h:1", "ray": ray.__version__, "python": platform.python_version()}
    check_versions(same)
    check_versions({"address": "h:1"})  # it does not tell
    with pytest.raises(
        ClusterError, match=rf"h:1 runs Ray 1\.0, this command {ray.__version__}.*pip install 'ray==1\.0'"
    ):
        check_versions(same | {"ray": "1.0"})
    with pytest.raises(ClusterError, match=r"h:1 runs Python 3\.1\.2, this command .*a Python 3\.1\.2 here"):
        check_versions(same | {"python": "3.1.2"})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingPackage, match=r"pip install 'idm-deploy\[ray\]', on every machine"):
        check_installed()


@pytest.mark.slow
def test_an_address_without_a_cluster_is_refused_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"No Ray cluster answers at 127\.0\.0\.1:{free} \(Connection refused\)"):
        ask(f"127.0.0.1:{free}")
    with pytest.raises(
        ClusterError, match="'nonsense' is no address of a Ray cluster; write auto, local, or HOST:PORT"
    ):
        ask("nonsense")
    monkeypatch.setattr(connection, "PATIENCE", 12.0)
    with mute_server() as port:
        began = time.monotonic()
        with pytest.raises(ClusterError, match="something listens there, but did not answer as Ray does within 12 s"):
            ask(f"127.0.0.1:{port}")
        assert time.monotonic() - began < 30
    monkeypatch.setattr(connection.sys, "executable", "/bin/false")
    with pytest.raises(ClusterError, match="connecting to the Ray cluster auto: exit code 1"):
        ask("auto")


@pytest.mark.slow
def test_a_cluster_of_other_versions_is_named(cluster: Any) -> None:
    from ray._raylet import GcsClient

    assert ask(cluster.address)["python"] == platform.python_version()
    client, key, space = GcsClient(address=cluster.address), b"CLUSTER_METADATA", b"cluster"
    before = client.internal_kv_get(key, space)
    client.internal_kv_put(key, json.dumps(json.loads(before) | {"ray_version": "2.1.0"}).encode(), True, space)
    try:
        with pytest.raises(ClusterError, match=r"runs Ray 2\.1\.0, this command"), connected(cluster.address):
            pass
    finally:
        client.internal_kv_put(key, before, True, space)
