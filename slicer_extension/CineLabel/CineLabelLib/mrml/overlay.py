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

# Yellow of Okabe and Ito (2008), which none of the structures has; the more, the less transparent.
COLOUR = (240 / 255, 228 / 255, 66 / 255)
LEAST_SHOWN = 0.05
STRONGEST = 0.85
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

    def go_to(self, frame: int) -> None:
        """Show the frame's map, or none."""
        shown = self._maps.get(frame)
        if shown is not None:
            volumes.fill(self._volume(), shown[0], shown[1].affine)
        identifier = None if shown is None else self._node.GetID()
        for logic in self._layout.views() if self._node is not None else ():
            composite = logic.GetSliceCompositeNode()
            composite.SetForegroundVolumeID(identifier)
            composite.SetForegroundOpacity(1.0)

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
                opacity = STRONGEST * value if value >= LEAST_SHOWN else 0.0
                self._table.SetColor(shade, f"{value:.2f}", *COLOUR, opacity)
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
