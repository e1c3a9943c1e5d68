"""Where Ray's own ports of a replica listen: at the address of its machine, and not at all that it has.

Replicas of Ray Serve (2.60) talk to each other over a port that is bound to every address of a machine, `[::]`, and
read what comes there as pickles, which can run anything. On a cluster of loopback alone, nobody else must reach it.
"""

from collections.abc import Callable
from typing import Any

EVERYWHERE = "[::]:"


def bind_to_own_address() -> None:
    """From now on this process binds such ports to its machine's address, as the cluster knows it."""
    import ray
    from ray.serve._private import replica

    address = ray.util.get_node_ip_address()
    usual: Callable[[Any, str], int] = replica.add_port_to_grpc_server

    def add_port(server: Any, wanted: str) -> int:
        return usual(server, bound(wanted, address))

    replica.add_port_to_grpc_server = add_port


def bound(wanted: str, address: str) -> str:
    """The address and port to listen at, where one that is everywhere was wanted."""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{wanted.removeprefix(EVERYWHERE)}" if wanted.startswith(EVERYWHERE) else wanted
