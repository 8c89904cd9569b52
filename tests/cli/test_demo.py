"""`cinelabel demo`: everything it promises is there, and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from cinelabel import studies
from cinelabel.cli import main as frame

DEADLINE_S = 300

pytest.importorskip("monailabel", reason="the [server] extra is not installed")


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        frame.main(["demo", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_demo_writes_what_it_promises_and_leaves_no_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo"
    before = set(psutil.Process().children(recursive=True))
    assert run(["--output", str(output), "--frames", "4", "--fast"]) == 0
    left = set(psutil.Process().children(recursive=True)) - before
    assert [c for c in left if "monailabel" in " ".join(c.cmdline())] == []
    for picture in ("overlay.png", "volume_curve.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")
    study_file = next((output / "study").glob("*.nii.gz"))
    study = studies.load(study_file)
    labels, grid = studies.load_label(output / "labels.nii.gz")
    assert labels.shape == study.frames.shape
    assert np.array_equal(grid.affine, study.grid.affine)
    assert studies.load(output / "study" / "dicom").frames.shape == study.frames.shape
    record = json.loads((output / "measures.json").read_text())
    truth, _ = studies.load_label(output / "truth.nii.gz")
    volume = np.count_nonzero(truth[..., record["truth"]["ed"]] == 1) * grid.voxel_volume_ml
    assert record["truth"]["lv_edv_ml"] == pytest.approx(volume)
    assert set(record["dice"]) == {"ED", "ES"}
    assert record["fast"] is True
    assert len(record["members"]) == 1
    assert {"phantom", "server start", "request", "total"} <= set(record["timings_s"])
    shown = capsys.readouterr().out
    for word in ("LV EDV (ml)", "LV EF (%)", "LV mass (g)", "RV EDV (ml)", "Dice", "make serve"):
        assert word in shown


def test_an_interruption_ends_the_server_too(tmp_path: Path) -> None:
    code = "from cinelabel.cli.main import main; main()"
    arguments = ["demo", "--output", str(tmp_path / "demo"), "--frames", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("Starting the MONAI Label server"):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        while not family and process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.endswith("cinelabel: interrupted.\n")
    assert len(family) > 0
    assert psutil.wait_procs(family, DEADLINE_S)[1] == []


def test_a_folder_with_other_things_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.txt").write_text("mine")
    assert run(["--output", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert (tmp_path / "study" / "mine.txt").read_text() == "mine"
