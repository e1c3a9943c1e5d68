"""`idm-deploy evaluate` on a tiny bundle with made-up weights: what is run, named, written and refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from deploy.bundle import Bundle
from deploy.cli.main import app
from deploy.engine.graphs import GraphSet
from deploy.errors import BundleError, CheckpointError, ImageError, PlanError, SizeError
from engines.errors import EngineError
from tests.checkpoints import save_idm
from tests.deploy.measure.test_lpips import made_up_weights
from tests.deploy.measure.test_lpips import save as save_lpips
from tests.json_schema import checked


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from deploy.checkpoint.load import load_checkpoint
    from deploy.export.export import export_bundle

    folder = tmp_path_factory.mktemp("evaluated")
    checkpoint = load_checkpoint(save_idm(folder), config={"norm_groups": 8, "image_size": 16})
    return export_bundle(checkpoint, folder / "micro.bundle")


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (32, 32)), ("b.png", (35, 41))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def run(*arguments: object) -> Result:
    common = ["--engine", "onnxruntime-cpu", "--threads", "1"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), *common])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_preset_is_a_row_beside_those_without_a_model(bundle: Bundle, originals: Path) -> None:
    settings = ["--preset", "draft", "--preset", "best", "--steps", 1, "--samples", 2, "--consistency", 1]
    result = run(originals, "--bundle", bundle.path, *settings, "--json")
    assert result.exit_code == 0, result.output
    data = checked("evaluate", result.stdout)
    names = ["bicubic", "bicubic, 5 back-projections", "draft", "draft, mean of 2", "best", "best, mean of 2"]
    assert [row["name"] for row in data["rows"]] == names
    assert [one["size"] for one in data["originals"]] == [[32, 32], [40, 32]]
    assert [one["lr"] for one in data["originals"]] == [[8, 8], [10, 8]]
    draft = data["rows"][2]
    assert len(draft["figures"]["psnr"]["values"]) == 2
    assert draft["seconds"] > 0
    assert draft["evaluations"] == 1
    assert "data consistency 1" in draft["description"]


def test_the_same_bundle_twice_gives_two_rows_with_the_same_figures(bundle: Bundle, originals: Path) -> None:
    common = ["--steps", 1, "--limit", 1, "--crop", 16, "--json"]
    result = run(originals, "--bundle", bundle.path, "--bundle", bundle.path, *common)
    first, second = json.loads(result.stdout)["rows"][2:]
    assert (first["name"], second["name"]) == ("balanced", "balanced (2)")
    assert first["figures"] == second["figures"]
    assert first["fidelity"] is None
    assert second["counterpart"] == "balanced"
    assert second["fidelity"]["values"] == [None]  # equal pictures: infinite


def test_every_combination_at_every_scale_is_a_row(bundle: Bundle, originals: Path) -> None:
    offered = ["--steps", 1, "--steps", 3, "--equation", "ddim", "--equation", "dpmpp-2m", "--limit", 1]
    result = run(originals, "--bundle", bundle.path, *offered, "--scale", 4, "--scale", 2, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["scales"] == [2.0, 4.0]
    names = ["ddim 1 step", "ddim 3 steps", "dpmpp-2m 1 step", "dpmpp-2m 3 steps"]
    assert [(row["scale"], row["name"]) for row in data["rows"] if row["evaluations"]] == [
        (scale, name) for scale in (2.0, 4.0) for name in names
    ]
    between = [row["figures"]["scale_consistency"]["mean"] for row in data["rows"]]
    assert between[:6] == [None] * 6 and min(between[6:]) > 5
    looks = {row["name"]: row["figures"]["ssimulacra2"]["mean"] for row in data["rows"][2:6]}
    assert data["recommended"][0]["baseline"] == max(looks, key=lambda name: looks[name])
    # The equations begin alike: of one step, all are the same.
    first, second = (
        row for row in data["rows"] if row["name"] in ("ddim 1 step", "dpmpp-2m 1 step") and row["scale"] > 2
    )
    assert first["figures"] == second["figures"]


def test_rows_can_be_listed_one_by_one(bundle: Bundle, originals: Path) -> None:
    listed = ["--setting", "steps=2 start=0.5", "--setting", "published steps=3", "--preset", "draft"]
    result = run(originals, "--bundle", bundle.path, *listed, "--limit", 1, "--against", "draft 2 steps start 0.5")
    assert result.exit_code == 0, result.output
    assert "\nbeside draft 2 steps start 0.5 " in result.stdout
    assert "\nrecommended: " in result.stdout
    assert "\npublished 3 steps from noise: ddim, 3 steps as published, from pure noise; micro.bundle" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--setting", "stepz=2"], r"says 'stepz=2', the nearest is 'steps'; write words such as steps=20"),
        (["--setting", "steps=many"], r"'steps=many' says 'steps=many', which is no number"),
        (
            ["--setting", "steps=2", "--preset", "draft", "--preset", "best"],
            r"each option can be given once; these mak",
        ),
        (["--against", "nobody"], r"no row is called 'nobody'; there are balanced"),
        (["--placement", "0.1,x"], r"'0\.1,x' is neither a placement nor noise levels"),
        (["--stages", "4,x"], r"'4,x' is no list of stages; write auto, once"),
        (["--protocol", "div2k-5x"], r"there is no 'div2k-5x'; there are idm-faces-8x, div2k-4x, latent-selfssim"),
        (["--protocol", "div2k-4x", "--scale", 2, "--crop", 9], r"scales and cropping; leave out --scale and --crop"),
        (["--curve", "--scale", 2], r"it says the scales; leave out --scale"),
    ],
)
def test_wrong_usage_is_told(bundle: Bundle, originals: Path, arguments: list[str], told: str) -> None:
    result = run(originals, "--bundle", bundle.path, *arguments)
    assert result.exit_code == 2
    assert re.search(told, " ".join(result.stderr.replace("│", " ").split()))


def test_an_engine_that_fails_in_the_middle_has_a_row_and_the_exit_code_is_1(
    bundle: Bundle, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the second original of the row with 2 steps, as if its engine had fallen over there."""
    run_graph, runs = GraphSet.run, 0

    def run_and_fall_over(self: GraphSet, name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        nonlocal runs
        runs += name == "denoise"
        if name == "denoise" and runs == 6:  # 2 times 1 step, 2 steps for the first original, 2 for the second
            raise EngineError("running denoise: the engine fell over")
        return run_graph(self, name, *arguments, **options)

    monkeypatch.setattr(GraphSet, "run", run_and_fall_over)
    result = run(
        originals, "--bundle", bundle.path, "--steps", 1, "--steps", 2, "--steps", 3, "-o", tmp_path / "report"
    )
    assert result.exit_code == 1
    assert re.search(r"\n2 steps +b\.png: running denoise: the engine fell over\n", result.stdout)
    data = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    rows = {row["name"]: row for row in data["rows"]}
    assert rows["2 steps"]["failure"] == "b.png: running denoise: the engine fell over"
    assert all(len(rows[name]["figures"]["psnr"]["values"]) == 2 for name in ("bicubic", "1 step", "3 steps"))
    assert "b.png: running denoise" in (tmp_path / "report" / "evaluation.md").read_text()


def test_lpips_is_left_out_with_a_reason_or_refused_where_it_was_asked_for(
    bundle: Bundle, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    common = [originals, "--bundle", bundle.path, "--steps", 1, "--limit", 1]
    assert "\nLPIPS was not measured: " in run(*common).stdout
    with pytest.raises(CheckpointError, match=r"holds no alexnet-owt-\*\.pth"):
        run(*common, "--lpips", tmp_path)
    save_lpips(tmp_path, *made_up_weights())
    row = json.loads(run(*common, "--lpips", tmp_path, "--json").stdout)["rows"][0]
    assert row["figures"]["lpips"]["mean"] > 0
    assert list(row["figures"]).index("lpips") > 0


def test_dists_is_left_out_with_a_reason_or_refused_where_it_was_asked_for(
    bundle: Bundle, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    common = [originals, "--bundle", bundle.path, "--steps", 1, "--limit", 1]
    assert "\nDISTS was not measured: " in run(*common).stdout
    with pytest.raises(CheckpointError, match=r"holds no vgg16-\*\.pth"):
        run(*common, "--dists", tmp_path)


def test_a_protocol_prepares_the_originals_and_stands_in_the_report(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (150, 140, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    data = checked(
        "evaluate", run(folder, "--bundle", bundle.path, "--steps", 1, "--protocol", "idm-faces-8x", "--json").stdout
    )
    assert data["protocol"].startswith("protocol idm-faces-8x: inputs fixed at 16x16, originals reduced to the scale")
    assert [(one["size"], one["lr"], one["cut_from"]) for one in data["originals"]] == [
        ([128, 128], [16, 16], [140, 150])
    ] * 2
    assert data["scales"] == [8.0]
    with pytest.raises(SizeError, match=r"a\.png is 140x150, too small: .* 32x32 at scale 8 needs originals of 256"):
        run(folder, "--bundle", bundle.path, "--protocol", "latent-selfssim")
    result = CliRunner().invoke(app, ["evaluate", "--protocol", "div2k-4x"])
    assert result.exit_code == 2
    assert "name the folder of your own copy of the data: the 100 pictures" in " ".join(
        result.stderr.replace("│", " ").split()
    )


def test_grey_originals_of_several_sizes_and_a_near_duplicate_are_measured(bundle: Bundle, tmp_path: Path) -> None:
    """Two grey pictures and a smaller copy of one: three originals of two photographs."""
    rng = np.random.default_rng(1)
    smooth = [Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).resize((64, 64)) for _ in range(2)]
    for name, image in (("a", smooth[0]), ("b", smooth[1].crop((0, 0, 64, 40))), ("c", smooth[0].resize((48, 48)))):
        image.save(tmp_path / f"{name}.png")
    data = json.loads(run(tmp_path, "--bundle", bundle.path, "--steps", 1, "--json").stdout)
    assert [one["photograph"] for one in data["originals"]] == ["a.png", "b.png", "a.png"]
    assert {row["figures"]["ssimulacra2"]["photographs"] for row in data["rows"]} == {2}
    assert all(value is not None for row in data["rows"] for value in row["figures"]["ssimulacra2"]["values"])


def test_originals_that_do_not_fit_the_scale_are_cut_and_it_is_said(bundle: Bundle, originals: Path) -> None:
    result = run(originals, "--bundle", bundle.path, "--steps", 1)
    assert "1 of 2 originals were cut, their middle kept (as b.png, 41x35 to 40x32)" in result.stdout


def test_the_report_is_written_and_named(bundle: Bundle, originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    result = run(originals, "--bundle", bundle.path, "--steps", 1, "-o", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 originals of 2 photographs at 4x, means with 95 % intervals over photographs\n")
    assert f"report: {folder}" in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "evaluation.md", "pictures-1.png"]


def test_what_cannot_be_run_is_refused_before_the_work(bundle: Bundle, originals: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="9 pictures were asked for"):
        run(originals, "--bundle", bundle.path, "--limit", 9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty holds no picture; expected files ending in"):
        run(tmp_path / "empty", "--bundle", bundle.path)
    with pytest.raises(PlanError, match="The preset 'beast' is unknown, the nearest is 'best'"):
        run(originals, "--bundle", bundle.path, "--preset", "beast")
    with pytest.raises(BundleError, match="none does not exist"):
        run(originals, "--bundle", tmp_path / "none")
