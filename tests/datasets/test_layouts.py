"""Loaders on tiny trees in the exact layouts of the public sets, with their traps."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.datasets import REGISTRY, cases, dataset, label_map, load_case

SHAPE = (6, 5, 3)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def image(path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def label(path: Path, values: dict[int, tuple], shape: tuple[int, ...] = SHAPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(shape, np.uint8)
    for value, index in values.items():
        labels[index] = value
    nib.save(nib.Nifti1Image(labels, AFFINE), path)
    return path


def acdc_patient(root: Path, patient: str, ed: int, es: int, group: str = "DCM") -> Path:
    folder = root / patient
    for frame in {ed, es}:
        image(folder / f"{patient}_frame{frame:02d}.nii.gz")
        label(
            folder / f"{patient}_frame{frame:02d}_gt.nii.gz",
            {3: np.s_[2, 2, 1], 2: np.s_[3, 2, 1], 1: np.s_[4, 2, 1]},
        )
    image(folder / f"{patient}_4d.nii.gz", (*SHAPE, 12))
    (folder / "Info.cfg").write_text(
        f"ED: {ed}\nES: {es}\nGroup: {group}\nHeight: 184.0\nNbFrame: 12\nWeight: 95.0\n"
    )
    return folder


# ACDC


def test_acdc_takes_ed_and_es_from_the_info_file_and_maps_its_labels(tmp_path):
    acdc_patient(tmp_path / "database" / "training", "patient090", ed=4, es=11, group="ARV")
    found = cases("acdc", tmp_path / "database")
    assert [(c.patient, c.phase, c.image.name) for c in found] == [
        ("patient090", "ED", "patient090_frame04.nii.gz"),
        ("patient090", "ES", "patient090_frame11.nii.gz"),
    ]
    assert found[0].details["group"] == "RV"
    study, labels = load_case(found[0])
    assert study.frames.shape == (*SHAPE, 1)
    assert [labels[2, 2, 1], labels[3, 2, 1], labels[4, 2, 1]] == [1, 2, 3]


def test_acdc_with_a_unit_sform_has_the_spacing_of_its_zooms(tmp_path):
    folder = acdc_patient(tmp_path, "patient001", ed=1, es=12)
    for path in folder.glob("*frame01*.nii.gz"):
        loaded = nib.load(path)
        voxels = np.asanyarray(loaded.dataobj)
        trapped = nib.Nifti1Image(voxels, None)
        trapped.header.set_sform(np.eye(4), code=1)
        trapped.header.set_qform(np.diag([1.3158, 1.3158, 10.0, 1.0]), code=1)
        trapped.header["pixdim"][1:4] = (1.3158, 1.3158, 10.0)
        trapped.to_filename(path)
    study, labels = load_case(cases("acdc", tmp_path)[0])
    assert study.grid.spacing == pytest.approx((1.3158, 1.3158, 10.0), abs=1e-4)
    assert labels is not None


def test_acdc_in_its_flat_form_is_read_and_a_missing_label_means_image_only(tmp_path):
    folder = tmp_path / "patient064"
    for phase in ("ED", "ES"):
        image(folder / f"patient064_{phase}.nii.gz")
    label(folder / "patient064_ED_gt.nii.gz", {3: np.s_[2, 2, 1]})
    found = cases("acdc", tmp_path)
    assert [(c.phase, c.label is not None) for c in found] == [("ED", True), ("ES", False)]
    assert load_case(found[1])[1] is None
    assert load_case(found[0])[1].max() == 1


def test_acdc_nested_twice_and_resource_forks_of_archives_do_not_confuse(tmp_path):
    acdc_patient(tmp_path / "testing" / "testing", "patient101", ed=1, es=9)
    fork = tmp_path / "__MACOSX" / "testing" / "patient101"
    fork.mkdir(parents=True)
    (fork / "Info.cfg").write_text("not a configuration")
    (tmp_path / "testing" / "testing" / "patient101" / "._Info.cfg").write_text("junk")
    assert len(cases("acdc", tmp_path)) == 2


def test_acdc_patients_found_twice_are_an_error_naming_both(tmp_path):
    acdc_patient(tmp_path / "one", "patient101", ed=1, es=9)
    acdc_patient(tmp_path / "two", "patient101", ed=1, es=9)
    with pytest.raises(InputError, match="patient101_ED is there twice"):
        cases("acdc", tmp_path)


def test_acdc_info_that_names_a_missing_frame_is_an_error_naming_the_file(tmp_path):
    folder = acdc_patient(tmp_path, "patient001", ed=1, es=9)
    (folder / "patient001_frame09.nii.gz").unlink()
    with pytest.raises(InputError, match=r"patient001_frame09\.nii\.gz"):
        cases("acdc", tmp_path)


def test_acdc_info_without_a_number_is_an_error_naming_the_phase(tmp_path):
    folder = acdc_patient(tmp_path, "patient001", ed=1, es=9)
    (folder / "Info.cfg").write_text("ED: 1\nES: late\n")
    with pytest.raises(InputError, match="ES"):
        cases("acdc", tmp_path)


def test_a_value_outside_the_map_is_an_error_naming_the_file(tmp_path):
    folder = acdc_patient(tmp_path, "patient001", ed=1, es=9)
    label(folder / "patient001_frame01_gt.nii.gz", {7: np.s_[2, 2, 1]})
    with pytest.raises(LabelError, match=r"patient001_frame01_gt\.nii\.gz.*7"):
        load_case(cases("acdc", tmp_path)[0])


def test_a_label_on_another_grid_is_an_error_naming_the_file(tmp_path):
    folder = acdc_patient(tmp_path, "patient001", ed=1, es=9)
    label(folder / "patient001_frame01_gt.nii.gz", {3: np.s_[2, 2, 1]}, shape=(6, 5, 4))
    with pytest.raises(GridError, match=r"patient001_frame01_gt\.nii\.gz"):
        load_case(cases("acdc", tmp_path)[0])


# M&Ms

HEADER = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight\n"


def mnms_subject(folder: Path, code: str, frames: int = 3) -> None:
    image(folder / code / f"{code}_sa.nii.gz", (*SHAPE, frames))
    label(
        folder / code / f"{code}_sa_gt.nii.gz",
        {1: np.s_[2, 2, 1, 0], 2: np.s_[3, 2, 1, 2], 3: np.s_[4, 2, 1, 2]},
        (*SHAPE, frames),
    )


def test_mnms_takes_frames_from_the_table_counted_from_0(tmp_path):
    root = tmp_path / "OpenDataset"
    mnms_subject(root / "Training" / "Labeled", "A0S9V9")
    (root / "info.csv").write_text(
        HEADER + "0,A0S9V9,Siemens,A,1,0,2,50,HCM,F,170,70\n,,,,,,,,,,,\n"
    )
    ed, es = cases("mnms", root)
    assert (ed.frame, es.frame) == (0, 2)
    assert ed.details["Vendor"] == "A"
    study, labels = load_case(es)
    assert study.frames.shape == (*SHAPE, 1)
    assert study.frames[0, 0, 0, 0] == 2
    assert labels.shape == SHAPE
    assert [labels[2, 2, 1], labels[3, 2, 1], labels[4, 2, 1]] == [0, 2, 3]
    assert [v for v in np.unique(load_case(ed)[1])] == [0, 1]


def test_mnms_columns_are_found_by_name(tmp_path):
    mnms_subject(tmp_path, "B1")
    (tmp_path / "info.csv").write_text("ES,ED,External code\n2.0,0,B1\n")
    assert [c.frame for c in cases("mnms", tmp_path)] == [0, 2]


def test_mnms_labels_below_unlabeled_are_none_and_unknown_frames_give_the_cine(tmp_path):
    mnms_subject(tmp_path / "Training" / "Unlabeled", "C2")
    (tmp_path / "info.csv").write_text(HEADER + "0,C2,GE,C,3,,,,,,,\n")
    (case,) = cases("mnms", tmp_path)
    assert (case.phase, case.frame, case.label) == ("cine", None, None)
    study, labels = load_case(case)
    assert study.n_frames == 3
    assert labels is None


def test_mnms_without_its_table_or_without_a_row_is_an_error(tmp_path):
    mnms_subject(tmp_path, "D3")
    with pytest.raises(InputError, match="External code"):
        cases("mnms", tmp_path)
    (tmp_path / "info.csv").write_text(HEADER + "0,OTHER,GE,C,3,0,2,,,,,\n")
    with pytest.raises(InputError, match="D3"):
        cases("mnms", tmp_path)


def test_mnms_frame_beyond_the_image_is_an_error_naming_the_file(tmp_path):
    mnms_subject(tmp_path, "E4")
    (tmp_path / "info.csv").write_text(HEADER + "0,E4,GE,C,3,0,30,,,,,\n")
    with pytest.raises(InputError, match=r"E4_sa\.nii\.gz.*30"):
        load_case(cases("mnms", tmp_path)[1])


def test_mnms_in_its_flat_form_and_with_cosines_off_orthonormal_is_read(tmp_path):
    skewed = AFFINE.copy()
    skewed[0, 1] = 1.5 * 1.1e-4
    path = image(tmp_path / "F5" / "F5_sa_ED.nii.gz", affine=skewed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 2, 1] = 3
    nib.save(nib.Nifti1Image(labels, skewed), path.with_name("F5_sa_ED_gt.nii.gz"))
    (case,) = cases("mnms", tmp_path)
    study, truth = load_case(case)
    np.testing.assert_allclose(study.grid.affine, skewed, atol=1e-6)
    assert truth[2, 2, 1] == 3


# Sunnybrook


def sunnybrook_patient(root: Path, rv: bool = False) -> None:
    folder = root / "SC-HF-I-1"
    for phase in ("ED", "ES"):
        image(folder / f"SCD0000101_{phase}.nii.gz")
        values = {1: np.s_[2, 2, 1], 2: np.s_[3, 2, 1]} if phase == "ED" else {1: np.s_[2, 2, 1]}
        label(
            folder / f"SCD0000101_{phase}_gt.nii.gz", {**values, **({3: (0, 0, 0)} if rv else {})}
        )
    facts = {
        "case": "SC-HF-I-1",
        "scd": "SCD0000101",
        "slices_LV_ED": [1],
        "slices_MYO_ED": [1],
        "slices_LV_ES": [1, 2],
        "slices_MYO_ES": [],
    }
    (folder / "case.json").write_text(json.dumps(facts))


def test_sunnybrook_names_the_contoured_slices_of_each_structure(tmp_path):
    sunnybrook_patient(tmp_path)
    ed, es = cases("sunnybrook", tmp_path)
    assert (ed.patient, ed.phase) == ("SC-HF-I-1", "ED")
    assert [s.name for s in ed.structures] == ["LV", "MYO"]
    assert [s.name for s in es.structures] == ["LV"]
    assert es.scored_slices["LV"] == (1, 2)


def test_sunnybrook_has_no_rv_and_its_value_is_refused(tmp_path):
    sunnybrook_patient(tmp_path, rv=True)
    with pytest.raises(LabelError, match=r"SCD0000101_ED_gt\.nii\.gz.*3"):
        load_case(cases("sunnybrook", tmp_path)[0])


def test_sunnybrook_with_a_broken_description_is_an_error_naming_it(tmp_path):
    sunnybrook_patient(tmp_path)
    (tmp_path / "SC-HF-I-1" / "case.json").write_text("{")
    with pytest.raises(InputError, match=r"case\.json"):
        cases("sunnybrook", tmp_path)


# M&Ms-2

MNMS2_TABLE = (
    "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n41,LV,SIEMENS,SymphonyTim,1.5\n,,,,\n,,,,\n"
)


def mnms2_subject(folder: Path, code: str) -> Path:
    for view in ("SA", "LA"):
        for phase in ("ED", "ES"):
            image(folder / code / f"{code}_{view}_{phase}.nii.gz")
            label(
                folder / code / f"{code}_{view}_{phase}_gt.nii.gz",
                {1: np.s_[2, 2, 1], 2: np.s_[3, 2, 1], 3: np.s_[4, 2, 1]},
            )
        image(folder / code / f"{code}_{view}_CINE.nii.gz", (*SHAPE, 4))
    return folder / code


def test_mnms2_takes_short_axes_alone_and_its_table_has_blank_rows_and_bare_numbers(tmp_path):
    mnms2_subject(tmp_path / "MnM2" / "dataset", "041")
    (tmp_path / "MnM2" / "dataset_information.csv").write_text(MNMS2_TABLE)
    for root in (tmp_path, tmp_path / "MnM2", tmp_path / "MnM2" / "dataset"):
        found = cases("mnms2", root)
        assert [(c.name, c.image.name) for c in found] == [
            ("041_ED", "041_SA_ED.nii.gz"),
            ("041_ES", "041_SA_ES.nii.gz"),
        ]
        assert found[0].details == {
            "disease": "LV",
            "vendor": "SIEMENS",
            "scanner": "SymphonyTim",
            "field": "1.5",
            "split": "train",
        }
    labels = load_case(found[1])[1]
    assert [labels[2, 2, 1], labels[3, 2, 1], labels[4, 2, 1]] == [1, 2, 3]


def test_mnms2_in_one_folder_without_its_table_keeps_the_official_split_by_number(tmp_path):
    for code in ("160", "161", "200", "201", "360"):
        image(tmp_path / f"{code}_SA_ED.nii.gz")
    found = cases("mnms2", tmp_path)
    assert [c.details["split"] for c in found] == [
        *("train", "validation", "validation", "test", "test")
    ]
    assert all(c.label is None for c in found)


@pytest.mark.parametrize(
    ("table", "what"), [("CODE,DISEASE\n41,LV\n", "SUBJECT_CODE"), ("SUBJECT_CODE\nAB\n", "'AB'")]
)
def test_mnms2_with_another_table_is_an_error_naming_it(tmp_path, table, what):
    mnms2_subject(tmp_path, "041")
    (tmp_path / "dataset_information.csv").write_text(table)
    with pytest.raises(InputError, match=f"dataset_information.csv.*{what}"):
        cases("mnms2", tmp_path)


# MyoPS


def wide_label(path: Path, values: dict[int, tuple], dtype: type = np.int16) -> Path:
    """A label whose values do not fit 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SHAPE, dtype)
    for value, index in values.items():
        labels[index] = value
    nib.save(nib.Nifti1Image(labels, AFFINE), path)
    return path


MYOPS_VALUES = {
    500: np.s_[1, 2, 1],
    200: np.s_[2, 2, 1],
    1220: np.s_[3, 2, 1],
    2221: np.s_[4, 2, 1],
    600: np.s_[5, 2, 1],
}


@pytest.mark.parametrize("nested", [True, False])
def test_myops_takes_bssfp_alone_and_oedema_and_scar_are_myocardium(tmp_path, nested):
    parts = ("train25", "train25_myops_gd", "test20") if nested else ("", "", "")
    for sequence in ("C0", "DE", "T2"):
        image(tmp_path / parts[0] / f"myops_training_101_{sequence}.nii.gz")
        image(tmp_path / parts[2] / f"myops_test_201_{sequence}.nii.gz")
    wide_label(tmp_path / parts[1] / "myops_training_101_gd.nii.gz", MYOPS_VALUES, np.uint16)
    wide_label(tmp_path / parts[2] / "myops_test_201_gd.nii.gz", {})
    training, test = cases("myops", tmp_path)
    assert (training.name, training.image.name) == ("101_single", "myops_training_101_C0.nii.gz")
    assert (test.patient, test.label) == ("201", None)
    study, labels = load_case(training)
    assert study.frames.shape == (*SHAPE, 1)
    np.testing.assert_array_equal(labels[1:, 2, 1], [1, 2, 2, 2, 3])


def test_myops_label_of_a_patient_found_twice_is_an_error_naming_both(tmp_path):
    image(tmp_path / "train25" / "myops_training_101_C0.nii.gz")
    for folder in ("a", "b"):
        wide_label(tmp_path / folder / "myops_training_101_gd.nii.gz", MYOPS_VALUES)
    with pytest.raises(InputError, match="b/myops_training_101_gd.*twice.*a/myops_training_101"):
        cases("myops", tmp_path)


# MS-CMRSeg


def mscmrseg_tree(root: Path) -> None:
    first = root / "C0LET2_nii45_for_challenge19"
    for number in (2, 10, 36, 45):
        for sequence in ("C0", "T2", "LGE"):
            image(first / "c0t2lge" / f"patient{number}_{sequence}.nii.gz")
    values = {500: np.s_[2, 2, 1], 200: np.s_[3, 2, 1], 600: np.s_[4, 2, 1]}
    for number in (2, 10):
        wide_label(first / "c0gt" / f"patient{number}_C0_manual.nii.gz", values)
        wide_label(first / "lgegt" / f"patient{number}_LGE_manual.nii.gz", {7: np.s_[0, 0, 0]})
    second = root / "C0LET2_gt_for_challenge19" / "C0_manual_10"
    wide_label(second / "patient36_C0_manual.nii.gz", values)


def test_mscmrseg_joins_the_labels_of_both_packages_by_number(tmp_path):
    mscmrseg_tree(tmp_path)
    found = cases("mscmrseg", tmp_path)
    assert [(c.patient, c.label is not None) for c in found] == [
        ("patient2", True),
        ("patient10", True),
        ("patient36", True),
        ("patient45", False),
    ]
    labels = load_case(found[2])[1]
    assert [labels[2, 2, 1], labels[3, 2, 1], labels[4, 2, 1]] == [1, 2, 3]


def test_mscmrseg_voxels_that_are_nan_get_the_lowest_value_and_the_study_says_so(tmp_path):
    mscmrseg_tree(tmp_path)
    (path,) = tmp_path.rglob("patient2_C0.nii.gz")
    voxels = np.full(SHAPE, np.nan, np.float32)
    voxels[1:, :, 1] = np.arange(25).reshape(5, 5) + 7
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    study, _ = load_case(cases("mscmrseg", tmp_path)[0])
    assert np.isfinite(study.frames).all()
    assert study.frames.min() == study.frames[0, 0, 0, 0] == 7
    assert study.frames[5, 4, 1, 0] == 31
    assert study.notes == ("65 voxels were NaN or infinite and got the lowest value.",)


def test_mscmrseg_image_of_nothing_but_nan_is_refused_and_so_is_nan_in_other_sets(tmp_path):
    mscmrseg_tree(tmp_path)
    (path,) = tmp_path.rglob("patient2_C0.nii.gz")
    nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan, np.float32), AFFINE), path)
    with pytest.raises(InputError, match=r"patient2_C0\.nii\.gz.*NaN"):
        load_case(cases("mscmrseg", tmp_path)[0])
    folder = acdc_patient(tmp_path, "patient001", ed=1, es=9)
    voxels = np.ones(SHAPE, np.float32)
    voxels[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(voxels, AFFINE), folder / "patient001_frame01.nii.gz")
    with pytest.raises(InputError, match="1 voxels that are NaN"):
        load_case(cases("acdc", tmp_path)[0])


# CMRxMotion


def cmrxmotion_scan(folder: Path, name: str, labelled: bool = True, nested: bool = True) -> None:
    folder = folder / name if nested else folder
    for phase in ("ED", "ES"):
        image(folder / f"{name}-{phase}.nii.gz", (*SHAPE, 1))
        if labelled:
            label(
                folder / f"{name}-{phase}-label.nii.gz",
                {1: np.s_[2, 2, 1], 2: np.s_[3, 2, 1], 3: np.s_[4, 2, 1]},
            )


@pytest.mark.parametrize("nested", [True, False])
def test_cmrxmotion_groups_scans_by_volunteer_and_tells_manner_and_grade(tmp_path, nested):
    training, validation = (
        tmp_path / "CMRxMotion Training Dataset",
        tmp_path / "CMRxMotion_validation",
    )
    cmrxmotion_scan(training / "data", "P001-1", nested=nested)
    cmrxmotion_scan(training / "data", "P001-4", labelled=False, nested=nested)
    cmrxmotion_scan(validation, "P033-3", labelled=False, nested=nested)
    (training / "IQA.csv").write_text(
        "Image,Label\nP001-1-ED,1\nP001-1-ES,2\nP001-4-ED,3\nP001-4-ES,3\n,\n"
    )
    found = cases("cmrxmotion", tmp_path)
    assert [c.name for c in found] == [
        *("P001-1_ED", "P001-1_ES", "P001-4_ED", "P001-4_ES", "P033-3_ED", "P033-3_ES")
    ]
    assert {c.group for c in found} == {"cmrxmotion/P001", "cmrxmotion/P033"}
    assert [c.details.get("grade") for c in found] == ["1", "2", "3", "3", None, None]
    assert [c.details["manner"] for c in found[::2]] == ["full breath-hold", "intensive", "free"]
    assert [c.label is None for c in found] == [False, False, True, True, True, True]
    study, labels = load_case(found[0])
    assert (study.frames.shape, study.is_cine, labels.shape) == ((*SHAPE, 1), False, SHAPE)
    assert [labels[2, 2, 1], labels[3, 2, 1], labels[4, 2, 1]] == [1, 2, 3]


def test_cmrxmotion_tables_of_scores_from_1_to_5_become_grades(tmp_path):
    cmrxmotion_scan(tmp_path / "data", "P005-1")
    cmrxmotion_scan(tmp_path / "data", "P005-2")
    (tmp_path / "IQA.csv").write_bytes(
        b"\xef\xbb\xbfname,score\nP005-1-ED.nii.gz,5\nP005-1-ES,3.0\nP005-2-ED,2\nP005-2-ES,1\n"
    )
    assert [c.details["grade"] for c in cases("cmrxmotion", tmp_path / "data")] == list("1233")


@pytest.mark.parametrize("grade", ["0", "6", "mild", ""])
def test_cmrxmotion_grade_that_is_none_is_an_error_naming_table_and_scan(tmp_path, grade):
    cmrxmotion_scan(tmp_path, "P001-1")
    (tmp_path / "IQA.csv").write_text(f"Image,Label\nP001-1-ED,{grade}\n")
    with pytest.raises(InputError, match=f"IQA.csv.*P001-1-ED the grade '?{grade}"):
        cases("cmrxmotion", tmp_path)


def test_cmrxmotion_without_grades_is_read(tmp_path):
    cmrxmotion_scan(tmp_path, "P020-2")
    assert cases("cmrxmotion", tmp_path)[0].details == {"manner": "half breath-hold"}


# Phantom


def test_phantom_folders_are_read_with_the_phases_of_their_truth(tmp_path):
    folder = tmp_path / "phantom-0001"
    image(folder / "phantom-0001.nii.gz", (*SHAPE, 4))
    label(
        folder / "phantom-0001_gt.nii.gz",
        {1: np.s_[2, 2, 1, 0], 3: np.s_[2, 2, 1, 3]},
        (*SHAPE, 4),
    )
    truth = {"ed": 0, "es": 3, "group": "healthy", "manner": "half_hold", "grade": 2}
    (folder / "truth.json").write_text(json.dumps(truth))
    ed, es = cases("phantom", tmp_path)
    assert (ed.patient, ed.frame, es.frame) == ("phantom-0001", 0, 3)
    assert ed.details == {"group": "healthy", "manner": "half breath-hold", "grade": "2"}
    assert load_case(ed)[1][2, 2, 1] == 1
    assert load_case(es)[1][2, 2, 1] == 3


# All of them


@pytest.mark.parametrize("name", list(REGISTRY))
def test_a_folder_without_cases_or_that_does_not_exist_is_an_error(tmp_path, name):
    with pytest.raises(InputError, match="no case"):
        cases(name, tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        cases(name, tmp_path / "nowhere")


def test_an_unknown_set_is_an_error_naming_the_known_ones():
    with pytest.raises(InputError, match="acdc, mnms"):
        dataset("acdd")
    assert label_map("canonical").values == {1: 1, 2: 2, 3: 3}
    assert label_map("acdc").values == {1: 3, 2: 2, 3: 1}
