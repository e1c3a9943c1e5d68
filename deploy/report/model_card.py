"""A bundle -> the page that a hub shows of it: what it is, what it costs, how to run it; all from what it stores."""

from collections.abc import Iterator
from itertools import chain

from calibration.targets.table import TARGETS
from deploy.bundle import Bundle
from deploy.families.table import family_named
from deploy.sampling.choices import Choices, sampling_from
from deploy.sampling.schedule import NoiseSchedule


def model_card(bundle: Bundle, repository: str, licence: str) -> str:
    """Markdown with the hub's header; `repository` is OWNER/NAME, `licence` one of the hub's names."""
    return (
        "\n".join(chain(_header(licence), _what(bundle, repository), _running(bundle, repository), _figures(bundle)))
        + "\n"
    )


def _header(licence: str) -> Iterator[str]:
    yield "---"
    yield f"license: {licence}"
    yield "library_name: idm-deploy"
    yield "pipeline_tag: image-to-image"
    yield "tags: [super-resolution, diffusion, onnx, idm-deploy]"
    yield "---"


def _what(bundle: Bundle, repository: str) -> Iterator[str]:
    manifest = bundle.manifest
    trained = manifest.scale_range.trained
    size = sum(record.bytes for record in manifest.files.values())
    yield ""
    yield f"# {_plain(repository.rpartition('/')[2])}"
    yield ""
    yield (
        "A bundle of [idm-deploy](https://pypi.org/project/idm-deploy/): ONNX graphs, weights and settings that run "
        "without PyTorch. Nothing in it is executed."
    )
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| model | {_plain(family_named(manifest.family).title)}, {manifest.weights} weights |"
    origin = _plain(manifest.source.file), _plain(manifest.source.sha256)
    yield f"| made from | `{origin[0]}`, SHA-256 `{origin[1]}` |"
    if trained:
        yield f"| scales in training | {trained[0]:g} to {trained[1]:g} |"
    yield f"| schedule | {_plain(str(NoiseSchedule.from_record(manifest.schedule)))} |"
    yield f"| exact rewrites | {_plain(', '.join(manifest.rewrites)) or 'none'} |"
    yield f"| size | {size / 1e6:.1f} MB in {len(manifest.files)} files |"
    yield f"| made by | {_plain(manifest.tool.name)} {_plain(manifest.tool.version)} |"


def _running(bundle: Bundle, repository: str) -> Iterator[str]:
    enlarges = "encode" in bundle.manifest.graphs
    command = "infer photo.png --scale 4" if enlarges else "generate"
    yield ""
    yield "## Run it"
    yield ""
    yield "```sh"
    yield "pip install 'idm-deploy[cpu,hub]'"
    yield f"idm-deploy {command} --bundle hf://{repository}"
    yield "```"
    yield ""
    yield "Every file is checked against the SHA-256 in `bundle.json` before it is used."


def _figures(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    yield ""
    yield "## Presets"
    yield ""
    yield "| preset | sampling | SSIMULACRA2 |"
    yield "| --- | --- | --- |"
    for name in sorted(manifest.presets, key=lambda name: (manifest.presets[name].steps, name)):
        recipe = sampling_from(manifest, Choices(preset=name)).recipe()
        look = manifest.presets[name].measured("ssimulacra2")
        measured = (
            f"{look:.1f} on {_plain(str(manifest.presets[name].measured_on))}" if look is not None else "not measured"
        )
        default = " (default)" if name == manifest.default_preset else ""
        yield f"| {_plain(name)}{default} | {_plain(recipe)} | {measured} |"
    yield ""
    yield "## int8"
    yield ""
    if manifest.quantization is None:
        yield "None in this bundle; `idm-deploy quantize` adds it."
        return
    yield "| for | timestep ranges | PSNR between int8 and float pictures | worst | PSNR lost against originals |"
    yield "| --- | --- | --- | --- | --- |"
    for name, target in manifest.quantization.targets.items():
        title = TARGETS[name].title if name in TARGETS else _plain(name)
        held = target.held_out
        if held is None:
            yield f"| {title} | {len(target.edges) - 1} | not measured | | |"
            continue
        drop = "no originals" if held.psnr_drop is None else f"{held.psnr_drop:.3f} dB"
        yield f"| {title} | {len(target.edges) - 1} | {held.fidelity_db:.1f} dB | {held.worst_db:.1f} dB | {drop} |"
    yield ""
    yield "Measured by `idm-deploy quantize` on held-out pictures; what is not said here was not measured."


def _plain(text: str) -> str:
    """Text of the bundle that no Markdown or table takes for its own."""
    return "".join(character if character.isprintable() and character not in "|`<>[]\\" else "-" for character in text)[
        :200
    ]
