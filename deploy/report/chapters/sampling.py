"""How pictures are sampled: the presets and where their steps lie."""

from collections.abc import Iterator, Sequence

from deploy.bundle import Bundle
from deploy.errors import PlanError
from deploy.families.table import family_named
from deploy.picture.schedule.measuring import measured_noise_of
from deploy.report.facts import Facts
from deploy.report.html.drawings import NoiseAxis, steps_chart
from deploy.report.html.markup import Child, tag
from deploy.report.html.parts import (
    Column,
    Section,
    badge,
    code,
    definitions,
    folded,
    paragraph,
    subheading,
    table,
    text_column,
)
from deploy.report.html.wording import listing
from deploy.sampling.choices import PRESET_NAMES, Choices, Sampling, sampling_from
from deploy.sampling.plan import Plan, make_plan
from deploy.sampling.schedule import NoiseSchedule


def sampling_section(facts: Facts) -> Section:
    """A table of the presets and a drawing of their steps, over the int8 ranges where there are any."""
    manifest = facts.bundle.manifest
    rows: list[list[Child]] = []
    drawn: list[tuple[str, list[float]]] = []
    for entry in plans(facts.bundle):
        if len(entry) == 2:
            rows.append([entry[0], entry[1]])
            continue
        name, sampling, plan = entry
        rows.append(_row(name, sampling, name == manifest.default_preset))
        drawn.append((name, [row.noise_level for row in plan.rows]))
    columns = [
        text_column("preset"),
        text_column("equation"),
        Column("steps", "evaluations of the network in a run"),
        text_column("placed"),
        Column("begins at", "pure noise, or the enlarged input noised to this level"),
        Column("consistency", "pull towards the low-resolution picture, 0 to 1"),
        Column("draws", "runs from different noise, whose mean the picture is"),
        Column(
            "stages", "how many times the network enlarges at most, one stage after the other; a filter does the rest"
        ),
    ]
    searched = sorted(manifest.placements)
    edges = facts.edges
    return Section(
        anchor="sampling",
        title="How it samples",
        lede="A preset is an equation, a number of steps and where they lie; the default is used if none is named.",
        body=(
            table("Presets", columns, rows),
            subheading("Where the steps lie"),
            steps_chart(drawn, _axis(NoiseSchedule.from_record(manifest.schedule)), edges),
            paragraph(
                "Each dot is one evaluation of the network, at its noise level √ᾱ: from pure noise on the left to the "
                "finished picture on the right.",
                f" The shading shows the {len(edges) - 1} int8 ranges." if edges else "",
            ),
            folded(
                "The noise levels as numbers",
                definitions([(name, _levels(levels)) for name, levels in drawn]),
            ),
            paragraph("Placements found by search are stored for ", listing(searched), ".")
            if searched
            else paragraph(
                "No placement was searched for this checkpoint; ", code("idm-deploy schedule"), " does that."
            ),
        ),
    )


def _levels(levels: Sequence[float]) -> str:
    return ", ".join(f"{level:.4g}" for level in levels)


def plans(bundle: Bundle) -> Iterator[tuple[str, Sampling, Plan] | tuple[str, str]]:
    """Every preset from the least work to the most: how it samples, or why it cannot."""
    manifest = bundle.manifest
    schedule, measured = NoiseSchedule.from_record(manifest.schedule), measured_noise_of(bundle)
    rules = family_named(manifest.family).sampling
    usual = [name for name in PRESET_NAMES if name in manifest.presets]
    for name in [*usual, *sorted(manifest.presets.keys() - set(usual))]:
        try:
            sampling = sampling_from(manifest, Choices(preset=name))
            yield name, sampling, make_plan(schedule, sampling.plan, rules=rules, measured=measured)
        except PlanError as error:
            yield name, str(error)


def _axis(schedule: NoiseSchedule) -> NoiseAxis:
    """The axis of all noise levels of training, whose last may be 0, which has no logarithm."""
    usable = [float(level) for level in schedule.noise_levels if 0 < level < 1]
    return NoiseAxis(noisiest=min(usable), cleanest=max(usable)) if usable else NoiseAxis(noisiest=0.01, cleanest=0.99)


def _row(name: str, sampling: Sampling, default: bool) -> list[Child]:
    plan = sampling.plan
    first = plan.start if isinstance(plan.placement, str) else plan.placement[0]
    listed = "fitted" if sampling.fitted else "by search" if sampling.searched else "as listed"
    begins = "pure noise" if not sampling.from_guess or first is None else f"{first:.4g}"
    label: Child = tag("span", name, " ", badge("default")) if default else name
    return [
        label,
        plan.equation + (f", eta {plan.eta:g}" if plan.eta else ""),
        str(plan.steps),
        plan.placement if isinstance(plan.placement, str) else listed,
        begins,
        f"{sampling.consistency:g}" if sampling.consistency else "none",
        str(sampling.draws),
        str(sampling.stages),
    ]
