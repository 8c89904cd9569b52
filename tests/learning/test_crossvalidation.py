"""Cross-validation trains a run a fold and scores it on the patients that it has not seen."""

from __future__ import annotations

import csv
import json

import pytest
import yaml
from cinelabel.cli.main import main
from cinelabel.core.errors import InputError, RunError
from cinelabel.datasets import cases
from cinelabel.datasets.folds import make_folds, write_folds
from cinelabel.learning import supervised
from cinelabel.learning.config import PretrainedConfig, load
from cinelabel.learning.crossvalidation import fold_configs, held_out
from cinelabel.learning.run_folder import RunFolder


@pytest.fixture
def folds(sets, tmp_path):
    file = tmp_path / "folds.json"
    write_folds(file, make_folds(cases("acdc", sets["acdc"]), 2))
    return file


@pytest.fixture
def config(tmp_path):
    values = {
        "name": "cv",
        "network": {"features": [4, 6]},
        "data": {"source": "sets", "size": 16, "spacing_mm": 2.0, "partial": True},
        "augmentation": None,
        "steps": 1,
        "batch_size": 2,
        "precision": "32-true",
        "device": "cpu",
        "workers": 1,
        "threads": 1,
    }
    file = tmp_path / "cv.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["crossvalidate", *map(str, arguments)])
    return int(end.value.code or 0)


def test_each_fold_holds_its_patients_out_and_all_are_held_out_once(config, sets, folds):
    configs = fold_configs(load(config, roots={"acdc": sets["acdc"]}), folds)
    assert [(c.name, c.data.fold) for c in configs] == [("cv-fold0", 0), ("cv-fold1", 1)]
    found = [{case.group for case in held_out(c)} for c in configs]
    assert found[0] | found[1] == {f"acdc/patient{n:03d}" for n in range(1, 5)}
    assert not found[0] & found[1]


def test_folds_that_share_a_patient_are_refused_before_anything_is_trained(config, sets, folds):
    content = json.loads(folds.read_text())
    content["folds"][1][0] = content["folds"][0][0]
    folds.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is there 2 times, in fold 0 and 1"):
        fold_configs(load(config, roots={"acdc": sets["acdc"]}), folds)


def test_folds_of_other_patients_than_the_data_are_refused(config, sets, folds):
    with pytest.raises(InputError, match="2 patients of the data are in none of its folds"):
        fold_configs(load(config, roots=sets), folds)


def test_a_run_without_folds_or_on_phantoms_has_no_cross_validation(config, sets, make_config):
    for settings in (load(config, roots=sets), make_config()):
        with pytest.raises(RunError, match="needs public sets and folds"):
            fold_configs(settings)


def test_a_fold_does_not_start_from_a_run_that_has_learned_from_it(config, sets, folds, tmp_path):
    settings = fold_configs(load(config, roots={"acdc": sets["acdc"]}), folds)
    first = tmp_path / "first"
    supervised.train(settings[0], first)
    weights = {"weights": str(first)}
    same = settings[0].model_copy(update={"pretrained": PretrainedConfig(**weights)})
    assert supervised.train(same, tmp_path / "same").finished
    other = settings[1].model_copy(update={"pretrained": PretrainedConfig(**weights)})
    with pytest.raises(RunError, match="has learned from acdc/patient.*which is to be held out"):
        supervised.train(other, tmp_path / "other")


def test_a_run_on_sets_needs_their_folders(config, tmp_path):
    with pytest.raises(RunError, match="--data SET=DIR"):
        supervised.train(load(config), tmp_path / "run")


def test_a_run_keeps_its_folds_and_refuses_others(config, sets, folds, tmp_path):
    settings = fold_configs(load(config, roots={"acdc": sets["acdc"]}), folds)[0]
    run = RunFolder(tmp_path / "run")
    run.begin(settings)
    assert json.loads(run.folds_file.read_text()) == json.loads(folds.read_text())
    write_folds(folds, make_folds(cases("acdc", sets["acdc"]), 3))
    with pytest.raises(RunError, match="not those that the run was begun with"):
        run.check(settings)


def test_the_command_trains_each_fold_once_and_scores_whole_held_out_studies(
    config, sets, folds, tmp_path, capsys, monkeypatch
):
    runs = tmp_path / "runs"
    command = (config, "--data", f"acdc={sets['acdc']}", "--folds", folds, "--runs", runs)
    assert run_command(*command, "--fold", 0, "--hd95") == 0
    assert "Agreement" in capsys.readouterr().out
    with (runs / "cv-fold0-crossvalidation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 2 * 3  # patients, phases, structures
    held = json.loads(folds.read_text())["folds"][0]
    assert all(row["penalised_hd95_mm"] for row in rows if row["empty"] != "both")
    assert {row["case"].rpartition("_")[0] for row in rows} == {
        p.removeprefix("acdc/") for p in held
    }
    record = json.loads((runs / "cv-fold0-crossvalidation.json").read_text())
    assert {summary["group"] for summary in record["summary"]} == {None, "0"}
    written = (runs / "cv-fold0" / "summary.json").stat().st_mtime_ns
    monkeypatch.setattr("cinelabel.cli.crossvalidate._held_out_scores", lambda *a: [])
    monkeypatch.setattr("cinelabel.cli.crossvalidate._report", lambda *a: None)
    assert run_command(*command) == 0
    assert (runs / "cv-fold1" / "summary.json").exists()
    assert (runs / "cv-fold0" / "summary.json").stat().st_mtime_ns == written


def test_an_interruption_ends_with_code_130_and_begins_no_further_fold(
    config, sets, folds, tmp_path, monkeypatch
):
    begun = []

    def stopped(settings, folder, *, reporter=None):
        begun.append(settings.name)
        return supervised.TrainResult(folder, 1, False, {})

    monkeypatch.setattr("cinelabel.learning.crossvalidation.train", stopped)
    data = ("--data", f"acdc={sets['acdc']}", "--folds", folds)
    assert run_command(config, *data, "--runs", tmp_path) == 130
    assert begun == ["cv-fold0"]
