"""Training learns, repeats itself, and survives being stopped."""

from __future__ import annotations

import csv
import json
import os
import signal

import numpy as np
import pytest
import torch
from cinelabel.core.errors import RunError
from cinelabel.learning.loop import AveragedWeights, Interruption, make_optimiser
from cinelabel.learning.run_folder import RunFolder
from cinelabel.learning.supervised import score_names, train
from cinelabel.networks import build


class Crash(Exception):
    """Stands for a kill: nothing is saved on the way out."""


class AtStep:
    """An augmentation that adds noise, and does something else at one of the calls."""

    def __init__(self, call: int, action) -> None:
        self.calls, self.call, self.action = 0, call, action

    def __call__(self, images, labels, generator):
        self.calls += 1
        if self.calls == self.call:
            self.action()
        return noisy(images, labels, generator)


def noisy(images, labels, generator):
    return images + generator.normal(0, 0.1, images.shape).astype(np.float32), labels


def crash() -> None:
    raise Crash


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def weights_of(run):
    return RunFolder(run).weights()


def equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture
def straight(tmp_path, make_config, caches, reporter):
    """The weights of a run that nothing disturbed."""
    train(make_config(), tmp_path / "straight", reporter=reporter, caches=caches, augment=noisy)
    return weights_of(tmp_path / "straight")


def test_the_network_learns_the_squares(tmp_path, make_config, caches, reporter):
    config = make_config(steps=150, network={"features": [8, 16]})
    result = train(config, tmp_path / "run", reporter=reporter, caches=caches)
    assert result.finished
    assert set(result.dice) == {"LV", "MYO", "RV"}
    assert min(result.dice.values()) > 0.8


def test_the_same_seed_gives_the_same_weights(tmp_path, make_config, caches, reporter, straight):
    run = tmp_path / "again"
    train(make_config(), run, reporter=reporter, caches=caches, augment=noisy)
    assert equal(weights_of(run), straight)
    other = tmp_path / "other"
    train(make_config(seed=4), other, reporter=reporter, caches=caches, augment=noisy)
    assert not equal(weights_of(other), straight)


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path, make_config, caches, reporter, straight
):
    run = tmp_path / "killed"
    with pytest.raises(Crash):
        train(make_config(), run, reporter=reporter, caches=caches, augment=AtStep(9, crash))
    assert not (run / "weights.safetensors").exists()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000005"]
    result = train(make_config(), run, reporter=reporter, caches=caches, augment=noisy)
    assert result.finished
    assert equal(weights_of(run), straight)


def test_a_signal_leaves_a_checkpoint_and_the_run_goes_on_to_the_same_weights(
    tmp_path, make_config, caches, reporter, straight, written
):
    run = tmp_path / "stopped"
    before = signal.getsignal(signal.SIGTERM)
    result = train(
        make_config(), run, reporter=reporter, caches=caches, augment=AtStep(4, terminate)
    )
    assert not result.finished
    assert 0 < result.step < 12
    assert f"stopped after step {result.step}" in written.getvalue()
    assert RunFolder(run).latest_checkpoint().step == result.step
    assert signal.getsignal(signal.SIGTERM) is before
    train(make_config(), run, reporter=reporter, caches=caches, augment=noisy)
    assert equal(weights_of(run), straight)


def test_a_run_killed_between_its_last_checkpoint_and_its_result_is_finished_by_the_next_call(
    tmp_path, make_config, caches, reporter, straight, monkeypatch
):
    run = tmp_path / "late"
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "finish", lambda *arguments: crash())
        with pytest.raises(Crash):
            train(make_config(), run, reporter=reporter, caches=caches, augment=noisy)
    result = train(make_config(), run, reporter=reporter, caches=caches, augment=noisy)
    assert result.finished
    assert set(result.dice) == {"LV", "MYO", "RV"}
    assert equal(weights_of(run), straight)


def test_a_second_interrupt_is_not_held_back():
    interruption = Interruption()
    before = signal.getsignal(signal.SIGINT)
    with interruption.watched():
        assert signal.getsignal(signal.SIGINT) is not before
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_left_as_it_is(tmp_path, make_config, caches, reporter):
    run = tmp_path / "run"
    first = train(make_config(), run, reporter=reporter, caches=caches)
    stamps = {path: path.stat().st_mtime_ns for path in run.glob("*.safetensors")}
    again = train(make_config(), run, caches=caches, augment=AtStep(1, crash))
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in run.glob("*.safetensors")} == stamps


def test_what_a_run_leaves_behind(tmp_path, make_config, caches, reporter, written):
    run = tmp_path / "run"
    result = train(make_config(), run, reporter=reporter, caches=caches)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["seed"], summary["dice"]) == (12, 3, result.dice)
    with (run / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["4", "6", "8", "12"]
    assert [bool(row["dice_RV"]) for row in rows] == [False, True, False, True]
    assert all(float(row["loss"]) > 0 and float(row["slices_per_s"]) > 0 for row in rows)
    assert list((run / "tensorboard").glob("events*"))
    assert (run / "config.yaml").exists()
    assert "step 12/12: loss" in written.getvalue()


def test_mixed_precision_keeps_weights_in_float32(tmp_path, make_config, caches, reporter):
    config = make_config(precision="bf16-mixed", optimiser={"name": "sgd", "lr": 0.01})
    train(config, tmp_path / "run", reporter=reporter, caches=caches)
    weights = weights_of(tmp_path / "run")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_loss_that_is_no_number_stops_the_run_with_a_sentence(
    tmp_path, make_config, caches, reporter
):
    def spoil(images, labels, generator):
        return np.full_like(images, np.nan), labels

    with pytest.raises(RunError, match="not a number at step 1"):
        train(make_config(), tmp_path / "run", reporter=reporter, caches=caches, augment=spoil)
    assert RunFolder(tmp_path / "run").latest_checkpoint() is None


def test_averaged_weights_follow_the_network_as_worked_out_by_hand():
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
        average = AveragedWeights(network, 0.5)
        network.weight.fill_(11.0)
        average.update(0)  # decay (1 + 0) / (10 + 0) = 0.1: 0.1 * 1 + 0.9 * 11
        assert average.average["weight"].item() == pytest.approx(10.0)
        network.weight.fill_(20.0)
        average.update(1000)  # decay 0.5 by then
        assert average.average["weight"].item() == pytest.approx(15.0)


def test_without_averaging_the_result_is_the_network_itself(
    tmp_path, make_config, caches, reporter
):
    run = tmp_path / "run"
    train(make_config(ema=0), run, reporter=reporter, caches=caches)
    last = RunFolder(run).latest_checkpoint()
    assert equal(weights_of(run), last.weights)


def test_optimisers_are_those_of_the_configuration(make_config):
    network = torch.nn.Linear(2, 2)
    adamw = make_optimiser(make_config().optimiser, network)
    assert isinstance(adamw, torch.optim.AdamW)
    settings = {"name": "sgd", "lr": 0.01, "momentum": 0.99, "weight_decay": 3e-5}
    sgd = make_optimiser(make_config(optimiser=settings).optimiser, network)
    assert isinstance(sgd, torch.optim.SGD)
    group = sgd.param_groups[0]
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.99, 3e-5)


def test_offsets_of_deformable_convolutions_learn_at_their_own_rate(
    tmp_path, make_config, caches, reporter
):
    network = {"features": [4, 8, 12], "deformable_bottleneck": True}
    settings = {"lr": 0.01, "offsets_lr": 0.1}
    config = make_config(network=network, optimiser=settings, schedule={"warmup": 0}, steps=1)
    module = build(config.network)
    groups = make_optimiser(config.optimiser, module).param_groups
    assert [group["scale"] for group in groups] == [1.0, 0.1]
    offsets = {id(p) for name, p in module.named_parameters() if ".sampling." in name}
    assert {id(p) for p in groups[1]["params"]} == offsets
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    train(config, tmp_path / "run", reporter=reporter, caches=caches)
    found = RunFolder(tmp_path / "run").latest_checkpoint()
    assert [g["lr"] for g in found.optimiser["param_groups"]] == pytest.approx([0.01, 0.001])


def test_scores_are_named_after_the_structures():
    assert score_names(4) == ["dice_LV", "dice_MYO", "dice_RV"]
    assert score_names(2) == ["dice_heart"]
    assert score_names(3) == ["dice_class_1", "dice_class_2"]
