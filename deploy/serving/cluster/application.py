"""The application that Ray Serve runs: replicas of `Pictures`, and a `Gate` before them."""

from typing import Any

from deploy.errors import ClusterError
from deploy.serving.batches import SIZES
from deploy.serving.cluster.gate import Gate
from deploy.serving.cluster.pictures import Pictures
from deploy.serving.cluster.settings import BATCHES_AT_ONCE, FIRST_RAY, GATE, PICTURES, ClusterSettings

COLLECT_SECONDS = 0.01
"""How long a picture waits for others to be made with."""

MOST_AT_GATE = 10_000
"""Requests that the gate has at once; it refuses by itself, with the sentence of `serve`."""


def application(arguments: dict[str, Any]) -> Any:
    """The application with these settings, `ClusterSettings.as_json()`: for `serve.run` and for `serve.yaml`."""
    import ray
    from ray import serve

    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < FIRST_RAY:
        first = ".".join(map(str, FIRST_RAY))
        raise ClusterError(f"Serving on a cluster needs Ray {first} or newer, found {ray.__version__}.")
    settings = ClusterSettings.of(arguments)

    collected = serve.batch(
        max_batch_size=SIZES[0], batch_wait_timeout_s=COLLECT_SECONDS, max_concurrent_batches=BATCHES_AT_ONCE
    )

    class Collecting(Pictures):
        """Replicas whose pictures are collected for a moment."""

        @collected  # type: ignore[untyped-decorator, unused-ignore]
        async def _made_together(self, wishes: Any) -> Any:
            return await self.make_all(wishes)

    pictures = serve.deployment(
        Collecting,
        name=PICTURES,
        max_ongoing_requests=settings.ongoing,
        max_queued_requests=settings.max_queue,
        graceful_shutdown_timeout_s=settings.drain_seconds,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        **_replicas(settings),
    )
    gate = serve.deployment(
        serve.ingress()(Gate),
        name=GATE,
        max_ongoing_requests=MOST_AT_GATE,
        graceful_shutdown_timeout_s=settings.drain_seconds,
        ray_actor_options={"num_cpus": 0},
    )
    return gate.bind(settings.as_json(), pictures.bind(settings.as_json()))


def _replicas(settings: ClusterSettings) -> dict[str, Any]:
    if settings.replicas_least == settings.replicas_most:
        return {"num_replicas": settings.replicas_least}
    scaling = {"min_replicas": settings.replicas_least, "max_replicas": settings.replicas_most}
    return {"autoscaling_config": {**scaling, "target_ongoing_requests": settings.ongoing / 2}}
