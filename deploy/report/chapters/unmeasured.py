"""What the page does not know, each with the command that would tell."""

from collections.abc import Iterator

from deploy.report.facts import TARGETS, Facts
from deploy.report.html.markup import Child
from deploy.report.html.parts import Section, bullets, code
from deploy.report.html.values import number, record, records, within
from deploy.report.html.wording import listing
from engines.backends import BACKENDS


def unmeasured_section(facts: Facts) -> Section:
    """Always there: no page knows everything."""
    return Section(
        anchor="unmeasured",
        title="What was not measured",
        lede="Every figure here was measured, or says what it was computed from. This is what is missing.",
        body=(bullets(_missing(facts)),),
    )


def _missing(facts: Facts) -> Iterator[Child]:
    yield from _speed(facts)
    yield from _quality(facts)
    yield from _int8(facts)
    if facts.engine is None:
        yield ("Which engine is fastest on this machine: ", code("idm-deploy build-engine"), " measures them.")
    yield "Any machine but the one that each figure names; and no judgement of people."


def _speed(facts: Facts) -> Iterator[Child]:
    if facts.bench is None:
        yield (
            "Speed beside the network as published: ",
            code("idm-deploy bench --json"),
            ", given with ",
            code("--bench"),
            ".",
        )
        return
    timings = record(facts.bench.data.get("timings"))
    timed = [str(row.get("name")) for rows in timings.values() for row in records(rows) if number(row.get("median_ms"))]
    on_gpu = [backend.name for backend in BACKENDS.values() if backend.on_gpu]
    if not any(engine in name for name in timed for engine in on_gpu):
        yield "Speed on a GPU: the bench that was given ran on none."
    if not any("PyTorch" in name for name in timed):
        yield "The network as published in PyTorch, which the bench times where torch is installed."


def _quality(facts: Facts) -> Iterator[Child]:
    if facts.evaluation is None:
        own = facts.gallery.evaluation if facts.gallery else None
        few = "Quality on more than this page's few pictures: " if own else "Quality against originals: "
        yield (few, code("idm-deploy evaluate --json"), ", given with ", code("--evaluation"), ".")
    data = facts.evaluation.data if facts.evaluation else None
    names = {str(name) for row in records(within(data, "rows")) for name in record(row.get("figures"))}
    if not any("lpips" in name.lower() for name in names):
        yield "LPIPS and other learned measures of likeness."
    if facts.gallery is None:
        yield ("Pictures: the page was made with ", code("--no-pictures"), ".")


def _int8(facts: Facts) -> Iterator[Child]:
    if facts.bundle.manifest.quantization is None:
        yield ("int8: this bundle has no int8 graphs. ", code("idm-deploy quantize"), " makes them.")
        return
    if facts.quantization is None:
        yield "What int8 costs and saves: the report folder of this quantization was not found beside the bundle."
        return
    measured = record(facts.quantization.data.get("targets"))
    untimed = [
        TARGETS.get(str(name), str(name))
        for name, entry in measured.items()
        if number(within(entry, "seconds_per_step", "int8")) is None
    ]
    if untimed:
        yield f"The speed of int8 on {listing(untimed)}."
