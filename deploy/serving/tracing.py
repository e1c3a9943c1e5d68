"""Pictures as spans of OpenTelemetry, where its packages are installed and somebody has said where they go.

Requests are traced by FastAPI itself; the span of a picture lies within that of the request that asked for it.
"""

import time
from typing import Any

from deploy.serving.job import Job

try:
    from opentelemetry import trace
except ImportError:  # an older FastAPI does not bring it
    trace = None  # type: ignore[assignment]


def current_context() -> Any:
    """Of the request that is being answered; None without OpenTelemetry."""
    return None if trace is None else trace.set_span_in_context(trace.get_current_span())


def trace_job(job: Job) -> None:
    """The job has ended: a span for it, and one for each stage of its making, without what a picture shows."""
    if trace is None or job.ended is None:
        return
    now = time.time_ns() - time.monotonic_ns()  # from the clock of jobs to that of the world
    tracer = trace.get_tracer("deploy.serving")
    attributes: dict[str, str | int] = {
        "idm.outcome": job.state,
        "idm.model": str(job.look["model"]),
        "idm.preset": str(job.look["preset"]),
        "idm.width": int(job.look["width"]),
        "idm.height": int(job.look["height"]),
        "idm.evaluations": int(job.look["evaluations"]),
    }
    began = int(job.created * 1e9) + now
    span = tracer.start_span("picture", job.context, attributes=attributes, start_time=began)
    inside = trace.set_span_in_context(span)
    waited = (job.began or job.ended) - job.created
    for stage, seconds in {"waiting": waited, **job.made.get("stages", {})}.items():
        ended = began + int(seconds * 1e9)
        tracer.start_span(stage, inside, start_time=began).end(ended)
        began = ended
    span.end(int(job.ended * 1e9) + now)
