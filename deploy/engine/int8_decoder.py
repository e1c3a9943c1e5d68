"""The int8 graphs of the latent decoder at run time: which of `decode` and `query` a target runs in int8."""

from pathlib import Path

from deploy.bundle import Bundle

KEY = "decoder"
"""Under this key a quantized target says of its decoder: {"graphs": {"decode": file, "query": file}, ...}, where what
stays in float is absent."""


def int8_graph(bundle: Bundle, target: str, name: str) -> Path | None:
    """The int8 form of a graph of the decoder; None where it stays in float."""
    quantization = bundle.manifest.quantization
    described = {} if quantization is None else quantization["targets"].get(target, {})
    file = described.get(KEY, {}).get("graphs", {}).get(name)
    return None if file is None else bundle.file(file)
