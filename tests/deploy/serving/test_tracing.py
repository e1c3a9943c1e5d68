"""A picture as a span with its stages, for whoever has OpenTelemetry."""

from pathlib import Path
from typing import Any

import pytest

from deploy.serving import tracing
from deploy.serving.asked import Asked
from deploy.serving.job import Job

trace = pytest.importorskip("opentelemetry.trace")


class Recorder:
    """A tracer that keeps what it is told."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def start_span(self, name: str, context: Any, *, start_time: int, attributes: Any = None) -> Any:
        span = {"name": name, "start": start_time, "attributes": attributes, "end": 0}
        self.spans.append(span)

        class Span(trace.NonRecordingSpan):  # type: ignore[misc, name-defined]  # what the API has for tests
            def end(self, end_time: int | None = None) -> None:
                span["end"] = end_time

        del context
        return Span(trace.INVALID_SPAN_CONTEXT)


def test_a_picture_is_a_span_with_its_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorder = Recorder()
    monkeypatch.setattr(trace, "get_tracer", lambda _: recorder)
    look = {"model": "a", "preset": "best", "width": 8, "height": 4, "evaluations": 3, "seconds": None, "kind": "k"}
    job = Job(id="x", client="c", asked=Asked(values={}), folder=tmp_path, name="secret.png", look=look, deadline=99.0)
    job.created, job.began, job.ended, job.state = 10.0, 11.0, 14.0, "done"
    job.made = {"stages": {"reading": 0.5, "sampling": 2.0, "writing": 0.5}}
    tracing.trace_job(job)
    picture, *stages = recorder.spans
    assert [span["name"] for span in stages] == ["waiting", "reading", "sampling", "writing"]
    seconds = [(span["end"] - span["start"]) / 1e9 for span in recorder.spans]
    assert seconds == pytest.approx([4.0, 1.0, 0.5, 2.0, 0.5])
    assert [span["start"] for span in stages[1:]] == [span["end"] for span in stages[:-1]]
    assert picture["attributes"]["idm.outcome"] == "done" and "secret" not in str(recorder.spans)
