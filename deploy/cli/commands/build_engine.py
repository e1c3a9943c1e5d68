"""`idm-deploy build-engine`: the fastest engine for a bundle on this machine, built, measured and remembered."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.options import FIRST, PRECISIONS, BundleOrPackaged, CacheDir, Json, Panel, engine_names, one_of
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result
from deploy.cli.values import checked_around, checked_engine, checked_precision

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.engine.builds import PlannedBuild, PlanOptions
    from deploy.engine.decide import BuildOptions, Decision
    from engines.cache import Cache


CANDIDATES, MEASUREMENT = Panel("What is considered"), Panel("How it is measured")
TENSORRT = Panel("For TensorRT")
EXAMPLES = (
    "idm-deploy build-engine ckpt.bundle",
    "idm-deploy build-engine --engine openvino-cpu --size 512x512",
)


def build_engine(
    bundle: BundleOrPackaged = None,
    rebuild: Annotated[
        bool, FIRST("Build and measure again although the cache holds the result.", "--rebuild")
    ] = False,
    dry_run: Annotated[
        bool, FIRST("Only say what would be built and measured, and how long that takes.", "--dry-run")
    ] = False,
    engine: Annotated[
        str,
        CANDIDATES(
            "Consider only this engine, such as openvino-cpu or tensorrt; auto considers all that are here.",
            complete=engine_names,
            check=checked_engine,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        CANDIDATES(
            "Consider only this number format: fp32, bf16, fp16 or int8; auto considers all.",
            complete=PRECISIONS,
            check=checked_precision,
        ),
    ] = "auto",
    around: Annotated[
        str,
        CANDIDATES(
            "Consider only this number format around int8 layers, fp32 or bf16, where an engine has both; auto "
            "considers both.",
            complete=one_of("fp32", "bf16"),
            check=checked_around,
        ),
    ] = "auto",
    min_sqnr: Annotated[
        float, CANDIDATES("How near, in dB, a step must come to the float32 one; what differs more is taken for wrong.")
    ] = 15.0,
    max_psnr_drop: Annotated[
        float | None,
        CANDIDATES("How many dB of PSNR against originals int8 may lose. If left out, what `quantize` was given."),
    ] = None,
    size: Annotated[str, MEASUREMENT("Output size at which a step is timed, such as 256x256.")] = "128x128",
    batch: Annotated[
        int, MEASUREMENT("How many pictures a timed step makes at once; TensorRT builds for up to this many.")
    ] = 1,
    rounds: Annotated[int, MEASUREMENT("How often each candidate is timed, in turn with the others.")] = 5,
    threads: Annotated[
        int | None, MEASUREMENT("How many processor threads the engines may use. If left out, each engine decides.")
    ] = None,
    device: Annotated[int | None, MEASUREMENT("Number of the GPU to build and measure for, 0 is the first.")] = None,
    sizes: Annotated[
        str | None, TENSORRT("Smallest, usual and largest output size to build for, such as 64x64,128x128,512x512.")
    ] = None,
    scale: Annotated[
        str | None, TENSORRT("Smallest, usual and largest scale of the output to build for, such as 2,8,12.")
    ] = None,
    max_workspace: Annotated[
        str | None, TENSORRT("Most memory that building may take on the GPU, such as 2GB.")
    ] = None,
    timing_cache: Annotated[
        Path | None,
        TENSORRT(
            "File in which TensorRT keeps its own measurements, so that later builds are quicker. If left out, in the "
            "cache."
        ),
    ] = None,
    compute_capability: Annotated[
        str | None,
        TENSORRT("With TensorRT-RTX: build for GPUs of this capability, such as 8.9, on a machine that has none."),
    ] = None,
    deadline: Annotated[float, TENSORRT("Seconds after which one build is given up.")] = 3600.0,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Build and measure what this machine can run, and keep the fastest engine that is right, with its figures."""
    from deploy.bundle import Bundle
    from deploy.cli.values import bytes_from_text, checked_usage, engine_sizes_from_text, size_from_text
    from deploy.engine.builds import PlanOptions
    from deploy.engine.decide import BuildOptions
    from deploy.engine.trials import TrialSettings
    from deploy.images.sizes import Size
    from deploy.packaged.places import bundle_or_packaged
    from engines.cache import Cache

    opened = Bundle.open(bundle_or_packaged(bundle, say, named="behind the command"), verify="sizes")
    cache = Cache(cache_dir)
    with checked_usage():
        trial = TrialSettings(size=Size.from_user(size_from_text(size)), batch=batch, threads=threads, rounds=rounds)
        options = BuildOptions(
            engine=engine,
            precision=precision,
            least_sqnr_db=min_sqnr,
            max_psnr_drop=max_psnr_drop,
            trial=trial,
            rebuild=rebuild,
            device=device,
            around=around,
        )
    plans = PlanOptions(
        sizes=engine_sizes_from_text(opened, sizes, scale, batch),
        capability=compute_capability,
        workspace_bytes=None if max_workspace is None else bytes_from_text(max_workspace),
        timing_cache=timing_cache,
        deadline_s=deadline,
        rebuild=rebuild,
        device=device,
    )
    report = _dry_run(opened, options, plans) if dry_run else _build(opened, cache, options, plans)
    print_result(report, lambda: _print(report), as_json=as_json)


def _planned(bundle: "Bundle", options: "BuildOptions", plans: "PlanOptions") -> "list[PlannedBuild]":
    from deploy.engine.builds import all_planned_builds

    return all_planned_builds(bundle, options.engine, options.precision, plans)


def _build(bundle: "Bundle", cache: "Cache", options: "BuildOptions", plans: "PlanOptions") -> dict[str, Any]:
    from deploy.engine.builds import build_plans
    from deploy.engine.decide import decide

    planned = _planned(bundle, options, plans)
    with shown_progress("build-engine") as progress:
        plans_built = build_plans(planned, cache, plans, progress)
        # For another GPU there is nothing to measure here.
        decision = None if plans.capability else decide(bundle, cache, options, progress)
    return {
        "bundle": str(bundle.path),
        "cache": str(cache.root),
        "plans": [asdict(plan) for plan in plans_built],
        "decision": None if decision is None else _decision_as_json(decision),
    }


def _decision_as_json(decision: "Decision") -> dict[str, Any]:
    import msgspec

    return {
        "engine": decision.choice.backend,
        "precision": decision.choice.precision,
        "around": decision.choice.around,
        "normalisation": decision.choice.normalisation,
        "why": decision.why,
        "measured_because": decision.reason,
        "candidates": msgspec.to_builtins(decision.candidates),
    }


def _dry_run(bundle: "Bundle", options: "BuildOptions", plans: "PlanOptions") -> dict[str, Any]:
    from deploy.engine.builds import seconds_to_build
    from deploy.engine.trials import possible_choices

    planned = _planned(bundle, options, plans)
    choices = possible_choices(
        bundle,
        options.engine,
        options.precision,
        options.trial.threads,
        device=options.device,
        around=options.around,
    )
    return {
        "bundle": str(bundle.path),
        "would_build": [
            {
                "label": f"{plan.source.label} {plan.settings.precision}, {plan.settings.package.backend}",
                "profile": plan.settings.profile.text,
                "bytes": plan.weights_bytes,
                "seconds": seconds_to_build(plan),
            }
            for plan in planned
        ],
        "would_measure": [] if plans.capability else [choice.name for choice in choices],
    }


def _print(report: dict[str, Any]) -> None:
    from deploy.cli.tables import text_from_cells
    from deploy.cli.values import cells_of_candidates

    for plan in report.get("would_build", []):
        size = f"about {plan['bytes'] / 1e6:.1f} MB in {plan['seconds']:.0f} s"
        typer.echo(f"would build {plan['label']}: {size}; {plan['profile']}")
    if report.get("would_measure"):
        typer.echo(f"would measure {', '.join(report['would_measure'])}")
    for plan in report.get("plans", []):
        outcome = f"built in {plan['seconds']:.1f} s: {plan['reason']}" if plan["reason"] else "in the cache"
        typer.echo(f"{plan['label']}: {plan['bytes'] / 1e6:.1f} MB, {_formats(plan['formats'])}; {outcome}")
        for note in plan["notes"]:
            typer.echo(f"  {note}")
    decision = report.get("decision")
    if decision is None:
        return
    typer.echo(text_from_cells("", cells_of_candidates(decision["candidates"])))
    typer.echo(f"chosen: {decision['why']}")
    because = decision["measured_because"]
    typer.echo(f"measured now: {because}" if because else "nothing changed since it was measured")


def _formats(formats: dict[str, dict[str, int]]) -> str:
    computing = [
        f"{sum(kinds.values())} {kind} ({', '.join(f'{count} {name}' for name, count in kinds.items())})"
        for kind, kinds in formats.items()
        if kind != "other"
    ]
    return ", ".join(computing) or "no convolutions"
