"""`idm-deploy push`: a bundle goes to a hub, with a model card."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.messages import is_quiet, say
from deploy.cli.options import FIRST, Json, checking
from deploy.cli.tables import print_result
from deploy.errors import HubError

EXAMPLES = (
    "idm-deploy push ckpt.bundle OWNER/NAME --licence apache-2.0 --private",
    "idm-deploy push ckpt.bundle OWNER/NAME --licence mit --dry-run",
)


def _checked_licence(name: str) -> None:
    from deploy.hub.push import check_licence

    check_licence(name)


def push(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    name: Annotated[
        str,
        typer.Argument(
            help="OWNER/NAME or OWNER/NAME@BRANCH on the Hugging Face Hub, or on the one that HF_ENDPOINT names."
        ),
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            help="Under which licence the model may be used, by the hub's name for it, such as apache-2.0. If left "
            "out, a terminal is asked.",
            callback=checking(_checked_licence),
        ),
    ] = None,
    private: Annotated[bool, FIRST("Make a repository that only its owners see, if it is new.", "--private")] = False,
    dry_run: Annotated[
        bool, FIRST("Print the model card and the files that would go, and upload nothing.", "--dry-run")
    ] = False,
    as_json: Json = False,
) -> None:
    """Upload a bundle: the files that its bundle.json lists, verified, and a model card made from it; nothing else."""
    from deploy.bundle import Bundle, discover
    from deploy.bundle.naming import MANIFEST_NAME
    from deploy.hub import address_from_text
    from deploy.hub.push import push
    from deploy.report.model_card import model_card

    address = address_from_text(name)
    opened = Bundle.open(discover(explicit=bundle), verify="full")
    chosen = licence or _asked_licence()
    card = model_card(opened, address.repository, chosen)
    files = {file: opened.path / file for file in (MANIFEST_NAME, *opened.manifest.files)}
    record: dict[str, Any] = {
        "bundle": str(opened.path),
        "address": str(address),
        "licence": chosen,
        "files": sorted(files),
        "bytes": sum(path.stat().st_size for path in files.values()),
        "card": card,
        "page": None,
    }
    if not dry_run:
        say(f"uploading {len(files)} files, {record['bytes'] / 1e6:.1f} MB, to {address.repository}")
        title = f"{opened.path.resolve().name}, by idm-deploy"
        bars = sys.stderr is not None and sys.stderr.isatty() and not is_quiet()
        pushed = push(address, files, card, private=private, title=title, bars=bars)
        record |= {"address": str(pushed.address), "page": pushed.page}
    print_result(record, lambda: typer.echo(text_from_record(record)), as_json=as_json)


def text_from_record(record: dict[str, Any]) -> str:
    """The lines that a person reads."""
    if record["page"] is None:
        return f"{record['card']}\nwould go, beside this README.md: {', '.join(record['files'])}"
    return (
        f"{record['page']}: {len(record['files'])} files, {record['bytes'] / 1e6:.1f} MB, licence {record['licence']}\n"
        f"next: idm-deploy pull {record['address']}"
    )


def _asked_licence() -> str:
    """The licence that whoever sits at the terminal types."""
    from deploy.hub.push import LICENCES, check_licence

    if is_quiet() or sys.stdin is None or not sys.stdin.isatty():
        raise HubError(
            "A model is not uploaded without a licence: say --licence, such as --licence apache-2.0; it is that of the "
            "checkpoint, which its authors chose."
        )
    for short, title in LICENCES.items():
        typer.echo(f"  {short:22} {title}", err=True)
    chosen: str = typer.prompt("Licence of the model, which its authors chose", err=True)
    check_licence(chosen.strip())
    return chosen.strip()
