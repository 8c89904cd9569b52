"""The scene and the logics that act on it: those of the desktop application, or headless ones.

Nothing else in `mrml` asks where it runs. Logics are held here for as long as the seam is: a scene
and an application logic hold them weakly, and a sequence without its logic stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer
import vtk


@dataclass(frozen=True, eq=False)
class Seam:
    """A scene and who acts on it.

    Attributes:
        scene: vtkMRMLScene.
        application: vtkMRMLApplicationLogic; knows the slice views.
        segmentations: vtkSlicerSegmentationsModuleLogic.
        sequences: vtkSlicerSequencesLogic; keeps proxy nodes at the browser's frame.
        colours: vtkMRMLColorLogic; the scene's colour tables.
        desktop: whether a window with views and a layout is there.
    """

    scene: Any
    application: Any
    segmentations: Any
    sequences: Any
    colours: Any
    desktop: bool

    def slice_logic(self, name: str) -> Any:
        """The vtkMRMLSliceLogic of the slice view with this layout name.

        The desktop makes views when a layout with them is shown; headless they are made here.

        Raises:
            LookupError: the desktop shows no such view.
        """
        logic = self.application.GetSliceLogicByLayoutName(name)
        if logic is None and self.desktop:
            raise LookupError(f"the layout shows no slice view named {name}")
        if logic is None:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLScene(self.scene)
            logic.AddSliceNode(name)
            logic.SetMRMLApplicationLogic(self.application)
            self.application.GetSliceLogics().AddItem(logic)
        return logic


def current() -> Seam:
    """The seam to the desktop application where one runs, else to a new headless scene."""
    return desktop() if getattr(slicer, "app", None) is not None else headless()


def desktop() -> Seam:
    """The seam to the scene of the running application."""
    return Seam(
        scene=slicer.mrmlScene,
        application=slicer.app.applicationLogic(),
        segmentations=slicer.modules.segmentations.logic(),
        sequences=slicer.modules.sequences.logic(),
        colours=slicer.modules.colors.logic(),
        desktop=True,
    )


def headless() -> Seam:
    """A seam to a scene of its own, as in slicer-core without a window."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetSliceLogics(vtk.vtkCollection())
    logics = {
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "Sequences": slicer.vtkSlicerSequencesLogic(),
        "Colors": slicer.vtkMRMLColorLogic(),
    }
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
    return Seam(
        scene=scene,
        application=application,
        segmentations=logics["Segmentations"],
        sequences=logics["Sequences"],
        colours=logics["Colors"],
        desktop=False,
    )
