"""`cinelabel models` lists, shows, chooses and scores versions."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main
from cinelabel.learning.config import parse
from cinelabel.learning.publication import publish_runs
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import BUNDLED, ModelStore
from cinelabel.networks import build
from cinelabel.networks.weights import get_weights, on_cpu


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["models", *map(str, arguments)])
    return int(end.value.code or 0)


def finished_run(folder, name, task, classes):
    config = parse(
        {
            "name": name,
            "network": {"features": [4, 8], "classes": classes},
            "data": {"task": task, "size": 16},
        },
        "test",
    )
    run = RunFolder(folder / name)
    run.begin(config)
    summary = {"steps": 5, "seed": 1, "dice": {"heart": 0.75}}
    run.finish(on_cpu(get_weights(build(config.network))), summary)
    return run.path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A store with version `toy-1`, made of three runs."""
    folder = tmp_path_factory.mktemp("command")
    runs = [finished_run(folder, name, "segmenter", 4) for name in ("s", "t")]
    runs.append(finished_run(folder, "l", "locator", 2))
    store = folder / "store"
    publish_runs(ModelStore(store), "toy-1", runs)
    return store


@pytest.fixture
def store(published, tmp_path, monkeypatch):
    shutil.copytree(published, tmp_path / "store")
    monkeypatch.setenv("CINELABEL_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


def test_a_list_for_machines_names_versions_members_and_the_one_in_use(store, capsys):
    assert run_command("use", "toy-1") == 0
    capsys.readouterr()
    assert run_command("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["current"] == "toy-1"
    row = next(row for row in listed["versions"] if row["version"] == "toy-1")
    assert (row["bundled"], row["problem"]) == (False, None)
    assert [member["role"] for member in row["members"]] == ["segmenter", "segmenter", "locator"]


def test_a_list_for_people_is_a_table(store, capsys):
    assert run_command("list") == 0
    shown = capsys.readouterr().out
    assert "toy-1" in shown
    assert "heart 0.750" in shown


def test_a_list_says_which_card_is_damaged_and_shows_the_others(store, capsys):
    shutil.copytree(store / "toy-1", store / "toy-2")
    (store / "toy-2" / "card.json").write_text("{")
    (store / "current").write_text("gone\n")
    assert run_command("list", "--json") == 0
    captured = capsys.readouterr()
    listed = json.loads(captured.out)
    rows = {row["version"]: row["problem"] for row in listed["versions"]}
    assert rows["toy-1"] is None
    assert "card.json" in rows["toy-2"]
    assert listed["current"] is None
    assert "'gone'" in captured.err


def test_a_card_is_shown_as_json_and_as_a_table(store, capsys):
    assert run_command("show", "toy-1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == "toy-1"
    assert run_command("show", "toy-1") == 0
    assert "toy-1, checksums verified" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["show", "use"])
def test_an_unknown_version_ends_with_code_2_and_a_sentence(store, capsys, action):
    assert run_command(action, "toy-9") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("cinelabel: unknown model version 'toy-9'. Known versions: ")
    assert captured.err.count("\n") == 1


def test_a_damaged_file_ends_with_code_2_naming_it(store, capsys):
    (store / "toy-1" / "s.bin").write_bytes(b"")
    for action in ("show", "use"):
        assert run_command(action, "toy-1") == 2
        assert "s.bin" in capsys.readouterr().err


def candidate(store, outcome):
    """`toy-1` once more as `toy-1-tuned-1`, about which something was decided."""
    shutil.copytree(store / "toy-1", store / "toy-1-tuned-1")
    card = store / "toy-1-tuned-1" / "card.json"
    decision = {"outcome": outcome, "reasons": ["Two patients are held out."]}
    changes = {"version": "toy-1-tuned-1", "metrics": {"held_out": {"decision": decision}}}
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def test_a_candidate_is_promoted_rolled_back_and_both_are_in_the_history(store, capsys):
    candidate(store, "keep")
    assert run_command("list") == 0
    assert "keep" in capsys.readouterr().out
    assert run_command("promote", "toy-1-tuned-1", "--why", "better at the apex") == 0
    assert capsys.readouterr().out == "Two patients are held out.\ntoy-1-tuned-1 is in use\n"
    assert run_command("rollback") == 0
    assert capsys.readouterr().out == f"{BUNDLED} is in use\n"
    assert run_command("history", "--json") == 0
    told = [(u["version"], u["why"], u["rolled_back"]) for u in json.loads(capsys.readouterr().out)]
    assert told == [("toy-1-tuned-1", "better at the apex", False), (BUNDLED, "", True)]
    assert run_command("history") == 0
    assert "rolled back" in capsys.readouterr().out


def test_a_rejected_candidate_is_promoted_by_force_alone(store, capsys):
    candidate(store, "reject")
    assert run_command("promote", "toy-1-tuned-1") == 2
    assert "was rejected. Give --force" in capsys.readouterr().err
    assert ModelStore().current() == BUNDLED
    assert run_command("promote", "toy-1-tuned-1", "--force") == 0
    assert ModelStore().current() == "toy-1-tuned-1"


def test_what_is_no_candidate_is_not_promoted_and_there_may_be_nothing_to_roll_back(store, capsys):
    assert run_command("promote", "toy-1") == 2
    assert "it is no candidate. Choose it with: cinelabel models use" in capsys.readouterr().err
    assert run_command("rollback") == 2
    assert "no other version was in use before" in capsys.readouterr().err


def drawn_case(folder):
    """A phantom-like folder of one phase with a ring, its truth and its label."""
    x, y = np.mgrid[:96, :96] - 48.0
    radius = np.hypot(x, y)
    label = np.select([radius < 14, radius < 20], [1, 2], 0).astype(np.uint8)
    image = np.choose(label, [40, 200, 90]).astype(np.int16)
    folder = folder / "ring"
    folder.mkdir(parents=True)
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    for name, voxels in (("ring.nii.gz", image), ("ring_gt.nii.gz", label)):
        stack = np.repeat(voxels[:, :, None, None], 4, 2)
        nib.Nifti1Image(stack, affine).to_filename(folder / name)
    (folder / "truth.json").write_text(json.dumps({"ed": 0, "es": 0, "group": "normal"}))
    return folder.parent


def test_versions_are_compared_on_the_same_cases_side_by_side(store, tmp_path, capsys):
    data = drawn_case(tmp_path / "data")
    table = tmp_path / "scores.csv"
    arguments = ("compare", "toy-1", BUNDLED, "--data", f"phantom={data}", "--csv", table)
    assert run_command(*arguments, "--by", "pathology", "--fast") == 0
    shown = capsys.readouterr().out
    assert "ring_ED" in shown
    assert "pathology: normal" in shown
    assert "Difference to toy-1" in shown
    with table.open(newline="") as stream:
        rows = [(row["method"], row["case"], row["structure"]) for row in csv.DictReader(stream)]
    assert sorted(rows) == sorted(
        (version, "ring_ED", name) for version in ("toy-1", BUNDLED) for name in ("LV", "MYO", "RV")
    )


def test_each_member_of_a_version_is_scored_beside_what_they_find_together(store, tmp_path, capsys):
    data = drawn_case(tmp_path / "data")
    summary, figure = tmp_path / "summary.csv", tmp_path / "members.png"
    outputs = ("--summary", summary, "--figure", figure)
    assert run_command("members", "toy-1", "--data", f"phantom={data}", *outputs) == 0
    with summary.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    methods = ["s", "t", "average", "post-processed"]
    assert list(dict.fromkeys(row["method"] for row in rows)) == methods
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "n 1 of 1 patient" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--by", "colour"), "Known are set, phase, vendor"),
        (("--by", "vendor"), "no case of these data states its vendor"),
        (("--csv", "same.csv", "--summary", "same.csv"), "name the same file"),
        (("--data", "again"), "phantom has two cases ring_ED"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_before_it_begins(
    store, tmp_path, capsys, extra, said
):
    data = f"phantom={drawn_case(tmp_path / 'data')}"
    extra = [data if text == "again" else text for text in extra]
    assert run_command("compare", "toy-1", "--data", data, *extra) == 2
    assert said in capsys.readouterr().err


def test_data_to_compare_on_must_name_its_set(store, tmp_path, capsys):
    assert run_command("compare", "toy-1", "--data", str(tmp_path)) == 2
    assert "SET=FOLDER" in capsys.readouterr().err
