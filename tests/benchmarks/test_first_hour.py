"""The timing of whole commands, on ones that take no time."""

import json
from pathlib import Path

import pytest

from benchmarks import first_hour
from benchmarks.first_hour import CommandError, Row, timed


def test_a_command_is_timed_and_its_failure_told(tmp_path: Path) -> None:
    row = timed("any", "version", ["--version"], tmp_path)
    assert (row.section, row.name) == ("any", "version")
    assert row.user_seconds > 0 and row.seconds > 0
    with pytest.raises(CommandError, match=r"idm-deploy quantize nowhere ended with 1: .*nowhere"):
        timed("any", "quantize", ["quantize", "nowhere"], tmp_path)


def test_rows_are_chosen_by_name_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(name: str) -> Row:
        return Row(section="quantize", name=name, seconds=1.25, user_seconds=2.0, forecast=1.5)

    rows = {name: lambda _folder, name=name: made(name) for name in first_hour.QUANTIZE}
    monkeypatch.setattr(first_hour, "SECTIONS", {"quantize": rows})
    assert first_hour.main(["quantize", "--only", "tiny,demo", "--json", str(tmp_path / "rows.json")]) == 0
    assert [row["name"] for row in json.loads((tmp_path / "rows.json").read_text())] == ["tiny", "demo"]
    assert capsys.readouterr().out.split()[-6:] == ["quantize", "demo", "1.2", "2.0", "1.5", "(+20%)"]
    with pytest.raises(SystemExit) as refused:
        first_hour.main(["--only", "huge"])
    assert refused.value.code == 2
    assert "huge: no such section or row" in capsys.readouterr().err
