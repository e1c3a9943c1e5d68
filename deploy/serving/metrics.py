"""What Prometheus reads of a service: requests, the queue, pictures, seconds, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from deploy.picture.memory import resident_bytes

if TYPE_CHECKING:
    from deploy.serving.job import Job
    from deploy.serving.pool import Pool

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class Metrics:
    """The figures of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "idm_requests", "Requests by route, method and status.", ("route", "method", "status"), registry=registry
        )
        self._jobs = Counter("idm_jobs", "Pictures that were asked for, by outcome.", ("outcome",), registry=registry)
        self._pictures = Counter("idm_pictures", "Pictures made, by model.", ("model",), registry=registry)
        self._pixels = Counter("idm_pixels", "Pixels of pictures made.", ("model",), registry=registry)
        self._seconds = Histogram(
            "idm_stage_seconds",
            "Seconds of a picture by stage: waiting, reading, sampling, writing.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._batch = Histogram(
            "idm_batch_size", "Pictures made together.", buckets=(1, 2, 4, 8, 16), registry=registry
        )
        self._queue = Gauge("idm_queue_length", "Pictures that wait.", registry=registry)
        self._running = Gauge("idm_running", "Pictures in the making.", registry=registry)

    def watch(self, pool: Pool) -> None:
        """The processes are looked at whenever somebody asks."""
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "idm_resident_bytes": ("Memory of the process that answers.", resident_bytes),
            "idm_worker_resident_bytes": (
                "Memory of all workers after their last pictures.",
                lambda: sum(max(worker.resident_bytes, worker.idle_bytes) for worker in pool.workers),
            ),
            "idm_workers_ready": ("Workers that can make pictures.", lambda: len(pool.ready)),
            "idm_worker_restarts": ("Workers that ended and were started again.", lambda: pool.restarts),
        }
        for name, (words, read) in gauges.items():
            Gauge(name, words, registry=self.registry).set_function(read)

    def requested(self, route: str, method: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(route, method, str(status)).inc()

    def waited(self, seconds: float) -> None:
        """A picture's turn has come."""
        self._seconds.labels("waiting").observe(seconds)

    def queue(self, waiting: int, running: int) -> None:
        """So many wait and are made now."""
        self._queue.set(waiting)
        self._running.set(running)

    def batched(self, size: int) -> None:
        """So many are being made together."""
        self._batch.observe(size)

    def finished(self, job: Job) -> None:
        """A picture has come to its end."""
        self._jobs.labels(job.state).inc()
        if job.state != "done":
            return
        self._pictures.labels(job.look["model"]).inc()
        self._pixels.labels(job.look["model"]).inc(job.made["width"] * job.made["height"])
        for stage, seconds in job.made["stages"].items():
            self._seconds.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
