"""`idm-deploy serve`: pictures enlarged over HTTP, and a page to drop them on, on one machine."""

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deploy.cli.messages import is_quiet, say
from deploy.cli.models import NamesModel
from deploy.cli.options import ENGINE, FIRST, Engine, Json, MaxMemory, Panel, Precision
from deploy.cli.values import batch_from_text, bytes_from_text, checked_usage, named_path

if TYPE_CHECKING:
    from deploy.serving.cluster.settings import ClusterSettings
    from deploy.serving.options import ServeOptions
    from deploy.serving.server import Server

EXAMPLES = (
    "idm-deploy serve",
    "idm-deploy serve photos.bundle faces.bundle --port 9000",
    "idm-deploy serve --host 0.0.0.0 --token-file tokens.txt --max-memory 4GiB",
    "idm-deploy serve photos.bundle --ray auto --replicas 1-8",
)

ACCESS = Panel("Who may ask")
LIMITS = Panel("How much is taken")
CLUSTER = Panel("On a Ray cluster")


def serve(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=named_path,
            metavar="[bundles]...",
            help="Folders of bundles, which requests call by the folders' names; the first is the default. If left "
            "out, the one bundle in the current folder, else the packaged demo model.",
        ),
        NamesModel(),
    ] = None,
    host: Annotated[
        str, FIRST("Address to listen at. Any other than this machine's own needs --token-file, or --no-auth.")
    ] = "127.0.0.1",
    port: Annotated[
        int, FIRST("Port to listen at; 0 takes any that is free, and says which.", least=0, most=65535)
    ] = 8080,
    workers: Annotated[
        int, ENGINE("Processes that make pictures, each with the bundles in memory; each makes two at once.", least=1)
    ] = 1,
    token_file: Annotated[
        Path | None,
        ACCESS("File with a token a line, of which clients must show one as `Authorization: Bearer TOKEN`."),
    ] = None,
    no_auth: Annotated[bool, ACCESS("Let everybody who reaches the host use the service.", "--no-auth")] = False,
    allow_host: Annotated[
        list[str],
        ACCESS("Name by which clients may call this service, such as that of a reverse proxy before it; repeatable."),
    ] = [],
    max_queue: Annotated[
        int, LIMITS("Most pictures that wait; of more, clients are told when to come again.", least=1)
    ] = 64,
    max_pixels: Annotated[
        int, LIMITS("Most pixels of an input or output; pictures beyond it are refused.", least=1)
    ] = 64_000_000,
    max_upload: Annotated[str, LIMITS("Most bytes of a request, such as 64MiB.")] = "64MiB",
    max_kept: Annotated[
        str, LIMITS("Most bytes of results, with their inputs, that wait to be fetched; the oldest go first.")
    ] = "2GiB",
    keep_seconds: Annotated[float, LIMITS("How long a result can be fetched.", least=0)] = 900.0,
    deadline_seconds: Annotated[
        float, LIMITS("Longest time from a request to its picture, waiting included.", least=0)
    ] = 3600.0,
    idle_seconds: Annotated[
        float, LIMITS("How long a client may send or take nothing before its connection is closed.", least=0.1)
    ] = 20.0,
    drain_seconds: Annotated[
        float,
        LIMITS("After the first SIGTERM or Ctrl-C, finish what was taken for so long; a second one stops.", least=0),
    ] = 30.0,
    batch: Annotated[
        str, ENGINE("How many pictures of one kind are made together. auto: what is faster, by trying it.")
    ] = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    threads: Annotated[
        int | None,
        ENGINE("Processor threads of each worker's engine. If left out, all cores, shared among workers.", least=1),
    ] = None,
    max_memory: MaxMemory = None,
    ray: Annotated[
        str | None,
        CLUSTER(
            "Make the pictures on this Ray cluster: HOST:PORT, auto (the one on this machine), or local (one that is "
            "started here for this run)."
        ),
    ] = None,
    replicas: Annotated[
        str, CLUSTER("With --ray, how many processes make pictures: 2, or 1-8, as many as the load asks for.")
    ] = "1",
    cpus: Annotated[float, CLUSTER("With --ray, processors of each replica; parts are allowed.", least=0)] = 1.0,
    gpus: Annotated[float, CLUSTER("With --ray, GPUs of each replica, such as 0.5.", least=0)] = 0.0,
    ongoing: Annotated[int, CLUSTER("With --ray, most pictures that a replica has at a time.", least=16)] = 16,
    write_config: Annotated[
        Path | None, CLUSTER("Only write this file, with which `serve deploy` starts the same service on a cluster.")
    ] = None,
    log_format: Annotated[Literal["text", "json"], FIRST("How the log on stderr is written.")] = "text",
    as_json: Json = False,
) -> None:
    """Serve pictures over HTTP, with a page for a browser, until a signal ends it."""
    from deploy.errors import MissingPackage
    from deploy.packaged.places import bundle_or_packaged
    from deploy.picture.memory import bytes_from_text as memory_from_text
    from deploy.serving.options import ServeOptions, named_bundles, tokens_in
    from engines.packages import is_importable

    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        if not is_importable(package):
            raise MissingPackage(f"Serving needs the package {package}. Type pip install 'idm-deploy[serve]'.")
    found = bundles or [bundle_or_packaged(None, say, named="behind the command")]
    tokens = None if token_file is None else tokens_in(token_file)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with checked_usage():
        options = ServeOptions(
            bundles=named_bundles(found),
            host=host,
            port=port,
            hosts=tuple(allow_host),
            tokens=tokens,
            needs_no_token=no_auth,
            max_queue=max_queue,
            max_pixels=max_pixels,
            max_upload=bytes_from_text(max_upload),
            max_kept=bytes_from_text(max_kept),
            workers=workers,
            threads=threads if threads is not None or workers == 1 else max(1, cores // workers),
            max_memory=None if max_memory is None else memory_from_text(max_memory),
            engine=engine,
            precision=precision,
            batch=batch_from_text(batch),
            keep_seconds=keep_seconds,
            deadline_seconds=deadline_seconds,
            drain_seconds=drain_seconds,
            idle_seconds=idle_seconds,
        )
        if ray is not None or write_config is not None:
            if workers != 1:
                hint = "--workers"
                raise typer.BadParameter("it is of one machine; on a cluster say --replicas.", param_hint=hint)
            shares = {"cpus": cpus, "gpus": gpus, "ongoing": ongoing}
            settings = _settings_of_cluster(options, token_file, replicas, engine, precision, threads, shares)
    if ray is not None or write_config is not None:
        _serve_on_cluster(settings, ray, write_config, as_json)
    else:
        _serve(options, log_format, as_json)


def _settings_of_cluster(
    options: "ServeOptions",
    token_file: Path | None,
    replicas: str,
    engine: str,
    precision: str,
    threads: int | None,
    shares: dict[str, Any],
) -> "ClusterSettings":
    from deploy.serving.cluster.settings import ClusterSettings

    least, dash, most = replicas.partition("-")
    if not least.isdecimal() or (dash and not most.isdecimal()):
        raise typer.BadParameter(f"it is N or LEAST-MOST, such as 1-8, found {replicas!r}.", param_hint="--replicas")
    return ClusterSettings(
        bundles={name: str(path.resolve()) for name, path in options.bundles.items()},
        host=options.host,
        port=options.port,
        hosts=options.hosts,
        token_file=None if token_file is None else str(token_file.resolve()),
        needs_no_token=options.needs_no_token,
        replicas_least=int(least),
        replicas_most=int(most or least),
        max_queue=options.max_queue,
        max_pixels=options.max_pixels,
        max_upload=options.max_upload,
        max_kept=options.max_kept,
        memory=options.max_memory,
        threads=threads,
        engine=engine,
        precision=precision,
        batch=options.batch,
        keep_seconds=options.keep_seconds,
        deadline_seconds=options.deadline_seconds,
        idle_seconds=options.idle_seconds,
        drain_seconds=options.drain_seconds,
        **shares,
    )


def _serve_on_cluster(settings: "ClusterSettings", address: str | None, config: Path | None, as_json: bool) -> None:
    from deploy.serving.cluster.start import serve_on_cluster, write_config

    if config is not None:
        write_config(settings, config)
        say(f"{config}: written; `serve deploy {config}` starts it")
    elif address is not None:
        serve_on_cluster(settings, address, partial(_tell, as_json=as_json, what="the page and the API are"))


def _tell(address: str, models: list[dict[str, Any]], *, as_json: bool, what: str) -> None:
    if as_json:
        listed = [{key: model[key] for key in ("name", "engine", "precision")} for model in models]
        typer.echo(json.dumps({"kind": "ready", "address": address, "models": listed}))
        return
    names = ", ".join(f"{model['name']} on {model['engine']} {model['precision']}" for model in models)
    typer.echo(f"serving {names}")
    typer.echo(f"{what} at {address}, Ctrl-C ends it")


def _serve(options: "ServeOptions", log_format: Literal["text", "json"], as_json: bool) -> None:
    from deploy.serving.logs import log_to_stderr
    from deploy.serving.start import serve as listen

    log_to_stderr(log_format, quiet=is_quiet())

    def on_ready(server: "Server") -> None:
        _tell(server.address, server.jobs.pool.models, as_json=as_json, what="the page and the API are")

    listen(options, on_ready)
