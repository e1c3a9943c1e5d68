"""The record of what is done: what counts as the same file, claims of runs that live and of runs that were killed."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.errors import FolderError
from deploy.folders.alive import AliveLock, is_alive
from deploy.folders.record import Entry, Known, Record, Stamp, hash_of_file

ROOT = Path(__file__).resolve().parents[3]


def entry_of(source: Path, target: Path) -> Entry:
    written = Stamp.of(target)
    return Entry(
        input=os.fsencode(source),
        input_stamp=Stamp.of(source),
        input_hash=hash_of_file(source),
        settings=b"settings",
        output_bytes=written.bytes,
        output_modified=written.modified,
        output_hash=hash_of_file(target),
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "in.png", tmp_path / "out" / "non\udcff\nutf.png"
    target.parent.mkdir()
    source.write_bytes(b"an input")
    target.write_bytes(b"a result")
    return source, target


def test_what_is_finished_is_found_by_later_runs(files: tuple[Path, Path]) -> None:
    source, target = files
    out, entry = target.parent, entry_of(*files)
    with Known(out) as known:
        assert known.find(target) is None  # and nothing is made for looking
    assert not (out / ".idm-deploy").exists()
    with Record(out) as record:
        assert record.find(target) is None and record.claim(target)
        record.announce(target, entry)
        assert record.find(target) is None
        record.finish(target, entry)
    for kind in (Known, Record):
        with kind(out) as known:
            assert known.find(target) == entry and entry.input_path == source
    assert list((out / ".idm-deploy" / "runs").iterdir()) == []


def test_a_file_is_told_by_its_times_then_by_what_it_holds(files: tuple[Path, Path]) -> None:
    source, target = files
    entry = entry_of(*files)
    assert entry.has_input(source) and entry.has_output(target)
    for path in files:  # touched, and the same
        os.utime(path, ns=(1, 1))
    assert entry.has_input(source) and entry.has_output(target)
    before = source.stat()
    source.write_bytes(b"AN INPUT")  # other bytes, as many
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not entry.has_input(source)  # the time of its entry tells
    target.write_bytes(b"A RESULT")
    assert not entry.has_output(target)
    target.unlink()
    assert not entry.has_output(target)
    # Times by which a change could not be told yet are not trusted.
    young = Stamp.of(source)
    assert young.if_settled() != young
    os.utime(source, ns=(0, 0))
    old = replace(Stamp.of(source), changed=0)
    assert old.if_settled() == old


def test_a_picture_is_one_runs_until_that_run_ends(files: tuple[Path, Path]) -> None:
    _, target = files
    out = target.parent
    with Record(out) as first, Record(out) as second:
        assert first.claim(target) and first.claim(target) and not second.claim(target)
        first.release(target)
        assert second.claim(target) and not first.claim(target)
    with Record(out) as third:
        assert third.claim(target)


KILLED = """
import os, sys
from pathlib import Path
from deploy.folders.record import Record
from tests.deploy.folders.test_record import entry_of
source, announced, claimed, half = map(Path, sys.argv[1:])
record = Record(announced.parent)
record.claim(claimed)
record.claim(announced)
record.announce(announced, entry_of(source, announced))
record.place_for(0, ".png").write_bytes(b"half of")
print(record.run, flush=True)
sys.stdin.read(1)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_had_is_taken_over(tmp_path: Path) -> None:
    source, out = tmp_path / "in.png", tmp_path / "out"
    out.mkdir()
    announced, claimed = out / "announced.png", out / "claimed.png"
    source.write_bytes(b"an input")
    announced.write_bytes(b"complete")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, (source, announced, claimed, out))]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        run = process.stdout.readline().decode().strip()
        folder = out / ".idm-deploy" / "runs" / run
        with Record(out) as record:
            assert not record.claim(claimed) and (folder / "0.png").exists()  # it lives
            process.stdin.write(b"x")
            process.stdin.close()
            assert process.wait(30) == -9
            assert record.claim(claimed) and not folder.exists()
            # It was killed between moving a result to its place and saying so.
            assert record.find(announced) == entry_of(source, announced)


def test_a_damaged_record_is_set_aside_and_another_version_refused(files: tuple[Path, Path]) -> None:
    out = files[1].parent
    path = out / ".idm-deploy" / "record.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no database, but long enough to be taken for one" * 100)
    told: list[str] = []
    with Known(out) as known:
        assert known.find(files[1]) is None
    with Record(out, told.append) as record:
        assert record.claim(files[1])
    assert "is damaged (file is not a database): it is set aside as record-damaged-" in told[0]
    assert len(list(path.parent.glob("record-damaged-*"))) == 1
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for kind in (Known, Record):
        with pytest.raises(FolderError, match=r"another version of idm-deploy wrote it \(99, expected 1\)"):
            kind(out)


def test_a_record_that_another_run_is_about_to_begin_knows_nothing(files: tuple[Path, Path]) -> None:
    """SQLite makes the file first, and the tables when the first change is written: two runs may begin at once."""
    path = files[1].parent / ".idm-deploy" / "record.sqlite"
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert path.read_bytes() == b""
    with Known(files[1].parent) as known:
        assert known.find(files[1]) is None
    other.execute("ROLLBACK")
    other.close()
    with Record(files[1].parent) as record:
        assert record.claim(files[1])


HALF_WRITTEN = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
rows = ((os.urandom(64), "run") for _ in range(2000))
connection.executemany("INSERT INTO claims(output, run) VALUES(?, ?)", rows)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", [Known, Record])
def test_what_was_half_written_is_rolled_back(files: tuple[Path, Path], kind: type[Known]) -> None:
    """A run was killed while the record was being written: the journal lies beside it."""
    out = files[1].parent
    with Record(out) as record:
        record.finish(files[1], entry_of(*files))
    path = out / ".idm-deploy" / "record.sqlite"
    assert subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(path)], check=False).returncode == -9
    assert path.with_name("record.sqlite-journal").stat().st_size > 0
    with kind(out) as known:
        assert known.find(files[1]) == entry_of(*files)
    assert not path.with_name("record.sqlite-journal").exists()


def test_a_folder_that_cannot_hold_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".idm-deploy").write_text("a file")
    with pytest.raises(FolderError, match=r"keeping the record of .*: .*Check permissions and room there"):
        Record(tmp_path)


def test_a_lock_tells_who_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    assert not is_alive(path)
    lock = AliveLock(path)
    assert lock.is_certain and is_alive(path)
    with pytest.raises(BlockingIOError):
        AliveLock(path)
    lock.release()
    assert not is_alive(path)
