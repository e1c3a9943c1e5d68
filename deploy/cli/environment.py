"""Exit codes, and the environment variables that change what the tool does: for `--help` and for bug reports."""

from collections.abc import Mapping

EXIT_CODES: Mapping[int, str] = {
    0: "everything was done",
    1: "something was refused or failed; a sentence on stderr says what and what to do",
    2: "wrong usage",
    130: "stopped with Ctrl-C",
}

VARIABLES: Mapping[str, str] = {
    "XDG_CACHE_HOME": "the cache is the folder idm-deploy in it; else in ~/.cache",
    "LOCALAPPDATA": "the same on Windows",
    "TORCH_HOME": "where `evaluate` looks for the weights of LPIPS; else in ~/.cache/torch",
    "NO_COLOR": "no colours",
    "FORCE_COLOR": "colours in a pipe too",
    "COLUMNS": "width of tables, if it is not that of the terminal",
    "OMP_NUM_THREADS": "threads of PyTorch, which `export` and `verify --against` use",
    "CUDA_VISIBLE_DEVICES": "which NVIDIA GPUs are seen",
    "ONEDNN_MAX_CPU_ISA": "instructions that OpenVINO and PyTorch may use; without AVX-512 bf16 is refused",
    "ORT_DISABLE_TELEMETRY": "set to 1 for ONNX Runtime unless you set it",
}
"""Read by this package or by the libraries under it. There is none of our own: settings are options."""


def exit_codes_and_variables() -> str:
    """Both as paragraphs for the end of `--help`."""
    codes = (f"{code}: {meaning}." for code, meaning in EXIT_CODES.items())
    variables = (f"{name}: {meaning}." for name, meaning in VARIABLES.items())
    return "\n".join(["Exit codes", *codes]) + "\n\n" + "\n".join(["Environment variables", *variables])
