"""The `idm-deploy` command: its list of commands, and the one place where errors become exit codes."""

import sys
from importlib import import_module
from inspect import signature

import typer

import deploy
from deploy.cli.values import text_with_options

COMMANDS = (
    "doctor",
    "inspect",
    "export",
    "quantize",
    "verify",
    "build_engine",
    "engines",
    "schedule",
    "infer",
    "generate",
    "evaluate",
    "bench",
    "report",
    "demo",
)
"""In the order of `--help`, which is the order in which a user needs them. Each is deploy.cli.commands.<name>."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it; typer exits with it itself when a command was running, without a word."""

app = typer.Typer(
    name="idm-deploy",
    help="Deploy implicit diffusion super-resolution models: exact, small, fast, at any output scale.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"idm-deploy {deploy.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    del version


def _add(name: str) -> None:
    """The command deploy.cli.commands.<name> is one of `app`."""
    command = getattr(import_module(f"deploy.cli.commands.{name}"), name)
    for parameter in signature(command).parameters.values():
        # Typer would call a path that may not be read wrong usage; it is a refusal, in our words and with exit code 1.
        parameter.default.readable = False
    app.command(name.replace("_", "-"))(command)


for _name in COMMANDS:
    _add(_name)


def main() -> None:
    """Run the command; a refusal is one message and exit code 1, Ctrl-C is 130, a bug keeps its traceback."""
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not _is_refusal(error):
            raise
        print(f"idm-deploy: {text_with_options(str(error))}", file=sys.stderr)
        sys.exit(1)


def _is_refusal(error: Exception) -> bool:
    from calibration.errors import CalibrationError
    from deploy.errors import DeployError
    from engines.errors import EngineError

    return isinstance(error, DeployError | CalibrationError | EngineError)
