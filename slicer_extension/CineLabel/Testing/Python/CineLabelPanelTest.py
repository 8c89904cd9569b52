"""The panel in Slicer's window: made, entered, left, and followed through a study."""

from __future__ import annotations

import unittest

import numpy as np
import slicer


class CineLabelPanelTest(unittest.TestCase):
    """Runs in the desktop application only (`ctest`, or Slicer's menu Self Tests)."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        slicer.util.selectModule("CineLabel")
        self.panel = slicer.modules.CineLabelWidget.panel

    def test_a_study_is_shown_frame_by_frame(self) -> None:
        from CineLabelLib.study import CineStudy

        grey = np.random.default_rng(0).integers(0, 400, (32, 30, 6, 4)).astype(np.int16)
        scene = self.panel.session.desk.scene
        scene.show(CineStudy("made-up", grey, np.diag([-1.5, -1.5, 8.0, 1.0])))
        scene.go_to(2)
        assert scene.frame() == 2
        assert not scene.labels(2).any()

    def test_keys_are_there_only_while_the_module_is_shown(self) -> None:
        assert self.panel.keys_installed()
        slicer.util.selectModule("Welcome")
        assert not self.panel.keys_installed()

    def test_the_editor_works_on_our_labels(self) -> None:
        editor = self.panel.edit.ui.segmentEditor
        node = self.panel.session.desk.scene.edits.node
        assert editor.mrmlSegmentEditorNode() is node
