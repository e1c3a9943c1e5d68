"""`idm-deploy engines`: what is in the engine cache, and removing from it."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.options import FIRST, CacheDir, Json
from deploy.cli.tables import print_result

if TYPE_CHECKING:
    from engines.cache import Entry


EXAMPLES = (
    "idm-deploy engines",
    "idm-deploy engines --prune --unused 30",
)


def engines(
    prune: Annotated[bool, FIRST("Delete entries: those that --max-size and --unused choose.", "--prune")] = False,
    max_size: Annotated[
        str | None,
        FIRST(
            "With --prune: delete the longest unused until the rest takes at most this much, such as 2GB; 0 deletes "
            "all."
        ),
    ] = None,
    unused: Annotated[float | None, FIRST("With --prune: delete what was not used for so many days.")] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """List the engines and measurements kept on this machine, the last used first; --prune removes some."""
    from deploy.cli.values import bytes_from_text
    from engines.cache import Cache

    if not prune and (max_size is not None or unused is not None):
        raise typer.BadParameter("--max-size and --unused say what --prune removes; give --prune as well.")
    if prune and max_size is None and unused is None:
        raise typer.BadParameter("Say what to remove: --max-size 2GB, --unused 30, or --max-size 0 for everything.")
    cache = Cache(cache_dir)
    limit = None if max_size is None else bytes_from_text(max_size)
    removed = cache.prune(max_bytes=limit, unused_days=unused) if prune else []
    entries = cache.entries()
    report = {
        "cache": str(cache.root),
        "removed": list(map(_as_json, removed)),
        "kept": list(map(_as_json, entries)),
    }
    lines = [f"removed {_line(entry)}" for entry in removed]
    lines.append(f"{len(entries)} in {cache.root}, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB")
    lines += [f"  {_line(entry)}" for entry in entries]
    print_result(report, lambda: typer.echo("\n".join(lines)), as_json=as_json)


def _as_json(entry: "Entry") -> dict[str, Any]:
    return {
        "label": entry.label,
        "path": str(entry.path),
        "bytes": entry.bytes,
        "built": entry.built,
        "key": dict(entry.key),
        "figures": entry.figures,
    }


def _line(entry: "Entry") -> str:
    days = (time.time() - entry.built) / 86400
    about = [entry.key[name] for name in ("backend", "device", "profile", "size") if name in entry.key]
    if "why" in entry.figures:
        about.append(entry.figures["why"])
    return f"{entry.label}: {entry.bytes / 1e6:.1f} MB, {days:.0f} days old; {'; '.join(about)}"
