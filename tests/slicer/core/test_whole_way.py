"""From a study to a label in the store: the real session, scene, client and server together."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from CineLabelLib import nifti
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import LV, MYO, RV, STRUCTURES
from CineLabelLib.core.measures import structure_volume_ml
from CineLabelLib.desk.states import Origin, Scope
from CineLabelLib.records import LocalRecords, folder_for
from reader_at_desk import Reader, heart, kept, require_kept, versions
from real_server import House

PHANTOMS = ("right", "left")
LEFT_HANDED = ("left", "SC-HF-I-1", "SC-HF-I-4")
REAL = ("SC-HF-I-1", "SC-HF-I-4", "G1K1V3", "H1N8S6", "C8O0P2")
SLOW = pytest.mark.slow
REAL_ONES = [pytest.param(name, marks=SLOW) for name in REAL]


def source_of(house: House, name: str) -> Path:
    """The file or folder of a study that the server serves."""
    for path in (house.studies / name, house.studies / f"{name}.nii.gz"):
        if path.exists():
            return path
    pytest.skip(f"{name} of ../shared/data is not here")


def edit(reader: Reader) -> np.ndarray:
    """Paint and erase, then paint and undo; the labels that are on screen."""
    scene = reader.scene
    made = reader.labels()
    middle = int(np.bincount(np.nonzero(made)[2]).argmax())
    here = np.zeros(made.shape, bool)
    x, y = (int(each.mean()) for each in np.nonzero(made[:, :, middle] == MYO.value))
    x = int(np.nonzero(made[:, y, middle])[0].max())
    here[x - 4 : x + 6, y - 3 : y + 3, middle] = True
    expected = made.copy()
    expected[here & (made == 0)] = RV.value
    assert scene.edits.paint(RV, here)
    assert np.array_equal(reader.labels(), expected)
    own = np.roll(expected == MYO.value, 2, axis=1) & (expected == MYO.value)
    expected[own] = 0
    scene.edits.erase(MYO, own)
    assert np.array_equal(reader.labels(), expected)
    scene.edits.paint(LV, np.ones(made.shape, bool))
    assert not np.array_equal(reader.labels(), expected)
    reader.session.editing.undo()
    assert np.array_equal(reader.labels(), expected)
    assert not np.array_equal(expected, made)
    return expected


def require_measured(reader: Reader, frame: int) -> None:
    """The desk's volumes are those of the voxels on screen."""
    reader.idle()
    reader.later(1)
    reader.until(lambda: not reader.session.measuring._changed, "all frames are measured")
    state = reader.session.measuring.state
    at = state.frames.index(frame)
    for structure, curve in zip(STRUCTURES, (state.lv_ml, state.myo_ml, state.rv_ml), strict=True):
        labels = reader.labels(frame)
        assert curve[at] == structure_volume_ml(labels, reader.study.grid, structure)
        share = abs(np.linalg.det(reader.study.affine[:3, :3])) / 1000
        assert curve[at] == pytest.approx(np.count_nonzero(labels == structure.value) * share)


def keep_evidence(house: House, reader: Reader, image: str, labels: np.ndarray) -> None:
    """Leave a label and its image where the outer test compares them with the store."""
    frame = reader.study.images.index(image)
    version = reader.session.submitting.state.sent[image]
    np.savez(
        house.evidence / f"{image}-{version}.npz",
        image=image,
        version=version,
        labels=labels,
        voxels=reader.study.frame(frame),
    )


@pytest.mark.parametrize("name", [*PHANTOMS, *REAL_ONES])
def test_a_case_of_the_server_is_segmented_edited_measured_and_kept_voxel_for_voxel(
    house: House, reader: Reader, name: str
) -> None:
    source_of(house, name)
    image, token = f"{name}__t00", house.tokens["anna"]
    reader.open(image)
    assert reader.study.grid.handedness == (-1 if name in LEFT_HANDED else 1)
    assert not any(reader.labels(t).any() for t in range(reader.study.n_frames))
    reader.segment()
    assert reader.session.editing.state.edited == frozenset()
    edited = edit(reader)
    require_measured(reader, 0)
    assert reader.session.editing.state.edited == {0}
    reader.submit()
    assert reader.problems == []
    assert reader.session.submitting.state.sent == {image: 1}
    require_kept(kept(house.url, token, image), edited, reader.study)
    others = set(reader.study.images) - {image}
    assert not any(versions(house.url, token, other) for other in others)
    keep_evidence(house, reader, image, edited)
    reader.open(image)
    assert np.array_equal(reader.labels(), edited)
    assert reader.session.editing.state.unsubmitted == frozenset()


@pytest.mark.parametrize("name", ["left", pytest.param("right", marks=SLOW), *REAL_ONES])
def test_a_study_of_this_machine_is_segmented_edited_measured_and_saved_voxel_for_voxel(
    house: House, reader: Reader, name: str
) -> None:
    source = source_of(house, name)
    reader.open_local(source)
    study = reader.study
    if source.is_file():
        image = nifti.read(source)
        assert np.array_equal(study.voxels.reshape(image.voxels.shape), image.voxels)
        assert study.grid.difference(Grid(study.grid.shape, image.affine)) is None
    reader.segment()
    edited = edit(reader)
    require_measured(reader, reader.scene.frame())
    reader.submit()
    assert ["of this machine" in problem for problem in reader.problems] == [True]
    reader.session.editing.save()
    reader.idle()
    records = LocalRecords(folder_for(reader.folder / "studies", study))
    saved = records.latest_labels(study)
    assert saved is not None
    assert saved.edited_frames == (reader.scene.frame(),)
    assert np.array_equal(saved.labels[..., reader.scene.frame()], edited)
    reader.open_local(source)
    assert np.array_equal(reader.labels(), edited)
    assert len(reader.problems) == 1


@SLOW
def test_ed_and_es_give_an_ejection_fraction_and_all_frames_a_curve(
    house: House, reader: Reader
) -> None:
    reader.open("right__t00")
    reader.session.opening.mark_phases(0, 1)
    reader.segment(Scope.ED_ES)
    require_measured(reader, 1)
    figures = {figure.name: figure.value for figure in reader.session.measuring.state.figures}
    volumes = [structure_volume_ml(reader.labels(t), reader.study.grid, LV) for t in (0, 1)]
    assert figures["LV EF"] == pytest.approx(100 * (volumes[0] - volumes[1]) / volumes[0])
    reader.segment(Scope.ALL)
    require_measured(reader, 2)
    assert reader.session.measuring.state.frames == (0, 1, 2)
    assert set(reader.session.editing.state.origins) <= {Origin.MODEL, Origin.SAVED}


@pytest.mark.parametrize("name", ["small-0", "small-1"])
def test_segments_that_are_deleted_and_drawn_again_in_any_order_keep_their_values(
    house: House, reader: Reader, name: str
) -> None:
    image, token = f"{name}__t01", house.tokens["anna"]
    reader.open(image)
    expected = reader.draw()
    masks = heart(expected.shape)
    segmentation = reader.scene.cine.segmentation.GetSegmentation()
    orders = list(itertools.permutations(STRUCTURES))
    for number, drawn in enumerate(orders):
        deleted = orders[-number - 1][: 1 + number % 3]
        for structure in deleted:
            segmentation.RemoveSegment(structure.name)
        for structure in (each for each in drawn if each in deleted):
            if segmentation.GetSegment(structure.name) is None:
                segmentation.AddEmptySegment(structure.name, structure.name)
            reader.scene.edits.paint(structure, masks[structure])
        assert np.array_equal(reader.labels(), expected)
        reader.submit()
        assert reader.problems == []
        require_kept(kept(house.url, token, image, number + 1), expected, reader.study)
        keep_evidence(house, reader, image, expected)
    assert versions(house.url, token, image) == list(range(1, len(orders) + 1))


def test_a_structure_that_stays_deleted_is_missing_and_no_other_takes_its_value(
    house: House, reader: Reader
) -> None:
    image = "small-2__t00"
    reader.open(image)
    expected = reader.draw()
    expected[expected == LV.value] = 0
    reader.scene.cine.segmentation.GetSegmentation().RemoveSegment("LV")
    assert np.array_equal(reader.labels(), expected)
    reader.submit()
    assert "LV has no labels" in " ".join(
        f.sentence for f in reader.session.submitting.state.findings
    )
    require_kept(kept(house.url, house.tokens["anna"], image), expected, reader.study)
    keep_evidence(house, reader, image, expected)


def _step(reader: Reader, by: int) -> None:
    reader.session.opening.step(by)


def _select(reader: Reader, by: int) -> None:
    browser = reader.scene.cine.browser
    browser.SelectNextItem(by)


@pytest.mark.parametrize("step", [_step, _select])
def test_scrolling_through_all_frames_and_back_neither_makes_a_label_nor_an_edit(
    house: House, reader: Reader, step: Callable[[Reader, int], None]
) -> None:
    reader.open("small-3__t00")
    drawn = np.where(reader.draw() == LV.value, 1, 0).astype(np.uint8)
    reader.session.editing.put(1, drawn, Origin.MODEL, "phantom-2")
    reader.session.editing.put(0, drawn * 0, Origin.NONE)
    told: list[int] = []
    reader.scene.frame_changed.connect(told.append)
    for by in (*[1] * 4, *[-1] * 4):
        step(reader, by)
        reader.later(30)
    reader.session.opening.go_to_ed()
    assert set(told) == {0, 1, 2}
    state = reader.session.editing.state
    assert (state.edited, state.unsaved, state.unsubmitted) == (frozenset(),) * 3
    assert [bool(reader.labels(t).any()) for t in range(3)] == [False, True, False]
    assert np.array_equal(reader.labels(1), drawn)
    reader.problems.clear()
    reader.submit()
    assert ["no frame was edited" in problem for problem in reader.problems] == [True]
    for image in reader.study.images:
        assert versions(house.url, house.tokens["anna"], image) == []


def test_frames_that_were_edited_are_submitted_and_no_others(house: House, reader: Reader) -> None:
    reader.open("small-4__t00")
    first = reader.draw()
    reader.session.editing.put(1, first, Origin.MODEL, "phantom-2")
    reader.session.opening.step(2)
    third = reader.draw()
    reader.scene.edits.erase(RV, third > 0)
    third = reader.labels()
    reader.session.opening.step(-1)
    reader.submit()
    assert reader.problems == []
    token = house.tokens["anna"]
    assert [len(versions(house.url, token, image)) for image in reader.study.images] == [1, 0, 1]
    for frame, labels in ((0, first), (2, third)):
        image = reader.study.images[frame]
        require_kept(kept(house.url, token, image), labels, reader.study)
        keep_evidence(house, reader, image, labels)
    assert (MYO.value in first, RV.value in third) == (True, False)
