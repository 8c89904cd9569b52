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
    counts = {"n": 2, "patients": 2}
    figures = {"mean": 1.0, "sd": 0.0, "median": 1.0, "interval": [1.0, 1.0]}
    assert summary["dice"] == {**figures, **counts}


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


def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two methods and the reference on ED and ES of two patients; the second method is right."""
    for case, shift in (("a_ED", 1), ("a_ES", 1), ("b_ED", 2), ("b_ES", 2)):
        save(tmp_path / "old" / f"{case}.nii.gz", square(2 + shift))
        save(tmp_path / "new" / f"{case}.nii.gz", square(2))
        save(tmp_path / "ref" / f"{case}.nii.gz", square(2))
    return tmp_path / "old", tmp_path / "new", tmp_path / "ref"


def test_methods_are_set_side_by_side_with_intervals_over_patients(tmp_path, capsys):
    old, new, ref = folders(tmp_path)
    table = tmp_path / "summary.csv"
    options = ("--dice-only", "--structure", "LV", "--by", "phase", "--summary", table)
    assert run("evaluate", old, ref, "--against", f"newer={new}", *options) == 0
    shown = capsys.readouterr().out
    assert "Difference to old" in shown
    assert "n 4 of 2 patients" in shown
    assert "phase: ES" in shown
    with table.open(newline="") as stream:
        rows = {(r["method"], r["group"], r["figure"]): r for r in csv.DictReader(stream)}
    row = rows["old", "", "dice"]
    # Dice 2/3 and 1/3, two cases a patient; drawing two patients of two gives no other ends
    found = [float(row[key]) for key in ("mean", "low", "high")]
    assert found == pytest.approx([0.5, 1 / 3, 2 / 3])
    assert (row["n"], row["patients"]) == ("4", "2")
    assert float(rows["newer", "ES", "dice"]["mean"]) == 1.0


def test_patients_and_groups_come_from_a_table(tmp_path, capsys):
    old, _, ref = folders(tmp_path)
    table = tmp_path / "groups.csv"
    table.write_text("case,patient,vendor\na_ED,x,GE\na_ES,x,GE\nb_ED,x,Canon\nb_ES,x,Canon\n")
    options = ("--dice-only", "--groups", table, "--by", "vendor", "--json", "-")
    assert run("evaluate", old, ref, "--structure", "LV", *options) == 0
    found = {s["group"]: s["dice"] for s in json.loads(capsys.readouterr().out)["summary"]}
    assert found[None]["patients"] == 1
    assert found[None]["interval"] is None
    assert found["GE"]["mean"] == pytest.approx(2 / 3)
    assert found["Canon"]["mean"] == pytest.approx(1 / 3)


def test_a_picture_is_drawn(tmp_path):
    old, new, ref = folders(tmp_path)
    picture = tmp_path / "boxes.png"
    options = ("--dice-only", "--by", "phase", "--figure", picture)
    assert run("evaluate", old, ref, "--against", f"new={new}", *options) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--by", "vendor"), "Known are phase"),
        (("--against", "new"), "NAME=PRED"),
        (("--against", "old={new}"), "two methods are called 'old'"),
        (("--against", "far={new}/away"), "no such file or folder"),
        (("--groups", "{new}/../groups.csv"), "has no row for b_ED, b_ES"),
    ],
)
def test_methods_and_groups_that_make_no_sense_are_refused_in_one_sentence(
    tmp_path, capsys, extra, said
):
    old, new, ref = folders(tmp_path)
    (tmp_path / "groups.csv").write_text("case\na_ED\na_ES\n")
    assert run("evaluate", old, ref, *(text.format(new=new) for text in extra)) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
