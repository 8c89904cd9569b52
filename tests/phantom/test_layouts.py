"""Cohorts on disk: the trees of the public sets, their values, and the loaders that read them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.grid import Grid
from cinelabel.datasets import cases, load_case
from cinelabel.phantom import layouts
from cinelabel.phantom.cohort import PhantomStudy
from cinelabel.phantom.layouts import FORMATS, PUBLIC_SETS, mnms_code, write_cohort
from cinelabel.studies.study import Study

SHAPE = (9, 8, 5)
ED, ES = 1, 3
# Oblique, left-handed: a rotation of a 3-4-5 triangle; 1.5 x 1.25 x 8 mm.
AFFINE = np.array(
    [
        [1.5, 0.0, 0.0, 40.0],
        [0.0, -0.6 * 1.25, 0.8 * 8, -30.0],
        [0.0, 0.8 * 1.25, 0.6 * 8, 12.5],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def small_phantom(
    seed: int, *, frames: int = 20, group: str | None = None, manner: int | None = None, **_: object
) -> PhantomStudy:
    """Distinct whole numbers and a label in every frame; grade 3 for the fourth manner."""
    rng = np.random.default_rng([seed, manner or 0])
    images = rng.integers(0, 4096, (*SHAPE, frames)).astype(np.float32)
    labels = rng.integers(0, 4, images.shape).astype(np.uint8)
    study = Study(
        name=f"phantom-{seed:04d}",
        frames=images,
        grid=Grid(SHAPE, AFFINE),
        is_cine=frames > 1,
        trigger_times_ms=tuple(45.0 * t for t in range(frames)),
        ed=ED,
        es=ES,
        kind="phantom",
        slice_thickness_mm=6.0,
    )
    truth = {"seed": seed, "group": group or "infarcted", "ed": ED, "es": ES}
    truth |= {"field_strength_t": 3.0, "repetition_ms": 3.2, "scanner": {"phase_axis": 1}}
    return PhantomStudy(study, labels, {**truth, "grade": 3 if manner == 4 else 1})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(layouts, "make_study", small_phantom)
    return


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def require_round_trip(name: str, root: Path, made: PhantomStudy) -> None:
    """The set's loader finds ED and ES of one patient with the phantom's values and grid."""
    found = cases(name, root)
    assert [case.phase for case in found] == ["ED", "ES"]
    for case, frame in zip(found, (ED, ES), strict=True):
        study, labels = load_case(case)
        np.testing.assert_array_equal(study.frames[..., 0], made.study.frames[..., frame])
        np.testing.assert_array_equal(labels, made.labels[..., frame])
        np.testing.assert_allclose(study.grid.affine, AFFINE, atol=1e-4)


@pytest.mark.parametrize("file_format", ["nifti", "dicom", "both"])
def test_a_cohort_in_our_own_layout_reads_back_as_studies_with_labels(tmp_path, file_format):
    (folder,) = write_cohort(tmp_path, studies=1, seed=3, file_format=file_format, frames=5)
    made = small_phantom(3, frames=5)
    assert (folder / "dicom").is_dir() == (file_format != "nifti")
    assert (folder / "phantom-0003.nii.gz").is_file() == (file_format != "dicom")
    labels, grid = studies.load_label(folder / "phantom-0003_gt.nii.gz")
    np.testing.assert_array_equal(labels, made.labels)
    assert made.study.grid.equals(grid)
    assert json.loads((folder / "truth.json").read_text()) == made.truth
    require_round_trip("phantom", tmp_path, made)


def test_dicom_of_a_cohort_has_the_values_and_times_of_the_study(tmp_path):
    (folder,) = write_cohort(tmp_path, studies=1, seed=3, file_format="dicom", frames=5)
    study, made = studies.load(folder / "dicom"), small_phantom(3, frames=5).study
    np.testing.assert_array_equal(study.frames, made.frames)
    assert study.trigger_times_ms == made.trigger_times_ms
    image = pydicom.dcmread(next((folder / "dicom").iterdir()), stop_before_pixels=True)
    assert (image.MagneticFieldStrength, image.InPlanePhaseEncodingDirection) == (3, "COL")
    assert (image.RepetitionTime, image.EchoTime) == (3.2, 1.6)
    assert "FlipAngle" not in image  # the truth does not tell
    assert image.PatientID == "phantom-0003"  # phantoms of a cohort are different patients


def test_acdc_is_the_tree_of_the_published_set(tmp_path):
    folders = write_cohort(tmp_path, studies=2, seed=3, file_format="acdc", frames=5)
    assert [folder.name for folder in folders] == ["patient001", "patient002"]
    assert tree(tmp_path / "database" / "training" / "patient002") == [
        "Info.cfg",
        "patient002_4d.nii.gz",
        "patient002_frame02.nii.gz",
        "patient002_frame02_gt.nii.gz",
        "patient002_frame04.nii.gz",
        "patient002_frame04_gt.nii.gz",
    ]
    info = (folders[0] / "Info.cfg").read_text().splitlines()
    assert info == ["ED: 2", "ES: 4", "Group: MINF", "NbFrame: 5"]


def test_acdc_has_its_own_label_values_and_the_phases_count_from_1(tmp_path):
    (folder,) = write_cohort(tmp_path, studies=1, seed=3, file_format="acdc", frames=5)
    made = small_phantom(3, frames=5)
    label = voxels(folder / "patient001_frame04_gt.nii.gz")
    canonical = made.labels[..., ES]
    for canonical_value, value in ((0, 0), (1, 3), (2, 2), (3, 1)):
        np.testing.assert_array_equal(label == value, canonical == canonical_value)
    cine = voxels(folder / "patient001_4d.nii.gz")
    np.testing.assert_array_equal(cine, made.study.frames)
    np.testing.assert_array_equal(cine[..., 3], voxels(folder / "patient001_frame04.nii.gz"))
    assert (cine.dtype, label.dtype) == (np.int16, np.uint8)


@pytest.mark.parametrize("unit_sform", [False, True])
def test_acdc_is_read_by_its_loader_with_and_without_the_trap_in_its_headers(tmp_path, unit_sform):
    (folder,) = write_cohort(
        tmp_path, studies=1, seed=3, file_format="acdc", frames=5, unit_sform=unit_sform
    )
    require_round_trip("acdc", tmp_path, small_phantom(3, frames=5))
    image = nib.load(folder / "patient001_frame02.nii.gz")
    assert image.header.get_zooms() == pytest.approx((1.5, 1.25, 8.0))
    scale = np.linalg.norm(image.get_sform()[:3, :3], axis=0)
    assert scale == pytest.approx((1, 1, 1) if unit_sform else (1.5, 1.25, 8.0))


def test_mnms_is_read_by_its_loader_and_labelled_at_ed_and_es_alone(tmp_path):
    (folder,) = write_cohort(tmp_path, studies=1, seed=3, file_format="mnms", frames=5)
    made = small_phantom(3, frames=5)
    require_round_trip("mnms", tmp_path / "OpenDataset", made)
    assert folder.parent == tmp_path / "OpenDataset" / "Training" / "Labeled"
    label = voxels(folder / f"{folder.name}_sa_gt.nii.gz")
    assert [t for t in range(5) if label[..., t].any()] == [ED, ES]
    np.testing.assert_array_equal(label[..., ES], made.labels[..., ES])
    (ed, _) = cases("mnms", tmp_path / "OpenDataset")
    assert (ed.details["VendorName"], ed.details["Pathology"]) == ("CineLabel phantom", "IHD")


def test_mnms_has_the_table_of_the_published_set(tmp_path):
    folders = write_cohort(tmp_path, studies=3, seed=3, file_format="mnms", frames=5)
    (table,) = (tmp_path / "OpenDataset").glob("*.csv")
    assert table.name == "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    with table.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert ",".join(header) == (
        ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight"
    )
    assert [row[:2] for row in rows] == [[str(n), f.name] for n, f in enumerate(folders)]
    assert {(row[5], row[6]) for row in rows} == {(str(ED), str(ES))}


def test_codes_look_like_those_of_mnms_and_differ():
    codes = [mnms_code(number) for number in range(20_000)]
    assert all(re.fullmatch(r"([A-Z]\d){3}", code) for code in codes)
    assert len(set(codes)) == len(codes)


def test_cmrxmotion_is_the_tree_of_the_published_set_without_labels_of_severe_scans(tmp_path):
    write_cohort(tmp_path, studies=2, seed=3, file_format="cmrxmotion", frames=5)
    names = [f"P{volunteer:03d}-{manner}" for volunteer in (1, 2) for manner in (1, 2, 3, 4)]
    expected = ["IQA.csv"]
    for name in names:
        for phase in ("ED", "ES"):
            expected.append(f"data/{name}/{name}-{phase}.nii.gz")
            if not name.endswith("-4"):
                expected.append(f"data/{name}/{name}-{phase}-label.nii.gz")
    assert tree(tmp_path / "CMRxMotion Training Dataset") == sorted(expected)
    with (tmp_path / "CMRxMotion Training Dataset" / "IQA.csv").open(newline="") as stream:
        _, *rows = csv.reader(stream)
    assert rows == [
        [f"{name}-{phase}", "3" if name.endswith("-4") else "1"]
        for name in names
        for phase in ("ED", "ES")
    ]


def test_cmrxmotion_has_images_of_four_axes_and_labels_of_three(tmp_path):
    write_cohort(tmp_path, studies=1, seed=3, file_format="cmrxmotion", frames=5)
    folder = tmp_path / "CMRxMotion Training Dataset" / "data" / "P001-2"
    made = small_phantom(3, frames=5, manner=2)
    image, label = (nib.load(folder / f"P001-2-ES{end}.nii.gz") for end in ("", "-label"))
    assert (image.shape, label.shape) == ((*SHAPE, 1), SHAPE)
    np.testing.assert_array_equal(voxels(folder / "P001-2-ES.nii.gz")[..., 0], made.study.frame(ES))
    np.testing.assert_array_equal(np.asanyarray(label.dataobj), made.labels[..., ES])
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-4)
    assert not studies.load(folder / "P001-2-ES.nii.gz").is_cine


def test_cmrxmotion_is_read_by_the_loader_of_the_set_with_grades_and_manners(tmp_path):
    write_cohort(tmp_path, studies=2, seed=3, file_format="cmrxmotion", frames=5)
    found = cases("cmrxmotion", tmp_path)
    assert len(found) == 2 * 4 * 2
    assert {case.patient for case in found} == {"P001", "P002"}
    severe = [case for case in found if case.details["grade"] == "3"]
    assert {case.details["manner"] for case in severe} == {"intensive"}
    assert [case.label for case in severe] == [None] * 4
    made = small_phantom(4, frames=5, manner=1)
    (case,) = (case for case in found if case.name == "P002-1_ES")
    study, labels = load_case(case)
    np.testing.assert_array_equal(study.frame(0), made.study.frame(ES))
    np.testing.assert_array_equal(labels, made.labels[..., ES])
    np.testing.assert_allclose(study.grid.affine, AFFINE, atol=1e-4)


@pytest.mark.parametrize("file_format", list(PUBLIC_SETS))
def test_truth_and_labels_of_every_frame_lie_beside_the_tree_of_a_public_set(tmp_path, file_format):
    folders = write_cohort(tmp_path, studies=1, seed=3, file_format=file_format, frames=5)
    manner = 4 if file_format == "cmrxmotion" else None
    made = small_phantom(3, frames=5, manner=manner)
    name = folders[-1].name
    assert json.loads((tmp_path / "truth" / f"{name}.json").read_text()) == made.truth
    labels, grid = studies.load_label(tmp_path / "truth" / f"{name}_gt.nii.gz")
    np.testing.assert_array_equal(labels, made.labels)
    assert made.study.grid.equals(grid)


@pytest.mark.parametrize("file_format", FORMATS)
def test_progress_is_told_study_by_study_up_to_the_last(tmp_path, file_format):
    told: list[tuple[int, int]] = []
    folders = write_cohort(
        tmp_path,
        studies=2,
        seed=3,
        file_format=file_format,
        frames=5,
        progress=lambda done, total, what: told.append((done, total)),
    )
    assert told == [(n + 1, len(folders)) for n in range(len(folders))]


@pytest.mark.parametrize("file_format", list(PUBLIC_SETS))
def test_a_tree_that_holds_another_cohort_is_not_written_into(tmp_path, file_format):
    write_cohort(tmp_path, studies=1, seed=3, file_format=file_format, frames=5)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="holds another cohort"):
        write_cohort(tmp_path, studies=2, seed=9, file_format=file_format, frames=5)
    (tmp_path / "truth" / "cohort.json").unlink()
    with pytest.raises(OutputError, match="holds another cohort"):
        write_cohort(tmp_path, studies=1, seed=3, file_format=file_format, frames=5)
    assert tree(tmp_path) == [name for name in before if name != "truth/cohort.json"]


@pytest.mark.parametrize("file_format", list(PUBLIC_SETS))
def test_a_tree_that_was_deleted_is_made_anew_whatever_truth_was_left(tmp_path, file_format):
    write_cohort(tmp_path, studies=1, seed=3, file_format=file_format, frames=5)
    shutil.rmtree(tmp_path / PUBLIC_SETS[file_format].root)
    folders = write_cohort(tmp_path, studies=1, seed=4, file_format=file_format, frames=5)
    assert all(any(folder.iterdir()) for folder in folders)
    truth = json.loads((tmp_path / "truth" / f"{folders[0].name}.json").read_text())
    assert truth["seed"] == 4


@pytest.mark.parametrize("file_format", list(PUBLIC_SETS))
def test_an_interrupted_cohort_goes_on_and_equals_an_uninterrupted_one(
    tmp_path, file_format, monkeypatch
):
    order = {"studies": 3, "seed": 3, "file_format": file_format, "frames": 5}
    whole = write_cohort(tmp_path / "whole", **order)
    made: list[int] = []

    def make(seed: int, **options) -> PhantomStudy:
        if len(made) == 2:
            made.append(-1)
            raise KeyboardInterrupt
        made.append(seed)
        return small_phantom(seed, **options)

    monkeypatch.setattr(layouts, "make_study", make)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path / "cut", **order)
    cut = write_cohort(tmp_path / "cut", **order)
    assert len(made) == len(whole) + 1
    assert [f.name for f in cut] == [f.name for f in whole]
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    for name in tree(tmp_path / "whole"):
        if not name.endswith(".gz"):
            one, two = (tmp_path / run / name for run in ("whole", "cut"))
            assert one.read_text() == two.read_text()


def test_bad_arguments_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="nifti, dicom, both, acdc, mnms, cmrxmotion"):
        write_cohort(tmp_path, studies=1, seed=0, file_format="png")
    with pytest.raises(InputError, match="at least one"):
        write_cohort(tmp_path, studies=0, seed=0)
    with pytest.raises(InputError, match="at most 999"):
        write_cohort(tmp_path, studies=1000, seed=0, file_format="acdc")
    assert tree(tmp_path) == []
