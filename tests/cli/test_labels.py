"""`cinelabel labels` exports, imports, shows and checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main
from cinelabel.core.grid import Grid
from cinelabel.labelstore import LabelStore, Submission

AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["labels", *map(str, arguments)])
    return int(end.value.code or 0)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """One image with two versions of a label."""
    voxels = np.zeros((16, 16, 3), np.uint8)
    voxels[4:12, 4:12, 1] = 2
    voxels[6:10, 6:10, 1] = 1
    folder = tmp_path / "workspace"
    (folder / "store").mkdir(parents=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), folder / "store/p1__t00.nii.gz")
    store, grid = LabelStore(folder), Grid(voxels.shape, AFFINE)
    for version, who in enumerate(("anna", "bob")):
        given = Submission(
            "p1__t00", who, "c", "2026-03-01T10:00:00Z", base_version=version, comment="apex redone"
        )
        store.submit("p1__t00", grid, folder / "store/p1__t00.nii.gz", given)
    return folder


def test_labels_go_out_and_into_another_workspace(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run_command("export", tmp_path / "out", "--workspace", workspace) == 0
    assert capsys.readouterr().out == "2 versions, 2 events, 1 images, 0 reviews\n"
    other = tmp_path / "other"
    other.mkdir()
    assert run_command("import", tmp_path / "out", "--workspace", other) == 0
    assert capsys.readouterr().out == "2 versions, 2 events, 0 reviews\n"
    assert not (other / "store").exists()
    assert LabelStore(other).events() == LabelStore(workspace).events()
    assert run_command("export", tmp_path / "out", "--workspace", workspace) == 2
    assert "the folder exists already. Name a new one." in capsys.readouterr().err


def test_what_could_not_come_in_is_said_and_the_exit_code_is_2(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plain = tmp_path / "plain"
    plain.mkdir()
    shutil.copy(workspace / "store/p1__t00.nii.gz", plain)
    assert run_command("import", plain, "--workspace", workspace, "--who", "carl") == 2
    said = capsys.readouterr()
    assert said.out == "0 versions, 0 events, 0 reviews\n"
    assert "version 2 by bob" in said.err
    assert "1 of the labels were left" in said.err


@pytest.mark.parametrize("command", [["check"], ["history", "p1__t00"]])
def test_nothing_is_made_in_a_folder_that_is_no_workspace(
    workspace: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
):
    studies = tmp_path / "studies"
    shutil.copytree(workspace / "store", studies)
    before = sorted(studies.rglob("*"))
    assert run_command(*command, "--workspace", studies) == 2
    assert "is no workspace. Serve the studies once" in capsys.readouterr().err
    assert sorted(studies.rglob("*")) == before


def test_the_history_of_a_case_is_shown(workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command("history", "p1__t00", "--workspace", workspace) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("submitted", "anna", "bob", "apex redone", "2026-03-01"))
    assert run_command("history", "p1__t00", "--workspace", workspace, "--json") == 0
    assert [event["who"] for event in json.loads(capsys.readouterr().out)] == ["anna", "bob"]
    assert run_command("history", "p9", "--workspace", workspace) == 2
    assert "p9: nothing has happened to it." in capsys.readouterr().err


def test_check_finds_a_changed_label(workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command("check", "--workspace", workspace) == 0
    assert capsys.readouterr().out == "2 versions; 1 cases labelled, 0 skipped\n"
    next((workspace / "labels/p1__t00").glob("v0002-*.nii.gz")).write_bytes(b"changed")
    assert run_command("check", "--workspace", workspace) == 2
    assert "p1__t00: the label v0002-" in capsys.readouterr().err


def test_the_workspace_must_be_named_once_and_exist(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run_command("check") == 2
    assert run_command("check", "--workspace", workspace, "--studies", tmp_path) == 2
    assert capsys.readouterr().err.count("give one of --workspace and --studies") == 2
    assert run_command("check", "--workspace", tmp_path / "none") == 2
    assert "there is no such workspace" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
