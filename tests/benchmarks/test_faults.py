"""`python -m benchmarks.faults` with a few kills; the campaign is run by hand."""

from pathlib import Path

import pytest

from benchmarks import faults


@pytest.mark.slow
def test_three_kills_of_each_command() -> None:
    said: list[str] = []
    assert faults.main(["--kills", "3", "--trouble", "kills", "--jobs", "2"], said.append) == 0, said
    assert said[0].startswith("seed ")
    assert [line.partition(" kills")[0] for line in said[1:]] == [f"{name}: 3" for name in faults.CASES]


def test_what_is_half_made_or_damaged_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.bundle").mkdir()
    (tmp_path / "a.bundle" / "bundle.json").write_text("{")
    (tmp_path / "larger").mkdir()
    (tmp_path / "larger" / "x.png").write_bytes(b"\x89PNG half")
    (tmp_path / ".0123456789abcdef.partial").write_bytes(b"half")
    (tmp_path / ".a.bundle.partial-12").mkdir()
    (tmp_path / ".a.bundle.partial-12" / "bundle.json").write_text("{")
    assert [line.split(":")[1] for line in faults.corrupt(tmp_path)] == [" a.bundle", " larger/x.png"]
    assert [path.name for path in faults.leftovers(tmp_path)] == [".0123456789abcdef.partial", ".a.bundle.partial-12"]
