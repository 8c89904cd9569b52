"""The segments LV, MYO and RV of a segmentation node: made from labels, read back by their id.

Values of segments in memory change whenever one is deleted or drawn anew, so nothing here relies
on them: labels leave only through a colour table with the canonical values, on the source grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from CineLabelLib.core.errors import GridError, LabelError
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import BACKGROUND, STRUCTURES, Structure
from CineLabelLib.mrml import volumes

REPRESENTATION = "Binary labelmap"
_NAMES = tuple(structure.name for structure in STRUCTURES)
_CATEGORY = ("SCT", "123037004", "Anatomical Structure")


def terminology(structure: Structure) -> str:
    """A structure's SNOMED CT code as Slicer's terminology tag holds it."""
    code = structure.code
    return "~".join(
        (
            "Segmentation category and type - 3D Slicer General Anatomy list",
            "^".join(_CATEGORY),
            "^".join((code.scheme, code.value, code.meaning)),
            "^^",
            "Anatomic codes - DICOM master list",
            "^^",
            "^^",
        )
    )


def new_node(grid: Grid) -> Any:
    """A segmentation node, in no scene yet, with the three structures and no labels."""
    node = slicer.vtkMRMLSegmentationNode()
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(REPRESENTATION)
    put(node, np.zeros(grid.shape, np.uint8), grid)
    converter = slicer.vtkSegmentationConverter
    segmentation.SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(),
        converter.SerializeImageGeometry(
            segmentation.GetNthSegment(0).GetRepresentation(REPRESENTATION)
        ),
    )
    return node


def put(node: Any, labels: np.ndarray, grid: Grid) -> None:
    """Let the three segments be these labels, (x, y, z) uint8; segments of others stay.

    Raises:
        LabelError: a value is none of the canonical ones.
        GridError: the labels have another shape than the grid.
    """
    if labels.shape != grid.shape:
        raise GridError(f"the labels are {labels.shape} and the study's frames are {grid.shape}")
    if labels.max(initial=0) > len(STRUCTURES):
        raise LabelError(f"the labels hold the value {labels.max()}, which is no structure")
    image = volumes.oriented_image(labels.astype(np.uint8), grid.affine)
    segmentation = node.GetSegmentation()
    for structure in STRUCTURES:
        segment = segmentation.GetSegment(structure.name)
        added = segment is None
        if added:
            segment = slicer.vtkSegment()
        _describe(segment, structure)
        segment.SetLabelValue(structure.value)
        segment.AddRepresentation(REPRESENTATION, image)
        if added:
            segmentation.AddSegment(segment, structure.name)
    _order(segmentation)
    image.Modified()  # views hear of it, and surfaces made of the labels before go


def complete(node: Any) -> None:
    """Give back the segments that were deleted, empty, so that they can be drawn again."""
    segmentation = node.GetSegmentation()
    missing = [s for s in STRUCTURES if segmentation.GetSegment(s.name) is None]
    for structure in missing:
        segmentation.AddEmptySegment(structure.name, structure.name)
        _describe(segmentation.GetSegment(structure.name), structure)
    if missing:
        _order(segmentation)


def age(node: Any) -> tuple[tuple[str, int], ...]:
    """Each segment's id and when its voxels were last changed: the same as long as none was."""
    segmentation = node.GetSegmentation()
    images = {
        name: segmentation.GetSegment(name).GetRepresentation(REPRESENTATION)
        for name in segmentation.GetSegmentIDs()
    }
    return tuple((name, image.GetMTime() if image else 0) for name, image in images.items())


def _describe(segment: Any, structure: Structure) -> None:
    segment.SetName(structure.name)
    segment.SetColor(*(channel / 255 for channel in structure.colour))
    segment.SetTag(segment.GetTerminologyEntryTagName(), terminology(structure))


def _order(segmentation: Any) -> None:
    for index, name in enumerate(_NAMES):
        segmentation.SetSegmentIndex(name, index)


def require_known(segmentation: Any, where: object) -> None:
    """Refuse segments that are none of the three, by id and by name.

    Raises:
        LabelError: naming `where` and the segment.
    """
    for index in range(segmentation.GetNumberOfSegments()):
        identifier = segmentation.GetNthSegmentID(index)
        name = segmentation.GetNthSegment(index).GetName()
        if identifier not in _NAMES:
            none = f"the segment {name!r} is none of {', '.join(_NAMES)}"
            second = f"a second segment is called {name}, besides the study's own"
            raise LabelError(
                second if name in _NAMES else none,
                where=where,
                remedy="Delete it, or put its voxels into one of them; nothing else was changed",
            )
        if name != identifier:
            raise LabelError(
                f"the segment {identifier} was renamed to {name!r}",
                where=where,
                remedy=f"Name it {identifier} again; nothing else was changed",
            )


class LabelReader:
    """Reads labels out of segmentation nodes, on the grid of a study.

    The colour table and the label map it exports through live in a scene of their own, where
    nobody can change or delete them, and no view is told.
    """

    def __init__(self, seam: Any, grid: Grid) -> None:
        self._logic = seam.segmentations
        self._grid = grid
        self._scene = slicer.vtkMRMLScene()
        self._labelmap = self._add("vtkMRMLLabelMapVolumeNode")
        self._display = self._add("vtkMRMLLabelMapVolumeDisplayNode")
        self._labelmap.SetAndObserveDisplayNodeID(self._display.GetID())
        self._reference = self._add("vtkMRMLScalarVolumeNode")
        volumes.fill(self._reference, np.zeros(grid.shape, np.uint8), grid.affine)

    def _add(self, name: str) -> Any:
        return self._scene.AddNewNodeByClass(name)

    def read(self, node: Any, where: object, strict: bool = True) -> np.ndarray:
        """The labels (x, y, z) uint8 of a segmentation node, a copy; `where` is named in errors.

        Args:
            strict: refuse what is ambiguous; otherwise unknown segments are left out, and where
                two overlap the later structure counts.

        Raises:
            LabelError: a segment is none of the three or was renamed, or two of them overlap.
            GridError: Slicer exported onto another grid.
        """
        segmentation = node.GetSegmentation()
        if strict:
            require_known(segmentation, where)
        present = [name for name in _NAMES if segmentation.GetSegment(name) is not None]
        if strict and segmentation.GetNumberOfLayers() > 1:
            self._require_apart(node, present, where)
        return self._export(node, present, where)

    def _require_apart(self, node: Any, present: list[str], where: object) -> None:
        owner = np.zeros(self._grid.shape, np.uint8)
        for name in present:
            here = self._export(node, [name], where) > 0
            both = here & (owner > 0)
            if both.any():
                other = STRUCTURES[int(owner[both][0]) - 1].name
                z = int(np.flatnonzero(both.any(axis=(0, 1)))[0])
                raise LabelError(
                    f"{other} and {name} overlap in slice {z} (counted from 0)",
                    where=where,
                    remedy="Erase one of them there; nothing else was changed",
                )
            owner[here] = _NAMES.index(name) + 1

    def _new_table(self) -> Any:
        """A colour table with the canonical values, in place of the one before.

        An export writes into its table: it takes out the names that it did not need, and one that
        comes back later would be given another value.
        """
        old, table = self._display.GetColorNode(), self._add("vtkMRMLColorTableNode")
        table.SetTypeToUser()
        table.SetNumberOfColors(len(STRUCTURES) + 1)
        table.SetColor(BACKGROUND, "background", 0, 0, 0, 0)
        for structure in STRUCTURES:
            colour = (channel / 255 for channel in structure.colour)
            table.SetColor(structure.value, structure.name, *colour, 1)
        self._display.SetAndObserveColorNodeID(table.GetID())
        if old is not None:
            self._scene.RemoveNode(old)
        return table

    def _export(self, node: Any, names: list[str], where: object) -> np.ndarray:
        if not names:  # an id that is not there ends the whole application
            return np.zeros(self._grid.shape, np.uint8)
        table = self._new_table()
        done = self._logic.ExportSegmentsToLabelmapNode(
            node,
            names,
            self._labelmap,
            self._reference,
            slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY,
            table,
        )
        used = [table.GetColorName(_NAMES.index(name) + 1) for name in names]
        if not done or used != names:
            raise LabelError("Slicer could not export the segments with their values", where=where)
        self._grid.require_equal(volumes.grid_of(self._labelmap), f"{where}, as exported")
        return voxels_as_labels(self._labelmap.GetImageData())


def voxels_as_labels(image: vtk.vtkImageData) -> np.ndarray:
    """The voxels of an exported label map as uint8, a copy in the order of the source."""
    return np.array(volumes.voxels_of(image), np.uint8, order="F")
