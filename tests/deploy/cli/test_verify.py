"""`idm-deploy verify` on the command line."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli.commands.verify import verify
from deploy.errors import BundleError
from tests.deploy.bundle.small_bundle import write_bundle
from tests.json_schema import checked

app = typer.Typer()
app.command()(verify)


def run(*arguments: str) -> str:
    """The standard output of a run that succeeds; the error of one that does not."""
    result = CliRunner().invoke(app, arguments)
    if result.exception:
        raise result.exception
    return result.stdout


def test_a_whole_bundle_is_found_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    monkeypatch.chdir(tmp_path)
    report = checked("verify", run("--json"))
    sizes = [bundle.file(name).stat().st_size for name in bundle.manifest.files]
    assert report == {"bundle": str(bundle.path), "bytes": sum(sizes), "files": 4, "removed": [], "unlisted": []}
    assert "a.bundle: 4 files, 0.0 MB, every SHA-256 as recorded" in run()


def test_other_files_are_reported_and_removed_on_request(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    (path / "notes.txt").write_text("mine")
    assert "not part of the bundle (--clean removes them): notes.txt" in run(str(path))
    assert (path / "notes.txt").exists()
    assert run(str(path), "--clean").splitlines()[1:] == ["removed notes.txt"]
    assert not (path / "notes.txt").exists()


def test_a_changed_byte_is_an_error_and_nothing_is_removed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    (bundle.path / "notes.txt").write_text("mine")
    bundle.graph("denoise", "plain").write_bytes(b"graph that names weights-0123456789abcdef.bin")
    with pytest.raises(BundleError, match=r"damaged: denoise-\w+\.onnx has SHA-256"):
        run(str(bundle.path), "--clean")
    assert (bundle.path / "notes.txt").exists()


def test_a_gpu_without_anything_to_run_on_it_is_wrong_usage(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.bundle")
    result = CliRunner().invoke(app, [str(tmp_path / "a.bundle"), "--device", "7"])
    assert result.exit_code == 2
    assert "--against, which is missing" in " ".join(result.output.replace("│", " ").split())
