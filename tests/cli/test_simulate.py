"""`cinelabel simulate` on three phantoms: cells kept one by one, tables and figures, going on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from cinelabel.active.plan import load
from cinelabel.active.simulation import (
    Outcome,
    Result,
    TunedNetwork,
    image_name,
    score_cases,
    simulate,
    with_version,
)
from cinelabel.cli.main import main
from cinelabel.datasets import cases
from cinelabel.evaluation.runs import segment_case
from cinelabel.models.store import ModelStore
from cinelabel.networks.weights import get_weights
from cinelabel.segmentation import Segmenter

TINY: dict[str, Any] = {
    "name": "tiny",
    "about": "Three phantoms.",
    "model": "phantom-2",
    "cohort": {"studies": 3, "seed": 5, "frames": 2, "protocol": {"noise": 0.05}},
    "test_patients": 1,
    "strategies": ["foreground"],
    "methods": {"all": {"lr": 0.001}},
    "seeds": [1],
    "budgets": [2, 4],
    "shared": {"steps": 2, "replay": 0, "batch_size": 2, "precision": "32-true", "device": "cpu"},
}


def write_config(folder: Path, **changes: Any) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY | changes))
    return file


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs after the command has ended well."""
    folder = tmp_path_factory.mktemp("runs")
    assert run(str(write_config(folder)), "--runs", str(folder)) == 0
    return folder


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to go on in."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def results(folder: Path) -> dict[str, Result]:
    return {file.stem: Result.read(file) for file in (folder / "tiny" / "cells").iterdir()}


def go_on(folder: Path, stop_after: int | None = None, **changes: Any) -> tuple[Outcome, list[str]]:
    """What `simulate` gives, and the cells that it ran."""
    made: list[str] = []

    def finished(result: Result, done: int, total: int, left: float | None) -> None:
        made.append(result.cell.name)
        if len(made) == stop_after:
            raise KeyboardInterrupt

    config = with_version(load(write_config(folder, **changes)))
    cache = folder / "phantoms"
    return simulate(config, folder / "tiny", cache=cache, finished=finished), made


def test_every_cell_is_a_file(runs: Path) -> None:
    assert set(results(runs)) == {
        "test_before",
        "test_all_all_seed1_all",
        "test_foreground_all_seed1_2",
        "test_foreground_all_seed1_4",
    }
    assert not any((runs / "tiny" / "work").iterdir())


def test_a_larger_budget_goes_on_with_the_choice_of_a_smaller_one(runs: Path) -> None:
    two, four = (results(runs)[f"test_foreground_all_seed1_{budget}"] for budget in (2, 4))
    assert four.chosen[:2] == two.chosen
    assert len(set(four.chosen)) == four.slices == 4


def test_who_is_scored_is_never_corrected(runs: Path) -> None:
    for result in results(runs).values():
        scored = {score.case for score in result.scores}
        assert not scored & {image for image, _ in result.chosen}


def test_before_is_what_the_version_scores_as_it_is(runs: Path) -> None:
    before = results(runs)["test_before"].scores
    segmenter = Segmenter.load("phantom-2")
    scored = {score.patient for score in before}
    expected = [
        score.penalised_dice
        for case in cases("phantom", runs / "tiny" / "cohort")
        if case.group in scored
        for score in segment_case(segmenter, case, fast=True, distances=False).scores
    ]
    assert [score.dice for score in before] == pytest.approx(expected, abs=1e-4)


def test_a_network_with_the_weights_of_a_member_scores_as_the_member(runs: Path) -> None:
    version = ModelStore().load("phantom-2")
    name = "nnunet2d-compact-phantom"
    segmenter = Segmenter(version, "cpu")
    weights = get_weights(version.network(name))
    segmenter.member(name).answer_by(TunedNetwork(version, name, weights))
    before = results(runs)["test_before"].scores
    scored = {score.case for score in before}
    test = [c for c in cases("phantom", runs / "tiny" / "cohort") if image_name(c) in scored]
    again = score_cases(segmenter, test, fast=True)
    assert [s.dice for s in again] == pytest.approx([s.dice for s in before], abs=1e-3)


def test_what_is_learned_changes_the_scores(runs: Path) -> None:
    found = results(runs)
    assert found["test_all_all_seed1_all"].scores != found["test_before"].scores


def test_tables_and_the_figure_are_written(runs: Path) -> None:
    folder = runs / "tiny"
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert [row["slices"] for row in rows][2:] == ["2", "4"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "curves.csv").exists()


def test_phantoms_are_made_by_the_protocol_that_is_given(runs: Path) -> None:
    truths = [json.loads(f.read_text()) for f in (runs / "tiny" / "cohort").rglob("truth.json")]
    assert [truth["scanner"]["noise"] for truth in truths] == [0.05] * 3


def test_finished_cells_are_not_run_again(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(write_config(copied)), "--runs", str(copied)) == 0
    told = capsys.readouterr()
    assert "4 of 4 cells are finished" in told.out
    assert told.err == ""


@pytest.mark.slow
def test_a_seed_more_adds_its_cells_alone(copied: Path) -> None:
    outcome, made = go_on(copied, seeds=[1, 2], budgets=[2])
    assert made == ["test_all_all_seed2_all", "test_foreground_all_seed2_2"]
    assert outcome.finished


@pytest.mark.slow
def test_a_simulation_that_was_interrupted_goes_on_to_the_same_results(copied: Path) -> None:
    whole = results(copied)
    removed = ["test_all_all_seed1_all", "test_foreground_all_seed1_2"]
    for name in removed:
        (copied / "tiny" / "cells" / f"{name}.json").unlink()
    outcome, made = go_on(copied, stop_after=1)
    assert made == removed[:1]
    assert not outcome.finished
    _, made = go_on(copied)
    assert made == removed[1:]
    for name in removed:
        assert results(copied)[name].scores == whole[name].scores


def test_stopped_before_the_first_choice_of_a_strategy_it_tells_what_is_finished(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for file in (copied / "tiny" / "cells").glob("test_foreground_*"):
        file.unlink()
    monkeypatch.setattr("cinelabel.active.simulation.choose_slices", interrupted)
    assert run(str(write_config(copied)), "--runs", str(copied)) == 130
    assert "2 of 4 cells are finished" in capsys.readouterr().out


def test_another_configuration_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(copied, shared=TINY["shared"] | {"steps": 3})
    assert run(str(config), "--runs", str(copied)) == 2
    assert "shared.steps = 2, not 3" in capsys.readouterr().err


def test_layers_that_a_method_cannot_freeze_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = {"all": {}, "far": {"method": "bi-directional", "frozen": [3, 99]}}
    assert run(str(write_config(tmp_path, methods=methods)), "--runs", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "methods, far: layers 3 to 99 cannot be frozen" in " ".join(told.split())
    assert not (tmp_path / "tiny").exists()


def test_another_label_under_the_same_name_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in cases("phantom", copied / "tiny" / "cohort") if case.label)
    assert case.label is not None
    label = nib.load(case.label)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[::-1], label.affine), case.label)
    assert run(str(write_config(copied)), "--runs", str(copied)) == 2
    told = capsys.readouterr().err
    assert f"begun with another image or label of {image_name(case)}" in " ".join(told.split())


def test_a_simulation_that_kept_no_fingerprints_goes_on_and_keeps_them(copied: Path) -> None:
    file = copied / "tiny" / "fingerprints.json"
    kept = file.read_text()
    file.unlink()
    outcome, made = go_on(copied)
    assert outcome.finished
    assert made == []
    assert file.read_text() == kept


@pytest.mark.slow
def test_left_out_patients_are_told_seed_by_seed(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cohort"
    for study in sorted((runs / "tiny" / "cohort").iterdir())[:2]:
        shutil.copytree(study, folder / study.name)
    config = write_config(tmp_path, cohort=None, budgets=[3])
    command = [str(config), "--runs", str(tmp_path), "--leave-one-out", "--seeds", "1"]
    assert run(*command, "--data", f"phantom={folder}") == 0
    told = capsys.readouterr().out
    assert [word for word in ("before", "median", "LV", "minutes") if word not in told] == []
    assert len(results(tmp_path)) == 4
    assert (tmp_path / "tiny" / "left-out.png").exists()


def test_data_must_be_given_without_a_cohort(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(write_config(tmp_path, cohort=None)), "--runs", str(tmp_path)) == 2
    assert "--data SET=DIR" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_command_leaves_what_is_finished_and_goes_on(copied: Path) -> None:
    config = write_config(copied, seeds=[1, 2, 3], shared=TINY["shared"] | {"steps": 2})
    code = "from cinelabel.cli.main import main; main()"
    command = [sys.executable, "-c", code, "simulate", str(config), "--runs", str(copied)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    process.stderr.readline()  # the first cell that is finished
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    kept = results(copied)
    assert 4 < len(kept) < 10
    assert subprocess.run(command, check=False).returncode == 0
    assert {name: results(copied)[name].scores for name in kept} == {
        name: result.scores for name, result in kept.items()
    }
