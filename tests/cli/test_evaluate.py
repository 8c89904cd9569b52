"""`cinelabel evaluate` on pairs with known agreement."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main

AFFINE = np.diag([2.0, 2.0, 10.0, 1.0])


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def save(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, AFFINE), path)
    return path


def square(start: int, value: int = 1, frames: int | None = None) -> np.ndarray:
    labels = np.zeros((12, 12, 3), np.uint8)
    labels[start : start + 3, 2:5, 1] = value
    if frames is None:
        return labels
    empty = np.zeros_like(labels)
    return np.stack([labels] + [empty] * (frames - 1), axis=3)


def test_two_files_give_dice_and_hd95_in_mm(tmp_path, capsys):
    a, b = save(tmp_path / "a.nii.gz", square(2)), save(tmp_path / "b.nii.gz", square(3))
    assert run("evaluate", a, b, "--structure", "LV", "--json", "-") == 0
    record = json.loads(capsys.readouterr().out)
    (score,) = record["cases"]
    assert score["dice"] == pytest.approx(2 / 3)
    assert score["hd95_mm"] == pytest.approx(2.0)
    assert record["summary"][0]["dice"]["mean"] == pytest.approx(2 / 3)


def test_the_table_shows_every_structure_and_which_are_empty(tmp_path, capsys):
    a, b = save(tmp_path / "a.nii.gz", square(2)), save(tmp_path / "b.nii.gz", square(3))
    assert run("evaluate", a, b) == 0
    shown = capsys.readouterr().out
    assert "0.667" in shown
    assert "both empty" in shown


def test_folders_are_matched_and_written_to_csv_and_json(tmp_path):
    for name in ("p1", "p2"):
        save(tmp_path / "pred" / f"{name}.nii.gz", square(2))
        save(tmp_path / "ref" / f"{name}.nii.gz", square(2))
    out = tmp_path / "out"
    code = run(
        "evaluate",
        tmp_path / "pred",
        tmp_path / "ref",
        "--dice-only",
        "--csv",
        out / "s.csv",
        "--json",
        out / "s.json",
    )
    assert code == 0
    with (out / "s.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["case"], r["structure"]) for r in rows][:4] == [
        ("p1", "LV"),
        ("p1", "MYO"),
        ("p1", "RV"),
        ("p2", "LV"),
    ]
    summary = json.loads((out / "s.json").read_text())["summary"][0]
    assert summary["dice"] == {"mean": 1.0, "sd": 0.0, "median": 1.0, "n": 2}


def test_a_case_without_a_partner_is_refused_by_name(tmp_path, capsys):
    save(tmp_path / "pred" / "p1.nii.gz", square(2))
    save(tmp_path / "ref" / "p1.nii.gz", square(2))
    save(tmp_path / "ref" / "p2.nii.gz", square(2))
    assert run("evaluate", tmp_path / "pred", tmp_path / "ref") == 2
    assert "p2" in capsys.readouterr().err


def test_only_the_labelled_frames_of_a_4d_reference_can_be_scored(tmp_path, capsys):
    a = save(tmp_path / "a.nii.gz", np.stack([square(2)] * 4, axis=3))
    b = save(tmp_path / "b.nii.gz", square(2, frames=4))
    options = ("--structure", "lv", "--dice-only", "--json", "-")
    assert run("evaluate", a, b, *options) == 0
    everything = json.loads(capsys.readouterr().out)
    assert everything["summary"][0]["n_empty_reference"] == 3
    assert run("evaluate", a, b, *options, "--labelled-frames") == 0
    labelled = json.loads(capsys.readouterr().out)
    assert [score["frame"] for score in labelled["cases"]] == [0]


def test_a_reference_of_another_convention_is_translated(tmp_path, capsys):
    a, b = save(tmp_path / "a.nii.gz", square(2)), save(tmp_path / "b.nii.gz", square(2, value=3))
    options = ("--structure", "LV", "--dice-only", "--json", "-", "--reference-labels", "acdc")
    assert run("evaluate", a, b, *options) == 0
    assert json.loads(capsys.readouterr().out)["cases"][0]["dice"] == 1.0


@pytest.mark.parametrize(
    ("pred", "ref", "extra", "said"),
    [
        (square(2), np.zeros((12, 12, 4), np.uint8), (), "shape"),
        (square(2, value=7), square(2), (), "7"),
        (square(2), square(2), ("--structure", "LA"), "LV, MYO, RV"),
        (square(2), square(2, frames=2), (), "shape"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    tmp_path, capsys, pred, ref, extra, said
):
    a, b = save(tmp_path / "a.nii.gz", pred), save(tmp_path / "b.nii.gz", ref)
    assert run("evaluate", a, b, *extra) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_a_file_and_a_folder_cannot_be_compared(tmp_path, capsys):
    a = save(tmp_path / "a.nii.gz", square(2))
    assert run("evaluate", a, tmp_path) == 2
    assert "folder" in capsys.readouterr().err


def test_outputs_that_would_overwrite_an_input_are_refused(tmp_path, capsys):
    a, b = save(tmp_path / "a.nii.gz", square(2)), save(tmp_path / "b.nii.gz", square(2))
    before = b.read_bytes()
    assert run("evaluate", a, b, "--csv", b) == 2
    assert "overwrite" in capsys.readouterr().err
    assert b.read_bytes() == before
