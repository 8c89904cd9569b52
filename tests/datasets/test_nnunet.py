"""The raw format of nnU-Net v2: names, values, geometry, splits, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import InputError, OutputError
from cinelabel.datasets import cases
from cinelabel.datasets.nnunet import export

SHAPE = (6, 5, 3)
AFFINE = np.diag([1.5, 1.25, 8.0, 1.0])
SKEWED = np.array([[1.5, 0.01, 0, 4], [0, 1.25, 0.02, 5], [0, 0, 8, 6], [0, 0, 0, 1]])


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def acdc(root: Path, patients: int, labelled: bool = True, affine: np.ndarray = AFFINE) -> Path:
    """Flat ACDC cases: RV, MYO and LV in a row, grey values of the patient's number and up."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2, 1] = 1, 2, 3
    for number in range(1, patients + 1):
        for phase in ("ED", "ES"):
            path = root / f"patient{number:03d}_{phase}.nii.gz"
            save(path, (np.arange(90).reshape(SHAPE) + number).astype(np.int16), affine)
            if labelled:
                save(path.with_name(f"patient{number:03d}_{phase}_gt.nii.gz"), labels, affine)
    return root


def myops(root: Path) -> Path:
    image = np.ones(SHAPE, np.float32)
    image[0, 0, 0], image[1, 1, 1] = np.nan, 0.25
    save(root / "myops_training_101_C0.nii.gz", image)
    labels = np.zeros(SHAPE, np.int16)
    labels[1:4, 2, 1] = 500, 2221, 600
    save(root / "myops_training_101_gd.nii.gz", labels)
    save(root / "myops_test_201_C0.nii.gz", image)
    return root


def test_images_labels_and_description_are_those_of_the_raw_format(tmp_path):
    found = [
        *cases("acdc", acdc(tmp_path / "acdc", 1)),
        *cases("myops", myops(tmp_path / "myops")),
    ]
    out = tmp_path / "Dataset501_Cine"
    told: list[tuple[int, int, str]] = []
    done = export(out, found, progress=lambda *what: told.append(what))
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == [
        "cinelabel-export.json",
        "dataset.json",
        "imagesTr/acdc_patient001_ED_0000.nii.gz",
        "imagesTr/acdc_patient001_ES_0000.nii.gz",
        "imagesTr/myops_101_single_0000.nii.gz",
        "imagesTs/myops_201_single_0000.nii.gz",
        "labelsTr/acdc_patient001_ED.nii.gz",
        "labelsTr/acdc_patient001_ES.nii.gz",
        "labelsTr/myops_101_single.nii.gz",
    ]
    described = json.loads((out / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
    assert described["channel_names"] == {"0": "cine MRI"}
    assert (described["numTraining"], described["file_ending"]) == (3, ".nii.gz")
    assert (len(done.training), done.test, done.left_out) == (3, ("myops_201_single",), ())
    assert [step[:2] for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    values = {"acdc_patient001_ED": [3, 2, 1], "myops_101_single": [1, 2, 3]}
    for name, expected in values.items():
        label = nib.load(out / "labelsTr" / f"{name}.nii.gz")
        image = nib.load(out / "imagesTr" / f"{name}_0000.nii.gz")
        assert np.asanyarray(label.dataobj)[1:4, 2, 1].tolist() == expected
        assert image.shape == label.shape == SHAPE
        np.testing.assert_array_equal(image.affine, label.affine)
        assert np.isfinite(image.get_fdata()).all()


def test_axes_that_are_not_orthogonal_become_so_and_spacing_stays(tmp_path):
    export(tmp_path / "Dataset501_Cine", cases("acdc", acdc(tmp_path / "in", 1, affine=SKEWED)))
    for path in (tmp_path / "Dataset501_Cine").rglob("*ED*.nii.gz"):
        affine = nib.load(path).affine
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        np.testing.assert_allclose(spacing, np.linalg.norm(SKEWED[:3, :3], axis=0), rtol=1e-6)
        columns = affine[:3, :3] / spacing
        np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-6)
        np.testing.assert_allclose(columns, SKEWED[:3, :3] / spacing, atol=0.01)
        np.testing.assert_allclose(affine[:3, 3], (4, 5, 6), atol=1e-5)


def test_splits_keep_patients_together_and_hold_every_case_out_once(tmp_path):
    found = cases("acdc", acdc(tmp_path / "in", 6))
    export(tmp_path / "Dataset501_Cine", found)
    splits = json.loads((tmp_path / "Dataset501_Cine" / "splits_final.json").read_text())
    assert len(splits) == 5
    assert sorted(n for fold in splits for n in fold["val"]) == [f"acdc_{c.name}" for c in found]
    for fold in splits:
        sides = [{re.sub("_E[DS]$", "", name) for name in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1]
        assert len(fold["train"]) + len(fold["val"]) == len(found)


def test_an_interrupted_export_goes_on_and_leaves_what_is_whole(tmp_path, monkeypatch):
    found = cases("acdc", acdc(tmp_path / "in", 3))
    out = tmp_path / "Dataset501_Cine"

    def stop(done: int, total: int, name: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(out, found, progress=stop)
    assert not (out / "dataset.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    assert len(before) == 4
    export(out, found)
    assert len(list(out.rglob("*.nii.gz"))) == 12
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(OutputError, match="holds another export"):
        export(out, found)


def test_folders_with_something_else_are_left_alone(tmp_path):
    found = cases("acdc", acdc(tmp_path / "in", 2))
    out = tmp_path / "Dataset501_Cine"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        export(out, found)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["out", "Dataset1_Cine", "Dataset501_", "Dataset501 Cine"])
def test_a_folder_that_nnunet_would_not_find_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="DatasetNNN_Name"):
        export(tmp_path / name, cases("acdc", acdc(tmp_path / "in", 1)))


def test_cases_without_any_label_are_refused(tmp_path):
    found = cases("acdc", acdc(tmp_path / "in", 1, labelled=False))
    with pytest.raises(InputError, match="no case has a label"):
        export(tmp_path / "Dataset501_Cine", found)
    assert not (tmp_path / "Dataset501_Cine").exists()


def test_sets_that_annotate_a_part_are_refused(tmp_path):
    folder = tmp_path / "in" / "SC-HF-I-1"
    for phase in ("ED", "ES"):
        save(folder / f"SCD1_{phase}.nii.gz", np.arange(90).reshape(SHAPE).astype(np.int16))
        save(folder / f"SCD1_{phase}_gt.nii.gz", np.ones(SHAPE, np.uint8))
    facts = {"case": "SC-HF-I-1", "scd": "SCD1", "slices_LV_ED": [1], "slices_LV_ES": [1]}
    (folder / "case.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="Leave sunnybrook out"):
        export(tmp_path / "Dataset501_Cine", cases("sunnybrook", tmp_path / "in"))


def test_cines_of_unknown_phase_are_left_out_and_named(tmp_path):
    root = tmp_path / "mnms"
    save(root / "Unlabeled" / "C2_sa.nii.gz", np.arange(180).reshape(*SHAPE, 2).astype(np.int16))
    (root / "info.csv").write_text("External code,ED,ES\nC2,,\n")
    found = [*cases("mnms", root), *cases("acdc", acdc(tmp_path / "in", 1))]
    assert export(tmp_path / "Dataset501_Cine", found).left_out == ("mnms_C2_cine",)


def test_the_integrity_check_of_nnunet_itself_finds_nothing(tmp_path, capfd):
    check = pytest.importorskip(
        "nnunetv2.experiment_planning.verify_dataset_integrity", reason="nnunetv2 is not installed"
    )
    found = [
        *cases("acdc", acdc(tmp_path / "acdc", 2, affine=SKEWED)),
        *cases("myops", myops(tmp_path / "myops")),
    ]
    out = tmp_path / "Dataset501_Cine"
    export(out, found)
    check.verify_dataset_integrity(str(out), num_processes=1)
    shown = capfd.readouterr().out
    assert "verify_dataset_integrity Done" in shown
    assert not re.search("warning|error:", shown, re.IGNORECASE)
