"""How the bundle was made and what lies in it: rewrites, graphs, files, and the engine that this machine runs it on."""

import re
from collections.abc import Sequence

from deploy.bundle.records import Tensor
from deploy.engine.chosen import Candidate
from deploy.families.contract import Rewrite
from deploy.families.table import family_named
from deploy.report.facts import Facts
from deploy.report.html.drawings import bar
from deploy.report.html.markup import Child, tag
from deploy.report.html.parts import Column, Section, badge, code, definitions, folded, paragraph, table, text_column
from deploy.report.html.wording import count_of, listing, text_from_bytes, text_from_ratio


def rewriting_section(facts: Facts) -> Section:
    """The rewrites that the graphs went through, and those that were left out."""
    manifest = facts.bundle.manifest
    rewrites = family_named(manifest.family).rewrites
    items = [tag("li", _rewrite(name, rewrites.get(name))) for name in manifest.rewrites]
    left_out = [name for name in rewrites if name not in manifest.rewrites]
    libraries = [f"{name} {version}" for name, version in manifest.libraries.items()]
    return Section(
        anchor="rewriting",
        title="How it was rewritten",
        lede="Identities, no approximations: the graphs compute what the published network does, to float rounding.",
        body=(
            tag("ol", items, class_="cards")
            if items
            else paragraph("No rewrite: the graphs are the published network."),
            paragraph("Left out by choice: ", listing(left_out), ".") if left_out else None,
            paragraph(
                f"Written by {manifest.tool.name} {manifest.tool.version}"
                + (f" with {listing(libraries)}" if libraries else "")
                + f", ONNX operator set {manifest.opset}. ",
                code(f"idm-deploy verify {facts.bundle.path.resolve().name} --against {manifest.source.file}"),
                " holds every graph against the checkpoint.",
            ),
        ),
    )


def _rewrite(name: str, rewrite: Rewrite | None) -> Child:
    if rewrite is None:
        return code(name)
    return (
        tag("h3", rewrite.title, " ", badge(name)),
        tag("p", rewrite.what),
        tag("p", "Saves ", rewrite.saves, ".", class_="soft"),
    )


def contents_section(facts: Facts) -> Section:
    """Graphs with what they take and make, and every file."""
    manifest = facts.bundle.manifest
    graphs: list[list[Child]] = [
        [code(name), _names(graph.inputs), _names(graph.outputs), listing(sorted(graph.forms))]
        for name, graph in manifest.graphs.items()
    ]
    files = sorted(manifest.files.items(), key=lambda item: (-item[1].bytes, item[0]))
    largest = max((file.bytes for _, file in files), default=1) or 1
    rows: list[list[Child]] = [
        [
            code(name),
            bar(file.bytes / largest, text_from_bytes(file.bytes)),
            text_from_bytes(file.bytes),
            code(file.sha256[:16]),
        ]
        for name, file in files
    ]
    total = text_from_bytes(sum(file.bytes for _, file in files))
    graph_columns = [text_column(file) for file in ("graph", "takes", "makes", "normalisation written as")]
    file_columns = [text_column("file"), text_column("share"), Column("size"), text_column("SHA-256 begins")]
    return Section(
        anchor="contents",
        title="What is inside",
        lede=f"{count_of(len(files), 'file')}, {total}. Each is checked against its hash when the bundle is opened.",
        body=(
            table("Graphs", graph_columns, graphs),
            folded(f"All {len(files)} files", table("Files, the largest first", file_columns, rows)),
        ),
    )


def _names(tensors: Sequence[Tensor]) -> str:
    """Their names; those of the levels' tables, which differ by a number only, once."""
    return ", ".join(dict.fromkeys(re.sub(r"_\d+$", "_*", tensor.name) for tensor in tensors))


def engine_section(facts: Facts) -> Section | None:
    """What `build-engine` measured here and chose; None if it was not asked."""
    if facts.engine is None:
        return None
    decision = facts.engine
    times = [candidate.step_ms for candidate in decision.candidates if candidate.step_ms]
    rows = [_candidate_row(candidate, decision.chosen, times) for candidate in decision.candidates]
    columns = [
        text_column("engine"),
        text_column(""),
        Column("one step"),
        Column("times faster", "than the slowest"),
        Column("distance", "of the step from float32: signal over error, in dB"),
    ]
    trial = decision.trial
    step = "" if trial is None else f"{trial.size[1]}×{trial.size[0]}, batch {trial.batch}"
    return Section(
        anchor="engine",
        title="On this machine",
        lede="What build-engine measured here, and what infer uses from then on.",
        body=(
            definitions([("Chosen", decision.chosen.name), ("Because", decision.why), ("Step", step)]),
            table("Candidates", columns, rows),
        ),
    )


def _candidate_row(candidate: Candidate, chosen: Candidate, times: Sequence[float]) -> list[Child]:
    label: Child = (candidate.name, " ", badge("chosen")) if candidate.name == chosen.name else candidate.name
    step, distance = candidate.step_ms, candidate.sqnr_db
    if step is None or step <= 0:
        return [label, candidate.failure or "not run"]
    return [
        label,
        bar(step / max(times), f"{step:.3g} ms"),
        f"{step:.3g} ms",
        text_from_ratio(max(times) / step),
        "reference" if distance is None else f"{distance:.1f} dB",
    ]
