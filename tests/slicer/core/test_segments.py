"""Labels leave through a colour table, on the source grid: no value permutes."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import slicer
import vtk
from CineLabelLib.core.errors import GridError, LabelError
from CineLabelLib.core.labels import LV, MYO, RV, STRUCTURES
from CineLabelLib.mrml import segments, volumes
from CineLabelLib.mrml.scene import MrmlScene
from made_up import KINDS, SHAPE, labels_of, study_of


def draw(scene: MrmlScene, name: str, mask: np.ndarray) -> None:
    """Let a segment of the frame on screen be a mask, as an effect of the editor does."""
    assert scene.cine is not None
    image = volumes.oriented_image(mask.astype(np.uint8), scene.cine.grid.affine)
    scene.seam.segmentations.SetBinaryLabelmapToSegment(
        image, scene.cine.segmentation, name, scene.seam.segmentations.MODE_REPLACE
    )


@pytest.mark.parametrize("order", permutations(s.name for s in STRUCTURES))
def test_values_never_permute_when_segments_are_deleted_and_drawn_anew(
    scene: MrmlScene, order: tuple[str, ...]
) -> None:
    labels = labels_of()
    scene.show(study_of())
    scene.set_labels(0, labels)
    segmentation = scene.cine.segmentation.GetSegmentation()
    for name in order:
        segmentation.RemoveSegment(name)
    for name in order:
        segments.complete(scene.cine.segmentation)
        draw(scene, name, labels == next(s.value for s in STRUCTURES if s.name == name))
    assert np.array_equal(scene.labels(0), labels)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_a_deleted_segment_leaves_the_values_of_the_others(
    scene: MrmlScene, structure: segments.Structure
) -> None:
    labels = labels_of()
    scene.show(study_of())
    scene.set_labels(0, labels)
    scene.cine.segmentation.GetSegmentation().RemoveSegment(structure.name)
    assert np.array_equal(scene.labels(0), np.where(labels == structure.value, 0, labels))


def test_values_never_permute_when_labels_are_read_between_deleting_and_drawing(
    scene: MrmlScene,
) -> None:
    labels = labels_of()
    scene.show(study_of())
    scene.set_labels(0, labels)
    segmentation = scene.cine.segmentation.GetSegmentation()
    for order in permutations(STRUCTURES):
        expected = labels.copy()
        for structure in order:
            segmentation.RemoveSegment(structure.name)
            expected[labels == structure.value] = 0
            assert np.array_equal(scene.labels(0), expected)
        for structure in order:
            segmentation.AddEmptySegment(structure.name, structure.name)
            assert np.array_equal(scene.labels(0), expected)
            draw(scene, structure.name, labels == structure.value)
            expected[labels == structure.value] = structure.value
            assert np.array_equal(scene.labels(0), expected)


def test_a_deleted_segment_is_there_again_and_empty_when_the_frame_comes_back(
    scene: MrmlScene,
) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    segmentation = scene.cine.segmentation.GetSegmentation()
    segmentation.RemoveSegment("LV")
    scene.go_to(1)
    scene.go_to(0)
    segmentation = scene.cine.segmentation.GetSegmentation()
    names = [segmentation.GetNthSegmentID(n) for n in range(3)]
    assert names == ["LV", "MYO", "RV"]
    assert not (scene.labels(0) == LV.value).any()


def test_values_in_memory_are_not_relied_on(scene: MrmlScene) -> None:
    labels = labels_of()
    scene.show(study_of())
    scene.set_labels(0, labels)
    segmentation = scene.cine.segmentation.GetSegmentation()
    segmentation.SeparateSegmentLabelmap("LV")
    segmentation.SeparateSegmentLabelmap("RV")
    assert {segmentation.GetSegment(n).GetLabelValue() for n in ("LV", "RV")} == {1}
    segmentation.SetSegmentIndex("RV", 0)
    assert np.array_equal(scene.labels(0), labels)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_come_back_on_the_source_grid_voxel_for_voxel(scene: MrmlScene, kind: str) -> None:
    study, labels = study_of(kind), labels_of(3)
    scene.show(study)
    scene.set_labels(1, labels)
    assert np.array_equal(scene.labels(1), labels)
    assert volumes.grid_of(scene.cine.volume).equals(study.grid)
    assert volumes.grid_of(scene.cine.volume).handedness == study.grid.handedness
    assert np.array_equal(
        volumes.voxels_of(scene.cine.volume.GetImageData()), study.frame(scene.frame())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_voxel_that_is_drawn_is_that_voxel_of_the_source(scene: MrmlScene, kind: str) -> None:
    scene.show(study_of(kind))
    mask = np.zeros(SHAPE, bool)
    mask[2, 17, 4] = True
    draw(scene, "RV", mask)
    assert [tuple(map(int, voxel)) for voxel in np.argwhere(scene.labels(0))] == [(2, 17, 4)]
    assert scene.labels(0)[2, 17, 4] == RV.value


def test_a_fourth_segment_is_refused_by_name_and_the_frame_is_kept(scene: MrmlScene) -> None:
    labels = labels_of()
    scene.show(study_of())
    scene.set_labels(0, labels)
    segmentation = scene.cine.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("Segment_1", "Scar")
    draw(scene, "Segment_1", labels == 0)
    with pytest.raises(LabelError, match="'Scar' is none of LV, MYO, RV") as told:
        scene.labels(0)
    assert "frame 0" in str(told.value)
    assert np.array_equal(scene.labels(0, strict=False), labels)
    assert segmentation.GetSegment("Segment_1") is not None
    segmentation.RemoveSegment("Segment_1")
    assert np.array_equal(scene.labels(0), labels)


def test_a_second_segment_of_the_same_name_is_refused_as_that(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    scene.cine.segmentation.GetSegmentation().AddEmptySegment("Segment_1", "LV")
    with pytest.raises(LabelError, match="a second segment is called LV"):
        scene.labels(0)
    assert np.array_equal(scene.labels(0, strict=False), labels_of())


def test_labels_put_onto_a_frame_leave_a_fourth_segment_where_it_is(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.cine.segmentation.GetSegmentation().AddEmptySegment("Segment_1", "Scar")
    draw(scene, "Segment_1", labels_of() == 0)
    scene.set_labels(0, labels_of(1))
    segmentation = scene.cine.segmentation.GetSegmentation()
    scar = segmentation.GetSegment("Segment_1")
    image = scar.GetRepresentation(segments.REPRESENTATION)
    drawn = volumes.voxels_of(image) == scar.GetLabelValue()
    assert drawn.sum() == (labels_of() == 0).sum()
    assert np.array_equal(scene.labels(0, strict=False), labels_of(1))


@pytest.mark.parametrize("name", ["Atrium", "MYO", ""])
def test_a_renamed_segment_is_refused_with_what_to_do(scene: MrmlScene, name: str) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    segment = scene.cine.segmentation.GetSegmentation().GetSegment("LV")
    segment.SetName(name)
    with pytest.raises(LabelError, match=f"LV was renamed to '{name}'. Name it LV again"):
        scene.labels(0)
    segment.SetName("LV")
    assert np.array_equal(scene.labels(0), labels_of())


def test_overlapping_segments_are_refused_with_the_slice(scene: MrmlScene) -> None:
    scene.show(study_of())
    mask = np.zeros(SHAPE, bool)
    mask[4:9, 4:9, 2] = True
    draw(scene, "LV", mask)
    draw(scene, "RV", np.roll(mask, 3, axis=0))
    with pytest.raises(LabelError, match="LV and RV overlap in slice 2"):
        scene.labels(0)
    draw(scene, "RV", np.roll(mask, 5, axis=0))
    assert (scene.labels(0) == RV.value).sum() == mask.sum()


def test_a_frame_without_any_segment_is_a_frame_without_labels(scene: MrmlScene) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    scene.cine.segmentation.GetSegmentation().RemoveAllSegments()
    assert not scene.labels(0).any()


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (np.full(SHAPE, 4, np.uint8), LabelError),
        (np.zeros((*SHAPE[:2], SHAPE[2] + 1), np.uint8), GridError),
    ],
)
def test_labels_of_another_shape_or_structure_are_not_put_onto_a_frame(
    scene: MrmlScene, labels: np.ndarray, error: type
) -> None:
    scene.show(study_of())
    scene.set_labels(0, labels_of())
    with pytest.raises(error):
        scene.set_labels(0, labels)
    assert np.array_equal(scene.labels(0), labels_of())


def test_segments_have_the_colours_and_codes_of_the_structures(scene: MrmlScene) -> None:
    scene.show(study_of())
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    for structure in (LV, MYO, RV):
        segment = scene.cine.segmentation.GetSegmentation().GetSegment(structure.name)
        assert np.allclose(np.array(segment.GetColor()) * 255, structure.colour)
        entry = slicer.vtkSlicerTerminologyEntry()
        text = vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), text)
        assert logic.DeserializeTerminologyEntry(str(text), entry)
        code = entry.GetTypeObject()
        found = (code.GetCodeValue(), code.GetCodingSchemeDesignator(), code.GetCodeMeaning())
        assert found == (structure.code.value, structure.code.scheme, structure.code.meaning)
        assert entry.GetCategoryObject().GetCodeValue() == "123037004"
