"""`idm-deploy build-engine`: the fastest engine for a bundle on this machine, built, measured and remembered."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.progress import shown_progress

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.engine.builds import PlannedBuild, PlanOptions
    from deploy.engine.decide import BuildOptions, Decision
    from engines.cache import Cache


def build_engine(
    bundle: Path | None = typer.Argument(
        None, help="The bundle's folder; found by itself if only one is here, the packaged model's if none is."
    ),
    engine: str = typer.Option("auto", "--engine", help="Only this engine, such as openvino-cpu or tensorrt."),
    precision: str = typer.Option("auto", "--precision", help="Only this precision: fp32, bf16, fp16 or int8."),
    size: str = typer.Option("128x128", "--size", help="The output size, WIDTHxHEIGHT, whose step is measured."),
    batch: int = typer.Option(1, "--batch", help="Pictures per measured step; TensorRT builds for up to this many."),
    threads: int | None = typer.Option(
        None, "--threads", help="Threads of CPU engines; their own choice if not given."
    ),
    device: int | None = typer.Option(
        None, "--device", help="Number of the GPU to build and measure for, 0 is the first."
    ),
    rounds: int = typer.Option(5, "--rounds", help="Rounds in which all candidates take their turn."),
    min_sqnr: float = typer.Option(
        15.0, "--min-sqnr", help="Decibels of a step against float32 below which an engine is taken for wrong."
    ),
    max_psnr_drop: float | None = typer.Option(
        None, "--max-psnr-drop", help="dB against originals that int8 may lose; what quantize was given, if not given."
    ),
    sizes: str | None = typer.Option(
        None, "--sizes", help="TensorRT: smallest, usual and largest output, such as 64x64,128x128,512x512."
    ),
    scale: str | None = typer.Option(
        None, "--scale", help="TensorRT: smallest, usual and largest scale of the output, such as 2,8,12."
    ),
    max_workspace: str | None = typer.Option(
        None, "--max-workspace", help="TensorRT: memory that building may use on the GPU, such as 2GB."
    ),
    timing_cache: Path | None = typer.Option(
        None, "--timing-cache", help="TensorRT: the file of its timing cache; in the engine cache if not given."
    ),
    compute_capability: str | None = typer.Option(
        None, "--compute-capability", help="TensorRT-RTX: build ahead of time for GPUs such as 8.9; needs no GPU."
    ),
    deadline: float = typer.Option(3600.0, "--deadline", help="TensorRT: seconds after which one build is stopped."),
    cache_dir: Path | None = typer.Option(None, "--cache-dir", help="The engine cache; the user's if not given."),
    rebuild: bool = typer.Option(False, "--rebuild", help="Build and measure again what is in the cache."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be built and measured, and do nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Build and measure what this machine can run, and keep the fastest engine that is right, with its figures."""
    from deploy.bundle import Bundle
    from deploy.cli.engine_values import bytes_from_text, engine_sizes_from_text
    from deploy.cli.values import size_from_text
    from deploy.engine.builds import PlanOptions
    from deploy.engine.decide import BuildOptions
    from deploy.engine.trials import TrialSettings
    from deploy.packaged.places import bundle_or_packaged
    from engines.cache import Cache

    opened = Bundle.open(bundle_or_packaged(bundle, _say), verify="sizes")
    cache = Cache(cache_dir)
    width, height = size_from_text(size)
    trial = TrialSettings(size=(height, width), batch=batch, threads=threads, rounds=rounds)
    options = BuildOptions(
        engine=engine,
        precision=precision,
        least_sqnr_db=min_sqnr,
        max_psnr_drop=max_psnr_drop,
        trial=trial,
        rebuild=rebuild,
        device=device,
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
    if as_json:
        typer.echo(json.dumps(report, indent=1, sort_keys=True))
    else:
        _print(report)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _planned(bundle: "Bundle", options: "BuildOptions", plans: "PlanOptions") -> "list[PlannedBuild]":
    from deploy.engine.builds import all_planned_builds

    return all_planned_builds(bundle, options.engine, options.precision, plans)


def _build(bundle: "Bundle", cache: "Cache", options: "BuildOptions", plans: "PlanOptions") -> dict[str, Any]:
    from deploy.engine.builds import build_plans
    from deploy.engine.decide import decide

    planned = _planned(bundle, options, plans)
    with shown_progress("build-engine") as progress:
        built = build_plans(planned, cache, plans, progress)
        # For another GPU there is nothing to measure here.
        decision = None if plans.capability else decide(bundle, cache, options, progress)
    return {
        "bundle": str(bundle.path),
        "cache": str(cache.root),
        "plans": [asdict(plan) for plan in built],
        "decision": None if decision is None else _decision_as_json(decision),
    }


def _decision_as_json(decision: "Decision") -> dict[str, Any]:
    return {
        "engine": decision.choice.backend,
        "precision": decision.choice.precision,
        "why": decision.why,
        "measured_because": decision.reason,
        "candidates": [asdict(candidate) for candidate in decision.candidates],
    }


def _dry_run(bundle: "Bundle", options: "BuildOptions", plans: "PlanOptions") -> dict[str, Any]:
    from deploy.engine.builds import seconds_to_build
    from deploy.engine.trials import possible_choices

    planned = _planned(bundle, options, plans)
    choices = possible_choices(bundle, options.engine, options.precision, options.trial.threads, device=options.device)
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
        "would_measure": [] if plans.capability else [f"{c.backend} {c.precision}" for c in choices],
    }


def _print(report: dict[str, Any]) -> None:
    from deploy.cli.engine_values import cells_of_candidates
    from deploy.cli.tables import text_from_cells

    for plan in report.get("would_build", []):
        size = f"about {plan['bytes'] / 1e6:.1f} MB in {plan['seconds']:.0f} s"
        typer.echo(f"would build {plan['label']}: {size}; {plan['profile']}")
    if report.get("would_measure"):
        typer.echo(f"would measure {', '.join(report['would_measure'])}")
    for plan in report.get("plans", []):
        done = f"built in {plan['seconds']:.1f} s: {plan['reason']}" if plan["reason"] else "in the cache"
        typer.echo(f"{plan['label']}: {plan['bytes'] / 1e6:.1f} MB, {_formats(plan['formats'])}; {done}")
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
