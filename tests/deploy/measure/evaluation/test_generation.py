"""Pictures from noise alone: between sizes, between each other, and beside real ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from deploy.bundle import Bundle
from deploy.cli.main import app
from deploy.errors import ImageError, PlanError
from deploy.measure.evaluation.generation import reason_for_no_distribution
from deploy.measure.metrics import diversity, self_ssim
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.json_schema import checked


def run(bundle: Bundle, *arguments: object) -> Result:
    common = ["--bundle", bundle.path, "--steps", 2, "--engine", "onnxruntime-cpu", "--threads", 1]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), *map(str, common)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number:04}.png")
    return folder


def test_sizes_and_draws_are_compared_as_generate_makes_them(latent_gen: Bundle, tmp_path: Path) -> None:
    result = run(latent_gen, "--samples", 3, "--json", "-o", tmp_path / "report")
    assert result.exit_code == 0, result.output
    data = checked("evaluate", result.stdout)["generation"]
    (row,) = data["rows"]
    with Upscaler(latent_gen, engine="onnxruntime-cpu", threads=1) as upscaler:
        usual = upscaler.session.model.generation(1, None, None).size
        sizes = [(round(usual[1] * times), round(usual[0] * times)) for times in (1, 1.25, 1.5)]
        made = upscaler.generate(sizes, 3, choices=Choices(steps=2))
    assert data["pictures"] == 3 and data["real_pictures"] is None and row["evaluations"] == 2
    assert [(pair["smaller"], pair["larger"]) for pair in row["self_ssim"]] == [
        (list(sizes[a]), list(sizes[b])) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    between = [self_ssim(several[2], several[0]) for several in made]
    assert row["self_ssim"][1]["mean"] == pytest.approx(np.mean(between))
    assert row["diversity"] == pytest.approx(diversity([several[0] for several in made]))
    assert row["fid"] is None
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["generation.json", "generation.md"]
    told = run(latent_gen, "--samples", 1, "--protocol", "latent-selfssim").stdout
    assert told.startswith("1 pictures from noise alone, each at several sizes of one latent\n")
    assert "were not measured: name a folder of real pictures" in told


def test_figures_of_too_few_pictures_are_refused_or_left_out_and_it_is_said(latent_gen: Bundle, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "real", 2)
    left_out = "of 2 generated and 2 real pictures, left out: FID at least 2048, KID at least 100, precision and recall"
    assert left_out in run(latent_gen, folder, "--samples", 2).stdout
    with pytest.raises(PlanError, match=r"Of 2 generated and 2 real pictures, left out: FID .* leave out --inception"):
        run(latent_gen, folder, "--samples", 2, "--inception", tmp_path)
    assert reason_for_no_distribution(3000, 2048) is None
    assert reason_for_no_distribution(3000, 1000) == (
        "of 3000 generated and 1000 real pictures, left out: FID at least 2048 of both"
    )
    with pytest.raises(ImageError, match=r"reading real pictures: .*none holds none; name the folder"):
        run(latent_gen, tmp_path / "none")
    with pytest.raises(PlanError, match="needs at least 1 generated picture, found 0"):
        run(latent_gen, "--samples", 0)


def test_models_that_enlarge_and_that_generate_are_not_compared(latent_gen: Bundle, idm_micro: Bundle) -> None:
    with pytest.raises(PlanError, match="have no figure in common; evaluate them apart"):
        run(latent_gen, "--bundle", idm_micro.path)


@pytest.mark.slow
def test_weights_that_are_not_on_disk_are_named(
    latent_gen: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = pictures(tmp_path / "real", 100)
    told = run(latent_gen, folder, "--samples", 100).stdout
    assert "recall were not measured: " in told and "holds no pt_inception-2015-12-05-*.pth" in told
