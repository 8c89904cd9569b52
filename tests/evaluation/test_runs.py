"""Segmenting and scoring the cases of a data set."""

from __future__ import annotations

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from cinelabel import datasets
from cinelabel.core.labels import CANONICAL, LV
from cinelabel.datasets import Case
from cinelabel.evaluation.runs import segment_case, segment_cases

AFFINE = np.diag([2.0, 2.0, 10.0, 1.0])


class Everything:
    """Labels every bright voxel of every slice as LV."""

    def segment(self, study, *, fast, keep_members):
        labels = (study.frames > 50).astype(np.uint8)
        if not keep_members:
            return SimpleNamespace(labels=labels, reason=None)
        nothing = np.zeros_like(labels)
        members = {"fast": nothing} if fast else {"a": labels, "b": nothing}
        return SimpleNamespace(
            labels=labels, reason=None, member_labels=members, average_labels=nothing
        )


def volumes(folder, stem: str, labelled_slice: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = np.zeros((10, 10, 3), np.float32)
    image[2:6, 2:6] = 100
    nib.save(nib.Nifti1Image(image, AFFINE), folder / f"{stem}.nii.gz")
    if labelled_slice is not None:
        label = np.zeros((10, 10, 3), np.uint8)
        label[2:6, 2:6, labelled_slice] = 1
        nib.save(nib.Nifti1Image(label, AFFINE), folder / f"{stem}_gt.nii.gz")


def test_only_contoured_slices_and_annotated_structures_are_scored(tmp_path):
    volumes(tmp_path / "P1", "S1_ED", labelled_slice=1)
    facts = {"case": "P1", "scd": "S1", "slices_LV_ED": [1], "slices_MYO_ED": []}
    (tmp_path / "P1" / "case.json").write_text(json.dumps(facts))
    (case,) = datasets.cases("sunnybrook", tmp_path)
    result = segment_case(Everything(), case)
    assert [(s.structure, s.dice, s.hd95_mm, s.groups["set"]) for s in result.scores] == [
        ("LV", 1.0, 0.0, "sunnybrook")
    ]
    assert result.segmentation.labels.sum() == 3 * 16


def test_a_case_without_a_label_is_segmented_and_not_scored(tmp_path):
    volumes(tmp_path, "p", labelled_slice=None)
    case = Case("acdc", "p", "ED", tmp_path / "p.nii.gz", None, CANONICAL)
    result = segment_case(Everything(), case)
    assert result.truth is None
    assert result.scores == ()


def test_progress_counts_the_cases(tmp_path):
    volumes(tmp_path, "p", labelled_slice=None)
    case = Case("acdc", "p", "ED", tmp_path / "p.nii.gz", None, CANONICAL)
    seen = []
    results = segment_cases(Everything(), [case, case], progress=lambda *step: seen.append(step))
    assert len(list(results)) == 2
    assert seen == [(0, 2, "p_ED"), (1, 2, "p_ED"), (2, 2, "done")]


def test_dice_of_a_structure_in_every_slice_is_what_counting_gives(tmp_path):
    volumes(tmp_path, "p", labelled_slice=1)
    case = Case(
        "x", "p", "ED", tmp_path / "p.nii.gz", tmp_path / "p_gt.nii.gz", CANONICAL, structures=(LV,)
    )
    (score,) = segment_case(Everything(), case, distances=False).scores
    assert score.dice == pytest.approx(2 * 16 / (48 + 16))
    assert score.hd95_mm is None


def test_each_member_their_average_and_what_is_left_of_it_are_scored(tmp_path):
    volumes(tmp_path, "p", labelled_slice=1)
    case = Case(
        "x", "p", "ES", tmp_path / "p.nii.gz", tmp_path / "p_gt.nii.gz", CANONICAL, structures=(LV,)
    )
    result = segment_case(Everything(), case, each_member=True, distances=False)
    assert [(s.method, s.penalised_dice) for s in result.scores] == [
        ("a", pytest.approx(0.5)),
        ("b", 0.0),
        ("average", 0.0),
        ("post-processed", pytest.approx(0.5)),
    ]
    assert {(s.patient, s.groups["phase"]) for s in result.scores} == {("x/p", "ES")}
    alone = segment_case(Everything(), case, each_member=True, fast=True, distances=False)
    assert [s.method for s in alone.scores] == ["fast", "post-processed"]
