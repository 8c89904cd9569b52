"""A run folder belongs to one configuration and keeps whole checkpoints."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cinelabel.core.errors import OutputError, RunError
from cinelabel.learning.run_folder import Checkpoint, MetricsFile, RunFolder
from cinelabel.models.folders import whole_folder

needs_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full of Linux"
)


def checkpoint(step: int) -> Checkpoint:
    network = torch.nn.Linear(2, 1)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    weights = {name: tensor.detach() for name, tensor in network.named_parameters()}
    return Checkpoint(
        step=step,
        seconds=1.5,
        weights=weights,
        average={name: tensor + 1 for name, tensor in weights.items()},
        optimiser=optimiser.state_dict(),
        random_state=torch.get_rng_state(),
    )


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path):
    written = checkpoint(3)
    RunFolder(tmp_path).save_checkpoint(written)
    found = RunFolder(tmp_path).latest_checkpoint()
    assert found is not None
    assert (found.step, found.seconds) == (3, 1.5)
    for name, tensor in written.weights.items():
        assert torch.equal(found.weights[name], tensor)
        assert torch.equal(found.average[name], tensor + 1)
    moment = written.optimiser["state"][0]["exp_avg"]
    assert torch.equal(found.optimiser["state"][0]["exp_avg"], moment)
    assert torch.equal(found.random_state, written.random_state)


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (5, 10, 15):
        folder.save_checkpoint(checkpoint(step))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000010", "step-00000015"]
    assert folder.latest_checkpoint().step == 15


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert RunFolder(tmp_path).latest_checkpoint() is None


def test_a_checkpoint_cut_short_by_a_kill_is_not_seen(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(checkpoint(5))
    partial = tmp_path / "checkpoints" / ".partial-step-00000010-abcd"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"half")
    assert folder.latest_checkpoint().step == 5


def test_a_failed_checkpoint_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="no space left"):
        RunFolder(tmp_path).save_checkpoint(checkpoint(5))
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "average.safetensors", "optimiser.pt"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(checkpoint(5))
    file = tmp_path / "checkpoints" / "step-00000005" / name
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(RunError, match=f"{name}: the file is missing or damaged"):
        folder.latest_checkpoint()
    file.write_bytes(b"something else")
    with pytest.raises(RunError, match=f"{name}: the file is missing or damaged"):
        folder.latest_checkpoint()


def test_a_folder_begun_with_another_configuration_is_refused_naming_the_key(tmp_path, make_config):
    folder = RunFolder(tmp_path)
    folder.begin(make_config())
    with pytest.raises(RunError, match="begun with optimiser.lr = 0.01, not 0.5"):
        folder.begin(make_config(optimiser={"lr": 0.5}))
    folder.begin(make_config(threads=2))
    assert folder.config().threads == 2


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, make_config):
    (tmp_path / "thesis.docx").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(RunError, match="no folder of a run and it is not empty"):
            RunFolder(path).begin(make_config())
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.docx", "file"}


LOCKED = """
import sys
from pathlib import Path
from cinelabel.learning.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).alone():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_two_processes_cannot_train_in_one_folder_and_a_killed_one_locks_nothing(tmp_path):
    command = [sys.executable, "-c", LOCKED, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with (
            pytest.raises(RunError, match="another process is training"),
            RunFolder(tmp_path).alone(),
        ):
            pass
        other.kill()
        other.wait()
    with RunFolder(tmp_path).alone():
        pass


def test_an_unfinished_run_has_no_summary(tmp_path):
    with pytest.raises(RunError, match="not finished"):
        RunFolder(tmp_path).summary()


def test_metrics_after_the_step_of_a_resume_are_dropped(tmp_path):
    path, columns = tmp_path / "metrics.csv", ["step", "loss", "dice_LV"]
    table = MetricsFile(path, columns, 0)
    for step in (4, 8, 12):
        table.append({"step": step, "loss": 0.5})
    MetricsFile(path, columns, 8).append({"step": 9, "loss": 0.25, "dice_LV": 0.5})
    assert path.read_text().split() == ["step,loss,dice_LV", "4,0.5,", "8,0.5,", "9,0.25,0.5"]


@pytest.mark.parametrize(
    "torn", ["5", "51,0.5", "51,0.5,0.2", "8,0.4,", ",,\n", "7,x,1\n", "\0\0\0\n"]
)
def test_a_row_that_was_cut_short_is_dropped_when_a_run_goes_on(tmp_path, torn):
    path, columns = tmp_path / "metrics.csv", ["step", "loss", "dice_LV"]
    path.write_text(f"step,loss,dice_LV\n4,0.5,\n{torn}")
    MetricsFile(path, columns, 99).append({"step": 9, "loss": 0.25, "dice_LV": 0.5})
    assert path.read_text().split() == ["step,loss,dice_LV", "4,0.5,", "9,0.25,0.5"]


@needs_full_device
def test_metrics_that_cannot_be_written_are_named(tmp_path):
    table = MetricsFile(tmp_path / "metrics.csv", ["step", "loss"], 0)
    table.path = Path("/dev/full")
    with pytest.raises(OutputError, match="/dev/full: cannot be written, the disk is full"):
        table.append({"step": 1, "loss": 0.5})


@needs_full_device
def test_a_checkpoint_on_a_full_disk_is_named(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def full(target):
        with whole_folder(target) as folder:
            (folder / "optimiser.pt").symlink_to("/dev/full")
            yield folder

    monkeypatch.setattr("cinelabel.learning.run_folder.whole_folder", full)
    with pytest.raises(OutputError, match="step-00000005: cannot be written, no space left"):
        RunFolder(tmp_path).save_checkpoint(checkpoint(5))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_run_on_data_sets_that_have_changed_is_refused_naming_the_case(tmp_path):
    run = RunFolder(tmp_path)
    run.keep_cases({"training": ["acdc/p1_ED"], "held_out": ["acdc/p2_ED"]})
    run.keep_cases({"training": ["acdc/p1_ED"], "held_out": ["acdc/p2_ED"]})
    with pytest.raises(RunError, match="acdc/p3_ED is new"):
        run.keep_cases({"training": ["acdc/p1_ED", "acdc/p3_ED"], "held_out": ["acdc/p2_ED"]})
    with pytest.raises(RunError, match="acdc/p2_ED is gone"):
        run.keep_cases({"training": ["acdc/p1_ED"], "held_out": []})
