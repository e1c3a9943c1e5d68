"""The `idm-deploy` command: its list of commands, what all of them share, and where errors become exit codes."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from inspect import Parameter, getdoc, signature
from types import ModuleType
from typing import Annotated, Any, TypeGuard

import typer

from deploy.cli.messages import echo_error, shown_messages
from deploy.cli.models import NamesModel, with_fetched_models
from deploy.cli.options import FIRST, JsonSchema, Quiet, Verbose
from deploy.cli.values import text_of_error
from deploy.cli.version import exit_codes_and_variables

COMMANDS = (
    "doctor",
    "pull",
    "inspect",
    "export",
    "quantize",
    "verify",
    "build_engine",
    "engines",
    "schedule",
    "infer",
    "generate",
    "serve",
    "export_triton",
    "evaluate",
    "bench",
    "report",
    "push",
    "demo",
)
"""In the order of `--help`, which is the order in which a user needs them. Each is deploy.cli.commands.<name>."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it; typer exits with it itself when a command was running, without a word."""

NO_MEMORY = "idm-deploy: there is not enough memory for this. Free some, or allow less with --max-memory."
NO_THREAD = "can't start new thread"
"""What Python says, of no class of its own, where a thread's stack finds no memory."""

app = typer.Typer(
    name="idm-deploy",
    help="Deploy implicit diffusion super-resolution models: exact, small, fast, at any output scale.",
    epilog=exit_codes_and_variables(),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    version: Annotated[bool, FIRST("Print the version.", "--version")] = False,
    as_json: Annotated[
        bool, FIRST("With --version: everything that a bug report needs, machine and packages too.", "--json")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    del quiet, verbose  # taken from the context, where a command finds them together with its own
    if version:
        from deploy.cli.version import version_text

        typer.echo(version_text(as_json=as_json))
        raise typer.Exit
    if as_json:
        raise typer.BadParameter("before a command, it needs --version.", param_hint="--json")
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


def _add(name: str) -> None:
    """The command deploy.cli.commands.<name> is one of `app`."""
    module = import_module(f"deploy.cli.commands.{name}")
    command = getattr(module, name)
    typed = name.replace("_", "-")
    app.command(typed, help=_help(command), epilog=_epilog(module))(_with_common_options(command))


def _help(command: Callable[..., None]) -> str:
    """The docstring, a line per paragraph: the terminal wraps them."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (getdoc(command) or "").split("\n\n"))


def _epilog(module: ModuleType) -> str:
    """What ends the help of a command: how it is typed."""
    examples: Sequence[str] = module.EXAMPLES
    return "\n\n".join([f"Example{'s' if len(examples) > 1 else ''}:", *examples])


def _with_common_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that all of them have; --quiet and --verbose count before the command's name too."""

    @wraps(command)
    def run(context: typer.Context, json_schema: bool, quiet: bool, verbose: int, **values: Any) -> None:
        del json_schema  # typer has printed it and stopped
        before = context.find_root().params
        quiet, verbose = quiet or before["quiet"], verbose + before["verbose"]
        if quiet and verbose:
            raise typer.BadParameter("say one of --quiet and --verbose.", param_hint="--quiet")
        with shown_messages(quiet=quiet, verbose=verbose):
            command(**with_fetched_models(own.parameters, values))

    own = signature(command, eval_str=True)
    for parameter in own.parameters.values():
        for option in parameter.annotation.__metadata__:
            # Typer would call a path that may not be read wrong usage; it is a refusal, in our words and with exit
            # code 1.
            if not isinstance(option, NamesModel):
                option.readable = False
    shared = (("json_schema", JsonSchema, False), ("quiet", Quiet, False), ("verbose", Verbose, 0))
    parameters = [
        Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own.parameters.values()),
        *(Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=hint) for name, hint, value in shared),
    ]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    return run


for _name in COMMANDS:
    _add(_name)


def main() -> None:
    """Run the command; a refusal or too little memory is a message and exit code 1, Ctrl-C 130, a bug a traceback."""
    _fill_closed_streams()
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # None: it was closed
                sys.stdout.flush()  # what cannot be written is known here, and not when the interpreter ends
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        echo_error("interrupted")
        sys.exit(INTERRUPTED)
    except MemoryError:
        echo_error(NO_MEMORY)
        sys.exit(1)
    except Exception as error:
        if str(error) == NO_THREAD:
            echo_error(NO_MEMORY)
            sys.exit(1)
        if _is_impossible_name(error):
            echo_error(f"idm-deploy: {text_of_error(f'{error.filename}: {error.strerror}. Check the path.')}")
            sys.exit(1)
        if not _is_refusal(error) and not _is_full_output(error):
            raise
        message = (
            f"the results cannot be written to standard output ({error.strerror}). Files that were named are complete."
            if isinstance(error, OSError)
            else text_of_error(str(error))
        )
        echo_error(f"idm-deploy: {message}")
        if isinstance(error, OSError):  # what is still buffered would fail again when the interpreter ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fill_closed_streams() -> None:
    """Numbers 0 to 2 are open: where one was closed (`2>&-`), the next file would get it, and what libraries write to
    it would end in that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _is_full_output(error: Exception) -> bool:
    """Whether standard output takes no more, as on a full disk: of a file, the error would name it."""
    return isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_impossible_name(error: Exception) -> TypeGuard[OSError]:
    """Whether a path was named that no file can have: nothing of this system can be asked of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP)


def _is_refusal(error: Exception) -> bool:
    from calibration.errors import CalibrationError
    from deploy.errors import DeployError
    from engines.errors import EngineError

    return isinstance(error, DeployError | CalibrationError | EngineError)
