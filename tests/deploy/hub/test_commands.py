"""`pull`, `push` and hf:// addresses on the command line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.cli.main import app
from deploy.errors import HubError, MissingPackage
from deploy.hub.pull import local_path
from deploy.packaged.places import IDM_BUNDLE, IDM_CHECKPOINT
from tests.hub_server import Hub, files_of
from tests.json_schema import checked
from tests.ldm_models import SMALL, networks, save_folder

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of huggingface_hub in httpx2


def run(*words: str) -> str:
    """The standard output of a run that succeeds; the error of one that does not."""
    result = CliRunner().invoke(app, words)
    if result.exception:
        raise result.exception
    return result.stdout


def test_a_checkpoint_is_pulled_and_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub.add("a/idm-faces", {"idm.safetensors": IDM_CHECKPOINT.read_bytes(), "README.md": b"about"})
    record = checked("pull", run("pull", "a/idm-faces", "--json"))
    assert record["kind"] == "checkpoint" and record["next"] == "idm-deploy export hf://a/idm-faces"
    asked = len(hub.requests)
    facts = checked("inspect", run("inspect", "hf://a/idm-faces", "--json"))
    assert facts["path"] == record["path"]
    assert load_checkpoint("hf://a/idm-faces").family == facts["family"]
    assert len(hub.requests) == asked
    text = run("pull", "a/idm-faces", "-o", "mine.safetensors")
    assert "path: mine.safetensors\nnext: idm-deploy export mine.safetensors" in text
    assert (tmp_path / "mine.safetensors").read_bytes() == IDM_CHECKPOINT.read_bytes()
    with pytest.raises(HubError, match=r"mine\.safetensors is there already"):
        run("pull", "a/idm-faces", "-o", "mine.safetensors")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # diffusers' own
def test_a_pipeline_as_diffusers_saves_it_is_pulled(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_folder(tmp_path / "saved", *networks(SMALL))
    save_folder(folder, *networks(SMALL, 1), variant="fp16")  # beside it, as publishers have it
    save_folder(folder, *networks(SMALL, 2), safe_serialization=False)
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    hub.add("a/ldm-sr", files | {"README.md": b"about", "unet/model.onnx": b"onnx"})
    record = checked("pull", run("pull", "a/ldm-sr", "--json"))
    assert record["kind"] == "pipeline" and record["files"] == 6
    assert hub.fetched() == sorted(
        ["model_index.json", "scheduler/scheduler_config.json"]
        + [
            f"{part}/{name}"
            for part in ("unet", "vqvae")
            for name in ("config.json", "diffusion_pytorch_model.safetensors")
        ]
    )
    assert load_checkpoint("hf://a/ldm-sr").family == "ldm"
    inspected = checked("inspect", run("inspect", "hf://a/ldm-sr", "--json"))
    assert inspected["path"] == record["path"]


def test_a_bundle_is_pulled_used_and_not_changed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hub.add("a/idm", files_of(IDM_BUNDLE))
    assert "every SHA-256 as recorded" in run("verify", "hf://a/idm")  # fetched on the way
    assert checked("pull", run("pull", "a/idm", "--json"))["fetched_bytes"] == 0
    for words in (["quantize", "hf://a/idm"], ["schedule", "hf://a/idm"]):
        with pytest.raises(
            HubError, match=r"^hf://a/idm is a bundle, which this .*`idm-deploy pull hf://a/idm -o idm`"
        ):
            run(*words)
    run("pull", "hf://a/idm", "-o", "idm")
    assert Bundle.open("idm").manifest == Bundle.open(IDM_BUNDLE).manifest


def test_a_bundle_is_pushed_with_its_card(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError, match="not uploaded without a licence: say --licence"):
        run("push", str(IDM_BUNDLE), "a/idm")
    assert CliRunner().invoke(app, ["push", str(IDM_BUNDLE), "a/idm", "--licence", "my own"]).exit_code == 2
    words = ["push", str(IDM_BUNDLE), "a/idm", "--licence", "apache-2.0", "--json"]
    dry = checked("push", run(*words, "--dry-run"))
    assert hub.requests == [] and dry["page"] is None
    record = checked("push", run(*words))
    kept = hub.repositories["a/idm"].files("main")
    assert kept is not None and kept[1]["README.md"].decode() == record["card"] == dry["card"]
    assert sorted(kept[1]) == sorted(["README.md", *record["files"]])
    assert record["card"].startswith("---\nlicense: apache-2.0\n")
    assert "idm-deploy infer photo.png --scale 4 --bundle hf://a/idm\n" in record["card"]
    assert Bundle.open(record["address"]).manifest == Bundle.open(IDM_BUNDLE).manifest


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage, match=r"pip install 'idm-deploy\[hub\]'"):
        run("pull", "a/b")
    with pytest.raises(MissingPackage, match=r"pip install 'idm-deploy\[hub\]'"):
        local_path("hf://a/b")
    assert local_path("a/b") == Path("a/b")
