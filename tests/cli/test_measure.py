"""`cinelabel measure` on labels whose volumes are counted by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main

# a voxel of 2 x 5 x 10 mm is 0.1 ml
AFFINE = np.diag([2.0, 5.0, 10.0, 1.0])


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def phase(voxels_lv: int, voxels_myo: int = 20, voxels_rv: int = 0) -> np.ndarray:
    flat = np.zeros(12 * 12 * 4, np.uint8)
    flat[:voxels_lv] = 1
    flat[voxels_lv : voxels_lv + voxels_myo] = 2
    flat[-voxels_rv or len(flat) :] = 3
    return flat.reshape(12, 12, 4)


def save(path: Path, labels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def test_a_4d_label_is_measured_with_its_phases_found(tmp_path, capsys):
    cine = np.stack([phase(90), phase(120, 30, 100), phase(48, 31, 60)], axis=3)
    path = save(tmp_path / "patient.nii.gz", cine)
    assert run("measure", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)["patient"]
    assert (found["ed"], found["es"]) == (1, 2)
    assert found["lv_edv_ml"] == pytest.approx(12.0)
    assert found["lv_esv_ml"] == pytest.approx(4.8)
    assert found["lv_ef_percent"] == pytest.approx(60.0)
    assert found["lv_mass_g"] == pytest.approx(1.05 * 3.0)
    assert found["rv_ef_percent"] == pytest.approx(40.0)
    assert found["lv_curve_ml"] == pytest.approx([9.0, 12.0, 4.8])


def test_phases_can_be_named(tmp_path, capsys):
    path = save(tmp_path / "p.nii.gz", np.stack([phase(90), phase(120), phase(48)], axis=3))
    assert run("measure", path, "--ed", 0, "--es", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)["p"]
    assert found["lv_edv_ml"] == pytest.approx(9.0)
    assert run("measure", path, "--ed", 3) == 2
    assert "3" in capsys.readouterr().err


def test_two_3d_labels_without_a_phase_in_their_names_are_ed_and_es_in_this_order(tmp_path, capsys):
    a, b = save(tmp_path / "one.nii.gz", phase(100)), save(tmp_path / "two.nii.gz", phase(40))
    assert run("measure", a, b, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["one"]
    assert found["one"]["lv_ef_percent"] == pytest.approx(60.0)


def test_names_that_say_ed_and_es_pair_the_labels_of_several_studies_in_any_order(tmp_path, capsys):
    files = [
        save(tmp_path / name, phase(voxels))
        for name, voxels in (
            ("b_sa_ES_gt.nii.gz", 20),
            ("a_sa_ED_gt.nii.gz", 100),
            ("b_sa_ED_gt.nii.gz", 80),
            ("a_sa_ES_gt.nii.gz", 40),
        )
    ]
    assert run("measure", *files, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: round(value["lv_ef_percent"]) for name, value in found.items()} == {
        "b_sa_gt": 75,
        "a_sa_gt": 60,
    }


def test_one_3d_label_gives_its_volumes_or_what_its_phase_allows(tmp_path, capsys):
    path = save(tmp_path / "label.nii.gz", phase(100))
    assert run("measure", path) == 0
    shown = capsys.readouterr().out
    assert "LV volume" in shown
    assert "10.0" in shown
    assert run("measure", path, "--ed", 0, "--json") == 0
    found = json.loads(capsys.readouterr().out)["label"]
    assert found["lv_edv_ml"] == pytest.approx(10.0)
    assert found["lv_ef_percent"] is None


def test_the_table_and_the_csv_name_every_study(tmp_path, capsys):
    for name in ("p1", "p2"):
        save(tmp_path / f"{name}.nii.gz", np.stack([phase(100), phase(50)], axis=3))
    files = sorted(tmp_path.glob("*.nii.gz"))
    assert run("measure", *files, "--csv", tmp_path / "out.csv") == 0
    shown = capsys.readouterr().out
    assert "p1" in shown
    assert "p2" in shown
    assert "LV EF (%)" in shown
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert [row["study"] for row in csv.DictReader(stream)] == ["p1", "p2"]


def test_other_label_conventions_can_be_named(tmp_path, capsys):
    labels = phase(100)
    labels = np.array([0, 3, 2, 1], np.uint8)[labels]
    path = save(tmp_path / "acdc.nii.gz", np.stack([labels, labels], axis=3))
    assert run("measure", path, "--labels", "acdc", "--json") == 0
    assert json.loads(capsys.readouterr().out)["acdc"]["lv_edv_ml"] == pytest.approx(10.0)
    assert run("measure", path, "--labels", "acdd") == 2


def test_a_label_with_value_7_is_refused_in_one_sentence_naming_the_file(tmp_path, capsys):
    labels = phase(100)
    labels[0, 0, 0] = 7
    path = save(tmp_path / "bad.nii.gz", labels)
    assert run("measure", path) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "bad.nii.gz" in shown
    assert "7" in shown


def test_three_3d_labels_of_unknown_phase_are_refused(tmp_path, capsys):
    files = [save(tmp_path / f"{n}.nii.gz", phase(50)) for n in range(3)]
    assert run("measure", *files) == 2
    assert "neither ED nor ES" in capsys.readouterr().err


def test_two_labels_of_the_same_phase_are_refused(tmp_path, capsys):
    a = save(tmp_path / "p_ED.nii.gz", phase(50))
    b = save(tmp_path / "p_ed.nii", phase(50))
    assert run("measure", a, b) == 2
    assert "two labels are the ED" in capsys.readouterr().err


def test_phases_on_different_grids_are_refused(tmp_path, capsys):
    moved = AFFINE.copy()
    moved[0, 3] = 4.0
    a = save(tmp_path / "p_ED.nii.gz", phase(50))
    b = save(tmp_path / "p_ES.nii.gz", phase(40), moved)
    assert run("measure", a, b) == 2
    assert "p_ES.nii.gz" in capsys.readouterr().err


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert run("measure", tmp_path / "nothing.nii.gz") == 2
    assert "nothing.nii.gz" in capsys.readouterr().err
