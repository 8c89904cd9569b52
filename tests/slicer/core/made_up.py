"""Made-up studies: grids as files have them, and labels without any symmetry."""

from __future__ import annotations

import numpy as np
from CineLabelLib.study import CineStudy

SHAPE = (24, 20, 6)
FRAMES = 4


def affine_of(kind: str) -> np.ndarray:
    """A grid as files have them; `kind` is one of KINDS."""
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


def study_of(kind: str = "oblique left-handed", dtype: str = "int16") -> CineStudy:
    """A study of random voxels on a grid of a kind, ED at frame 0 and ES at frame 2."""
    voxels = np.random.default_rng(5).integers(0, 900, (*SHAPE, FRAMES)).astype(dtype)
    return CineStudy("made-up", voxels, affine_of(kind), ed=0, es=2)


def labels_of(seed: int = 0) -> np.ndarray:
    """Labels that tell every axis, slice and structure apart."""
    return np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
