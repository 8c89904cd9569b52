"""Pictures of the four slice views without a screen, by Slicer's own displayable managers.

`python pictures.py image.nii.gz labels.nii.gz entropy.nii.gz picture.jpg` photographs one frame.
It needs software OpenGL through EGL (Debian: libegl1 and libgl1-mesa-dri).
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

SIDE = 260
MANAGERS = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D")
NAMES = ("Base", "Mid", "Apex", "Slice")


def why_not() -> str | None:
    """Why no picture can be taken here, or None; asked in a process of its own, GL may abort."""
    import subprocess

    code = (
        "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.SetSize(8, 8);"
        "w.AddRenderer(vtk.vtkRenderer()); w.Render(); print(w.ReportCapabilities())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 and "OpenGL version" in done.stdout:
        return None
    return "no OpenGL without a screen: install libegl1 and libgl1-mesa-dri"


@dataclass(frozen=True)
class View:
    """A slice view without a screen; all parts must be held for as long as it is rendered."""

    logic: Any
    window: Any
    mapper: Any
    group: Any
    text: Any
    interactor: Any


class Camera:
    """Photographs the four views of a scene; made before the study is shown."""

    def __init__(self, scene: Any) -> None:
        os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
        self._scene = scene
        self._views: list[View] = []
        for logic in scene.layout.views():
            logic.GetSliceNode().SetDimensions(SIDE, SIDE, 1)
            logic.ResizeSliceNode(SIDE, SIDE)
            self._views.append(self._window(logic))

    def _window(self, logic: Any) -> View:
        renderer = vtk.vtkRenderer()
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        image = vtk.vtkActor2D()
        image.SetMapper(mapper)
        image.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(image)
        text = vtk.vtkTextActor()
        text.SetPosition(8, 8)
        text.GetTextProperty().SetFontSize(13)
        renderer.AddViewProp(text)
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetMultiSamples(0)
        window.SetSize(SIDE, SIDE)
        window.AddRenderer(renderer)
        interactor = vtk.vtkGenericRenderWindowInteractor()
        interactor.SetRenderWindow(window)
        interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory()
        factory.SetMRMLApplicationLogic(self._scene.seam.application)
        for manager in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        group = factory.InstantiateDisplayableManagers(renderer)
        group.SetMRMLDisplayableNode(logic.GetSliceNode())
        return View(logic, window, mapper, group, text, interactor)

    def zoom(self, factor: float, centre: np.ndarray) -> None:
        """Show a part of each slice, around a place in RAS+ mm."""
        for view in self._views:
            node = view.logic.GetSliceNode()
            width, height, depth = node.GetFieldOfView()
            node.SetFieldOfView(width / factor, height / factor, depth)
            offset, pose = node.GetSliceOffset(), node.GetSliceToRAS()
            for row in range(3):
                pose.SetElement(row, 3, float(centre[row]))
            node.UpdateMatrices()
            node.SetSliceOffset(offset)

    def picture(self) -> np.ndarray:
        """(2 SIDE, 2 SIDE, 3) uint8: base and mid above apex and the current slice."""
        tiles = [self._tile(name, view) for name, view in zip(NAMES, self._views, strict=True)]
        return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])

    def _tile(self, name: str, view: View) -> np.ndarray:
        index = self._scene.layout.slice(view.logic.GetSliceNode().GetLayoutName())
        view.text.SetInput(f"{name}: slice {index + 1} of {self._scene.study.n_slices}")
        view.mapper.SetInputConnection(view.logic.GetImageDataConnection())
        view.window.Render()
        pixels = vtk.vtkUnsignedCharArray()
        view.window.GetRGBACharPixelData(0, 0, SIDE - 1, SIDE - 1, 1, pixels)
        return np.flipud(vtk_to_numpy(pixels).reshape(SIDE, SIDE, 4)[..., :3])


def write_jpeg(picture: np.ndarray, path: Path) -> None:
    """Write an (h, w, 3) uint8 picture."""
    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    flat = np.ascontiguousarray(np.flipud(picture)).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    writer = vtk.vtkJPEGWriter()
    writer.SetFileName(str(path))
    writer.SetQuality(92)
    writer.SetInputData(image)
    writer.Write()


def photograph(image: Path, labels: Path, entropy: Path, path: Path) -> None:
    """Photograph a frame of files: with its labels, and beside that with the members' doubt.

    Args:
        image, labels: NIfTI files of one frame.
        entropy: NIfTI file on the same grid, nats a voxel, as `cinelabel segment` writes it.
        path: JPEG to write.
    """
    from CineLabelLib import nifti
    from CineLabelLib.mrml.scene import MrmlScene

    scene, study = MrmlScene(), nifti.read_study(image)
    camera = Camera(scene)
    scene.show(study)
    scene.set_labels(0, nifti.read_labels(labels).voxels)
    scene.go_to_slice(scene.layout.slice("CineMid") + 1)
    heart = np.argwhere(scene.labels(0)).mean(axis=0)
    camera.zoom(2.0, study.grid.index_to_world(heart))
    plain = camera.picture()
    doubt = nifti.read(entropy).voxels / np.log(4)
    scene.show_disagreement(0, doubt.astype(np.float32))
    write_jpeg(np.hstack([plain, camera.picture()]), path)
    scene.clear()


if __name__ == "__main__":
    os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "slicer_extension" / "CineLabel"))
    photograph(*(Path(argument) for argument in sys.argv[1:5]))
