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


# Phantom


def test_phantom_folders_are_read_with_the_phases_of_their_truth(tmp_path):
    folder = tmp_path / "phantom-0001"
    image(folder / "phantom-0001.nii.gz", (*SHAPE, 4))
    label(
        folder / "phantom-0001_gt.nii.gz",
        {1: np.s_[2, 2, 1, 0], 3: np.s_[2, 2, 1, 3]},
        (*SHAPE, 4),
    )
    (folder / "truth.json").write_text(json.dumps({"ed": 0, "es": 3, "group": "healthy"}))
    ed, es = cases("phantom", tmp_path)
    assert (ed.patient, ed.frame, es.frame) == ("phantom-0001", 0, 3)
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
