"""Addresses, folders and files that are no checkpoint and no bundle: what each is, and what to do with it."""

import json
import re
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<rest>.*)")
_HUB_PAGE = re.compile(r"(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<name>[^/]+/[^/]+)/?$")

# How files begin that are neither checkpoints nor text, and what to call them.
_BEGINNINGS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (
            rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8|II\*\0|MM\0\*|....ftyp(avif|heic|mif1)",
            "a picture (`idm-deploy infer` enlarges it)",
        ),
        (rb"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
        (rb"\x1f\x8b|7z\xbc\xaf|BZh|\xfd7zXZ|Rar!", "a compressed archive (unpack it first)"),
        (rb"GGUF", "a GGUF file, quantized weights for llama.cpp or ComfyUI"),
        (rb"\x89HDF", "an HDF5 file, as Keras saves networks"),
        (rb"\x93NUMPY", "a NumPy array"),
        (rb"....TFL3", "a TensorFlow Lite network"),
        # Belief, not documented: what plans of TensorRT 8 to 10 begin with. The suffix is the second sign.
        (rb"ftrt", "a TensorRT engine (name the checkpoint it was built from)"),
        # ModelProto: field 1, ir_version, a small number; then the producer's name and version, domain, or graph.
        (rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]", "an ONNX graph (name the checkpoint it came from)"),
    )
)
_ENGINE_SUFFIXES = (".engine", ".plan", ".trt")


def address_in(path: Path) -> str | None:
    """The address that was typed where a path belongs, with both slashes, of which a path keeps one; else None."""
    match = _ADDRESS.fullmatch(path.as_posix())
    return f"{match['scheme']}://{match['rest']}" if match else None


def refusal_of_address(path: Path) -> str | None:
    """What to say of an address where a file or folder is expected; None if it is no address."""
    address = address_in(path)
    if address is None:
        return None
    scheme, _, rest = address.partition("://")
    if scheme.lower() == "hf":
        return (
            f"{address} is an address; such a one stands only where a checkpoint or a bundle is named. Download what "
            f"it means, for instance with `hf download {'/'.join(rest.strip('/').split('/')[:2])}`, and name the file."
        )
    if (page := _HUB_PAGE.fullmatch(rest)) is not None:
        return (
            f"{address} is a web page; write hf://{page['name']} where a checkpoint or a bundle is named, which "
            f"fetches it, or type `idm-deploy pull {page['name']}`."
        )
    how = f"`curl -LO {address}`" if scheme.lower() in ("http", "https", "ftp") else "the tool for such addresses"
    return (
        f"{address} is an address, and idm-deploy reads only files on this machine. Download it, for instance with "
        f"{how}, and name the file."
    )


def kind_of_file(path: Path, first: bytes) -> str:
    """What a file that is no checkpoint looks like by its first bytes, with its article and what to do."""
    text = first.lstrip().lower()
    if text.startswith(b"<?xml") and b"<net" in text:
        return "an OpenVINO network (name the checkpoint it came from)"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page (a download that asked for a login, perhaps)"
    for beginning, kind in _BEGINNINGS:
        if beginning.match(first):
            return kind
    if path.suffix.lower() in _ENGINE_SUFFIXES:
        return "a TensorRT engine by its name (name the checkpoint it was built from)"
    return "something else"


def kind_of_folder(folder: Path) -> str | None:
    """What a folder of another tool is and what runs it; None if it is just a folder."""
    pipeline = _json(folder / "model_index.json")
    if pipeline is not None:
        return f"a diffusers folder ({pipeline.get('_class_name', 'a pipeline')}); run it with diffusers"
    if _json(folder / "adapter_config.json") is not None:
        return "a LoRA adapter's folder; run it with PEFT and the network it was trained for"
    settings = _json(folder / "config.json")
    if settings is not None and "_diffusers_version" in settings:
        return f"a part of a diffusers folder ({settings.get('_class_name', 'a network')}); run it with diffusers"
    if settings is not None and ("architectures" in settings or "model_type" in settings):
        names = settings.get("architectures")
        name = names[0] if isinstance(names, list) and names else settings.get("model_type", "a network")
        return f"a Hugging Face transformers folder ({name}); run it with transformers"
    return None


def _json(path: Path) -> dict[str, Any] | None:
    """The dictionary in a small JSON file; None if there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
