import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import training.__main__ as command
from deploy.errors import CheckpointError, ConfigError, FolderError, OutputError
from deploy.families.idm.network import IdmNetwork
from tests.training.small import SMALL_IDM, small_held_out, small_idm_task, small_store
from training import loop
from training.idm import IdmTask
from training.loop import LOG_FILE, STATE_FILE, WEIGHTS_FILE, Losses, Progress, Settings, claim_folder, train


def silent(_line: str) -> None:
    """Says nothing."""


def weights(task: IdmTask) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path: Path) -> None:
    tasks = [small_idm_task(seed) for seed in (1, 1, 2)]
    for number, task in enumerate(tasks):
        train(task, Settings(out=tmp_path / str(number), steps=3, seed=task.seed), silent)
    first, again, other = map(weights, tasks)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small_idm_task()
    train(whole, Settings(out=tmp_path / "whole", steps=6), silent)
    broken = small_idm_task()
    real_step = loop._step

    def killed(task: IdmTask, progress: Progress, *others: object) -> Losses:
        if progress.step == 4:
            raise KeyboardInterrupt
        return real_step(task, progress, *others)

    monkeypatch.setattr(loop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(broken, Settings(out=tmp_path / "broken", steps=6, save_seconds=0), silent)
    monkeypatch.undo()
    resumed = small_idm_task()
    progress = train(resumed, Settings(out=tmp_path / "broken", steps=6, resume=True), silent)
    assert progress.step == 6
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    stored = [load_file(tmp_path / run / WEIGHTS_FILE) for run in ("whole", "broken")]
    assert all(torch.equal(stored[0][name], stored[1][name]) for name in stored[0])


def test_the_written_weights_load_strictly_and_carry_the_configuration(tmp_path: Path) -> None:
    progress = train(small_idm_task(), Settings(out=tmp_path, steps=2), silent)
    path = tmp_path / WEIGHTS_FILE
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    network = IdmNetwork(SMALL_IDM)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    for average, parameter in zip(progress.averages, network.parameters(), strict=True):
        # float16 keeps 11 bits.
        torch.testing.assert_close(parameter.detach(), average, rtol=2**-11, atol=1e-6)
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["idm_deploy"])
    assert metadata["config"]["inner_channel"] == SMALL_IDM.inner_channel
    assert metadata["schedule"] == {"kind": "linear", "timesteps": 2000, "start": 1e-6, "end": 1e-2}


def test_the_log_tells_losses_speed_and_the_held_out_pictures(tmp_path: Path) -> None:
    lines: list[str] = []
    train(small_idm_task(), Settings(out=tmp_path, steps=2, log_seconds=0), lines.append)
    assert (tmp_path / LOG_FILE).read_text().splitlines() == lines
    assert "step 1  loss" in lines[0] and "steps/s" in lines[0]
    assert "bicubic" in lines[-1] and "plain DDIM-20" in lines[-1]


def test_the_averages_follow_the_parameters() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.0]))
    progress = Progress([parameter], torch.optim.Adam([parameter]), [torch.tensor([1.0])], step=10_000)
    progress.average(decay=0.9)
    torch.testing.assert_close(progress.averages[0], torch.tensor([0.9]))
    with progress.averaged():
        assert float(parameter.detach()) == pytest.approx(0.9)
    assert float(parameter.detach()) == 0.0


def test_time_and_steps_both_end_a_training(tmp_path: Path) -> None:
    settings = Settings(out=tmp_path, minutes=2, steps=100)
    assert settings.progress(50, 0) == 0.5
    assert settings.progress(50, 90) == 0.75
    assert settings.progress(0, 500) == 1.0


def test_settings_report_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps must be above 0, got -1; learning_rate must be above 0"):
        Settings(out=tmp_path, steps=-1, learning_rate=0)
    with pytest.raises(ConfigError, match="say how long with minutes or steps"):
        Settings(out=tmp_path)


def test_a_folder_with_a_training_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"anything")
    with pytest.raises(ConfigError, match=r"There is a training in .*--resume"):
        train(small_idm_task(), Settings(out=tmp_path, steps=1), silent)


@pytest.mark.parametrize("place", ["file/out", "file"])
def test_a_folder_that_cannot_be_made_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"The training cannot use the folder .*Choose another with --out"):
        claim_folder(Settings(out=tmp_path / place, steps=1))


def test_a_damaged_training_is_refused(tmp_path: Path) -> None:
    train(small_idm_task(), Settings(out=tmp_path, steps=1), silent)
    whole = (tmp_path / STATE_FILE).read_bytes()
    for damaged in (b"", b"no training", whole[: len(whole) // 2]):
        (tmp_path / STATE_FILE).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"The training saved in .* is damaged and cannot go on"):
            train(small_idm_task(), Settings(out=tmp_path, steps=2, resume=True), silent)


def test_the_command_checks_the_folder_first_and_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def paint(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_pictures", paint)
    (tmp_path / "file").touch()
    for out, code, told in (("file", 1, "error: The training cannot use"), ("new", 130, "interrupted; --resume")):
        monkeypatch.setattr("sys.argv", ["training", "idm", "--steps", "1", "--out", str(tmp_path / out)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == code
        assert capsys.readouterr().err.startswith(told)


def test_a_saved_training_of_another_configuration_is_refused(tmp_path: Path) -> None:
    task = small_idm_task()
    train(task, Settings(out=tmp_path, steps=1), silent)
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    state["metadata"] = state["metadata"].replace('"inner_channel": 16', '"inner_channel": 18')
    torch.save(state, tmp_path / STATE_FILE)
    with pytest.raises(CheckpointError, match="another configuration than the one asked for"):
        train(small_idm_task(), Settings(out=tmp_path, steps=2, resume=True), silent)


class BrokenTask(IdmTask):
    """A task whose loss is not a number, or whose compiled networks fail."""

    failing = False
    calls = 0

    def losses(self, step: int, generator: torch.Generator) -> Losses:
        self.calls += 1
        if self.failing and self.compiled:
            raise RuntimeError("no compiler found")
        losses = super().losses(step, generator)
        return losses if self.failing else Losses(losses.total, losses.parts * float("nan"), losses.pictures)


def broken_task() -> BrokenTask:
    ordinary = small_idm_task()
    return BrokenTask(small_store(), small_held_out(), config=SMALL_IDM, batches=ordinary.batches)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="The loss at step 1 is not a number"):
        train(broken_task(), Settings(out=tmp_path, steps=3, log_seconds=0), silent)
    assert not (tmp_path / STATE_FILE).exists()


def test_a_failing_compiler_is_given_up_and_said_so(tmp_path: Path) -> None:
    task, lines = broken_task(), list[str]()
    task.failing = task.compiled = True
    progress = train(task, Settings(out=tmp_path, steps=2), lines.append)
    assert progress.step == 2 and task.calls == 3
    assert "compilation failed, going on without it: RuntimeError: no compiler found" in lines[0]


def test_an_error_without_a_compiler_is_not_swallowed(tmp_path: Path) -> None:
    task = broken_task()
    task.store.pixels.resize_(0)
    with pytest.raises((RuntimeError, IndexError)):
        train(task, Settings(out=tmp_path, steps=1), silent)
