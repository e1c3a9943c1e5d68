"""`idm-deploy pull`: a model on a hub comes to this machine, as far as it is needed."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.options import FIRST, Json
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result

if TYPE_CHECKING:
    from deploy.hub import Pulled

EXAMPLES = (
    "idm-deploy pull CompVis/ldm-super-resolution-4x-openimages",
    "idm-deploy pull OWNER/NAME@v2/weights/ckpt.pt -o ckpt.pt",
)
KINDS = {"bundle": "a bundle", "pipeline": "a diffusers folder", "checkpoint": "a checkpoint"}


def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME/FILE on the Hugging Face Hub, or on the one that "
            "HF_ENDPOINT names; a REVISION is a branch, a tag or a commit."
        ),
    ],
    output: Annotated[
        Path | None,
        FIRST(
            "Also copy it here, a folder or a file of your own. If left out, it stays in the cache: below HF_HOME, or "
            "~/.cache/huggingface.",
            "--output",
            "-o",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a bundle, a diffusers folder or a checkpoint: only the files that are needed, their hashes checked.

    It is pinned to the commit that is there now, and found again without a network wherever hf://OWNER/NAME is named.
    """
    from deploy.bundle import Bundle
    from deploy.checkpoint.folders import known_pipelines
    from deploy.hub import address_from_text, pull
    from deploy.hub.pull import lines_about
    from deploy.hub.shelf import copy_out, refuse_taken

    address = address_from_text(name)
    if output is not None:
        refuse_taken(output)
    with shown_progress(f"pull {address.repository}") as progress:
        pulled = pull(address, progress, known_pipelines())
    for line in lines_about(pulled):
        say(line)
    if pulled.kind == "bundle":
        Bundle.open(pulled.path)
    if output is not None:
        copy_out(pulled.path, output)
    record = record_of(pulled, output)
    print_result(record, lambda: typer.echo(text_from_record(record)), as_json=as_json)


def record_of(pulled: "Pulled", output: Path | None) -> dict[str, Any]:
    """What came, from where, and what to type next."""
    place = str(output or pulled.address)
    return {
        "address": str(pulled.address),
        "path": str(output or pulled.path),
        "kind": pulled.kind,
        "commit": pulled.commit,
        "moved_from": pulled.moved_from,
        "files": pulled.files,
        "bytes": pulled.bytes,
        "fetched_bytes": pulled.fetched,
        "notes": list(pulled.notes),
        "next": f"idm-deploy infer photo.png --scale 4 --bundle {shlex.quote(place)}"
        if pulled.kind == "bundle"
        else f"idm-deploy export {shlex.quote(place)}",
    }


def text_from_record(record: dict[str, Any]) -> str:
    """The lines that a person reads."""
    files = "1 file" if record["files"] == 1 else f"{record['files']} files"
    return (
        f"{record['address']}: {KINDS[record['kind']]}, {files}, {record['bytes'] / 1e6:.1f} MB, "
        f"{record['fetched_bytes'] / 1e6:.1f} MB of it fetched now\n"
        f"commit: {record['commit']}; hashes were checked when it came\n"
        f"path: {record['path']}\n"
        f"next: {record['next']}"
    )
