"""`cinelabel phantom`: what is written and drawn, and that the seed decides."""

from __future__ import annotations

import json
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from cinelabel.cli.main import main
from cinelabel.datasets import cases, load_case
from cinelabel.phantom import gallery, layouts
from cinelabel.phantom.breathing import Manner
from cinelabel.phantom.cohort import StackGeometry, make_study

COARSE = StackGeometry(size=(64, 56), pixel=4.0, thickness=8.0, spacing=20.0)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """Studies are made coarse; the list tells what was asked for."""
    requests: list[dict] = []

    def make(seed, **options):
        requests.append({"seed": seed, **options})
        return make_study(seed, **{**options, "frames": 3, "geometry": COARSE})

    for module in (gallery, layouts):
        monkeypatch.setattr(module, "make_study", make)
    return requests


def test_studies_are_written_with_truth_and_the_seed_decides(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(layouts, "make_study", partial(make_study, geometry=COARSE))
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert run("phantom", tmp_path / name, "--seed", seed, "--frames", 2, "--json") == 0
    folders = [
        json.loads(part + "}")["studies"][0]
        for part in capsys.readouterr().out.split("}\n")
        if part.strip()
    ]
    assert len(folders) == 3
    images = []
    for name in ("a", "b", "c"):
        ed, _ = cases("phantom", tmp_path / name)
        study, labels = load_case(ed)
        assert set(np.unique(labels)) == {0, 1, 2, 3}
        images.append(np.asanyarray(nib.load(ed.image).dataobj))
        assert images[-1].shape[3] == 2
    np.testing.assert_array_equal(images[0], images[1])
    assert images[0].shape != images[2].shape or not np.array_equal(images[0], images[2])


def test_manner_and_group_are_passed_on_and_mixed_is_nobodys_manner(tmp_path, asked):
    assert run("phantom", tmp_path / "a", "--manner", "free", "--group", "dilated") == 0
    assert run("phantom", tmp_path / "b") == 0
    first, second = asked
    assert (first["manner"], first["group"], first["frames"]) == (Manner.FREE, "dilated", 20)
    assert (second.get("manner"), second["group"]) == (None, None)


def test_a_volunteer_of_cmrxmotion_is_the_same_heart_in_four_manners(tmp_path, asked):
    assert run("phantom", tmp_path, "--format", "cmrxmotion", "--seed", 3) == 0
    assert [request["manner"] for request in asked] == list(Manner)
    truths = [json.loads(path.read_text()) for path in sorted((tmp_path / "truth").glob("P*.json"))]
    subjects = {json.dumps([t["seed"], t["group"], t["anatomy"], t["scanner"]]) for t in truths}
    assert len(subjects) == 1
    assert [truth["manner"] for truth in truths] == ["full_hold", "half_hold", "free", "intensive"]


def test_a_real_study_in_the_layouts_of_acdc_and_mnms_is_read_by_their_loaders(tmp_path, asked):
    roots = {"acdc": tmp_path / "acdc", "mnms": tmp_path / "mnms"}
    for name, root in roots.items():
        assert run("phantom", root, "--format", name, "--seed", 4) == 0
    roots["mnms"] /= "OpenDataset"
    loaded = [[load_case(case) for case in cases(name, root)] for name, root in roots.items()]
    for (ours, our_labels), (theirs, their_labels) in zip(*loaded, strict=True):
        np.testing.assert_array_equal(ours.frames, theirs.frames)
        np.testing.assert_array_equal(our_labels, their_labels)
        assert set(np.unique(our_labels)) == {0, 1, 2, 3}
        assert ours.grid.equals(theirs.grid)


def test_a_gallery_needs_no_folder_for_studies_and_shows_real_cases_beside(tmp_path, asked, capsys):
    assert run("phantom", tmp_path / "real", "--format", "acdc", "--group", "normal") == 0
    alone, beside = tmp_path / "alone.png", tmp_path / "beside.png"
    only = ("--group", "normal", "--manner", "full", "--gallery")
    assert run("phantom", *only, alone) == 0
    assert run("phantom", *only, beside, "--real", tmp_path / "real", "--contours", "--json") == 0
    assert json.loads(capsys.readouterr().out.split("\n", 2)[2]) == {
        "studies": [],
        "gallery": str(beside),
    }
    import matplotlib.image

    one, two = (matplotlib.image.imread(path).shape for path in (alone, beside))
    assert (two[0], two[1]) == (one[0], 2 * one[1])


def test_a_folder_without_real_cases_is_refused_before_anything_is_made(tmp_path, asked, capsys):
    (tmp_path / "empty").mkdir()
    picture = tmp_path / "sheet.png"
    assert run("phantom", "--gallery", picture, "--real", tmp_path / "empty") == 2
    assert "no case" in capsys.readouterr().err
    assert run("phantom", "--gallery", picture, "--real", tmp_path / "nowhere") == 2
    assert asked == []


def test_neither_studies_nor_gallery_or_another_picture_than_png_is_refused(tmp_path, capsys):
    assert run("phantom") == 2
    assert "--gallery" in capsys.readouterr().err
    assert run("phantom", tmp_path, "--real", tmp_path) == 2
    assert run("phantom", "--gallery", tmp_path / "sheet.tiff") == 2
    assert "png" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run("phantom", tmp_path / "file", "--frames", 1) == 2
    assert "file" in capsys.readouterr().err


def test_no_studies_unknown_formats_groups_and_manners_are_refused(tmp_path, capsys):
    assert run("phantom", tmp_path, "--studies", 0) == 2
    assert run("phantom", tmp_path, "--format", "jpeg") == 2
    assert run("phantom", tmp_path, "--manner", "loud") == 2
    assert run("phantom", tmp_path, "--group", "elephants") == 2
    assert "elephants" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
