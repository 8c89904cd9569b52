"""Cases are served when they are whole, and what is served follows the folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.errors import ConflictError, InputError, OutputError
from cinelabel.core.grid import Grid
from cinelabel.studies import Study
from cinelabel.studies.catalogue import Case, Catalogue
from cinelabel.studies.dicom import write_cine

GRID = Grid((8, 7, 4), np.diag([1.5, 1.5, 8.0, 1.0]))
DEADLINE_S = 30.0


def make_study(name: str = "cine", frames: int = 3, seed: int = 0) -> Study:
    values = np.random.default_rng(seed).integers(0, 200, (*GRID.shape, frames))
    times = tuple(40.0 * t for t in range(frames)) if frames > 1 else None
    return Study(name, values.astype(np.float32), GRID, frames > 1, trigger_times_ms=times)


def save(path: Path, frames: int = 3, seed: int = 0) -> Path:
    studies.save_image(path, make_study(frames=frames, seed=seed))
    return path


def ids(catalogue: Catalogue) -> list[str]:
    return [case.image_id for case in catalogue.cases()]


def scan(catalogue: Catalogue, times: int = 2) -> Catalogue:
    for _ in range(times):
        catalogue.refresh()
    return catalogue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def catalogue(folder: Path, tmp_path: Path, changes: list[str]) -> Iterator[Catalogue]:
    """No settling time: what two scans see unchanged is taken."""
    made = open_catalogue(folder, tmp_path, changes)
    yield made
    made.close()


def open_catalogue(folder: Path, tmp_path: Path, changes: list[str] | None = None) -> Catalogue:
    def on_change(image_id: str, reason: str) -> None:
        if changes is not None:
            changes.append(image_id)

    return Catalogue(folder, tmp_path / "workspace", on_change, settle_s=0)


def test_a_case_tells_what_it_is(catalogue: Catalogue, folder: Path) -> None:
    write_cine(folder / "scanner", make_study(frames=2))
    save(folder / "p1_ES.nii.gz", frames=1)
    scan(catalogue)
    dicom, nifti = catalogue.find("scanner__t01"), catalogue.find("p1_ES__t00")
    assert dicom is not None
    assert (dicom.study, dicom.frame, dicom.n_frames) == ("scanner", 1, 2)
    assert (dicom.kind, dicom.phase, dicom.source) == ("dicom", None, folder / "scanner")
    assert dicom.shape == (8, 7, 4)
    assert dicom.spacing_mm == pytest.approx((1.5, 1.5, 8.0))
    assert nifti is not None
    assert (nifti.kind, nifti.phase, nifti.n_frames) == ("nifti", "ES", 1)
    assert catalogue.find("p1_ES__t01") is None


def test_a_file_is_served_only_after_two_scans_saw_it_unchanged(
    catalogue: Catalogue, folder: Path
) -> None:
    source = save(folder / "a.nii.gz")
    scan(catalogue, 1)
    assert ids(catalogue) == []
    assert "a.nii.gz: waits until" in catalogue.waiting[0]
    save(source, seed=1)
    scan(catalogue, 1)
    assert ids(catalogue) == []
    scan(catalogue, 1)
    assert len(ids(catalogue)) == 3
    assert catalogue.waiting == ()


def test_a_file_must_rest_for_the_settling_time(folder: Path, tmp_path: Path) -> None:
    save(folder / "a.nii.gz")
    assert ids(scan(Catalogue(folder, tmp_path / "workspace", settle_s=3600), 3)) == []


def test_a_nifti_file_copied_in_pieces_is_never_served_in_part(
    catalogue: Catalogue, folder: Path, tmp_path: Path
) -> None:
    for suffix in (".nii", ".nii.gz"):
        whole = save(tmp_path / f"whole{suffix}").read_bytes()
        target = folder / f"copied{suffix.replace('.', '_')}{suffix}"
        for part in range(1, 9):
            with target.open("ab") as stream:
                stream.write(whole[len(whole) * (part - 1) // 9 : len(whole) * part // 9])
            scan(catalogue, 3)  # also long pauses do not make it whole
            assert not [name for name in ids(catalogue) if name.startswith(target.name[:8])]
            assert any(target.name in problem for problem in catalogue.problems)
        target.write_bytes(whole)
        scan(catalogue)
        image = studies.load(catalogue.image_path(f"copied{suffix.replace('.', '_')}__t02"))
        assert np.array_equal(image.frame(0), make_study().frame(2))
        assert catalogue.problems == ()
        target.unlink()
        scan(catalogue)
