"""Written DICOM is valid to an outside judge: dciodvfy and dcentvfy of dicom3tools (Clunie)."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cinelabel.studies import dicom
from cinelabel.studies.dicom_writer import Protocol

pytestmark = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (apt install dicom3tools)"
)
KNOWN = Protocol(1.5, flip_degrees=60.0, repetition_ms=3.1, echo_ms=1.55, phase_axis=1)


def complaints(program: str, *files: Path) -> list[str]:
    """The lines of an answer that tell of errors or warnings."""
    run = subprocess.run([program, *map(str, files)], capture_output=True, text=True)
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning"))]


def judge(files: list[Path]) -> list[str]:
    """What is said of the first and last image, and of all of them together."""
    alone = [line for path in (files[0], files[-1]) for line in complaints("dciodvfy", path)]
    return alone + complaints("dcentvfy", *files)


@pytest.mark.parametrize("protocol", [Protocol(), KNOWN])
def test_a_cine_has_no_error_and_no_warning(make_study, tmp_path, protocol):
    assert judge(dicom.write_cine(tmp_path / "cine", make_study(), protocol=protocol)) == []


def test_a_stack_of_one_phase_without_times_has_no_error(make_study, tmp_path):
    study = make_study((7, 5, 4, 1), trigger_times_ms=None)
    assert judge(dicom.write_cine(tmp_path / "stack", study)) == []


def test_values_with_fractions_have_no_error_but_the_warning_of_their_slope(make_study, tmp_path):
    """MR Image Storage knows no rescale slope; with one it is a Standard Extended SOP Class."""
    study = make_study()
    study = dataclasses.replace(study, frames=study.frames / np.float32(3000) - np.float32(0.25))
    found = judge(dicom.write_cine(tmp_path / "cine", study))
    assert [line for line in found if line.startswith("Error")] == []
    assert all("Rescale" in line or "Standard Extended SOP Class" in line for line in found)


def test_the_judge_finds_a_mistake_that_is_made_on_purpose(make_study, tmp_path):
    (first, *_) = dicom.write_cine(tmp_path / "cine", make_study())
    image = pydicom.dcmread(first)
    del image.Rows
    image.save_as(first)
    assert any("Rows" in line for line in complaints("dciodvfy", first))
