"""The demo's step `engine`: what `build-engine` does, after which the other steps run what it found fastest."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deploy.bundle import Bundle
from deploy.engine.builds import PlanOptions, all_planned_builds, build_plans
from deploy.engine.chosen import AUTO
from deploy.engine.decide import BuildOptions, decide
from deploy.engine.profiles import default_sizes
from deploy.engine.trials import TrialSettings
from engines.cache import Cache

if TYPE_CHECKING:
    from deploy.demo.demo import Demo


def choose_engine(demo: "Demo") -> dict[str, Any]:
    """The fastest engine and precision for the demo's bundle here, with every candidate's figures; or why not."""
    settings = demo.settings
    if (settings.engine, settings.precision) != (AUTO, AUTO):
        return {"left_out": "the engine or the precision was named"}
    bundle = Bundle.open(demo.bundle_path(), verify="sizes")
    cache, plans = Cache(), PlanOptions(sizes=default_sizes(bundle))
    build_plans(all_planned_builds(bundle, AUTO, AUTO, plans), cache, plans, demo.progress)
    decision = decide(bundle, cache, BuildOptions(trial=TrialSettings(threads=settings.threads)), demo.progress)
    demo.say(f"engine: {decision.why}")
    return {
        "left_out": None,
        "engine": decision.choice.backend,
        "precision": decision.choice.precision,
        "why": decision.why,
        "candidates": [asdict(candidate) for candidate in decision.candidates],
    }
