"""What `benchmarks.hostile` makes and reads: for each kind of file, whole ones that are changed by chance."""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from calibration.errors import CalibrationError
from deploy.errors import DeployError
from engines.errors import EngineError

REFUSALS = (DeployError, EngineError, CalibrationError)
MEMORY = 1 << 30
"""Bytes that reading one input may take."""

NUMBERS = (0, 1, -1, 2, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 0.5, 1.0, 1e300, -1e-300, 2**31, 2**63, 10**30, 10**400, 10**8, 1e8),
    *("", "a", "x" * 5000, "\x1b[31mred", "../x", "ddim", "searched", "float32"),
    *([], {}, [[]], [1], [None], ["a"], {"a": 1}, [1.0, 8.0], [0.5] * 10, [0] * 2000),
)

Make = Callable[[random.Random, Path], Path]
"""A file made from one that is whole, in a folder that is emptied between inputs."""
Read = Callable[[Path], None]


def changed_bytes(whole: bytes, chance: random.Random) -> bytes:
    """The bytes with a few changes: bits, numbers, pieces left out, doubled or moved, an early end."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        at, length = chance.randrange(len(content)), chance.choice((1, 2, 4, 8, 64))
        kind = chance.randrange(6)
        if kind == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            number = struct.pack(chance.choice((">", "<")) + "Q", chance.choice(NUMBERS) & (2**64 - 1))
            size = chance.choice((1, 2, 4, 8))
            content[at : at + size] = number[-size:] if chance.random() < 0.5 else number[:size]
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length] * chance.choice((1, 2, 50))
        elif kind == 4:
            content[at:at] = chance.randbytes(length)
        elif chance.random() < 0.3:
            del content[at:]
    return bytes(content)


def changed_ends(whole: bytes, chance: random.Random) -> bytes:
    """Changes among the first or the last bytes alone, where a large file says what it holds."""
    part = 20_000
    if len(whole) <= 2 * part:
        return changed_bytes(whole, chance)
    if chance.random() < 0.5:
        return changed_bytes(whole[:part], chance) + whole[part:]
    return whole[:-part] + changed_bytes(whole[-part:], chance)


def changed_json(record: Any, chance: random.Random) -> Any:
    """The record with a value or a key replaced, left out or scaled, at one or two places."""
    record = copy.deepcopy(record)
    places = [place for place in _places(record) if place and place[0] != "files"]
    for _ in range(chance.choice((1, 1, 1, 2))):
        *way, last = chance.choice(places)
        parent = record
        try:
            for key in way:
                parent = parent[key]
            value, draw = parent[last], chance.random()
            if draw < 0.15:
                del parent[last]
            elif draw < 0.25 and isinstance(parent, dict):
                parent[f"new{last}"] = parent.pop(last)
            elif draw < 0.4 and isinstance(value, int | float):
                parent[last] = value * chance.choice((-1, 2, 10, 0, 1000, 0.5))
            else:
                parent[last] = chance.choice(VALUES)
        except (KeyError, IndexError, TypeError):  # the first change took the place away
            continue
    return record


def changed_graph(whole: bytes, chance: random.Random) -> bytes:
    """The ONNX file with a few nodes, attributes, sizes or places of weights changed; it can still be parsed."""
    from onnx import ModelProto

    model = ModelProto.FromString(whole)
    graph = model.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    kinds = ["Loop", "If", "Scan", "Einsum", "Expand", *{node.op_type: None for node in graph.node}]
    for _ in range(chance.choice((1, 1, 2, 4))):
        node, tensor = chance.choice(graph.node), chance.choice(graph.initializer)
        kind = chance.randrange(7)
        if kind == 0:
            node.op_type = chance.choice(kinds)
        elif kind == 1 and node.input:
            node.input[chance.randrange(len(node.input))] = chance.choice(names)
        elif kind == 2 and node.attribute:
            attribute = chance.choice(node.attribute)
            attribute.i = chance.choice(NUMBERS) % 2**63
            attribute.ints.extend([attribute.i] * chance.choice((0, 1, 9)))
        elif kind == 3 and tensor.dims:
            tensor.dims[0] = chance.choice(NUMBERS) % 2**63
        elif kind == 4 and tensor.external_data:
            chance.choice(tensor.external_data).value = chance.choice(("-1", "0", "../x", "x" * 5000, str(2**63), ""))
        elif kind == 5 and tensor.raw_data:
            tensor.raw_data = changed_bytes(tensor.raw_data, chance)
        else:
            graph.node.remove(node)
    return bytes(model.SerializeToString())


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, item in items for found in _places(item, (*place, key)))]


def bundles(scratch: Path) -> tuple[Make, Read]:
    """The packaged bundle with another bundle.json, as `inspect` and `infer` look at it before they run anything."""
    from deploy.bundle import Bundle
    from deploy.cli.commands.inspect import bundle_record
    from deploy.packaged.places import IDM_BUNDLE
    from deploy.picture.upscaler import Upscaler
    from deploy.sampling.choices import Choices

    folder = Path(shutil.copytree(IDM_BUNDLE, scratch / "a.bundle"))
    whole = json.loads((folder / "bundle.json").read_text())

    def make(chance: random.Random, _: Path) -> Path:
        text = json.dumps(changed_json(whole, chance))
        content = changed_bytes(text.encode(), chance) if chance.random() < 0.1 else text.encode()
        (folder / "bundle.json").write_bytes(content)
        return folder

    def read(path: Path) -> None:
        bundle = Bundle.open(path, verify="sizes")
        bundle_record(bundle)
        with Upscaler(bundle, "onnxruntime-cpu", "fp32", 1) as upscaler:
            for name in bundle.manifest.presets:
                upscaler.session.sampling(Choices(preset=name))

    return make, read


def graphs(scratch: Path) -> tuple[Make, Read]:
    """The bytes of a packaged graph: looked at, then opened on an engine if nothing was found."""
    from deploy.bundle import Bundle
    from deploy.packaged.places import IDM_BUNDLE
    from engines.backends import open_engine
    from engines.onnx_files.operators import checked_signature

    bundle = Bundle.open(IDM_BUNDLE)
    wholes = [bundle.graph(name, "instance").read_bytes() for name in ("tabulate", "encode")]
    weights = bundle.manifest.graphs["encode"].weights[0]
    shutil.copyfile(bundle.file(weights), scratch / weights)
    path = scratch / "a.onnx"

    def make(chance: random.Random, _: Path) -> Path:
        change = changed_bytes if chance.random() < 0.3 else changed_graph
        path.write_bytes(change(chance.choice(wholes), chance))
        return path

    def read(path: Path) -> None:
        checked_signature(path, [weights])
        open_engine(path, threads=1).close()

    return make, read


def pictures(scratch: Path) -> tuple[Make, Read]:
    """A small picture of every format that can be written here, and a JPEG of several scans."""
    from PIL import Image

    from deploy.errors import MissingPackage
    from deploy.images.formats.contract import Outline
    from deploy.images.formats.table import FORMATS
    from deploy.images.picture import DTYPES
    from deploy.images.reading import read_header, read_picture
    from deploy.images.sizes import Size

    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)
    wholes: list[bytes] = []
    for record in FORMATS.values():
        for bits in () if record.writer is None else record.writer.bits:
            path = scratch / "whole"
            values = (pixels / 255 * {8: 255, 16: 65535, 32: 1}[bits]).astype(DTYPES[bits])
            try:
                with path.open("w+b") as file:
                    record.writer.write(file, Outline(size=Size(24, 31), bits=bits), iter([values]))
            except MissingPackage:
                continue
            wholes.append(path.read_bytes())
    for name, options in (("a.jpg", {"progressive": True}), ("a.gif", {}), ("a.png", {"transparency": 0})):
        Image.fromarray(pixels).convert("P" if name != "a.jpg" else "RGB").save(scratch / name, **options)
        wholes.append((scratch / name).read_bytes())
    moving = [Image.fromarray(pixels), Image.fromarray(255 - pixels), Image.fromarray(pixels[::-1])]
    for name in ("a.gif", "a.png", "a.webp", "a.tiff", "a.avif"):
        try:
            moving[0].save(scratch / name, save_all=True, append_images=moving[1:])
        except (OSError, KeyError, ValueError):  # not in this build of Pillow
            continue
        wholes.append((scratch / name).read_bytes())

    def make(chance: random.Random, folder: Path) -> Path:
        path = folder / "a"
        path.write_bytes(changed_bytes(chance.choice(wholes), chance))
        return path

    def read(path: Path) -> None:
        limits = {"max_pixels": 4_000_000, "room": MEMORY // 4}
        header = read_header(path, **limits)
        read_picture(path, **limits)
        with suppress(*REFUSALS):
            for frame in range(min(header.frames, 8)):
                read_picture(path, frame=frame, **limits)

    return make, read


def checkpoints(scratch: Path) -> tuple[Make, Read]:
    """Small checkpoints as PyTorch (both forms) and safetensors save them."""
    import torch
    from safetensors.numpy import save

    from deploy.checkpoint.load import load_checkpoint
    from tests.checkpoints import idm_state, save_idm

    state = {"denoise_fn.downs.0.weight": torch.ones(4, 3), "n": 3, "nested": {"a": (1, [2.0, "b"])}}
    path, wholes = scratch / "whole", []
    for kept in (state, {"state_dict": state, "epoch": 1}):
        for is_zip in (True, False):
            torch.save(kept, path, _use_new_zipfile_serialization=is_zip)
            wholes.append(path.read_bytes())
    wholes.append(save({"denoise_fn.downs.0.weight": np.ones((4, 3), np.float32)}, {"config": '{"a": 1}'}))
    network = save_idm(scratch)  # of a family that is known
    safe = save({name: value.numpy() for name, value in idm_state("idm_micro").items()}, {"idm_deploy": "{}"})

    def make(chance: random.Random, folder: Path) -> Path:
        target = folder / "a.pt"
        draw = chance.random()
        whole = network.read_bytes() if draw < 0.01 else safe if draw < 0.02 else chance.choice(wholes)
        target.write_bytes(changed_ends(whole, chance))
        return target

    def read(target: Path) -> None:
        load_checkpoint(target)

    return make, read


def configurations(_: Path) -> tuple[Make, Read]:
    """What the authors' files and a safetensors file's metadata say, of the packaged model and of a latent one."""
    import yaml

    from deploy.bundle import Bundle
    from deploy.bundle.records import json_from_records
    from deploy.checkpoint.settings import METADATA_KEY, read_config, settings_of
    from deploy.families.table import FAMILIES
    from deploy.packaged.places import IDM_BUNDLE

    manifest = Bundle.open(IDM_BUNDLE).manifest
    unet = {"in_channel": 6, "inner_channel": 64, "channel_multiplier": [1, 2], "attn_res": [16], "res_blocks": 1}
    noise = {"schedule": "linear", "n_timestep": 2000, "linear_start": 1e-6, "linear_end": 1e-2}
    published = {"model": {"which_model_G": "sr3", "unet": unet, "beta_schedule": {"train": noise, "val": noise}}}
    first_stage = {"target": "a.VQModel", "params": {"n_embed": 8, "embed_dim": 3, "ddconfig": {"ch_mult": [1, 2]}}}
    latent = {"params": {"linear_start": 0.0015, "timesteps": 1000, "first_stage_config": first_stage}}
    record = {
        "family": manifest.family,
        "config": json_from_records(manifest.configuration),
        "schedule": json_from_records(manifest.schedule),
    }
    wholes: list[Any] = [published, {"model": latent}, record]
    aliases = "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])
    dates = (
        "2001-99-99",
        "!!timestamp x",
        "!!int x",
        "!!float x",
        "!!binary é",
        "!!python/name:os.system",
        "{? [a]: b}",
    )

    def make(chance: random.Random, folder: Path) -> Path:
        changed = changed_json(chance.choice(wholes), chance)
        suffix = chance.choice((".json", ".yaml", ".metadata"))
        text = json.dumps(changed)
        if suffix == ".yaml":
            draw = chance.random()
            text = (
                yaml.safe_dump(changed) if draw < 0.9 else f"model: {chance.choice(dates)}" if draw < 0.97 else aliases
            )
        if suffix == ".json" and chance.random() < 0.02:
            text = '{"model":' * chance.choice((40, 500, 900, 5000)) + "1" + "}" * 900
        content = changed_bytes(text.encode(), chance) if chance.random() < 0.2 else text.encode()
        (folder / f"a{suffix}").write_bytes(content)
        return folder / f"a{suffix}"

    def read(path: Path) -> None:
        is_metadata = path.suffix == ".metadata"
        metadata = {METADATA_KEY: path.read_text(errors="replace")} if is_metadata else {}
        config = None if is_metadata else read_config(path)
        refusals: list[Exception] = []
        for family in FAMILIES:
            try:
                settings_of(family, config, path, metadata)
            except REFUSALS as error:
                refusals.append(error)
        if len(refusals) == len(FAMILIES):
            raise max(refusals, key=lambda error: len(str(error)))

    return make, read


KINDS: dict[str, Callable[[Path], tuple[Make, Read]]] = {
    "bundles": bundles,
    "graphs": graphs,
    "pictures": pictures,
    "checkpoints": checkpoints,
    "configurations": configurations,
}
