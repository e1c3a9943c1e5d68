"""The engine cache: found by its whole key, rebuilt with a reason, safe under two processes, never half written."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest

from engines.cache import LARGEST_ENTRY_BYTES, Cache, Figures, default_cache_dir, fingerprint, fingerprint_of_graph
from engines.errors import EngineError

KEY = {
    "graph": "a" * 64,
    "backend": "tensorrt-rtx",
    "version": "1.7.1",
    "device": "RTX 4090 (8.9)",
    "driver": "13.0",
    "precision": "fp16",
    "profile": "batch 1, height 16..64..128",
}


def writes(content: str = "plan", **figures: Any) -> Callable[[Path], dict[str, Any]]:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "engine.plan").write_text(content)
        return figures

    return build


def fails(folder: Path) -> dict[str, Any]:
    (folder / "engine.plan").write_text("half of i")
    raise EngineError("the build failed")


def forbidden(folder: Path) -> dict[str, Any]:
    raise AssertionError(f"built again in {folder}")


def test_what_was_built_is_found_with_its_figures(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.find(KEY) is None
    entry, reason = cache.obtain("face/denoise", KEY, writes(layers=47))
    assert reason == "it was not built before"
    assert entry.file("engine.plan").read_text() == "plan"
    again, reason = cache.obtain("face/denoise", KEY, forbidden)
    assert reason == ""
    assert again == entry == cache.find(KEY)
    assert (again.figures, again.bytes, again.label) == ({"layers": 47}, 4, "face/denoise")


@pytest.mark.parametrize("field", KEY)
def test_each_field_changed_alone_is_a_rebuild_that_names_it(field: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.obtain("face/denoise", KEY, writes())
    changed = KEY | {field: "b" * 64 if field == "graph" else "another"}
    entry, reason = cache.obtain("face/denoise", changed, writes("new"))
    before = "aaaaaaaaaaaa…" if field == "graph" else KEY[field]
    now = "bbbbbbbbbbbb…" if field == "graph" else "another"
    assert reason == f"built before with {field} {before}, now {now}"
    assert entry.file("engine.plan").read_text() == "new"
    assert cache.find(KEY) is not None


def test_the_reason_compares_with_the_nearest_of_the_same_label(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.obtain("face/denoise", KEY | {"driver": "12.8", "version": "1.6"}, writes())
    cache.obtain("face/denoise", KEY | {"driver": "12.9"}, writes())
    cache.obtain("other/denoise", KEY | {"precision": "fp32"}, writes())
    assert cache.obtain("face/denoise", KEY, writes())[1] == "built before with driver 12.9, now 13.0"
    assert cache.obtain("new/denoise", KEY | {"graph": "c"}, writes())[1] == "it was not built before"


def test_rebuild_on_request(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.obtain("face", KEY, writes("old"))
    entry, reason = cache.obtain("face", KEY, writes("new"), rebuild=True)
    assert reason == "--rebuild was given"
    assert entry.file("engine.plan").read_text() == "new"
    assert len(cache.entries()) == 1


@pytest.mark.parametrize(
    "damage", ["shorter", "missing", "not json", "schema", "not an object", "of another kind", "large"]
)
def test_a_damaged_entry_is_built_again(damage: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry, _ = cache.obtain("face", KEY, writes())
    if damage == "shorter":
        entry.file("engine.plan").write_text("pl")
    elif damage == "missing":
        entry.file("engine.plan").unlink()
    elif damage == "not json":
        entry.file("entry.json").write_text("{")
    elif damage == "not an object":
        entry.file("entry.json").write_text("[]")
    elif damage == "large":
        entry.file("entry.json").write_text(entry.file("entry.json").read_text() + " " * LARGEST_ENTRY_BYTES)
    elif damage == "of another kind":
        entry.file("entry.json").write_text(
            entry.file("entry.json").read_text().replace('"label": "face"', '"label": 3')
        )
    else:
        stored = json.loads(entry.file("entry.json").read_text())
        entry.file("entry.json").write_text(json.dumps(stored | {"schema": 99}))
    assert cache.find(KEY) is None
    assert cache.entries() == []
    _, reason = cache.obtain("face", KEY, writes())
    assert reason == "the one in the cache is damaged or of another version of this tool"
    assert cache.find(KEY) is not None


def test_figures_of_another_kind_are_damage_to_whoever_reads_them(tmp_path: Path) -> None:
    class Times(TypedDict):
        times: list[float]

    cache = Cache(tmp_path)
    cache.obtain("face", KEY, lambda _: {"times": [1, "long"]})
    assert cache.find(KEY) is not None and cache.find(KEY, Times) is None
    entry, reason = cache.obtain("face", KEY, lambda _: {"times": [1, 2]}, kind=Times)
    assert reason == "the one in the cache is damaged or of another version of this tool"
    assert entry.figures == {"times": [1, 2]} and cache.find(KEY, Times) is not None


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(EngineError, match="the build failed"):
        cache.obtain("face", KEY, fails)
    assert cache.find(KEY) is None
    assert list((tmp_path / "entries").iterdir()) == []


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    def full(folder: Path) -> dict[str, Any]:
        (folder / "engine.plan").write_text("half of i")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = Cache(tmp_path)
    cache.obtain("face", KEY, writes("old"))
    with pytest.raises(EngineError, match=r"While keeping face in .*: the disk is full\. Free some space"):
        cache.obtain("face", KEY, full, rebuild=True)
    found = cache.find(KEY)
    assert found is not None
    assert found.file("engine.plan").read_text() == "old"
    assert len(list((tmp_path / "entries").iterdir())) == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match=r"While keeping face in .*file: .*name another --cache-dir"):
        Cache(tmp_path / "file").obtain("face", KEY, writes())


TWO = """
import sys, time
from pathlib import Path
from engines.cache import Cache
def build(folder):
    time.sleep(0.3)
    (folder / "engine.plan").write_text("plan")
    return {}
entry, reason = Cache(Path(sys.argv[1])).obtain("face", {"graph": "a"}, build)
print(reason or "found")
"""


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", TWO, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert said == ["found", "it was not built before"]
    assert len(list((tmp_path / "entries").iterdir())) == 1


def filled(cache: Cache) -> list[str]:
    """Three entries of 100 bytes, last used 1, 10 and 100 days ago."""
    for name, days in (("new", 1), ("older", 10), ("oldest", 100)):
        entry, _ = cache.obtain(name, {"graph": name}, writes("x" * 100))
        then = time.time() - days * 86400
        os.utime(entry.file("entry.json"), (then, then))
    return [entry.label for entry in cache.entries()]


def test_entries_are_listed_the_last_used_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.entries() == []
    assert filled(cache) == ["new", "older", "oldest"]
    cache.find({"graph": "oldest"})
    assert [entry.label for entry in cache.entries()] == ["oldest", "new", "older"]


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ({"unused_days": 50}, ["oldest"]),
        ({"max_bytes": 250}, ["oldest"]),
        ({"max_bytes": 100}, ["oldest", "older"]),
        ({"max_bytes": 150, "unused_days": 50}, ["oldest", "older"]),
        ({"max_bytes": 0}, ["oldest", "older", "new"]),
        ({"max_bytes": 300, "unused_days": 101}, []),
    ],
)
def test_pruning_by_size_and_age(limits: dict[str, int], gone: list[str], tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    before = filled(cache)
    assert [entry.label for entry in cache.prune(**limits)] == gone
    assert [entry.label for entry in cache.entries()] == [name for name in before if name not in gone]


def test_pruning_removes_what_is_damaged_or_left_over(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry, _ = cache.obtain("face", KEY, writes())
    entry.file("engine.plan").unlink()
    left = [tmp_path / "entries" / f".unfinished-{name}" for name in ("old", "new", "newer")]
    left[0].mkdir()
    os.utime(left[0], (0, 0))
    left[1].mkdir()

    def build(folder: Path) -> Figures:
        assert list((tmp_path / "entries").glob(".unfinished-*")) == [folder]  # building removes them too
        left[2].mkdir()
        assert cache.prune() == []
        assert list((tmp_path / "entries").iterdir()) == [folder]  # the one that is being written stays
        return {}

    cache.obtain("other", {"graph": "b"}, build)


def test_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("XDG_CACHE_HOME is not used on Windows")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "idm-deploy"
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert default_cache_dir() == Path("/fast/idm-deploy")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == tmp_path / ".cache" / "idm-deploy"


def test_fingerprint_depends_on_every_file(tmp_path: Path) -> None:
    graph, weights = tmp_path / "g.onnx", tmp_path / "w.bin"
    graph.write_text("graph")
    weights.write_text("weights")
    first = fingerprint_of_graph(graph, (weights,))
    assert first == fingerprint_of_graph(graph, (weights,))
    weights.write_text("other")
    assert fingerprint_of_graph(graph, (weights,)) != first
    assert fingerprint(["a", "b"]) == fingerprint(["b", "a"]) != fingerprint(["a"])
