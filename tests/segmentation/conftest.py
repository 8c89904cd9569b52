"""A study drawn by hand and networks that read its grey values, in place of trained ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.networks import resolve
from cinelabel.segmentation import Segmenter
from cinelabel.studies.study import Study
from cinelabel.transforms.preparation import COMPACT

GREYS = {0: 0.0, 3: 50.0, 2: 80.0, 1: 120.0}
"""Grey value drawn for each label; the steps between them are what the networks below read."""


def unit(images: np.ndarray) -> np.ndarray:
    low = images.min((2, 3), keepdims=True)
    high = images.max((2, 3), keepdims=True)
    return (images - low) / np.maximum(high - low, 1e-6)


def reads_structures(images: np.ndarray) -> np.ndarray:
    """Logits (n, 4, h, w) of the nearest drawn grey value."""
    flat = np.ptp(images, axis=(2, 3), keepdims=True) < 1e-3
    grey = 120.0 * unit(images) * ~flat
    return np.concatenate([-np.abs(grey - GREYS[c]) for c in range(4)], 1).astype(np.float32)


def reads_heart(images: np.ndarray) -> np.ndarray:
    """Logits (n, 2, h, w), heart where the picture is bright."""
    flat = np.ptp(images, axis=(2, 3), keepdims=True) < 1e-3
    heart = 20.0 * (unit(images) * ~flat - 0.25)
    return np.concatenate([-heart, heart], 1).astype(np.float32)


def blind(images: np.ndarray) -> np.ndarray:
    """Logits (n, 2, h, w) of a locator that sees nothing."""
    return np.repeat(np.array([5.0, -5.0], np.float32)[None, :, None, None], len(images), 0) * (
        np.ones_like(images)
    )


def draw_study(
    *,
    frames: int = 3,
    spacing: tuple[float, float, float] = (1.3, 1.3, 8.0),
    centre_mm: tuple[float, float] = (180.0, 120.0),
    mirrored: bool = False,
    oblique: bool = False,
) -> tuple[Study, np.ndarray]:
    """A beating ring with a right ventricle beside it, and its labels, off the image's middle."""
    shape = (int(300 / spacing[0]), int(260 / spacing[1]), 6)
    x = np.arange(shape[0])[:, None] * spacing[0] - centre_mm[0]
    y = np.arange(shape[1])[None] * spacing[1] - centre_mm[1]
    labels = np.zeros((*shape, frames), np.uint8)
    for t in range(frames):
        inner = 24.0 - 6.0 * t
        for z in range(1, 5):
            radius = np.hypot(x, y)
            labels[..., z, t][np.hypot(x + 40.0, y) < 26.0] = 3
            labels[..., z, t][radius < inner + 10.0] = 2
            labels[..., z, t][radius < inner] = 1
    images = np.vectorize(GREYS.get)(labels).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    if mirrored:
        affine[0, 0] *= -1.0
    if oblique:
        turn = np.deg2rad(33.0)
        rotation = np.eye(4)
        rotation[:3, :3] = [
            [np.cos(turn), 0.0, np.sin(turn)],
            [0.0, 1.0, 0.0],
            [-np.sin(turn), 0.0, np.cos(turn)],
        ]
        affine = rotation @ affine
    affine[:3, 3] = (-50.0, 20.0, 11.0)
    return Study("drawn", images, Grid(shape, affine), is_cine=frames > 1), labels


@pytest.fixture
def drawn() -> SimpleNamespace:
    """What the tests draw with and look with."""
    return SimpleNamespace(study=draw_study, blind=blind, reads_structures=reads_structures)


class Drawn:
    """A function of images as a backend; counts how often its memory was given back."""

    def __init__(self, function) -> None:
        self.function = function
        self.released = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.function(images)

    def release(self) -> None:
        self.released += 1


def card_of(name: str, role: str, network: str, weight: float = 1.0, **changes) -> SimpleNamespace:
    spec = resolve("locator-compact" if role == "locator" else network)
    preparation = {"spacing_mm": 4.0, "size": 96} if role == "locator" else COMPACT.to_dict()
    return SimpleNamespace(
        name=name, role=role, spec=spec, weight=weight, preprocessing=preparation | changes
    )


@pytest.fixture
def make_ensemble(monkeypatch: pytest.MonkeyPatch):
    """Segmenter whose members are the functions given by name; `cards` changes what they are."""

    def make(segmenters, locator=reads_heart, *, cards=None, fast=None) -> Segmenter:
        networks = {name: Drawn(f) for name, f in {"where": locator, **segmenters}.items()}
        members = [card_of("where", "locator", "")]
        for name in segmenters:
            changes = {"network": "nnunet2d-compact", **(cards or {}).get(name, {})}
            members.append(card_of(name, "segmenter", **changes))
        version = SimpleNamespace(
            name="drawn-1", card=SimpleNamespace(members=members, fast=fast), networks=networks
        )
        monkeypatch.setattr(
            "cinelabel.segmentation.member.load_backend",
            lambda version, member, device: networks[member.name],
        )
        return Segmenter(version, "cpu")

    return make


@pytest.fixture
def make_segmenter(make_ensemble):
    """Segmenter of one member whose networks are the functions given."""

    def make(
        locator=reads_heart, segmenter=reads_structures, network="nnunet2d-compact"
    ) -> Segmenter:
        return make_ensemble({"what": segmenter}, locator, cards={"what": {"network": network}})

    return make
