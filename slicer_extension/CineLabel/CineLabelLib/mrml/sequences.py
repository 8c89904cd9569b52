"""A study in the scene: a sequence of images, one of labels, and the browser that steps through.

Every frame owns an item of labels, empty where nobody drew: where one is missing Slicer would copy
a neighbouring frame's contours while a reader merely scrolls, and store them.
"""

from __future__ import annotations

from typing import Any

import slicer

from CineLabelLib.core.grid import Grid
from CineLabelLib.mrml import segments, volumes
from CineLabelLib.mrml.seam import Seam
from CineLabelLib.study import CineStudy


class CineSequences:
    """The nodes of one study.

    Attributes:
        browser: vtkMRMLSequenceBrowserNode.
        volume: the image of the frame on screen, a proxy node.
        segmentation: the segments of the frame on screen, a proxy node. It shares the frame's
            vtkSegmentation, so that an edit is an edit of the frame and needs no saving.
    """

    def __init__(self, seam: Seam, study: CineStudy) -> None:
        self.seam = seam
        self.grid: Grid = study.grid
        self.n_frames = study.n_frames
        self.browser = self._add("vtkMRMLSequenceBrowserNode", f"{study.name} cine")
        self.images = self._sequence(f"{study.name} images")
        self.labels = self._sequence(f"{study.name} labels")
        image, empty = slicer.vtkMRMLScalarVolumeNode(), segments.new_node(self.grid)
        for t in range(study.n_frames):
            volumes.fill(image, study.frame(t), study.affine)
            self.images.SetDataNodeAtValue(image, str(t))
            self.labels.SetDataNodeAtValue(empty, str(t))
        self._browse(self.images, save_changes=False)
        self._browse(self.labels, save_changes=True)
        seam.sequences.UpdateProxyNodesFromSequences(self.browser)
        self.volume = self.browser.GetProxyNode(self.images)
        self.segmentation = self.browser.GetProxyNode(self.labels)
        self._display(study)

    def _add(self, class_name: str, name: str) -> Any:
        return self.seam.scene.AddNewNodeByClass(class_name, name)

    def _sequence(self, name: str) -> Any:
        sequence = self._add("vtkMRMLSequenceNode", name)
        sequence.SetIndexName("frame")
        sequence.SetIndexUnit("")
        return sequence

    def _browse(self, sequence: Any, save_changes: bool) -> None:
        browser = self.browser
        browser.AddSynchronizedSequenceNodeID(sequence.GetID())
        browser.SetMissingItemMode(sequence, browser.MissingItemSetToDefault)
        browser.SetSaveChanges(sequence, save_changes)
        browser.SetOverwriteProxyName(sequence, False)
        browser.SetRecording(sequence, False)

    def _display(self, study: CineStudy) -> None:
        for proxy, name in ((self.volume, study.name), (self.segmentation, "segments")):
            proxy.SetName(name)
            proxy.CreateDefaultDisplayNodes()
        window, level = volumes.window_of(study.frame(study.n_frames // 2))
        display = self.volume.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(window, level)
        role = self.segmentation.GetReferenceImageGeometryReferenceRole()
        self.segmentation.SetNodeReferenceID(role, self.volume.GetID())

    def frame(self) -> int:
        """The frame on screen."""
        return int(self.browser.GetSelectedItemNumber())

    def go_to(self, frame: int) -> None:
        """Show a frame; beyond the ends it is the first or the last."""
        self.browser.SetSelectedItemNumber(min(max(frame, 0), self.n_frames - 1))

    def labels_of(self, frame: int) -> Any:
        """The segmentation node that keeps a frame's labels; made anew where it was removed."""
        node = self.labels.GetDataNodeAtValue(str(frame))
        if node is None:
            node = self.labels.SetDataNodeAtValue(segments.new_node(self.grid), str(frame))
        return node

    def nodes(self) -> tuple[Any, ...]:
        """The nodes without which the study is no longer in the scene."""
        return (self.browser, self.segmentation, self.volume, self.labels, self.images)

    def remove(self, going: Any = None) -> None:
        """Take the study out of the scene; a node that is `going` already goes by itself."""
        self.browser.RemoveAllSequenceNodes()  # or it would make new proxies
        for node in self.nodes():
            remove(self.seam.scene, node, going)


def remove(scene: Any, node: Any, going: Any = None) -> None:
    """Take a node out of the scene unless it is `going` already, and what shows or stores it."""
    nodes = [] if node is going else [node]
    if node.IsA("vtkMRMLDisplayableNode"):
        nodes += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    if node.IsA("vtkMRMLStorableNode"):
        nodes += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    for each in nodes:
        if each is not None and scene.IsNodePresent(each):
            scene.RemoveNode(each)
