"""Folds of patients in a file, and what is refused of one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.labels import CANONICAL
from cinelabel.datasets.case import Case
from cinelabel.datasets.folds import Folds, make_folds, read_folds, write_folds


def scans(set_name: str, patients: int, manners: int = 1) -> list[Case]:
    return [
        Case(set_name, f"P{n:03d}", phase, Path("x"), None, CANONICAL, scan=str(manner + 1))
        for n in range(patients)
        for manner in range(manners)
        for phase in ("ED", "ES")
    ]


VOLUNTEERS = scans("cmrxmotion", 20, manners=4)


def written(path: Path, folds: object, seed: object = 1, version: object = 1) -> Path:
    path.write_text(json.dumps({"schema_version": version, "seed": seed, "folds": folds}))
    return path


def test_five_folds_hold_four_volunteers_each_in_all_their_manners_of_breathing():
    folds = make_folds(VOLUNTEERS)
    assert [len(fold) for fold in folds.patients] == [4] * 5
    for number in range(5):
        training, held_out = folds.split(VOLUNTEERS, number)
        assert (len(training), len(held_out)) == (128, 32)
        assert not {c.patient for c in training} & {c.patient for c in held_out}


def test_every_fold_has_its_share_of_every_set():
    folds = make_folds([*scans("acdc", 12), *scans("mnms", 7), *scans("myops", 4)], seed=3)
    for name, least in (("acdc", 2), ("mnms", 1), ("myops", 0)):
        shares = [sum(p.startswith(f"{name}/") for p in fold) for fold in folds.patients]
        assert set(shares) <= {least, least + 1}
    assert sorted(len(fold) for fold in folds.patients) == [4, 4, 5, 5, 5]


def test_a_file_gives_back_what_was_written_and_the_seed_decides_it(tmp_path):
    path = tmp_path / "new" / "folds.json"
    folds = make_folds(VOLUNTEERS, seed=7)
    write_folds(path, folds)
    again = read_folds(path)
    assert (again.patients, again.seed, again.source) == (folds.patients, 7, path)
    shuffled = random.Random(0).sample(VOLUNTEERS, len(VOLUNTEERS))
    assert make_folds(shuffled, seed=7) == folds
    assert make_folds(VOLUNTEERS, seed=8).patients != folds.patients
    assert [p.name for p in path.parent.iterdir()] == ["folds.json"]


def test_a_file_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "folds.json"
    write_folds(path, make_folds(VOLUNTEERS))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cinelabel.core.files.os.replace", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_folds(path, make_folds(VOLUNTEERS, seed=2))
    assert path.read_bytes() == before


def test_a_patient_in_two_folds_is_refused_naming_file_patient_and_folds(tmp_path):
    path = written(tmp_path / "f.json", [["a/1", "a/2"], ["a/3"], ["a/2"]])
    with pytest.raises(InputError, match=r"f\.json.*a/2 is there 2 times, in fold 0 and 2"):
        read_folds(path)


@pytest.mark.parametrize(
    ("folds", "problem"),
    [
        ([["a/1", "a/1"], ["a/2"]], "a/1 is there 2 times"),
        ([["a/1"], []], "fold 1 .* is empty"),
        ([["a/1"]], "at least two folds"),
        ([["a/1"], "a/2"], "lists of patients"),
        ([["a/1"], [2]], "lists of patients"),
        (None, "lists of patients"),
    ],
)
def test_folds_that_are_not_sound_are_refused(tmp_path, folds, problem):
    with pytest.raises(InputError, match=problem):
        read_folds(written(tmp_path / "f.json", folds))


@pytest.mark.parametrize("text", ["{", "[]", '{"folds": []}', '{"schema_version": 2}'])
def test_other_files_are_no_folds(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(InputError, match=r"f\.json: is not a"):
        read_folds(tmp_path / "f.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_folds(tmp_path / "absent.json")


def test_data_with_half_of_the_patients_or_with_others_do_not_fit_the_folds():
    folds = make_folds(VOLUNTEERS)
    with pytest.raises(InputError, match="10 of its patients have no case.*cmrxmotion/P010"):
        folds.split(VOLUNTEERS[:80], 0)
    with pytest.raises(InputError, match="1 patients of the data.*cmrxmotion/P020"):
        folds.split(scans("cmrxmotion", 21), 0)
    with pytest.raises(InputError, match="no fold 5"):
        folds.split(VOLUNTEERS, 5)


def test_folds_made_in_code_are_checked_as_those_of_a_file():
    with pytest.raises(InputError, match="a/1"):
        Folds((("a/1",), ("a/1",)), seed=0)
