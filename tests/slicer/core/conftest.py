"""What the tests inside a slicer-core environment need: the extension, and studies of known labels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "slicer_extension" / "CineLabel"))

from CineLabelLib.mrml.scene import MrmlScene  # noqa: E402
from CineLabelLib.study import CineStudy  # noqa: E402

SHAPE = (24, 20, 6)
FRAMES = 4


def affine_of(kind: str) -> np.ndarray:
    """Grids as files have them: straight, oblique, left-handed, oblique and left-handed, sheared."""
    directions = np.diag([-1.0, -1.0, 1.0])
    if "oblique" in kind:
        a, b = np.radians(38), np.radians(-27)
        about_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
        about_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
        directions = np.array(about_z) @ np.array(about_x) @ directions
    if "left-handed" in kind:
        directions[:, 2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = directions * (1.4, 1.5, 9.0)
    if "sheared" in kind:
        affine[:3, 2] += (0.6, -0.4, 0.0)
    affine[:3, 3] = (-81.7, 55.2, 13.9)
    return affine


KINDS = ("straight", "oblique", "left-handed", "oblique left-handed", "sheared")


@pytest.fixture
def scene() -> Iterator[MrmlScene]:
    """A headless scene, emptied after the test."""
    scene = MrmlScene()
    yield scene
    scene.clear()


@pytest.fixture
def study_of() -> Callable[..., CineStudy]:
    """Makes a study of random voxels on a grid of a kind."""

    def make(kind: str = "oblique left-handed", dtype: str = "int16") -> CineStudy:
        voxels = np.random.default_rng(5).integers(0, 900, (*SHAPE, FRAMES)).astype(dtype)
        return CineStudy("made-up", voxels, affine_of(kind), ed=0, es=2)

    return make


@pytest.fixture
def labels_of() -> Callable[..., np.ndarray]:
    """Makes labels without any symmetry: every axis, slice and structure tells itself apart."""

    def make(seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)

    return make
