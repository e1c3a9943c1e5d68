"""The options that several commands have, each with the same meaning and words everywhere.

A command's own options stand in its file. What nearly everyone needs stays in the first panel of `--help`; the rest is
grouped into the panels below, `RESULTS` last.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from deploy.cli.models import NamesModel
from deploy.cli.values import checked_around, checked_engine, checked_equation, checked_precision, checked_usage

Completion = Callable[[], list[str]]
"""The words that the shell offers for an option."""


class Panel(str):
    """The title of a group of options in `--help`. Called with an option's help, it makes that option."""

    def __call__(
        self,
        words: str,
        *names: str,
        complete: Completion | None = None,
        metavar: str | None = None,
        check: Callable[[Any], object] | None = None,
        least: float | None = None,
        most: float | None = None,
    ) -> Any:
        """The option. Without names it is called as its parameter, with dashes; a flag needs a name.

        What `check` refuses, or what is less or more than allowed, is wrong usage.
        """
        return typer.Option(
            *names,
            help=words,
            rich_help_panel=self or None,
            autocompletion=complete,
            metavar=metavar,
            callback=check and checking(check),
            min=least,
            max=most,
        )


def checking(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    """What typer calls with the value of an option: the value, if it was given and `check` refuses nothing."""

    def checked(value: Any) -> Any:
        if value is not None:
            with checked_usage():
                check(value)
        return value

    return checked


FIRST = Panel("")
SAMPLING = Panel("How pictures are sampled")
ENGINE = Panel("Engine, speed and memory")
CHECKPOINT = Panel("How the checkpoint is read")
FILES = Panel("Pictures as files")
RESULTS = Panel("Results and messages")


def one_of(*names: str) -> Completion:
    """What an option says that takes one of some names: the same words every time."""
    return lambda: list(names)


def engine_names() -> list[str]:
    """Every backend, and auto."""
    from engines.backends import BACKENDS

    return ["auto", *BACKENDS]


def equation_names() -> list[str]:
    """Every equation."""
    from deploy.sampling.equations import EQUATIONS

    return list(EQUATIONS)


def format_names() -> list[str]:
    """Every format of pictures that is written."""
    from deploy.images.formats.table import WRITTEN

    return WRITTEN


def _checked_format(name: str) -> None:
    from deploy.images.writing import written_format

    written_format(name)


def _checked_color_fix(way: str) -> None:
    from deploy.images.colour_fix import check_way

    check_way(way)


def checked_seed(seed: int) -> None:
    from deploy.sampling.noise_source import check_draw

    check_draw(seed, 0)


def _checked_memory(text: str) -> None:
    from deploy.picture.memory import bytes_from_text

    bytes_from_text(text)


def _checked_background(text: str) -> None:
    from deploy.images.background import colour_from_text

    colour_from_text(text)


PRESETS = one_of("draft", "balanced", "best")
PLACEMENTS = one_of("uniform", "logsnr", "quadratic", "searched")
PRECISIONS = one_of("auto", "fp32", "bf16", "fp16", "int8")


FOUND = "Folder of the bundle. If left out, the one bundle in the current folder."
FOUND_OR_PACKAGED = f"{FOUND[:-1]}, else the packaged demo model."

BundleArgument = Annotated[Path | None, typer.Argument(help=FOUND), NamesModel()]
BundleToChange = Annotated[Path | None, typer.Argument(help=FOUND), NamesModel(changes_bundle=True)]
BundleOrPackaged = Annotated[Path | None, typer.Argument(help=FOUND_OR_PACKAGED), NamesModel()]
BundleOption = Annotated[Path | None, FIRST(FOUND), NamesModel()]
BundleOptionOrPackaged = Annotated[Path | None, FIRST(FOUND_OR_PACKAGED), NamesModel()]

Sample = Annotated[
    list[Path],
    FIRST(
        "A low-resolution picture to keep in the bundle, which `infer` enlarges if it is given none; repeatable. If "
        "left out, those it has, else packaged ones."
    ),
]

Config = Annotated[
    Path | None, CHECKPOINT("The authors' configuration file (JSON or YAML), for what the weights alone do not tell.")
]
Weights = Annotated[
    Literal["raw", "ema"],
    CHECKPOINT(
        "Which of the checkpoint's weights: raw, as published inference uses them, or ema, their moving average."
    ),
]

Preset = Annotated[
    str | None,
    SAMPLING(
        "How much work to spend: draft, balanced or best. If left out, the bundle's default. The options below change"
        " single settings of it.",
        complete=PRESETS,
    ),
]
Equation = Annotated[
    str | None,
    SAMPLING(
        "Solver that takes the steps: ddim, ddpm (draws fresh noise), dpmpp-2m or dpmpp-3m (need fewer steps).",
        complete=equation_names,
        check=checked_equation,
    ),
]
Steps = Annotated[
    int | None, SAMPLING("How often the network is run per picture: more steps take proportionally longer.", least=1)
]
Stages = Annotated[
    str | None,
    SAMPLING(
        "How many times the network enlarges, one stage after the other, such as 4,3 for 12 times; the rest is done by "
        "a filter: 4 makes 4 times by the network, then the size. once: in one go. auto: as the preset says.",
        complete=one_of("auto", "once", "4"),
    ),
]
Draws = Annotated[
    int | None,
    SAMPLING(
        "The picture is the mean of so many, made from different noise: nearer to the truth, and smoother.", least=1
    ),
]
Blend = Annotated[
    float | None,
    SAMPLING(
        "Times the scaling factor that an IDM network is told, 1 being what the widths say; moves its mix of features."
    ),
]
Seed = Annotated[
    int,
    SAMPLING(
        "Which random noise to begin with, from 0. The same seed gives the same picture again; another seed gives "
        "another version of its fine detail.",
        check=checked_seed,
    ),
]

Engine = Annotated[
    str,
    ENGINE(
        "Which library runs the network; `doctor` lists them. auto: what build-engine found fastest here, else the "
        "first that is installed.",
        complete=engine_names,
        check=checked_engine,
    ),
]
Precision = Annotated[
    str,
    ENGINE(
        "Number format of the network: fp32 (exact), bf16, fp16 or int8 (after `quantize`). auto: what build-engine "
        "found fastest here, else fp32.",
        complete=PRECISIONS,
        check=checked_precision,
    ),
]
Around = Annotated[
    str,
    ENGINE(
        "Number format of what surrounds int8 layers, fp32 or bf16, on OpenVINO. auto: what build-engine found faster "
        "here, else bf16 where the processor has fast instructions for it.",
        complete=one_of("fp32", "bf16"),
        check=checked_around,
    ),
]
Threads = Annotated[
    int | None,
    ENGINE(
        "How many processor threads the engine may use. If left out, the engine decides: mostly one per core.", least=1
    ),
]
Device = Annotated[int | None, ENGINE("Number of the GPU to run on, 0 is the first; for GPU engines only.", least=0)]
MaxMemory = Annotated[
    str | None,
    ENGINE(
        "Most memory that the process may take, such as 1GiB or 800MB; large pictures are then made in tiles. If left "
        "out, 60 % of what is free.",
        check=_checked_memory,
    ),
]
CacheDir = Annotated[
    Path | None,
    FIRST(
        "Folder that keeps built engines and measurements. If left out, the user's cache: $XDG_CACHE_HOME/idm-deploy "
        "or ~/.cache/idm-deploy."
    ),
]

Format = Annotated[
    str | None,
    FILES(
        "Format of the results: png, jpeg, webp, tiff, bmp, avif or jxl. If left out, what the name given with -o "
        "says, else the input's where that loses nothing, else png.",
        complete=format_names,
        check=_checked_format,
    ),
]
Quality = Annotated[
    int | None,
    FILES("1 to 100, for jpeg (95 if left out), avif (90), webp and jxl (without loss if left out)."),
]
StripMetadata = Annotated[
    bool,
    FILES(
        "Leave out of the results what the input says of itself (EXIF with GPS, XMP, IPTC, DPI) and how they were "
        "made. The colour profile stays: colours would change without it.",
        "--strip-metadata",
    ),
]
ColorFix = Annotated[
    str,
    FILES(
        "Draw colours that drifted back to the input's: none, lowfreq (on the input's grid) or wavelet.",
        complete=one_of("none", "lowfreq", "wavelet"),
        check=_checked_color_fix,
    ),
]
Background = Annotated[
    str | None,
    FILES(
        "Lay transparent pictures over this colour: white, black or #rrggbb, as light. For formats without "
        "transparency, such as jpeg. If left out, results are transparent where the inputs are.",
        check=_checked_background,
    ),
]
Frames = Annotated[
    Literal["first", "all"],
    FILES("Of animations and files of several pages: the first, or all of them, each as a picture of its own."),
]

Json = Annotated[bool, RESULTS("Print the result as JSON on stdout, in the form that --json-schema prints.", "--json")]


SCHEMAS = Path(__file__).parent / "schemas"
"""A JSON Schema per command; version.json is that of `idm-deploy --version --json`.

Later versions may add fields, so readers pass over what they do not know; none goes or changes its meaning.
"""


def _print_schema(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo((SCHEMAS / f"{context.info_name}.json").read_text(encoding="utf-8"), nl=False)
        raise typer.Exit


JsonSchema = Annotated[
    bool,
    typer.Option(
        "--json-schema",
        rich_help_panel=RESULTS,
        help="Print the JSON Schema of what --json prints, and do nothing else.",
        callback=_print_schema,
        is_eager=True,
    ),
]
Quiet = Annotated[bool, RESULTS("Say nothing but results and errors: no progress.", "--quiet", "-q")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        rich_help_panel=RESULTS,
        help="Show on stderr what goes on inside, with time and module; -vv shows more.",
        count=True,
        show_default=False,
    ),
]
