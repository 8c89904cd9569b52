"""Operations on the labels of a short-axis frame, on made-up slices and on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from CineLabelLib import filling, nifti, shortaxis
from CineLabelLib.core.errors import CineLabelError, InputError, LabelError
from CineLabelLib.core.labels import LV, MYO, RV, STRUCTURES

SPACING = (1.5, 1.5, 9.0)
OPERATIONS = {
    "copy a slice": lambda x: shortaxis.copy_slice(x, 2, 3, replace=True),
    "copy a frame": lambda x: shortaxis.copy_frame(x, np.roll(x, 3, axis=0), replace=True),
    "clear a slice": lambda x: shortaxis.clear_slice(x, 2),
    "smooth": lambda x: shortaxis.smooth(x, SPACING),
    "smooth one": lambda x: shortaxis.smooth(x, SPACING, MYO),
    "keep the largest": shortaxis.keep_largest,
    "grow": lambda x: shortaxis.grow(x, SPACING, MYO, 3.0),
    "grow unlocked": lambda x: shortaxis.grow(x, SPACING, LV, 3.0, locked=False),
    "shrink": lambda x: shortaxis.grow(x, SPACING, RV, -2.0),
    "shrink unlocked": lambda x: shortaxis.grow(x, SPACING, LV, -2.0, locked=False),
    "close the muscle": shortaxis.close_muscle,
    "fill between": filling.fill_between,
}


def heart(radius: float = 10, at: tuple[float, float] = (30, 24)) -> np.ndarray:
    """A slice (64, 64) of a ring of muscle around LV with RV beside it."""
    x, y = np.mgrid[:64, :64]
    r = np.hypot(x - at[0], y - at[1])
    labels = np.zeros((64, 64), np.uint8)
    labels[np.hypot(x - at[0], y - at[1] - radius * 1.9) < radius * 1.2] = RV.value
    labels[r < radius * 1.5] = MYO.value
    labels[r < radius] = LV.value
    return labels


@pytest.fixture
def labels() -> np.ndarray:
    """Six slices, empty at both ends and in slice 3; slice 4 has islands, its muscle a gap."""
    stack = np.zeros((64, 64, 6), np.uint8)
    for k in (1, 2, 4):
        stack[:, :, k] = heart(11 - k)
    stack[2:4, 2:4, 4] = LV.value
    stack[30, 24, 4] = MYO.value
    stack[28:32, 30:36, 4] = LV.value
    return stack


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_gives_new_labels_of_the_four_values(labels, operation):
    before = labels.copy()
    after = OPERATIONS[operation](labels)
    assert after.dtype == np.uint8
    assert after.shape == labels.shape
    assert set(np.unique(after)) <= {0, 1, 2, 3}
    assert (after != before).any()
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, k: shortaxis.clear_slice(x, k),
        lambda x, k: shortaxis.copy_slice(x, 2, k, replace=True),
        lambda x, k: shortaxis.copy_frame(x, np.roll(x, 3, axis=0), k, replace=True),
        lambda x, k: shortaxis.smooth(x, SPACING, None, k),
        lambda x, k: shortaxis.keep_largest(x, None, k),
        lambda x, k: shortaxis.grow(x, SPACING, MYO, 3.0, k),
        lambda x, k: shortaxis.close_muscle(x, k),
    ],
)
def test_an_operation_on_a_slice_leaves_the_others(labels, operation):
    after = operation(labels, 4)
    others = [0, 1, 2, 3, 5]
    np.testing.assert_array_equal(after[:, :, others], labels[:, :, others])
    assert (after[:, :, 4] != labels[:, :, 4]).any()


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - {"copy a frame"}))
def test_an_operation_on_nothing_is_a_sentence(operation):
    with pytest.raises(shortaxis.NothingToDo, match=r"^[a-z0-9 ,]+.*\.$"):
        OPERATIONS[operation](np.zeros((64, 64, 6), np.uint8))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("operation", ["smooth", "keep_largest", "grow", "fill_between"])
def test_an_operation_on_a_structure_that_is_not_there_is_a_sentence(labels, structure, operation):
    labels[labels == structure.value] = 0
    arguments = {
        "smooth": (SPACING, structure),
        "grow": (SPACING, structure, 2.0),
    }.get(operation, (structure,))
    with pytest.raises(shortaxis.NothingToDo, match=structure.name):
        getattr(filling if operation == "fill_between" else shortaxis, operation)(
            labels, *arguments
        )


def test_a_slice_is_copied_over_an_empty_one(labels):
    after = shortaxis.copy_slice(labels, 2, 3)
    np.testing.assert_array_equal(after[:, :, 3], labels[:, :, 2])


def test_a_slice_is_copied_over_labels_only_when_the_reader_says_so(labels):
    with pytest.raises(shortaxis.AlreadyLabelled, match=r"slice 4 has labels") as told:
        shortaxis.copy_slice(labels, 2, 4)
    assert told.value.slices == (4,)
    after = shortaxis.copy_slice(labels, 2, 4, replace=True)
    np.testing.assert_array_equal(after[:, :, 4], labels[:, :, 2])


def test_a_frame_is_copied_over_labels_only_when_the_reader_says_so(labels):
    other = np.roll(labels, 2, axis=0)
    other[:, :, 3] = heart()
    with pytest.raises(shortaxis.AlreadyLabelled, match="slices 1, 2 and 4 have") as told:
        shortaxis.copy_frame(labels, other)
    assert told.value.slices == (1, 2, 4)
    np.testing.assert_array_equal(shortaxis.copy_frame(labels, other, replace=True), other)


def test_copying_a_frame_keeps_slices_that_are_empty_there(labels):
    other = np.zeros_like(labels)
    other[:, :, 3] = heart()
    after = shortaxis.copy_frame(labels, other)
    np.testing.assert_array_equal(after[:, :, [1, 2, 4]], labels[:, :, [1, 2, 4]])
    np.testing.assert_array_equal(after[:, :, 3], heart())


def test_copying_what_is_there_already_asks_nobody(labels):
    np.testing.assert_array_equal(shortaxis.copy_frame(labels, labels), labels)


def test_a_slice_that_does_not_exist_is_named(labels):
    with pytest.raises(InputError, match="no slice 6, slices are 0 to 5"):
        shortaxis.copy_slice(labels, 2, 6)
    with pytest.raises(InputError, match="no slice -1"):
        shortaxis.clear_slice(labels, -1)


@pytest.mark.parametrize("wrong", [np.full((4, 4, 2), 4, np.uint8), np.zeros((4, 4, 2))])
def test_labels_that_are_none_are_refused(wrong):
    with pytest.raises(LabelError):
        shortaxis.smooth(wrong, SPACING)


def test_smoothing_takes_a_spike_away_and_leaves_no_gap_in_the_heart(labels):
    labels[20, 2:12, 1] = MYO.value
    after = shortaxis.smooth(labels, SPACING)
    assert not after[20, 2:9, 1].any()
    whole = heart(10) > 0
    assert dice(after[:, :, 1] > 0, whole) > 0.99
    assert after[:, :, 1][heart(10) == LV.value].all()


def test_smoothing_one_structure_never_takes_from_its_neighbours(labels):
    labels[24:34, 32:36, 1] = LV.value
    after = shortaxis.smooth(labels, SPACING, LV)
    neighbours = (labels == MYO.value) | (labels == RV.value)
    np.testing.assert_array_equal(after[neighbours], labels[neighbours])
    assert (after != labels).any()


def test_smoothing_never_makes_a_structure_vanish():
    labels = np.zeros((32, 32, 1), np.uint8)
    labels[16, 16, 0] = LV.value
    np.testing.assert_array_equal(shortaxis.smooth(labels, SPACING), labels)


def test_an_island_becomes_what_surrounds_it(labels):
    labels[30, 37, 1] = LV.value
    after = shortaxis.keep_largest(labels)
    assert after[30, 37, 1] == MYO.value
    assert after[30, 24, 4] == LV.value
    assert not after[2:4, 2:4, 4].any()


def test_islands_of_one_structure_leave_the_others(labels):
    labels[60, 60, 4] = RV.value
    after = shortaxis.keep_largest(labels, LV)
    assert after[60, 60, 4] == RV.value
    assert not after[2:4, 2:4, 4].any()


def test_growing_a_locked_structure_changes_background_alone(labels):
    after = shortaxis.grow(labels, SPACING, MYO, 3.0)
    changed = after != labels
    assert set(np.unique(labels[changed])) == {0}
    assert set(np.unique(after[changed])) == {MYO.value}


def test_growing_goes_as_far_as_asked_in_millimetres():
    labels = np.zeros((41, 41, 1), np.uint8)
    labels[20, 20, 0] = RV.value
    after = shortaxis.grow(labels, (1.0, 2.0, 9.0), RV, 4.0)[:, :, 0] > 0
    assert np.flatnonzero(after[:, 20]).tolist() == list(range(16, 25))
    assert np.flatnonzero(after[20]).tolist() == list(range(18, 23))


def test_a_step_smaller_than_a_voxel_moves_the_border_by_a_voxel():
    labels = np.zeros((21, 21, 1), np.uint8)
    labels[8:13, 8:13, 0] = MYO.value
    after = shortaxis.grow(labels, (1.8, 1.8, 9.0), MYO, -0.5)
    assert (after > 0).sum() == 9


def test_a_cavity_with_locked_neighbours_all_round_says_that_it_cannot_move(labels):
    labels[:, :, 4] = 0
    for by in (2.0, -2.0):
        with pytest.raises(shortaxis.NothingToDo, match="LV cannot move.*Unlock"):
            shortaxis.grow(labels, SPACING, LV, by)


def test_an_unlocked_cavity_takes_muscle_and_gives_it_back(labels):
    wider = shortaxis.grow(labels, SPACING, LV, 1.5, 1, locked=False)
    changed = wider != labels
    assert set(np.unique(labels[changed])) == {MYO.value}
    narrower = shortaxis.grow(labels, SPACING, LV, -1.5, 1, locked=False)
    assert set(np.unique(narrower[narrower != labels])) == {MYO.value}


def test_an_unlocked_cavity_never_comes_to_touch_the_other(labels):
    after = shortaxis.grow(labels, SPACING, LV, 30.0, 1, locked=False)[:, :, 1]
    near = shortaxis.ndimage.binary_dilation(after == LV.value, shortaxis.EIGHT)
    assert not (near & (after == RV.value)).any()
    assert (after == MYO.value).any()
    np.testing.assert_array_equal(after == RV.value, labels[:, :, 1] == RV.value)


def test_shrinking_never_makes_a_slice_lose_a_structure(labels):
    with pytest.raises(shortaxis.NothingToDo, match="RV of slice 1 would vanish"):
        shortaxis.grow(labels, SPACING, RV, -60.0)


def test_closing_the_muscle_puts_it_between_the_cavities_and_into_holes(labels):
    open_slice = labels[:, :, 1]
    open_slice[29:32, 32:42] = LV.value
    open_slice[25, 24] = open_slice[18, 24] = 0
    after = shortaxis.close_muscle(labels, 1)[:, :, 1]
    assert (after[25, 24], after[18, 24]) == (LV.value, MYO.value)
    touching = shortaxis.EIGHT
    grown = shortaxis.ndimage.binary_dilation(after == LV.value, touching)
    assert not (grown & (after == RV.value)).any()
    np.testing.assert_array_equal(after[open_slice == MYO.value], MYO.value)


def test_filled_slices_lie_between_their_neighbours_and_keep_the_muscle_closed():
    labels = np.zeros((64, 64, 5), np.uint8)
    labels[:, :, 0], labels[:, :, 4] = heart(12), heart(8)
    after = filling.fill_between(labels)
    np.testing.assert_array_equal(after[:, :, [0, 4]], labels[:, :, [0, 4]])
    for k, radius in ((1, 11), (2, 10), (3, 9)):
        for structure in STRUCTURES:
            here = after[:, :, k] == structure.value
            assert dice(here, heart(radius) == structure.value) > 0.8, (k, structure.name)
    cavity = shortaxis.ndimage.binary_dilation(after[:, :, 1:4] == LV.value)
    assert set(np.unique(after[:, :, 1:4][cavity])) == {LV.value, MYO.value}


def test_filling_one_structure_leaves_what_is_drawn(labels):
    labels[:, :, 3] = np.where(heart(8) == LV.value, LV.value, 0)
    after = filling.fill_between(labels, MYO)
    np.testing.assert_array_equal(after[labels > 0], labels[labels > 0])
    assert set(np.unique(after[:, :, 3])) == {0, LV.value, MYO.value}
    assert dice(after[:, :, 3] == MYO.value, heart(8) == MYO.value) > 0.9


def test_filling_where_nothing_is_missing_is_a_sentence():
    stack = np.stack([heart(10)] * 3, axis=2)
    with pytest.raises(shortaxis.NothingToDo, match="no slice without RV lies between"):
        filling.fill_between(stack, RV)


@pytest.fixture(scope="module")
def real_labels(shared_data: Path) -> list[np.ndarray]:
    """Labels of two public sets at end-diastole; ACDC has LV and RV the other way round."""
    found = []
    for path in sorted(shared_data.glob("[am]*/*/*_ED_gt.nii.gz")):
        labels = nifti.read(path).voxels.astype(np.uint8)
        found.append(np.array([0, 3, 2, 1], np.uint8)[labels] if "acdc" in path.parts else labels)
    return found


def test_every_second_slice_of_real_hearts_is_found_again(real_labels):
    found = {structure: [] for structure in (LV, MYO)}
    for labels in real_labels:
        slices = shortaxis.labelled_slices(labels)
        gaps = list(slices[1:-1:2])
        some = labels.copy()
        some[:, :, gaps] = 0
        filled = filling.fill_between(some)
        np.testing.assert_array_equal(filled[some > 0], some[some > 0])
        for structure, scores in found.items():
            truth = labels[:, :, gaps] == structure.value
            if truth.any():
                scores.append(dice(filled[:, :, gaps] == structure.value, truth))
    assert np.median(found[LV]) > 0.9
    assert np.median(found[MYO]) > 0.75


def test_smoothing_and_islands_hardly_change_what_experts_drew(real_labels):
    for labels in real_labels:
        for operation in (lambda x: shortaxis.smooth(x, SPACING), shortaxis.keep_largest):
            after = operation(labels)
            assert dice(after > 0, labels > 0) > 0.95


def test_errors_are_of_the_family_that_the_panel_shows():
    assert issubclass(shortaxis.NothingToDo, CineLabelError)
    assert issubclass(shortaxis.AlreadyLabelled, CineLabelError)
