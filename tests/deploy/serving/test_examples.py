"""What `examples/serving` has for operators: the script runs, the unit and the proxy say what the command knows."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from deploy.cli.main import app
from tests.deploy.serving.service import Service
from tests.deploy.serving.test_upscale import PICTURE, PIXELS
from tests.pages import ROOT

EXAMPLES = ROOT / "examples" / "serving"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_script_runs(service: Service, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(PICTURE)
    words = ["sh", str(EXAMPLES / "ask.sh"), service.address, "photo.png"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"state": "done"' in done.stdout and '"width":256' in done.stdout
    assert (tmp_path / "larger.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert (tmp_path / "larger.png").read_bytes()[:4] == b"\x89PNG"
    assert PIXELS.shape == (12, 16, 3)


def test_the_unit_and_the_proxy_say_what_the_command_knows() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # names of units have capitals
    unit.read(EXAMPLES / "idm-deploy.service")
    tool, command, *words = shlex.split(unit["Service"]["ExecStart"])
    assert (Path(tool).name, command) == ("idm-deploy", "serve")
    group = typer.main.get_command(app)
    with group.make_context("idm-deploy", [command, *words]) as outer:
        given = group.commands[command].make_context(command, words, parent=outer).params  # type: ignore[attr-defined]
    assert given["drain_seconds"] < int(unit["Service"]["TimeoutStopSec"])
    proxy = (EXAMPLES / "nginx.conf").read_text()
    assert f"proxy_pass http://127.0.0.1:{given['port']};" in proxy
    (name,) = re.findall(r"server_name (\S+);", proxy)
    assert name in given["allow_host"] and f"--allow-host {name}" in proxy
    limits = group.commands[command].params  # type: ignore[attr-defined]
    usual = {option.name: option.default for option in limits}
    assert f"client_max_body_size {usual['max_upload'].lower().removesuffix('ib')};" in proxy
    assert f"proxy_read_timeout {usual['deadline_seconds']:.0f}s;" in proxy
