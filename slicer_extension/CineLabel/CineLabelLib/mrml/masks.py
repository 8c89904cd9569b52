"""Masks (x, y, z) into segments by the segment editor's logic, and through ITK's filters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from CineLabelLib.core.errors import LabelError
from CineLabelLib.core.labels import BACKGROUND, STRUCTURES
from CineLabelLib.filling import Between


def modify(logic: Any, segment: str, mask: np.ndarray, mode: int) -> None:
    """Add a mask to a segment or remove it, by the editor's masking and overwriting.

    The segment is selected meanwhile: the logic takes the selected segment's voxels, not those of
    the segment it modifies, for editable.

    Args:
        logic: vtkSlicerSegmentEditorLogic with node, segmentation and reference geometry.
        segment: its id.
        mask: (x, y, z) bool on the reference geometry.
        mode: `logic.ModificationModeAdd` or `logic.ModificationModeRemove`.

    Raises:
        LabelError: the mask has another shape than the reference geometry.
    """
    if not mask.any():
        return
    node = logic.GetSegmentEditorNode()
    logic.ResetModifierLabelmapToDefault()
    image = logic.GetModifierLabelmap()
    if image.GetDimensions() != mask.shape:
        raise LabelError(
            f"the segmentation's voxels are {image.GetDimensions()} and the frame's {mask.shape}",
            remedy="Open the study again",
        )
    numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel(order="F")
    image.Modified()
    selected = node.GetSelectedSegmentID()
    node.SetSelectedSegmentID(segment)
    logic.ModifySegmentByLabelmap(logic.GetSegmentationNode(), segment, image, mode, False, False)
    node.SetSelectedSegmentID(selected)


def write_changes(logic: Any, before: np.ndarray, after: np.ndarray) -> None:
    """Change segments that are `before` to be `after`, both (x, y, z) uint8, voxel by voxel.

    Each voxel belongs to one segment at most afterwards, whatever the editor's masking is set to.
    """
    with _unmasked(logic.GetSegmentEditorNode()):
        for each in STRUCTURES:
            leaves = (before == each.value) & (after == BACKGROUND)
            modify(logic, each.name, leaves, logic.ModificationModeRemove)
        for each in STRUCTURES:
            joins = (after == each.value) & (before != each.value)
            modify(logic, each.name, joins, logic.ModificationModeAdd)


@contextmanager
def _unmasked(node: Any) -> Iterator[None]:
    """Edits go everywhere and overwrite; the editor's own settings come back afterwards."""
    was = node.GetMaskMode(), node.GetOverwriteMode(), node.GetSourceVolumeIntensityMask()
    modifying = node.StartModify()
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    node.SetOverwriteMode(node.OverwriteAllSegments)
    node.SetSourceVolumeIntensityMask(False)
    try:
        yield
    finally:
        node.SetMaskMode(was[0])
        node.SetOverwriteMode(was[1])
        node.SetSourceVolumeIntensityMask(was[2])
        node.EndModify(modifying)


def morphological_between() -> Between | None:
    """Interpolates between two masks by ITK's MorphologicalContourInterpolator.

    Zukic, Vicory, McCormick, Wisse, Gerig, Yushkevich and Aylward 2016; None where Slicer lacks it.
    The filter sees one gap at a time: in a whole stack it passes over gaps between slices that
    are like their neighbours on the other side.
    """
    if not hasattr(slicer, "vtkITKMorphologicalContourInterpolator"):
        return None

    def between(below: np.ndarray, above: np.ndarray, n: int) -> np.ndarray:
        stack = np.zeros((*below.shape, n + 2), np.uint8, order="F")
        stack[:, :, 0], stack[:, :, -1] = below, above
        image = vtk.vtkImageData()
        image.SetDimensions(stack.shape)
        scalars = numpy_support.numpy_to_vtk(stack.ravel(order="F"), deep=True)
        image.GetPointData().SetScalars(scalars)
        filling = slicer.vtkITKMorphologicalContourInterpolator()
        filling.SetInputData(image)
        filling.SetAxis(2)
        filling.Update()
        values = numpy_support.vtk_to_numpy(filling.GetOutput().GetPointData().GetScalars())
        return values.reshape(stack.shape, order="F")[:, :, 1:-1] > 0

    return between
