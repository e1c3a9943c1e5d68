"""A connection to a Ray cluster, or a sentence on why there is none, in seconds.

Whatever uses Ray begins here: `with connected("auto") as ray:`. Usage statistics are always off, and what is started
here (`local`) listens at 127.0.0.1 alone, without a dashboard.
"""

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploy.errors import ClusterError, MissingPackage

_LOG = logging.getLogger(__name__)

AUTO, LOCAL = "auto", "local"
"""The cluster that runs on this machine; one that is started on it, and stopped afterwards."""

PATIENCE = 25.0
"""Seconds in which a Ray cluster must have said which versions it runs: importing Ray takes a few of them."""

NAMESPACE = "idm-deploy"

STORE_BYTES = 200_000_000
"""Memory for what the workers of a `local` cluster share: a bundle, in pieces of which few are there at once."""

_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's own: "0" has it take 127.0.0.1 as it is, rather than for the address that other machines know."""


_AUTHENTICATION = "RAY_AUTH_MODE"


def check_installed() -> None:
    """MissingPackage, with what to type, where Ray is not installed."""
    from importlib.util import find_spec

    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise MissingPackage("Running on a cluster needs Ray: pip install 'idm-deploy[ray]', on every machine of it.")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address` (HOST:PORT, auto or local) while the block runs."""
    check_installed()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options: dict[str, Any] = {"address": LOCAL}
    if address == LOCAL:
        os.environ[_LOOPBACK_SWITCH] = "0"
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "object_store_memory": STORE_BYTES}
    else:
        answer = ask(address)
        check_versions(answer)
        options["address"] = answer["address"]
        if answer["is_loopback"]:
            os.environ[_LOOPBACK_SWITCH] = "0"
    import ray

    _keep_stdout_clean(ray)
    try:
        # Ray ends the process where it cannot be reached, and raises Exception itself where it does not start in time.
        ray.init(namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (Exception, SystemExit) as error:
        raise ClusterError(f"connecting to the Ray cluster {address}: {_first_line(error)}.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def ask(address: str) -> dict[str, Any]:
    """What answers at the address: where to connect to, and the cluster's versions; ClusterError where none does."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is the address of a Ray client, which this command cannot be. Type it on a machine of the "
            "cluster (`ray job submit` does), with auto, or with HOST:PORT as `ray start` printed them."
        )
    answer = _probed(address)
    if answer.get("problem") == "token" and _AUTHENTICATION not in os.environ:
        # Ray says who it is only where that is asked for; where its token lies, it finds by itself.
        os.environ[_AUTHENTICATION] = "token"
        answer = _probed(address)
    match answer.get("problem"):
        case "none":
            raise ClusterError(
                "No Ray cluster runs on this machine. Start one with `ray start --head`, name one as HOST:PORT, or "
                "write local, which starts one for this run alone."
            )
        case "form":
            raise ClusterError(f"{address!r} is no address of a Ray cluster; write auto, local, or HOST:PORT.")
        case "silent":
            raise ClusterError(
                f"No Ray cluster answers at {answer['address']} ({answer['detail']}). `ray status` on its head node "
                "shows whether it runs; its usual port is 6379."
            )
        case "token":
            raise ClusterError(
                f"The Ray cluster {answer['address']} wants a token, and none, or another one, is here. Copy "
                "~/.ray/auth_token from its head node, or name the token's file in RAY_AUTH_TOKEN_PATH."
            )
    return answer


def _probed(address: str) -> dict[str, Any]:
    """What `deploy.cluster.probe` says of the address."""
    try:
        probe = subprocess.run(
            [sys.executable, "-m", "deploy.cluster.probe", address],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"connecting to the Ray cluster {address}: something listens there, but did not answer as Ray does within "
            f"{PATIENCE:.0f} s. Give the address that `ray start --head` printed; its usual port is 6379."
        ) from None
    try:
        answer: dict[str, Any] = json.loads(probe.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        told = _first_line(probe.stderr.strip().rpartition("\n")[2] or f"exit code {probe.returncode}")
        raise ClusterError(f"connecting to the Ray cluster {address}: {told}.") from None
    return answer


def check_versions(cluster: dict[str, Any]) -> None:
    """ClusterError where the cluster's Ray or Python is another than ours: what is sent would not be understood."""
    import ray

    for name, mine in (("ray", ray.__version__), ("python", platform.python_version())):
        theirs = cluster.get(name)
        if theirs is not None and theirs != mine:
            cure = f"pip install 'ray=={theirs}'" if name == "ray" else f"a Python {theirs}"
            raise ClusterError(
                f"The Ray cluster {cluster['address']} runs {name.title()} {theirs}, this command {mine}. They must be "
                f"the same: use {cure} here, or start the cluster with {mine}."
            )


def _keep_stdout_clean(ray: Any) -> None:
    """What Ray's daemons say of lost machines goes to the log: Ray prints it among the results, whatever it is told."""

    def tell(data: dict[str, Any], **_: Any) -> None:
        _LOG.info("Ray: %s", " ".join(map(str, data["lines"])))

    ray._private.worker.print_to_stdstream = tell


def _first_line(error: BaseException | str) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
