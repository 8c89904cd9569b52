"""Seconds to follow a folder of 3000 frames, in the three forms that studies come in.

`pytest -m slow -s tests/benchmarks/test_catalogue.py` prints the table. Writing the images is bound
by the disk (each is flushed), looking at an unchanged folder by the number of files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from cinelabel import studies
from cinelabel.core.grid import Grid
from cinelabel.studies import Study
from cinelabel.studies.catalogue import Catalogue
from cinelabel.studies.dicom import write_cine

FRAMES = 3000
PHASES = 30
ROUNDS = 9
GRID = Grid((8, 7, 4), np.diag([1.5, 1.5, 8.0, 1.0]))


def make_study(frames: int, seed: int) -> Study:
    values = np.random.default_rng(seed).integers(0, 200, (*GRID.shape, frames))
    times = tuple(30.0 * t for t in range(frames)) if frames > 1 else None
    return Study("tiny", values.astype(np.float32), GRID, frames > 1, trigger_times_ms=times)


def write_4d(folder: Path) -> None:
    for number in range(FRAMES // PHASES):
        studies.save_image(folder / f"p{number:03d}.nii.gz", make_study(PHASES, number))


def write_3d(folder: Path) -> None:
    for number in range(FRAMES):
        path = folder / f"p{number % 100:03d}" / f"f{number:04d}.nii.gz"
        studies.save_image(path, make_study(1, number))


def write_dicom(folder: Path) -> None:
    for number in range(FRAMES // PHASES):
        write_cine(folder / f"p{number:03d}", make_study(PHASES, number))


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_4d, write_3d, write_dicom])
def test_looking_at_an_unchanged_folder_of_3000_frames_is_quick(
    tmp_path: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies").mkdir()
    write(tmp_path / "studies")
    catalogue = Catalogue(tmp_path / "studies", tmp_path / "workspace", settle_s=0)
    catalogue.refresh()
    taking = timed(catalogue.refresh)
    assert len(catalogue.cases()) == FRAMES
    unchanged = median(timed(catalogue.refresh) for _ in range(ROUNDS))
    opening = timed(lambda: Catalogue(tmp_path / "studies", tmp_path / "workspace"))
    files = sum(path.is_file() for path in (tmp_path / "studies").rglob("*"))
    with capsys.disabled():
        print(
            f"\n{write.__name__:12} {files:6} files: taken in {taking:6.1f} s, unchanged scan "
            f"{1000 * unchanged:4.0f} ms, known from last time in {1000 * opening:4.0f} ms"
        )
    assert unchanged < taking


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
