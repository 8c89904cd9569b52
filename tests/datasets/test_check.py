"""What is found of a set, what is missing, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.datasets.check import check, shortened

SHAPE = (6, 5, 3)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def save(path: Path, voxels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return path


def scan(folder: Path, name: str, labelled: bool = True) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2, 1] = 1, 2, 3
    for phase in ("ED", "ES"):
        save(folder / f"{name}-{phase}.nii.gz", np.arange(90).reshape(SHAPE).astype(np.int16))
        if labelled:
            save(folder / f"{name}-{phase}-label.nii.gz", labels)


@pytest.fixture
def volunteers(tmp_path):
    """Two scans of one volunteer, one without labels, and a table that names another volunteer."""
    scan(tmp_path / "data", "P001-1")
    scan(tmp_path / "data", "P001-4", labelled=False)
    (tmp_path / "IQA.csv").write_text(
        "Image,Label\nP001-1-ED,1\nP001-1-ES,1\nP001-4-ED,3\nP001-4-ES,3\nP007-2-ED,2\n"
    )
    return tmp_path


def test_a_report_counts_patients_phases_labels_and_details(volunteers):
    report = check("cmrxmotion", volunteers)
    assert (report.patients, len(report.cases), report.labelled) == (1, 4, 2)
    assert report.details() == {
        "grade": {"1": 1, "3": 1},
        "manner": {"full breath-hold": 1, "intensive": 1},
    }
    assert [finding.shape for finding in report.findings] == [SHAPE] * 4
    assert report.findings[0].spacing == pytest.approx((1.5, 1.5, 8.0))
    assert report.findings[0].voxels == {"LV": 1, "MYO": 1, "RV": 1}
    assert report.as_dict()["phases"] == {"ED": 2, "ES": 2}


def test_what_is_missing_is_told_from_the_sets_own_table_and_from_its_published_size(volunteers):
    (volunteers / "data" / "P001-4-ES.nii.gz").unlink()
    report = check("cmrxmotion", volunteers)
    assert report.missing == (
        "1 patients of the set's own table: P007",
        "24 of the 25 patients of the set",
        "ES of 1 examinations that have ED: P001-4",
        "137 of the 139 labels of the set",
    )
    assert report.remarks == ("1 cases have no label and count as images only: P001-4_ED",)


def test_files_that_cannot_be_used_are_named_and_the_others_counted(volunteers):
    (volunteers / "data" / "P001-1-ED.nii.gz").write_bytes(b"\x1f\x8b damaged")
    foreign = np.full(SHAPE, 9, np.uint8)
    save(volunteers / "data" / "P001-1-ES-label.nii.gz", foreign)
    report = check("cmrxmotion", volunteers)
    assert list(report.problems) == ["P001-1_ED", "P001-1_ES"]
    assert "P001-1-ED.nii.gz" in report.problems["P001-1_ED"]
    assert "label value 9" in report.problems["P001-1_ES"]
    assert len(report.findings) == 2
    listed = check("cmrxmotion", volunteers, open_files=False)
    assert (listed.problems, listed.findings, len(listed.cases)) == ({}, (), 4)


def test_labels_that_lack_a_structure_and_mended_images_are_remarked(tmp_path):
    labels = np.zeros(SHAPE, np.int16)
    labels[1:3, 2, 1] = 500, 200
    image = np.arange(90).reshape(SHAPE).astype(np.float32)
    image[0, 0, 0] = np.nan
    save(tmp_path / "c0t2lge" / "patient7_C0.nii.gz", image)
    save(tmp_path / "c0gt" / "patient7_C0_manual.nii.gz", labels)
    report = check("mscmrseg", tmp_path)
    assert report.remarks == (
        "RV is labelled nowhere in 1 cases: patient7_single",
        "1 images were mended: patient7_single: 1 voxels were NaN or infinite and got the lowest "
        "value.",
    )
    assert report.missing == (
        "44 of the 45 patients of the set: patient1, patient2, patient3, patient4, ... patient45",
        "44 of the 45 labels of the set",
    )


def test_details_of_many_values_are_not_counted_value_by_value(tmp_path):
    for number in range(1, 12):
        save(tmp_path / f"{number:03d}_SA_ED.nii.gz", np.arange(90).reshape(SHAPE).astype("i2"))
    rows = "".join(f"{n},LV,GE,S{n},1.5\n" for n in range(1, 12))
    (tmp_path / "dataset_information.csv").write_text(
        "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n" + rows
    )
    report = check("mnms2", tmp_path, open_files=False)
    assert report.details() == {
        "disease": {"LV": 11},
        "field": {"1.5": 11},
        "split": {"train": 11},
        "vendor": {"GE": 11},
    }


def test_a_folder_of_another_set_is_an_error(volunteers):
    with pytest.raises(InputError, match="no case of the data set acdc"):
        check("acdc", volunteers)


def test_long_lists_are_shortened_to_the_first_names_and_the_last():
    assert shortened(list("abcdef")) == "a, b, c, d, e, f"
    assert shortened(list("abcdefg")) == "a, b, c, d, ... g"
