"""A folder of studies becomes one image a frame, without being touched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import InputError, OutputError
from cinelabel.core.grid import Grid
from cinelabel.studies import Study
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.dicom import write_cine
from cinelabel.studies.naming import study_name
from cinelabel.studies.sources import find_sources
from cinelabel.studies.workspace import prepare

LEFT_HANDED = np.array(
    [[-1.4, 0.1, 0.0, 31.0], [0.1, 1.4, 0.2, -12.0], [0.0, -0.15, 9.6, 7.0], [0, 0, 0, 1]]
)


def make_study(
    name: str, frames: int = 3, seed: int = 0, affine: np.ndarray | None = None
) -> Study:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 200, (8, 7, 4, frames)).astype(np.float32)
    grid = Grid((8, 7, 4), np.diag([1.5, 1.5, 8.0, 1.0]) if affine is None else affine)
    times = tuple(40.0 * t for t in range(frames)) if frames > 1 else None
    return Study(name=name, frames=values, grid=grid, is_cine=frames > 1, trigger_times_ms=times)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A 4D file, a 3D file, a DICOM folder, a label and a damaged file."""
    folder = tmp_path / "studies"
    studies.save_image(folder / "cine.nii.gz", make_study("cine"))
    studies.save_image(folder / "p1" / "p1_ED.nii.gz", make_study("p1_ED", frames=1, seed=1))
    studies.save_image(folder / "p1" / "p1_ED_gt.nii.gz", make_study("gt", frames=1, seed=2))
    write_cine(folder / "scanner" / "series", make_study("scan", frames=2, seed=3))
    (folder / "broken.nii").write_bytes(b"not an image")
    return folder


def images(workspace: Catalogue) -> list[str]:
    return [case.image_id for case in workspace.cases()]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_each_frame_of_each_study_becomes_an_image(folder: Path, tmp_path: Path) -> None:
    workspace = prepare(folder, tmp_path / "workspace")
    assert images(workspace) == [
        "cine__t00",
        "cine__t01",
        "cine__t02",
        "p1_ED__t00",
        "scanner-series__t00",
        "scanner-series__t01",
    ]
    cine = studies.load(folder / "cine.nii.gz")
    for frame in range(3):
        image = studies.load(workspace.image_path(f"cine__t{frame:02d}"))
        assert np.array_equal(image.frame(0), cine.frame(frame))
        assert not image.is_cine


def test_the_folder_is_not_changed(folder: Path, tmp_path: Path) -> None:
    before = snapshot(folder)
    prepare(folder, tmp_path / "workspace")
    assert snapshot(folder) == before


def test_what_cannot_be_read_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    problems = prepare(folder, tmp_path / "workspace").problems
    assert len(problems) == 1
    assert problems[0].startswith("broken.nii: ")
    assert problems[0].endswith(".")


def test_a_frame_keeps_a_left_handed_sheared_grid_bit_for_bit(tmp_path: Path) -> None:
    study = make_study("left", affine=LEFT_HANDED)
    studies.save_image(tmp_path / "in" / "left.nii.gz", study)
    workspace = prepare(tmp_path / "in", tmp_path / "workspace")
    source = nib.load(tmp_path / "in" / "left.nii.gz").affine
    assert np.array_equal(nib.load(workspace.image_path("left__t01")).affine, source)
    assert np.linalg.det(source[:3, :3]) < 0


def test_an_unchanged_source_is_not_written_again(folder: Path, tmp_path: Path) -> None:
    first = prepare(folder, tmp_path / "workspace")
    before = snapshot(first.images)
    second = prepare(folder, tmp_path / "workspace")
    assert snapshot(second.images) == before
    assert second.cases() == first.cases()


def test_the_labels_of_an_image_are_set_aside_when_its_voxels_change(
    folder: Path, tmp_path: Path
) -> None:
    prepare(folder, tmp_path / "workspace")
    studies.save_image(folder / "cine.nii.gz", make_study("cine", seed=9))
    os.utime(folder / "p1" / "p1_ED.nii.gz", ns=(1, 1))  # touched, same content
    set_aside: list[str] = []
    workspace = prepare(
        folder, tmp_path / "workspace", on_change=lambda image_id, *_: set_aside.append(image_id)
    )
    changed = studies.load(workspace.image_path("cine__t00")).frame(0)
    assert np.array_equal(changed, make_study("cine", seed=9).frame(0))
    assert set_aside == ["cine__t00", "cine__t01", "cine__t02"]


def test_a_study_that_goes_and_returns_has_not_changed(folder: Path, tmp_path: Path) -> None:
    before = prepare(folder, tmp_path / "workspace")
    away = (folder / "cine.nii.gz").rename(tmp_path / "cine.nii.gz")
    assert "cine__t00" not in images(prepare(folder, tmp_path / "workspace"))
    away.rename(folder / "cine.nii.gz")
    set_aside: list[str] = []
    after = prepare(
        folder, tmp_path / "workspace", on_change=lambda image_id, *_: set_aside.append(image_id)
    )
    assert after.cases() == before.cases()
    assert set_aside == []


def test_names_do_not_change_when_studies_are_added(tmp_path: Path) -> None:
    studies.save_image(tmp_path / "in" / "x" / "b.nii.gz", make_study("b"))
    before = prepare(tmp_path / "in", tmp_path / "workspace").studies
    studies.save_image(tmp_path / "in" / "x-b.nii.gz", make_study("b", seed=1))
    after = prepare(tmp_path / "in", tmp_path / "workspace").studies
    assert [s.name for s in before] == ["x-b"]
    assert {s.source.parent.name: s.name for s in after} == {"x": "x-b", "in": "x-b-2"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.nii.gz", "a"),
        ("patient001/patient001_ED.nii.gz", "patient001_ED"),
        ("acdc/patient001/patient001_ED.nii", "acdc-patient001_ED"),
        ("scan 1/dicom", "scan_1-dicom"),
        ("", "studies"),
    ],
)
def test_a_study_is_named_after_its_path(path: str, name: str) -> None:
    root = Path("/data/studies")
    assert study_name(root / path, root) == name


def test_the_whole_study_of_a_frame_can_be_loaded(folder: Path, tmp_path: Path) -> None:
    study = prepare(folder, tmp_path / "workspace").load_study("scanner-series__t01")
    assert study.frames.shape == (8, 7, 4, 2)
    assert study.name == "scanner-series"


def test_series_of_one_examination_in_several_folders_are_one_source(tmp_path: Path) -> None:
    study = make_study("scan", frames=2)
    write_cine(tmp_path / "in" / "patient" / "1", study, series_number=1)
    write_cine(tmp_path / "in" / "patient" / "2", study, series_number=2)
    write_cine(tmp_path / "in" / "other" / "1", replace(study, name="other"), patient_id="OTHER")
    found = [path.relative_to(tmp_path).as_posix() for path in find_sources(tmp_path / "in")]
    assert found == ["in/other/1", "in/patient"]
    workspace = prepare(tmp_path / "in", tmp_path / "workspace")
    assert [s.name for s in workspace.studies] == ["other-1", "patient-1", "patient-2"]
    assert workspace.problems == ()


def test_a_folder_without_studies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        prepare(tmp_path, tmp_path.parent / "workspace-of-nothing")
    (tmp_path / "bad.nii").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no study can be read: .*bad\.nii"):
        prepare(tmp_path, tmp_path.parent / "workspace-of-nothing")


def test_a_workspace_inside_the_studies_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="inside the folder of studies"):
        prepare(folder, folder / "workspace")


def test_a_workspace_of_another_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    prepare(folder, tmp_path / "workspace")
    studies.save_image(tmp_path / "other" / "a.nii.gz", make_study("a"))
    with pytest.raises(OutputError, match="is the workspace of"):
        prepare(tmp_path / "other", tmp_path / "workspace")
