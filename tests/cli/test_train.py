"""`cinelabel train` trains on the phantom, goes on where it stopped, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cinelabel.cli import train as command
from cinelabel.cli.main import main
from cinelabel.learning import supervised

TINY = {
    "name": "tiny",
    "network": {"features": [4, 8]},
    "data": {"count": 6, "validation_count": 3, "size": 32, "spacing_mm": 5.0},
    "steps": 3,
    "batch_size": 2,
    "device": "cpu",
    "workers": 1,
    "threads": 1,
}


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return file


def test_a_training_on_the_phantom_ends_with_weights_and_a_summary(config, tmp_path, capsys):
    assert run_command(config, "--steps", 2) == 0
    run = tmp_path / "runs" / "tiny"
    assert (run / "weights.safetensors").exists()
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == 2
    assert "2 steps, validation Dice LV" in capsys.readouterr().out
    assert run_command(config) == 2
    assert "begun with steps = 2, not 3" in capsys.readouterr().err


def test_an_interrupted_training_ends_with_code_130(config, tmp_path, monkeypatch):
    def stopped(settings, folder):
        return supervised.TrainResult(folder, 1, False, {})

    monkeypatch.setattr(supervised, "train", stopped)
    assert run_command(config, "--run", tmp_path / "r") == 130


def test_a_wrong_configuration_ends_with_code_2_naming_the_key(config, capsys):
    config.write_text(yaml.safe_dump(TINY | {"batch_size": "two"}))
    assert run_command(config) == 2
    captured = capsys.readouterr()
    assert "tiny.yaml: 'batch_size'" in captured.err
    assert captured.err.count("\n") == 1


def test_folders_of_data_sets_are_given_on_the_command_line(config, monkeypatch, capsys):
    given = []

    def stopped(settings, folder):
        given.append(settings.data.roots)
        return supervised.TrainResult(folder, 1, False, {})

    monkeypatch.setattr(supervised, "train", stopped)
    config.write_text(yaml.safe_dump(TINY | {"data": {"source": "sets", "size": 32}}))
    assert run_command(config, "--data", "acdc=a", "--data", "mnms=b") == 130
    assert given == [{"acdc": Path("a"), "mnms": Path("b")}]
    assert run_command(config, "--data", "acdc") == 2
    assert "--data: 'acdc' is not SET=DIR" in capsys.readouterr().err


def test_what_training_needs_is_said_where_it_is_not_installed(config, monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDED", ("a_package_that_is_nowhere",))
    assert run_command(config) == 2
    assert "[train] extra" in capsys.readouterr().err
