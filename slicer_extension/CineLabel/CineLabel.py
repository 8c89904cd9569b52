"""The module CineLabel of 3D Slicer: review, segment, correct and measure short-axis cine MRI."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from CineLabelLib.panel.ask import Windows
from CineLabelLib.widget import Panel, compose, data_folder
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class CineLabel(ScriptedLoadableModule):
    """What Slicer shows of the module in its lists."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "CineLabel"
        parent.categories = ["Segmentation", "Cardiac"]
        parent.dependencies = ["SegmentEditor", "Segmentations", "Sequences"]
        parent.contributors = ["CineLabel maintainers"]
        parent.helpText = (
            "Review breath-holds, segment, correct and measure short-axis cardiac cine MRI, with "
            "a CineLabel server or without one. Research software, not a medical device: not for "
            "diagnosis or treatment."
        )
        parent.acknowledgementText = "Apache License 2.0."


class CineLabelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel in Slicer's window."""

    panel: Panel | None = None

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self) -> None:
        """Make the panel, the first time that the module is opened."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = CineLabelLogic()
        resources = Path(self.resourcePath("UI")).parent
        windows = Windows(slicer.util.mainWindow())
        scene = self.logic.scene()
        self.panel = compose(scene, resources, windows, qt.QSettings(), data_folder())
        self.layout.addWidget(self.panel.widget)
        self.panel.widget.setMRMLScene(slicer.mrmlScene)
        self.panel.show_tools_of(scene)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)

    def enter(self) -> None:
        """The module is chosen."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self) -> None:
        """Another module is chosen."""
        if self.panel is not None:
            self.panel.exit()

    def onSceneStartClose(self, caller, event) -> None:
        """The scene is about to be emptied: its labels are kept by the scene itself."""
        if self.panel is not None:
            self.panel.scene_closes()

    def cleanup(self) -> None:
        """Slicer ends, or the module is loaded anew."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
            self.panel = None


class CineLabelLogic(ScriptedLoadableModuleLogic):
    """What the module does in the scene."""

    def scene(self):
        """Slicer's scene as the desk sees it."""
        from CineLabelLib.mrml.scene import MrmlScene

        return MrmlScene()


class CineLabelTest(ScriptedLoadableModuleTest):
    """The module's test inside Slicer; Testing/Python has more."""

    def runTest(self) -> None:
        """Show a small study on the panel, in Slicer's own scene."""
        import numpy as np
        from CineLabelLib.study import CineStudy

        slicer.mrmlScene.Clear()
        slicer.util.selectModule("CineLabel")
        scene = slicer.modules.CineLabelWidget.panel.session.desk.scene
        grey = np.random.default_rng(0).integers(0, 400, (32, 30, 6, 4)).astype(np.int16)
        scene.show(CineStudy("made-up", grey, np.diag([-1.5, -1.5, 8.0, 1.0])))
        scene.go_to(2)
        assert scene.frame() == 2
        assert not scene.labels(2).any()
        scene.clear()
