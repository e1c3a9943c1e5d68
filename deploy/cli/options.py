"""The options that several commands have, each with the same meaning and words everywhere.

A command's own options stand in its file. What nearly everyone needs stays in the first panel of `--help`; the rest is
grouped into the panels below, `RESULTS` last.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

SAMPLING = "How pictures are sampled"
ENGINE = "Engine, speed and memory"
CHECKPOINT = "How the checkpoint is read"
FILES = "Pictures as files"
RESULTS = "Results and messages"


def one_of(*names: str) -> Callable[[], list[str]]:
    """For completion in the shell."""
    return lambda: list(names)


def engine_names() -> list[str]:
    from engines.backends import BACKENDS

    return ["auto", *BACKENDS]


FOUND = "Folder of the bundle. If left out, the one bundle in the current folder."
FOUND_OR_PACKAGED = f"{FOUND[:-1]}, else the packaged demo model."

BundleArgument = Annotated[Path | None, typer.Argument(help=FOUND)]

Sample = Annotated[
    list[Path],
    typer.Option(
        "--sample",
        help="A low-resolution picture to keep in the bundle, which `infer` enlarges if it is given none; "
        "repeatable. If left out, those it has, else packaged ones.",
    ),
]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        rich_help_panel=CHECKPOINT,
        help="The authors' configuration file (JSON or YAML), for what the weights alone do not tell.",
    ),
]
Weights = Annotated[
    Literal["raw", "ema"],
    typer.Option(
        "--weights",
        rich_help_panel=CHECKPOINT,
        help="Which of the checkpoint's weights: raw, as published inference uses them, or ema, their moving average.",
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        rich_help_panel=SAMPLING,
        autocompletion=one_of("draft", "balanced", "best"),
        help="How much work to spend: draft, balanced or best. If left out, the bundle's default. The options below "
        "change single settings of it.",
    ),
]
Equation = Annotated[
    str | None,
    typer.Option(
        "--equation",
        rich_help_panel=SAMPLING,
        autocompletion=one_of("ddim", "ddpm", "dpmpp-2m", "dpmpp-3m"),
        help="Solver that takes the steps: ddim, ddpm (draws fresh noise), dpmpp-2m or dpmpp-3m (need fewer steps).",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        rich_help_panel=SAMPLING,
        help="How often the network is run per picture: more steps take proportionally longer.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        rich_help_panel=SAMPLING,
        help="Which random noise to begin with, from 0. The same seed gives the same picture again; another seed "
        "gives another version of its fine detail.",
    ),
]

Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        rich_help_panel=ENGINE,
        autocompletion=engine_names,
        help="Which library runs the network; `doctor` lists them. auto: what build-engine found fastest here, else "
        "the first that is installed.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        rich_help_panel=ENGINE,
        autocompletion=one_of("auto", "fp32", "bf16", "fp16", "int8"),
        help="Number format of the network: fp32 (exact), bf16, fp16 or int8 (after `quantize`). auto: what "
        "build-engine found fastest here, else fp32.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        rich_help_panel=ENGINE,
        help="How many processor threads the engine may use. If left out, the engine decides: mostly one per core.",
    ),
]
Device = Annotated[
    int | None,
    typer.Option(
        "--device", rich_help_panel=ENGINE, help="Number of the GPU to run on, 0 is the first; for GPU engines only."
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        rich_help_panel=ENGINE,
        help="Most memory that the process may take, such as 1GiB or 800MB; large pictures are then made in tiles. "
        "If left out, 60 % of what is free.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        help="Folder that keeps built engines and measurements. If left out, the user's cache: "
        "$XDG_CACHE_HOME/idm-deploy or ~/.cache/idm-deploy.",
    ),
]

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        rich_help_panel=FILES,
        autocompletion=one_of("png", "jpeg", "webp", "tiff", "bmp", "avif", "jxl"),
        help="Format of the results: png, jpeg, webp, tiff, bmp, avif or jxl. If left out, what the name given with -o "
        "says, else the input's where that loses nothing, else png.",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        rich_help_panel=FILES,
        help="1 to 100, for jpeg (95 if left out), avif (90), webp and jxl (without loss if left out).",
    ),
]
StripMetadata = Annotated[
    bool,
    typer.Option(
        "--strip-metadata",
        rich_help_panel=FILES,
        help="Leave out of the results what the input says of itself (EXIF with GPS, XMP, IPTC, DPI) and how they were "
        "made. The colour profile stays: colours would change without it.",
    ),
]
ColorFix = Annotated[
    str,
    typer.Option(
        "--color-fix",
        rich_help_panel=FILES,
        autocompletion=one_of("none", "lowfreq", "wavelet"),
        help="Draw colours that drifted back to the input's: none, lowfreq (on the input's grid) or wavelet.",
    ),
]
Frames = Annotated[
    Literal["first", "all"],
    typer.Option(
        "--frames",
        rich_help_panel=FILES,
        help="Of animations and files of several pages: the first, or all of them, each as a picture of its own.",
    ),
]

Json = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=RESULTS,
        help="Print the result as JSON on stdout, in the form that --json-schema prints.",
    ),
]


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
        callback=_print_schema,
        is_eager=True,
        help="Print the JSON Schema of what --json prints, and do nothing else.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=RESULTS, help="Say nothing but results and errors: no progress."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        rich_help_panel=RESULTS,
        help="Show on stderr what goes on inside, with time and module; -vv shows more.",
    ),
]
