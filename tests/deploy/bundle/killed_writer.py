"""Runs one way of writing a bundle again and again, ended before its first file operation, its second, ...

    python -m tests.deploy.bundle.killed_writer SCENARIO kill|interrupt FOLDER

Run N works in FOLDER/N; the last run is the one that finished. Python's audit events say when a file is about
to be opened, renamed or removed, so no step is left out, and a fork per run spares the start of an interpreter.
"""

import os
import sys
from pathlib import Path

from deploy.bundle import Bundle, BundleWriter
from tests.deploy.bundle.small_bundle import add_everything, write_bundle

ENDED = 9
FILE_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "fcntl.flock"}


def write_new(path: Path) -> None:
    write_bundle(path, b"second")


def write_forced(path: Path) -> None:
    write_bundle(path, b"second", force=True)


def write_update(path: Path) -> None:
    with BundleWriter.update(Bundle.open(path)) as writer:
        writer.commit(add_everything(writer, b"second"))


def write_and_fail(path: Path) -> None:
    """An exception half-way: the kill may also come while the writer tidies up."""
    with BundleWriter.update(Bundle.open(path)) as writer:
        add_everything(writer, b"second")
        raise SystemExit


SCENARIOS = {"new": write_new, "force": write_forced, "update": write_update, "fail": write_and_fail}


def run_until(operation: int, scenario: str, ending: str, path: Path) -> int:
    """The exit code of a child that is killed or gets Ctrl-C at file operation number `operation`, from 0."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = operation

    def end_in_time(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in FILE_OPERATIONS and (event != "open" or str(path.parent) in str(arguments[0])):
            left -= 1
            if left == -1 and ending == "kill":
                os._exit(ENDED)
            if left == -1:
                raise KeyboardInterrupt

    sys.addaudithook(end_in_time)
    try:
        SCENARIOS[scenario](path)
    except KeyboardInterrupt:
        os._exit(ENDED)
    except SystemExit:
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def main(scenario: str, ending: str, folder: Path) -> None:
    operation, code = 0, ENDED
    while code == ENDED:
        path = folder / str(operation) / "x.bundle"
        path.parent.mkdir()
        if scenario != "new":
            write_bundle(path)
        code = run_until(operation, scenario, ending, path)
        operation += 1
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
