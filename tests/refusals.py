"""What commands say when they refuse: `python -m tests.refusals` writes tests/golden/refusals.txt anew.

Each case is a command that is really run, in a folder that has the same wrong files each time. The second half of the
file is every other sentence as it stands in the code, so that a changed message is always a changed line there.
"""

import hashlib
import io
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import typer
from PIL import Image

from calibration.errors import CalibrationError
from deploy.cli.main import app
from deploy.cli.values import text_of_error, text_with_options
from deploy.errors import DeployError
from deploy.packaged.places import IDM_BUNDLE, IDM_CHECKPOINT, SAMPLE_IMAGES
from engines.errors import EngineError
from tests.messages import ROOT, Sentence, sentences

GOLDEN = ROOT / "tests" / "golden" / "refusals.txt"
COMMAND = "python -m tests.refusals"
IDM_DEPLOY = typer.main.get_command(app)
WRONG_USAGE = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""What typer raises of a command line that it cannot read."""

COMMANDS = """
infer nowhere.png --scale 2
infer photo.png --scale 0.5
infer photo.png --scale 1e9
infer photo.png --size 1920
infer photo.png --size 10x10
infer photo.png --scale 2 --size 40x40
infer photo.png --scale 2 --crop 1,2,3
infer photo.png --scale 2 --crop 0,0,999,999
infer photo.png --scale 2 --bundle b/nowhere.bundle
infer photo.png --scale 2 --bundle photos
infer photo.png --scale 2 --bundle b
inspect b/nowhere.bundle
verify b
infer photo.png --scale 2 --bundle ckpt.safetensors
infer photo.png --scale 2 --bundle b/damaged.bundle
infer photo.png --scale 2 --bundle b/no-json.bundle
infer photo.png --scale 2 --bundle b/newer.bundle
infer photo.png --scale 2 --bundle b/list.bundle
infer photo.png --scale 2 --bundle b/lacking.bundle
infer photo.png --scale 2 --bundle b/strange-family.bundle
infer photo.png --scale 2 --bundle b/strange-values.bundle
infer photo.png --scale 2 --bundle b/strange-preset.bundle
infer photo.png --scale 2 --bundle b/linked.bundle
infer photo.png --scale 2 --bundle b/cut-graph.bundle
infer photo.png --scale 2 --bundle b/looping.bundle
infer photo.png --scale 2 --preset quick
infer photo.png --scale 2 --equation dpm
infer photo.png --scale 2 --equation analytic-dpm
infer photo.png --scale 2 --equation fitted-7
infer photo.png --scale 2 --steps 100000
infer photo.png --scale 2 --start 0.9999999
infer photo.png --scale 2 --steps 3 --placement spacious
infer photo.png --scale 2 --placement 0.3,many
infer photo.png --scale 2 --placement 0.5,0.3
infer photo.png --scale 2 --placement searched --steps 7
infer photo.png --scale 2 --stages 3,x
infer photo.png --scale 2 --stages 4,4
infer photo.png --scale 2 --draws 0
infer photo.png --scale 2 --blend 99
infer photo.png --scale 2 --seed -1
infer photo.png --scale 2 --engine onnx
infer photo.png --scale 2 --precision fp8
infer photo.png --scale 2 --precision int8
infer photo.png --scale 2 --device 0 --engine onnxruntime-cpu
infer photo.png --scale 2 --around bf16 --precision fp32
infer photo.png --scale 2 --threads 0
infer photo.png --scale 2 --max-memory much
infer photo.png --scale 8 --max-memory 1MB
infer photo.png --scale 2 --tile 7
infer photo.png --scale 2 --samples 1000
infer photo.png --scale 2 --batch some
infer photo.png --scale 2 --background pink-ish
infer photo.png --scale 2 --color-fix wavelets
infer photo.png --scale 2 --format gif
infer photo.png --scale 2 --quality 80
infer photo.png --scale 2 --quality 800 --format jpg
infer photo.png --scale 2 --format png -o out.jpg
infer photo.png --scale 2 -o out.xyz
infer photo.png --scale 2 -o nowhere/out.png
infer photo.png --scale 2 -o photo.png
infer photo.png --scale 2 -o theirs.png
infer photo.png --scale 2 --name {stem}_{colour}
infer photo.png --scale 2 --name {stem:>9}
infer photo.png --scale 2 --name {stem
infer photo.png --scale 2 --name a/{stem}
infer photo.png photos --scale 2 -o out.png
infer photos --scale 2
infer photos --scale 2 -o out --include [
infer nothing --scale 2 -o out
infer clear.png --scale 2 -o clear.jpg
infer empty.png --scale 2
infer text.png --scale 2
infer cut.png --scale 2
infer huge.png --scale 2
infer dangling.png --scale 2
infer - - --scale 2
infer - --scale 2 --json -o -
infer photo.png --scale 2 --quiet --verbose
infer photo.png --scale 2 --stepz 3
inspect nowhere.pt
inspect empty.pt
inspect text.pt
inspect pickle.pt
inspect evil.pt
inspect cut.safetensors
inspect other.safetensors
inspect ckpt.safetensors --cache-dir cache
inspect b/demo.bundle --sha256
inspect photo.png
inspect photos
inspect ckpt.safetensors --config nowhere.json
inspect ckpt.safetensors --config text.json
inspect ckpt.safetensors --config list.json
inspect ckpt.safetensors --config key.json
inspect ckpt.safetensors --weights ema
export ckpt.safetensors -o b/demo.bundle
export ckpt.safetensors -o photos
export ckpt.safetensors -o nowhere/new.bundle
export ckpt.safetensors --no-rewrite magic
export b/demo.bundle
verify b/nowhere.bundle
verify b/demo.bundle --against other.safetensors
verify b/demo.bundle --against nowhere.pt
verify b/demo.bundle --device 0
verify b/damaged.bundle
bench b/demo.bundle --part nothing
bench b/demo.bundle --sizes 64,many
bench b/demo.bundle --plot nowhere/plot.png
bench b/demo.bundle --rounds 0
build-engine b/demo.bundle --precision int8
build-engine b/demo.bundle --compute-capability 8.9 --engine onnxruntime-cpu
build-engine b/demo.bundle --max-psnr-drop nan
engines --prune
engines --max-size 2GB
evaluate nowhere
evaluate nothing
evaluate photos --bundle b/demo.bundle --scale 0.5
evaluate photos --bundle b/demo.bundle --scale 4 --crop 512
evaluate photos --bundle b/demo.bundle --limit 99
evaluate photos --bundle b/demo.bundle --setting stepz=3
evaluate photos --bundle b/demo.bundle --setting steps=many
evaluate photos --bundle b/demo.bundle --protocol other
evaluate photos --bundle b/demo.bundle --lpips nothing --scale 2
generate --bundle b/demo.bundle
schedule b/demo.bundle --steps few
schedule b/demo.bundle --fit --equation ddim
schedule b/demo.bundle --equation ddpm --steps 3
quantize b/demo.bundle --calib nowhere
quantize b/demo.bundle --calib nothing
quantize b/demo.bundle --targets cuda
quantize b/demo.bundle --ranges 0
quantize b/demo.bundle --scales checkpoint
quantize b/demo.bundle --pictures 0
report b/demo.bundle -o photo.png
report b/demo.bundle -o photos
report b/demo.bundle --bench text.json
report b/demo.bundle --bench list.json
report b/demo.bundle --evaluation nowhere.json
report b/demo.bundle --no-pictures --originals photos
report b/demo.bundle --measure --bench list.json
demo -o photos
serve --port 0 b/nowhere.bundle
serve b/demo.bundle b/demo.bundle
serve b/demo.bundle --host 0.0.0.0
serve b/demo.bundle --token-file empty.png
export-triton b/nowhere.bundle -o out
export-triton b/demo.bundle -o photos
export-triton b/demo.bundle -o nowhere/out
export-triton b/demo.bundle -o out --name a/b --max-batch 100
export-triton b/demo.bundle -o out --gpus all
export-triton b/demo.bundle -o out --engine tensorrt
export-triton b/demo.bundle -o out --engine openvino-cpu --graphs
pull name
pull a/b/../c
pull owner/name@../x
push b/demo.bundle owner/name
push b/demo.bundle name
push b/demo.bundle owner/name --licence 42!
infer photo.png --scale 2 --bundle hf://owner/name
--json
""".strip().splitlines()
"""As they are typed, after `idm-deploy`."""


def make_files(folder: Path) -> None:
    """What the commands name: pictures, checkpoints and bundles, most of them wrong."""
    (folder / "photos").mkdir()
    (folder / "nothing").mkdir()
    shutil.copy(SAMPLE_IMAGES / "chelsea.png", folder / "photo.png")
    shutil.copy(SAMPLE_IMAGES / "coffee.png", folder / "photos" / "coffee.png")
    shutil.copy(SAMPLE_IMAGES / "coffee.png", folder / "theirs.png")
    whole = (folder / "photo.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "huge.png").write_bytes(_png_header(1 << 17, 1 << 17))
    Image.fromarray(np.full((8, 8, 4), 100, np.uint8)).save(folder / "clear.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    for name in ("empty.png", "empty.pt"):
        (folder / name).touch()
    for name in ("text.png", "text.pt", "text.json"):
        (folder / name).write_text("This is neither.\n")
    (folder / "list.json").write_text("[1, 2]")
    (folder / "key.json").write_text('{"model": {"unet": {"inner_chanel": 8}}}')
    (folder / "pickle.pt").write_bytes(b"\x80\x02]q\x00.")
    (folder / "evil.pt").write_bytes(b"\x80\x02cos\nsystem\nU\x04trueR.")
    _link(IDM_CHECKPOINT, folder / "ckpt.safetensors")
    (folder / "cut.safetensors").write_bytes(IDM_CHECKPOINT.read_bytes()[:2000])
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "other.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (folder / "b").mkdir()
    _make_bundles(folder / "b")


def _make_bundles(folder: Path) -> None:
    record = json.loads((IDM_BUNDLE / "bundle.json").read_text())
    graph = next(name for name in sorted(record["files"]) if name.startswith("denoise") and name.endswith(".onnx"))
    changed = {
        "demo": record,
        "damaged": record,
        "linked": record,
        "cut-graph": record,
        "looping": record,
        "newer": record | {"schema": 99},
        "list": [1],
        "lacking": {key: value for key, value in record.items() if key != "graphs"},
        "strange-family": record | {"family": "esrgan"},
        "strange-values": record | {"scale_range": "wide", "presets": 3},
        "strange-preset": record | {"default_preset": "quick"},
    }
    for name, content in changed.items():
        place = folder / f"{name}.bundle"
        place.mkdir()
        for file in IDM_BUNDLE.iterdir():
            if file.name != "bundle.json":
                _link(file, place / file.name)
        (place / "bundle.json").write_text(json.dumps(content))
    (folder / "no-json.bundle").mkdir()
    (folder / "no-json.bundle" / "bundle.json").write_text("{")
    _replace(folder / "damaged.bundle" / graph, b"other")
    (folder / "linked.bundle" / graph).unlink()
    (folder / "linked.bundle" / graph).symlink_to(IDM_BUNDLE / graph)
    for name, content in (("cut-graph", b"\x0a\x05onnx"), ("looping", _LOOP)):
        digest = hashlib.sha256(content).hexdigest()
        file = f"denoise-{digest[:16]}.onnx"
        (folder / f"{name}.bundle" / file).write_bytes(content)
        (folder / f"{name}.bundle" / graph).unlink()
        listed = {**record["files"][graph], "sha256": digest, "bytes": len(content)}
        edited = record | {"files": {**record["files"], graph: listed}}
        (folder / f"{name}.bundle" / "bundle.json").write_text(json.dumps(edited).replace(graph, file))


_LOOP = b"\x08\x08\x3a\x0e\x0a\x06\x22\x04Loop\x12\x04main"
"""An ONNX model whose graph has one node, of the operator Loop."""


def _replace(path: Path, content: bytes) -> None:
    path.unlink()  # the packaged file has this content too
    path.write_bytes(content)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


@contextmanager
def recorded_places() -> Iterator[list[tuple[str, int, str]]]:
    """(module, line, text) of every error that is made inside the block."""
    made: list[tuple[str, int, str]] = []

    def noting(base: type) -> object:
        before = base.__init__  # type: ignore[misc]

        def noted(self: Exception, *values: object, **named: object) -> None:
            before(self, *values, **named)
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_code.co_name == "__init__":
                frame = frame.f_back
            if frame is not None:
                path = Path(frame.f_code.co_filename)
                text = self.message if isinstance(self, WRONG_USAGE) else str(self)
                made.append(
                    (path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else "", frame.f_lineno, text)
                )

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for base in (DeployError, EngineError, CalibrationError, typer.BadParameter):
            patch.setattr(base, "__init__", noting(base))
        yield made


def told_by(command: str) -> tuple[int, str]:
    """(exit code, what it says) of one command in the current folder."""
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.TextIOWrapper(io.BytesIO())):
            code = IDM_DEPLOY.main(command.split(" "), "idm-deploy", standalone_mode=False)
        return int(code or 0), said.getvalue()
    except typer.Exit as ended:
        return ended.exit_code, said.getvalue()
    except WRONG_USAGE as error:
        return 2, str(error.format_message())  # type: ignore[attr-defined]
    except (DeployError, EngineError, CalibrationError) as error:
        return 1, text_of_error(str(error))


def golden_text(folder: Path) -> str:
    """The whole file: commands with what they say, then the sentences that none of them provoked."""
    make_files(folder)
    lines, seen = [], set[Sentence]()
    known = sentences()
    here = Path.cwd()
    os.chdir(folder)
    try:
        for command in COMMANDS:
            with recorded_places() as made:
                code, said = told_by(command)
            shown = _same_everywhere(said, folder)
            lines.append(f"$ idm-deploy {command}\n{code}: {shown}\n")
            places = {(module, line) for module, line, text in made if text_with_options(text)[:40] in said}
            seen |= {one for one in known for module, line in places if one.module == module and one.spans(line)}
    finally:
        os.chdir(here)
    rest = [f"{one.module} {one.error}: {one.text}\n" for one in known if one not in seen]
    return "".join(
        [
            f"# Written by `{COMMAND}`: what commands say when they refuse, after their exit code.\n\n",
            "\n".join(lines),
            f"\n# The other {len(rest)} of {len(known)} sentences, as they stand in the code:\n\n",
            *rest,
        ]
    )


def _same_everywhere(said: str, folder: Path) -> str:
    """Without what differs from machine to machine."""
    said = said.strip().replace(str(folder.resolve()), "HERE").replace(str(folder), "HERE").replace(str(ROOT), "ROOT")
    told = [line.removeprefix("idm-deploy: ") for line in said.splitlines() if line.startswith("idm-deploy: ")]
    said = " / ".join(told or said.splitlines())
    said = re.sub(r"\d+(\.\d+)? (MiB|GiB|MB|GB|KiB|B)\b", "N bytes", said)
    return re.sub(r"https://\S+", "https:...", said)


def main(place: Path) -> None:
    """The golden file anew, or what it would be, at `place`."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        prepare(patch, Path(folder))
        place.write_text(golden_text(Path(folder) / "here"))


def prepare(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """The same surroundings everywhere: a cache of its own, no hub, a wide terminal."""
    (folder / "here").mkdir()
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("HF_HOME", str(folder / "hub"))
    patch.setenv("COLUMNS", "400")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
