"""What the model is: the head of the page, and where every value of its configuration came from."""

from collections.abc import Iterator, Mapping

from deploy.bundle.records import Range
from deploy.families.table import FAMILIES
from deploy.report.chapters.verdict import SAFE, verdicts
from deploy.report.facts import TARGETS, Facts
from deploy.report.html.markup import Child, Markup, tag
from deploy.report.html.parts import Section, badge, code, definitions, table, text_column
from deploy.report.html.wording import count_of, listing, plain_value, signed, text_from_bytes
from deploy.sampling.choices import Choices, sampling_from
from deploy.sampling.schedule import NoiseSchedule

SOURCES = {
    "config": "stated in the authors' configuration file",
    "metadata": "stated in the checkpoint's metadata",
    "weights": "follows from names and shapes of the weights",
    "assumed": "known from nowhere, so the authors' default",
}
"""What the sources in bundle.json mean."""


def title_of(facts: Facts) -> str:
    """The bundle's name."""
    return facts.bundle.path.resolve().name.removesuffix(".bundle")


def head_of_page(facts: Facts) -> Markup:
    """Name, what it is in one sentence, and the few figures that matter most."""
    manifest = facts.bundle.manifest
    int8 = listing([TARGETS.get(name, name) for name in facts.targets])
    float_ = "float" if "denoise" in manifest.graphs else ""
    kinds = listing([kind for kind in (float_, f"int8 for {int8}" if int8 else "") if kind])
    lead: Child = (family_title(manifest.family), ", exported from ", code(manifest.source.file), ". ")
    tiles = [
        tag("div", tag("dt", name), tag("dd", value), tag("dd", note), class_="tile")
        for name, value, note in _tiles(facts)
    ]
    return tag(
        "header",
        tag("p", "A bundle of idm-deploy", class_="overline"),
        tag("h1", title_of(facts)),
        tag("p", lead, f"Runs in {kinds}." if kinds else None, class_="lead"),
        tag("dl", tiles, class_="tiles"),
    )


def family_title(family: str) -> str:
    """The family as a person would name it."""
    title = next((module.title for module in FAMILIES if family == module.name), f"family {family}")
    return title[:1].upper() + title[1:]


def _tiles(facts: Facts) -> Iterator[tuple[str, str, str]]:
    manifest = facts.bundle.manifest
    total = sum(file.bytes for file in manifest.files.values())
    yield "On disk", text_from_bytes(total), f"from a checkpoint of {text_from_bytes(manifest.source.bytes)}"
    trained = manifest.scale_range.trained
    if trained:
        if trained[0] == trained[1]:
            yield "Scale in training", f"{trained[1]:g}×", "any other works: `infer` says how"
        else:
            yield "Scales in training", f"{trained[0]:g} to {trained[1]:g}×", "any other works; more is extrapolated"
    sampling = sampling_from(manifest, Choices())
    yield "Default preset", str(sampling.preset), count_of(sampling.plan.steps, "evaluation") + " of the network"
    yield from _measured_tiles(facts)


def _measured_tiles(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """What was measured, if it was."""
    of_targets = verdicts(facts)
    measured_verdicts = [verdict for verdict in of_targets if verdict.lost is not None]
    if measured_verdicts:
        worst = max(measured_verdicts, key=lambda verdict: verdict.lost or 0.0)
        change = f"{signed(-(worst.lost or 0.0), 2)} dB"
        value = f"safe, {change}" if all(verdict.word == SAFE for verdict in measured_verdicts) else f"costs, {change}"
        yield "In int8", value, f"PSNR on crops of held-out photographs, {worst.target}, the lowest"
    elif of_targets:
        yield "In int8", "not known", "what it costs in PSNR against originals"
    chosen = None if facts.engine is None else facts.engine.chosen
    if chosen is not None and chosen.step_ms is not None:
        yield "One step here", f"{chosen.step_ms:.3g} ms", f"{chosen.name}, chosen by build-engine"


def model_section(facts: Facts) -> Section:
    """Source, schedule, value range; the configuration with the source of each value."""
    manifest = facts.bundle.manifest
    rows: list[list[Child]] = [
        [
            code(name),
            code(plain_value(entry.value)),
            badge(entry.source, "warn" if entry.source == "assumed" else None),
        ]
        for name, entry in manifest.configuration.items()
    ]
    sources = {entry.source: None for entry in manifest.configuration.values()}
    note = "; ".join(f"{source}: {SOURCES[source]}" for source in SOURCES if source in sources) + "."
    columns = [text_column("name"), text_column("value"), text_column("read from")]
    return Section(
        anchor="model",
        title="The model",
        lede="What the checkpoint is, and how each value of its configuration is known.",
        body=(
            definitions(
                [
                    ("Family", family_title(manifest.family)),
                    ("Weights", "moving average (EMA)" if manifest.weights == "ema" else "as trained (raw)"),
                    (
                        "Checkpoint",
                        (code(manifest.source.file), f", {text_from_bytes(manifest.source.bytes)}"),
                    ),
                    ("SHA-256", code(manifest.source.sha256)),
                    ("Noise schedule", str(NoiseSchedule.from_record(manifest.schedule))),
                    ("Pictures in", _value_range(manifest.value_range)),
                ]
            ),
            table("Configuration", columns, rows, note=note),
        ),
    )


def _value_range(values: Range | Mapping[str, Range]) -> str:
    if isinstance(values, tuple):
        return f"{values[0]:g} to {values[1]:g}".replace("-", "−")
    return ", ".join(f"{name} {low:g} to {high:g}".replace("-", "−") for name, (low, high) in values.items())
