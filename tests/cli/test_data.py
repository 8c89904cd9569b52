"""`cinelabel data` on tiny trees of the public sets."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.data import SETS
from cinelabel.cli.main import main
from cinelabel.datasets import REGISTRY
from matplotlib.image import imread

SHAPE = (12, 10, 4)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def acdc(tmp_path):
    """Six patients of ACDC in its flat form; the sixth has no labels."""
    root = tmp_path / "acdc"
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 4, 1:3] = np.array([1, 2, 3])[:, np.newaxis]
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    for number in range(1, 7):
        for phase in ("ED", "ES"):
            path = root / f"patient{number:03d}_{phase}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            image = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
            nib.save(nib.Nifti1Image(image, affine), path)
            if number < 6:
                nib.save(
                    nib.Nifti1Image(labels, affine), path.with_name(path.name[:13] + "_gt.nii.gz")
                )
    return root


def test_check_tells_what_is_there_and_missing_and_draws_a_sheet(acdc, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert run("data", "check", "acdc", acdc, "--sheet", sheet) == 0
    shown = capsys.readouterr().out
    assert "12 (6 ED, 6 ES)" in shown
    assert "144 of the 150 patients" in shown
    assert "2 cases have no label" in shown
    assert imread(sheet).shape[0] > 2000


def test_check_prints_json_and_lists_without_opening(acdc, capsys):
    (acdc / "patient002_ED.nii.gz").write_bytes(b"damaged")
    assert run("data", "check", "acdc", acdc, "--quick", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["patients"], record["labelled"], record["opened"]) == (6, 10, 0)


def test_check_of_damaged_files_names_them_and_exits_2(acdc, capsys):
    (acdc / "patient002_ED.nii.gz").write_bytes(b"damaged")
    assert run("data", "check", "acdc", acdc) == 2
    out, error = capsys.readouterr()
    assert "patient002_ED" in out
    assert "1 of 12 cases cannot be used" in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check", "acdd", "{}"), "there is no data set 'acdd'"),
        (("check", "myops", "{}"), "no case of the data set myops"),
        (("check", "acdc", "{}", "--sheet", "a.jpg"), "End it with .png"),
        (("check", "acdc", "{}", "--sheet", "a.png", "--quick"), "Leave out --quick"),
        (("splits", "f.json", "--set", "acdc"), "is not SET=ROOT"),
        (("splits", "f.json", "--set", "acdc={}", "--set", "acdc={}"), "acdc is given 2 times"),
        (("splits", "f.txt", "--set", "acdc={}"), "End it with .json"),
        (("splits", "f.json", "--set", "acdc={}", "--folds", "6"), "5 patient"),
        (("export", "--nnunet", "out", "--set", "acdc={}"), "DatasetNNN_Name"),
        (("fusion", "--set", "acdc={}"), "acdc: 10 of 200 labelled stacks"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    acdc, tmp_path, capsys, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    assert run("data", *(text.format(acdc) for text in arguments)) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["acdc"]


def test_splits_are_of_labelled_patients_and_never_replaced(acdc, tmp_path, capsys):
    path = tmp_path / "folds.json"
    given = ("data", "splits", path, "--set", f"acdc={acdc}")
    assert run(*given) == 0
    assert "1, 2" in capsys.readouterr().out
    folds = json.loads(path.read_text())["folds"]
    assert sorted(sum(folds, [])) == [f"acdc/patient{n:03d}" for n in range(1, 6)]
    before = path.read_bytes()
    assert run(*given) == 0
    assert run(*given, "--seed", 3) == 2
    assert "holds other folds (5, seed 12345)" in capsys.readouterr().err
    folds[0] += folds[1]
    path.write_text(json.dumps({"schema_version": 1, "seed": 12345, "folds": folds}))
    assert run(*given) == 2
    assert "is there 2 times, in fold 0 and 1" in capsys.readouterr().err
    assert path.read_bytes() != before


def test_export_writes_the_raw_format_with_splits(acdc, tmp_path, capsys):
    out = tmp_path / "Dataset501_Cine"
    assert run("data", "export", "--nnunet", out, "--set", f"acdc={acdc}") == 0
    assert "10 labelled cases, 2 images only" in capsys.readouterr().out
    assert json.loads((out / "dataset.json").read_text())["numTraining"] == 10
    assert len(json.loads((out / "splits_final.json").read_text())) == 5
    assert len(list((out / "imagesTs").iterdir())) == 2
    assert run("data", "export", "--nnunet", out, "--set", f"acdc={acdc}") == 2
    assert "holds another export" in capsys.readouterr().err


def test_fusion_states_stacks_and_shares_of_what_is_there(acdc, capsys):
    assert run("data", "fusion", "--set", f"acdc={acdc}", "--partial") == 0
    out, error = capsys.readouterr()
    assert "1.000" in out
    assert "mnms: no folder was given" in error
    assert run("data", "fusion", "--set", f"acdc={acdc}", "--table", "all-labelled") == 2
    assert "acdc: 10 of 300" in capsys.readouterr().err


def test_the_help_names_every_set():
    assert set(SETS.split(", ")) == set(REGISTRY)
