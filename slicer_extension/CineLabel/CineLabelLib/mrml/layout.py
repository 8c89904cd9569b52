"""Four slice views in the acquisition plane: base, mid, apex, and the slice that is worked on.

An oblique stack has no axial, sagittal or coronal plane: the views are set from the directions of
the image's own columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from CineLabelLib.core.grid import Grid
from CineLabelLib.core.labels import LV
from CineLabelLib.mrml import volumes
from CineLabelLib.mrml.seam import Seam
from CineLabelLib.planes import plane_axes

LAYOUT_ID = 7301
LEVELS = ("CineBase", "CineMid", "CineApex")
CURRENT = "CineSlice"
# Where the levels lie between the first and the last slice.
FRACTIONS = (0.2, 0.5, 0.8)
# From base to apex the heart points left, forward and down: in RAS+.
_TO_APEX = np.array([-1.0, 1.0, -1.0])
_VIEWS = {LEVELS[0]: "Base", LEVELS[1]: "Mid", LEVELS[2]: "Apex", CURRENT: "Slice"}


def layout_xml() -> str:
    """The four views, two by two, as the layout manager reads them."""
    views = [
        f'<item><view class="vtkMRMLSliceNode" singletontag="{tag}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        '<property name="viewcolor" action="default">#6E6E6E</property></view></item>'
        for tag, label in _VIEWS.items()
    ]
    rows = [
        f'<item><layout type="horizontal">{a}{b}</layout></item>' for a, b in (views[:2], views[2:])
    ]
    return f'<layout type="vertical" split="true">{"".join(rows)}</layout>'


def levels_of(grid: Grid, labels: np.ndarray | None = None) -> tuple[int, int, int]:
    """The slices of base, mid and apex: of the ventricle where it is labelled, else of the stack.

    The base is where the left ventricle is wider; without labels where the patient's is.
    """
    first, last = 0, grid.shape[2] - 1
    apex_last = bool(grid.normal @ _TO_APEX > 0)
    if labels is not None and (labels == LV.value).any():
        areas = (labels == LV.value).sum(axis=(0, 1))
        first, last = (int(z) for z in np.flatnonzero(areas)[[0, -1]])
        middle = (first + last + 1) // 2
        apex_last = bool(
            areas[first:middle].sum() > areas[last - (middle - first) + 1 : last + 1].sum()
        )
    base, mid, apex = (round(first + (last - first) * fraction) for fraction in FRACTIONS)
    if not apex_last:
        base, mid, apex = (first + last - z for z in (base, mid, apex))
    return base, mid, apex


class FourUp:
    """The four views, and which slice each of them shows."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._grid: Grid | None = None
        self._placed = False

    def show(self, volume: Any, grid: Grid) -> None:
        """Show a volume in the four views, each fitted to a slice."""
        self._grid, self._placed = grid, False
        self._arrange()
        for name in _VIEWS:
            logic = self._seam.slice_logic(name)
            composite = logic.GetSliceCompositeNode()
            composite.SetLinkedControl(False)
            composite.SetBackgroundVolumeID(volume.GetID())
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
            self._fit(logic.GetSliceNode(), grid)
        levels = levels_of(grid)
        for name, index in zip((*LEVELS, CURRENT), (*levels, levels[1]), strict=True):
            self._move(name, index)

    def place_once(self, labels: np.ndarray) -> None:
        """Move base, mid and apex to those of the first labels; later ones leave them."""
        if self._grid is None or self._placed or not (labels == LV.value).any():
            return
        self._placed = True
        for name, index in zip(LEVELS, levels_of(self._grid, labels), strict=True):
            self._move(name, index)

    def current(self) -> Any:
        """The slice node of the view that is worked on."""
        return self._node(CURRENT)

    def views(self) -> tuple[Any, ...]:
        """The slice logics of the four views: base, mid, apex, current."""
        return tuple(self._seam.slice_logic(name) for name in _VIEWS)

    def slice(self, name: str = CURRENT) -> int:
        """The slice of the study that a view shows, the nearest one."""
        assert self._grid is not None
        origin = volumes.array_of_matrix(self._node(name).GetSliceToRAS())[:3, 3]
        depth = (origin - self._grid.affine[:3, 3]) @ self._grid.normal
        index = round(float(depth / self._distance()))
        return min(max(index, 0), self._grid.shape[2] - 1)

    def go_to(self, index: int) -> None:
        """Show a slice in the view that is worked on; beyond the ends the first or the last."""
        self._move(CURRENT, index)

    def _distance(self) -> float:
        """Distance of neighbouring slice planes, which in a sheared stack is less than k's step."""
        assert self._grid is not None
        return float(self._grid.affine[:3, 2] @ self._grid.normal)

    def _node(self, name: str) -> Any:
        return self._seam.slice_logic(name).GetSliceNode()

    def _move(self, name: str, index: int) -> None:
        assert self._grid is not None
        index = min(max(index, 0), self._grid.shape[2] - 1)
        origin = self._grid.affine[:3, 3] @ self._grid.normal
        self._node(name).SetSliceOffset(float(origin + index * self._distance()))

    def _fit(self, node: Any, grid: Grid) -> None:
        pose = np.eye(4)
        pose[:3, :3] = plane_axes(grid)
        pose[:3, 3] = grid.index_to_world((np.array(grid.shape) - 1) / 2)
        size = np.abs(pose[:3, :2].T @ (grid.affine[:3, :3] * np.array(grid.shape)))[:, :2].sum(
            axis=1
        )
        width, height, _ = (max(n, 1) for n in node.GetDimensions())
        scale = max(size[0] / width, size[1] / height)
        node.GetSliceToRAS().DeepCopy(volumes.matrix_of(pose))
        node.UpdateMatrices()
        node.SetFieldOfView(width * scale, height * scale, grid.spacing[2])
        node.SetXYZOrigin(0, 0, 0)

    def _arrange(self) -> None:
        layout = self._seam.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if layout is None:
            layout = self._seam.scene.AddNewNodeByClass("vtkMRMLLayoutNode")
        if not layout.IsLayoutDescription(LAYOUT_ID):
            layout.AddLayoutDescription(LAYOUT_ID, layout_xml())
        layout.SetViewArrangement(LAYOUT_ID)
