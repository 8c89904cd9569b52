"""What lies over the image of a frame: where members disagree, and the labels of somebody else."""

from __future__ import annotations

from typing import Any

import numpy as np

from CineLabelLib.core.errors import GridError
from CineLabelLib.core.grid import Grid
from CineLabelLib.mrml import segments, volumes
from CineLabelLib.mrml.layout import FourUp
from CineLabelLib.mrml.seam import Seam
from CineLabelLib.mrml.sequences import remove

# From violet over pink to yellow: ever lighter, so that greys tell the order too, and none of the
# structures' colours. Slicer knows a colour of a volume as seen or not seen, nothing in between.
COLOURS = ((0.24, 0.05, 0.45), (0.80, 0.28, 0.47), (0.94, 0.89, 0.26))
LEAST_SHOWN = 0.05
OPACITY = 0.7
_SHADES = 256


class Disagreement:
    """Maps of disagreement a frame; the one of the frame on screen lies over the image."""

    def __init__(self, seam: Seam, layout: FourUp) -> None:
        self._seam = seam
        self._layout = layout
        self._maps: dict[int, tuple[np.ndarray, Grid]] = {}
        self._node: Any = None
        self._table: Any = None

    def put(self, frame: int, values: np.ndarray | None, grid: Grid) -> None:
        """Keep a frame's map (x, y, z), 0 to 1; None forgets it. Raises GridError."""
        if values is None:
            self._maps.pop(frame, None)
            return
        if values.shape != grid.shape:
            raise GridError(f"the map is {values.shape} and the study's frames are {grid.shape}")
        self._maps[frame] = (np.asarray(values, np.float32), grid)

    def go_to(self, frame: int) -> bool:
        """Show the frame's map, or none; tells whether there is one."""
        shown = self._maps.get(frame)
        if shown is not None:
            volumes.fill(self._volume(), shown[0], shown[1].affine)
        identifier = None if shown is None else self._node.GetID()
        for logic in self._layout.views() if self._node is not None else ():
            composite = logic.GetSliceCompositeNode()
            composite.SetForegroundVolumeID(identifier)
            composite.SetForegroundOpacity(OPACITY)
        return shown is not None

    def clear(self) -> None:
        """Forget every map and take the nodes away."""
        self._maps.clear()
        self.go_to(-1)
        for node in (self._node, self._table):
            if node is not None:
                remove(self._seam.scene, node)
        self._node = self._table = None

    def _volume(self) -> Any:
        if self._node is None or not self._seam.scene.IsNodePresent(self._node):
            add = self._seam.scene.AddNewNodeByClass
            self._table = add("vtkMRMLColorTableNode", "Disagreement colours")
            self._table.SetTypeToUser()
            self._table.SetNumberOfColors(_SHADES)
            for shade in range(_SHADES):
                value = shade / (_SHADES - 1)
                colour = (np.interp(value, (0, 0.5, 1), c) for c in zip(*COLOURS, strict=True))
                self._table.SetColor(shade, f"{value:.2f}", *colour, float(value >= LEAST_SHOWN))
            self._node = add("vtkMRMLScalarVolumeNode", "Disagreement")
            self._node.CreateDefaultDisplayNodes()
            display = self._node.GetDisplayNode()
            display.SetAndObserveColorNodeID(self._table.GetID())
            display.AutoWindowLevelOff()
            display.SetWindowLevelMinMax(0.0, 1.0)
            display.SetInterpolate(False)
        return self._node


class Beside:
    """Labels of somebody else a frame, as outlines over the image, not to be edited."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._labels: dict[int, tuple[np.ndarray, str, Grid]] = {}
        self._node: Any = None

    def put(self, frame: int, labels: np.ndarray | None, title: str, grid: Grid) -> None:
        """Keep a frame's labels (x, y, z) uint8 under a title; None forgets them."""
        if labels is None:
            self._labels.pop(frame, None)
        else:
            self._labels[frame] = (labels, title or "Other labels", grid)

    def go_to(self, frame: int) -> None:
        """Show the frame's labels, or none."""
        shown = self._labels.get(frame)
        if shown is not None:
            labels, title, grid = shown
            node = self._segmentation()
            node.SetName(title)
            segments.put(node, labels, grid)
        if self._node is not None:
            self._node.SetDisplayVisibility(shown is not None)

    def clear(self) -> None:
        """Forget all labels and take the node away."""
        self._labels.clear()
        if self._node is not None:
            remove(self._seam.scene, self._node)
        self._node = None

    def _segmentation(self) -> Any:
        if self._node is None or not self._seam.scene.IsNodePresent(self._node):
            self._node = self._seam.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
            self._node.GetSegmentation().SetSourceRepresentationName(segments.REPRESENTATION)
            self._node.CreateDefaultDisplayNodes()
            display = self._node.GetDisplayNode()
            display.SetVisibility2DFill(False)
            display.SetSliceIntersectionThickness(2)
        return self._node
