"""Dice, HD95 and ASSD against values worked out by hand and against a brute-force search."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cinelabel.core.errors import GridError, InputError, LabelError
from cinelabel.core.grid import Grid
from cinelabel.core.labels import LV, MYO, RV, STRUCTURES, LabelMap
from cinelabel.evaluation.metrics import (
    assd_mm,
    dice,
    hd95_mm,
    image_diagonal_mm,
    match_folders,
    score_files,
    score_labels,
)
from cinelabel.evaluation.summary import summarise
from scipy import ndimage
from scipy.spatial.distance import cdist

SPACING = (1.5, 1.25, 8.0)


def grid_of(shape: tuple[int, ...]) -> Grid:
    return Grid(shape[:3], np.diag([*SPACING, 1.0]))


def volume(*boxes: tuple[tuple[slice, ...], int], shape: tuple[int, ...] = (12, 12, 4)):
    labels = np.zeros(shape, np.uint8)
    for box, value in boxes:
        labels[box] = value
    return labels


def write(path: Path, labels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def blobs(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(20, 18, 6)), 2)
    return (noise > np.quantile(noise, 0.8)).astype(np.uint8) * LV.value


def surface_points(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Centres in mm of voxels with a face neighbour outside the mask, the image's outside too."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(padded)
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)
    return np.argwhere(padded & ~inner) * np.asarray(spacing)


def brute_force(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    distances = cdist(surface_points(a, SPACING), surface_points(b, SPACING))
    forth, back = distances.min(axis=1), distances.min(axis=0)
    hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
    return float(hd95), float(np.concatenate([forth, back]).mean())


def test_dice_of_two_shifted_squares_is_what_counting_gives():
    a = volume((np.s_[2:5, 2:5, 1], LV.value))
    b = volume((np.s_[3:6, 2:5, 1], LV.value))
    assert dice(a, b, LV) == pytest.approx(2 * 6 / 18)


def test_dice_looks_at_one_structure_alone():
    a = volume((np.s_[2:5, 2:5, 1], LV.value), (np.s_[7:9, 7:9, 1], RV.value))
    b = volume((np.s_[2:5, 2:5, 1], LV.value), (np.s_[7:9, 7:8, 1], RV.value))
    assert dice(a, b, LV) == 1.0
    assert dice(a, b, RV) == pytest.approx(2 * 2 / 6)


def test_hd95_of_single_voxels_is_their_distance_in_mm():
    a = volume((np.s_[2, 3, 1], LV.value))
    in_plane = volume((np.s_[6, 7, 1], LV.value))
    through_plane = volume((np.s_[2, 3, 3], LV.value))
    assert hd95_mm(a, in_plane, SPACING, LV) == pytest.approx(math.hypot(4 * 1.5, 4 * 1.25))
    assert hd95_mm(a, through_plane, SPACING, LV) == pytest.approx(2 * 8.0)
    assert assd_mm(a, through_plane, SPACING, LV) == pytest.approx(2 * 8.0)


def test_hd95_is_the_larger_of_the_two_directions():
    lone = volume((np.s_[0, 0, 0], LV.value))
    two = volume((np.s_[0, 0, 0], LV.value), (np.s_[10, 0, 0], LV.value))
    # from `lone` to `two` every distance is 0; back they are 0 and 15 mm, 95th percentile 14.25
    assert hd95_mm(lone, two, SPACING, LV) == pytest.approx(14.25)
    assert hd95_mm(two, lone, SPACING, LV) == pytest.approx(14.25)
    assert assd_mm(lone, two, SPACING, LV) == pytest.approx((0 + 0 + 15) / 3)


@pytest.mark.parametrize("seed", range(4))
def test_surface_distances_agree_with_a_search_over_all_pairs_of_surface_voxels(seed):
    a, b = blobs(seed), blobs(seed + 100)
    hd95, assd = brute_force(a > 0, b > 0)
    assert hd95 > 0
    assert hd95_mm(a, b, SPACING, LV) == pytest.approx(hd95, rel=1e-5)
    assert assd_mm(a, b, SPACING, LV) == pytest.approx(assd, rel=1e-5)


def test_an_inner_hole_counts_as_surface():
    solid = volume((np.s_[1:10, 1:10, 0:4], LV.value))
    hollow = solid.copy()
    hollow[4:7, 4:7, 1:3] = 0
    hd95, _ = brute_force(solid > 0, hollow > 0)
    assert hd95_mm(solid, hollow, SPACING, LV) == pytest.approx(hd95, rel=1e-5)


def test_empty_structures_have_no_value_and_no_distance():
    full, none = volume((np.s_[2:5, 2:5, 1], LV.value)), volume()
    for a, b in ((full, none), (none, full), (none, none)):
        assert dice(a, b, LV) is None
        assert hd95_mm(a, b, SPACING, LV) is None


def test_the_diagonal_is_that_of_the_imaged_block():
    assert image_diagonal_mm((12, 12, 4), (1.0, 1.0, 3.0)) == pytest.approx(
        math.sqrt(144 + 144 + 144)
    )


def test_empty_structures_are_counted_left_out_of_the_mean_and_penalised_in_a_second_figure():
    full, none = volume((np.s_[2:5, 2:5, 1], LV.value)), volume()
    half = volume((np.s_[2:5, 2:5, 1], LV.value), (np.s_[5:8, 2:5, 1], LV.value))
    grid = grid_of(full.shape)
    scores = []
    for name, a, b in (
        ("same", full, full),
        ("half", half, full),
        ("missed", none, full),
        ("invented", full, none),
        ("neither", none, none),
    ):
        scores += score_labels(a, b, grid, case=name, structures=[LV])
    summary = summarise(scores)[0]
    diagonal = image_diagonal_mm(full.shape, SPACING)
    assert (summary.n_empty_prediction, summary.n_empty_reference, summary.n_empty_both) == (
        1,
        1,
        1,
    )
    assert summary.n_empty == 3
    assert summary.dice.n == 2
    assert summary.dice.mean == pytest.approx((1 + 2 / 3) / 2)
    assert summary.penalised_dice.n == 4
    assert summary.penalised_dice.mean == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
    half_hd95 = scores[1].hd95_mm
    assert summary.hd95_mm.mean == pytest.approx(half_hd95 / 2)
    assert summary.penalised_hd95_mm.mean == pytest.approx((half_hd95 + 2 * diagonal) / 4)
    assert [score.empty for score in scores] == [None, None, "prediction", "reference", "both"]


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_monai_with_its_empty_structures_left_out(seed):
    import torch
    from monai.metrics import DiceMetric

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, (2, 9, 8, 5)).astype(np.uint8)
    b[b == RV.value] = 0 if seed == 0 else RV.value
    metric = DiceMetric(include_background=False, num_classes=4, ignore_empty=True)
    expected = metric(torch.from_numpy(a[None, None]), torch.from_numpy(b[None, None]))[0].tolist()
    for structure, value in zip(STRUCTURES, expected, strict=True):
        found = dice(a, b, structure)
        if found is None:
            assert math.isnan(value)
        else:
            assert found == pytest.approx(value, abs=1e-6)


def test_each_frame_of_a_cine_is_scored():
    labels = volume((np.s_[2:5, 2:5, 1, 0], LV.value), shape=(12, 12, 4, 3))
    labels[2:4, 2:4, 1, 2] = LV.value
    scores = score_labels(labels, labels, grid_of(labels.shape), case="x", structures=[LV])
    assert [(s.frame, s.empty) for s in scores] == [(0, None), (1, "both"), (2, None)]
    fewer = score_labels(
        labels,
        labels,
        grid_of(labels.shape),
        case="x",
        structures=[LV],
        labelled_frames_only=True,
    )
    assert [s.frame for s in fewer] == [0, 2]


def test_slices_that_were_never_annotated_are_not_scored():
    truth = volume((np.s_[2:5, 2:5, 1], LV.value))
    prediction = volume((np.s_[2:5, 2:5, 1:4], LV.value), (np.s_[6:8, 6:8, 1], MYO.value))
    scores = score_labels(
        prediction,
        truth,
        grid_of(truth.shape),
        case="x",
        scored_slices={"LV": (1,), "MYO": ()},
    )
    assert [(s.structure, s.dice, s.hd95_mm) for s in scores] == [("LV", 1.0, 0.0)]


def test_arrays_of_different_shapes_are_refused():
    with pytest.raises(GridError, match=r"\(12, 12, 4\)"):
        dice(volume(), volume(shape=(12, 12, 5)), LV)
    with pytest.raises(GridError, match="patient7"):
        score_labels(volume(), volume(shape=(12, 12, 5)), grid_of((12, 12, 4)), case="patient7")


def test_files_on_different_grids_are_refused(tmp_path):
    labels = volume((np.s_[2:5, 2:5, 1], LV.value))
    moved = np.diag([*SPACING, 1.0])
    moved[0, 3] = 5.0
    a, b = write(tmp_path / "a.nii.gz", labels), write(tmp_path / "b.nii.gz", labels, moved)
    with pytest.raises(GridError, match=r"a\.nii\.gz"):
        score_files(a, b)


def test_a_label_value_that_is_no_structure_is_refused_with_the_files_name(tmp_path):
    good = write(tmp_path / "good.nii.gz", volume((np.s_[2:5, 2:5, 1], LV.value)))
    bad = write(tmp_path / "bad.nii.gz", volume((np.s_[2:5, 2:5, 1], 7)))
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(LabelError, match=r"bad\.nii\.gz.*7"):
            score_files(*pair)
    with pytest.raises(LabelError, match="7"):
        score_labels(volume(), volume((np.s_[2, 2, 1], 7)), grid_of((12, 12, 4)), case="x")


def test_a_reference_can_have_its_own_label_values(tmp_path):
    prediction = volume((np.s_[2:5, 2:5, 1], LV.value), (np.s_[7:9, 7:9, 1], RV.value))
    reference = volume((np.s_[2:5, 2:5, 1], 3), (np.s_[7:9, 7:9, 1], 1))
    a, b = write(tmp_path / "a.nii.gz", prediction), write(tmp_path / "b.nii.gz", reference)
    scores = score_files(a, b, reference_map=LabelMap("other", {3: 1, 2: 2, 1: 3}), distances=False)
    assert {s.structure: s.dice for s in scores} == {"LV": 1.0, "MYO": None, "RV": 1.0}
    assert all(s.hd95_mm is None and s.penalised_hd95_mm is None for s in scores)


def test_folders_are_matched_by_name_and_missing_partners_are_named(tmp_path):
    for name in ("p1.nii.gz", "p2.nii"):
        write(tmp_path / "pred" / name, volume())
    for name in ("p1.nii.gz", "p2.nii.gz"):
        write(tmp_path / "ref" / name, volume())
    pairs = match_folders(tmp_path / "pred", tmp_path / "ref")
    assert [case for case, *_ in pairs] == ["p1", "p2"]
    write(tmp_path / "ref" / "p3.nii.gz", volume())
    with pytest.raises(InputError, match="p3"):
        match_folders(tmp_path / "pred", tmp_path / "ref")
    write(tmp_path / "pred" / "p3.nii.gz", volume())
    write(tmp_path / "pred" / "p4.nii.gz", volume())
    with pytest.raises(InputError, match="p4"):
        match_folders(tmp_path / "pred", tmp_path / "ref")


def test_scores_of_all_structures_come_in_their_order():
    labels = volume((np.s_[2:5, 2:5, 1], LV.value))
    scores = score_labels(labels, labels, grid_of(labels.shape), case="x", distances=False)
    assert [s.structure for s in scores] == [s.name for s in STRUCTURES]


def test_ppv_and_sensitivity_are_shares_of_the_prediction_and_of_the_reference():
    prediction = volume(((slice(0, 4), slice(0, 4), slice(0, 1)), LV.value))
    reference = volume(((slice(2, 4), slice(0, 6), slice(0, 1)), LV.value))
    (score, *_) = score_labels(prediction, reference, grid_of(prediction.shape), case="one")
    assert score.ppv == pytest.approx(8 / 16)
    assert score.sensitivity == pytest.approx(8 / 12)
    assert score.dice == pytest.approx(2 / (1 / score.ppv + 1 / score.sensitivity))


def test_what_was_not_found_counts_as_no_overlap_in_the_penalised_figures():
    nothing, reference = volume(), volume(((slice(2, 4),) * 3, LV.value))
    lv, myo, _ = score_labels(nothing, reference, grid_of(nothing.shape), case="one")
    assert (lv.ppv, lv.sensitivity) == (None, None)
    assert (lv.penalised_ppv, lv.penalised_sensitivity) == (0.0, 0.0)
    assert (myo.penalised_ppv, myo.penalised_sensitivity) == (None, None)
