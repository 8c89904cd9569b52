"""`cinelabel ensemble` makes a model version of finished runs, and says what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cinelabel.cli.main import main
from cinelabel.learning.config import parse
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import BUNDLED, ModelStore
from cinelabel.networks import build
from cinelabel.networks.weights import get_weights, on_cpu


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["ensemble", *map(str, arguments)])
    return int(end.value.code or 0)


def finished_run(folder: Path, name: str, task: str = "segmenter", **data: object) -> Path:
    """A finished run of a name and task, without the training."""
    config = parse(
        {
            "name": name,
            "network": {"features": [4, 8], "classes": 2 if task == "locator" else 4},
            "data": {"task": task, "size": 16, **data},
        },
        "test",
    )
    run = RunFolder(folder / name)
    run.begin(config)
    summary = {"steps": 5, "seed": 1, "dice": {"LV": 0.75}}
    run.finish(on_cpu(get_weights(build(config.network))), summary)
    return run.path


@pytest.fixture
def runs(tmp_path):
    return [finished_run(tmp_path / "runs", name) for name in ("a", "b")]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "store"))
    return ModelStore(tmp_path / "store")


def refused(capsys, *arguments: object) -> str:
    """The one sentence that refuses."""
    assert run_command(*arguments, "--name", "v-1") == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    return sentence


def test_runs_become_members_beside_the_bundled_locator(runs, store, capsys):
    assert run_command(*runs, "--name", "v-1", "--weights", "1,0.5", "--fast", "b") == 0
    assert "cinelabel models use v-1" in capsys.readouterr().out
    card = store.load("v-1").card
    bundled = [m for m in store.load(BUNDLED).card.members if m.role == "locator"]
    assert [(m.name, m.role, m.weight) for m in card.members] == [
        ("a", "segmenter", 1.0),
        ("b", "segmenter", 0.5),
        (bundled[0].name, "locator", 1.0),
    ]
    assert card.fast == "b"
    found = card.members[2]
    assert found.sha256[found.files["safetensors"]] in bundled[0].sha256.values()
    assert card.provenance["runs"][found.name]["taken_from"] == BUNDLED
    assert card.metrics["validation"]["a"] == {"dice": {"LV": 0.75}}
    store.load("v-1").verify()


def test_a_locator_is_taken_from_a_run_or_another_version(runs, store, tmp_path):
    locator = finished_run(tmp_path / "runs", "own", "locator")
    assert run_command(runs[0], "--name", "v-1", "--locator", locator) == 0
    assert run_command(runs[1], "--name", "v-2", "--locator", "v-1") == 0
    assert run_command(*runs, locator, "--name", "v-3") == 0
    for version in ("v-1", "v-2", "v-3"):
        assert store.load(version).card.members[-1].name == "own"


def test_full_precision_keeps_the_weights_of_the_run(runs, store):
    assert run_command(runs[0], "--name", "v-1", "--full-precision") == 0
    member = store.load("v-1").member("a")
    network = store.load("v-1").network(member)
    kept = RunFolder(runs[0]).weights()
    assert all((tensor == kept[name]).all() for name, tensor in get_weights(network).items())


def test_a_run_that_is_not_finished_is_refused_by_its_folder(runs, store, capsys):
    (runs[1] / "summary.json").unlink()
    assert f"{runs[1]}: the run is not finished" in refused(capsys, *runs)
    assert store.versions() == ModelStore(runs[0]).versions()


def test_two_runs_of_one_name_are_refused(runs, store, tmp_path, capsys):
    twin = finished_run(tmp_path / "elsewhere", "a")
    assert "two runs have the name 'a'" in refused(capsys, *runs, twin)


@pytest.mark.parametrize("content", [b"", b"\0" * 64])
def test_a_damaged_file_of_weights_is_named(runs, store, capsys, content):
    (runs[1] / "weights.safetensors").write_bytes(content)
    assert str(runs[1] / "weights.safetensors") in refused(capsys, *runs)


def test_weights_of_another_network_are_refused_naming_the_run(runs, store, capsys):
    weights = (runs[0] / "weights.safetensors").read_bytes()
    (runs[1] / "weights.safetensors").write_bytes(weights[:-4])
    assert str(runs[1]) in refused(capsys, *runs)


def test_a_run_of_an_unknown_family_is_refused(runs, store, capsys):
    file = runs[1] / "config.yaml"
    values = yaml.safe_load(file.read_text())
    values["network"]["family"] = "resnet"
    file.write_text(yaml.safe_dump(values))
    sentence = refused(capsys, *runs)
    assert "unknown network family 'resnet'" in sentence
    assert str(file) in sentence


def test_a_locator_that_is_none_is_refused(runs, store, capsys, tmp_path):
    assert "neither the folder of a run nor a model version" in refused(
        capsys, runs[0], "--locator", tmp_path / "gone"
    )
    assert "trains no locator" in refused(capsys, runs[0], "--locator", runs[1])


def test_a_version_that_could_not_be_used_is_not_made(runs, store, capsys, tmp_path):
    locator = finished_run(tmp_path / "runs", "own", "locator")
    assert "one locator and one or more members that segment, not 2 and 1" in refused(
        capsys, runs[0], locator, "--locator", BUNDLED
    )
    assert "not 1 and 0" in refused(capsys, locator)
    assert "v-1" not in store.versions()


def test_a_version_without_a_locator_gives_none(runs, store, capsys):
    assert run_command(runs[0], "--name", "v-0") == 0
    card = store.root / "v-0" / "card.json"
    values = json.loads(card.read_text())
    values["members"] = values["members"][:1]
    card.write_text(json.dumps(values))
    capsys.readouterr()
    assert "v-0: the version has no locator" in refused(capsys, runs[1], "--locator", "v-0")


@pytest.mark.parametrize(
    ("weights", "problem"),
    [("1", "1 weights were given for 2 runs"), ("1,x", "are no numbers"), ("1,-1", "positive")],
)
def test_weights_that_do_not_fit_the_runs_are_refused(runs, store, capsys, weights, problem):
    assert problem in refused(capsys, *runs, "--weights", weights)


def test_an_unknown_fast_member_and_a_name_that_is_taken_are_refused(runs, store, capsys):
    assert "'c' is none that segments" in refused(capsys, *runs, "--fast", "c")
    assert run_command(runs[0], "--name", "v-1") == 0
    capsys.readouterr()
    assert "versions never change" in refused(capsys, runs[1])


def folds_file(path: Path, *folds: list[str]) -> Path:
    path.write_text(json.dumps({"schema_version": 1, "seed": 1, "folds": folds}))
    return path


def fold_runs(folder: Path, *folds: tuple[Path, int]) -> list[Path]:
    return [
        finished_run(folder, f"f-fold{k}", source="sets", folds=str(file), fold=fold)
        for k, (file, fold) in enumerate(folds)
    ]


def test_runs_of_the_folds_of_one_file_become_members(store, tmp_path):
    file = folds_file(tmp_path / "folds.json", ["s/P1", "s/P2"], ["s/P3"])
    assert run_command(*fold_runs(tmp_path, (file, 0), (file, 1)), "--name", "v-1") == 0
    origin = store.load("v-1").card.provenance["runs"]["f-fold0"]
    data = origin["config"]["data"]
    assert (data["folds"], data["fold"]) == ("folds.json", 0)
    assert origin["command"] == "cinelabel crossvalidate f.yaml --fold 0"


def test_runs_of_folds_that_share_a_patient_are_refused(store, tmp_path, capsys):
    one = folds_file(tmp_path / "one.json", ["s/P1", "s/P2"], ["s/P3"])
    other = folds_file(tmp_path / "other.json", ["s/P1"], ["s/P2", "s/P3"])
    sentence = refused(capsys, *fold_runs(tmp_path, (one, 0), (other, 1)))
    assert "f-fold1: its fold and that of" in sentence
    assert "share the patient s/P2" in sentence


def test_folds_of_a_run_that_share_a_patient_are_refused(store, tmp_path, capsys):
    file = folds_file(tmp_path / "folds.json", ["s/P1", "s/P2"], ["s/P3"])
    (run,) = fold_runs(tmp_path, (file, 0))
    folds_file(run / "folds.json", ["s/P1", "s/P2"], ["s/P2"])
    assert "s/P2 is there 2 times" in refused(capsys, run)
