"""Whole subjects: sampled hearts in sampled bodies at sampled scanners, and studies of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.phantom.acquisition import (
    Breathing,
    Scanner,
    acquire,
    grey_values,
    sample_breathing,
    sample_scanner,
    sensitivity,
)
from cinelabel.phantom.anatomy import sample_heart
from cinelabel.phantom.rendering import Plane, Subject, background, plane, render
from cinelabel.phantom.thorax import sample_thorax
from cinelabel.phantom.tissue import sample_tissues
from cinelabel.studies.study import Study

THROUGH_PLANE_STATES = (-1.0, 0.0, 1.0)
"""Heights rendered for a breathing slice, in amplitudes of its through-plane motion."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class StackGeometry:
    """Geometry of a phantom study: pixels, spacing, slices and how the image axes lie."""

    size: tuple[int, int] = (208, 224)
    pixel: float = 1.4
    thickness: float = 8.0
    spacing: float = 9.6
    turn: float = 0.0
    mirrored: bool = False
    base_first: bool = False


@dataclass(frozen=True)
class PhantomStudy:
    """A study with its truth: labels uint8 (x, y, z, t) and what made it (JSON-ready)."""

    study: Study
    labels: np.ndarray
    truth: dict[str, object]


def sample_subject(rng: np.random.Generator, group: str | None = None) -> Subject:
    """A heart, its surroundings and its contrast.

    Raises:
        InputError: for a group that the population does not have.
    """
    heart = sample_heart(rng, group)
    tissues = sample_tissues(rng)
    outer = heart.radius_ed + heart.wall
    thorax = sample_thorax(rng, tissues, outer + heart.fat, outer + heart.rv_depth + heart.fat)
    return Subject(
        heart=heart,
        thorax=thorax,
        tissues=tissues,
        trabeculation=(float(rng.gamma(1.6, 0.35)), float(rng.gamma(1.5, 0.3))),
        texture_seed=int(rng.integers(2**31)),
    )


def scan_slice(
    subject: Subject,
    scanner: Scanner,
    view: Plane,
    height: float,
    thickness: float,
    contraction: float,
    rng: np.random.Generator,
    breathing: Breathing | None = None,
    behind: np.ndarray | None = None,
    field: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One acquired slice and its labels; labels are those of the middle position.

    Returns:
        (magnitude float32 (n, m), labels uint8 (n, m)).
    """
    behind = background(subject, view, height) if behind is None else behind
    field = sensitivity(scanner, view.x, view.y) if field is None else field
    image, labels = render(subject, view, height, thickness, contraction, behind)
    images, heights = [image * field], [0.0]
    if breathing is not None:
        reach = max(max(abs(move) for move in breathing.through_plane), 1e-3)
        heights = [state * reach for state in THROUGH_PLANE_STATES]
        images = [
            image * field
            if offset == 0.0
            else render(subject, view, height + offset, thickness, contraction, behind)[0] * field
            for offset in heights
        ]
    return acquire(images, view.pixel, scanner, rng, breathing, heights), labels


def contraction_curve(frames: int, systole: float = 0.38) -> np.ndarray:
    """Contraction 0 to 1 over a heartbeat, ED at frame 0, ES at `systole` of it; (frames,)."""
    time = np.arange(frames) / frames
    rising = 0.5 - 0.5 * np.cos(np.pi * np.minimum(time / systole, 1.0))
    filling = np.clip((time - systole) / (0.85 - systole), 0.0, 1.0)
    return np.where(time < systole, rising, 0.5 + 0.5 * np.cos(np.pi * filling))


def make_study(
    seed: int,
    *,
    frames: int = 20,
    group: str | None = None,
    geometry: StackGeometry | None = None,
    breathing_share: float = 0.3,
    progress: Progress | None = None,
) -> PhantomStudy:
    """One whole cine study with truth, the same for the same arguments.

    Args:
        seed: of everything random.
        frames: cardiac phases.
        group: of the population; sampled when None.
        geometry: of the stack; sampled when None.
        breathing_share: share of the slices with a failed breath-hold.
        progress: called with slices done, slices in all, and what is done.

    Raises:
        InputError: for less than one frame or an unknown group.
    """
    if frames < 1:
        raise InputError("a study needs at least one frame", where=f"frames={frames}")
    rng = np.random.default_rng([seed, 0xC14E])
    subject = sample_subject(rng, group)
    scanner = sample_scanner(rng)
    geometry = geometry or _sample_geometry(rng)
    heights = _slice_heights(subject, geometry, rng)
    curve = contraction_curve(frames)
    shape = (*geometry.size, len(heights), frames)
    images = np.zeros(shape, np.float32)
    labels = np.zeros(shape, np.uint8)
    slices: list[dict[str, object]] = []
    centre = (float(rng.normal(0, 12)) - 12.0, float(rng.normal(0, 12)))
    for z, height in enumerate(heights):
        hold = rng.normal(0.0, 1.2, 2)
        amplitude = float(rng.uniform(3.0, 14.0)) if rng.random() < breathing_share else 0.0
        breathing = sample_breathing(rng, amplitude) if amplitude else None
        view = plane(
            geometry.size,
            geometry.pixel,
            (centre[0] + float(hold[0]), centre[1] + float(hold[1])),
            geometry.turn,
            geometry.mirrored,
        )
        behind, field = (
            background(subject, view, height),
            sensitivity(scanner, view.x, view.y),
        )
        for t, contraction in enumerate(curve):
            images[:, :, z, t], labels[:, :, z, t] = scan_slice(
                subject,
                scanner,
                view,
                height,
                geometry.thickness,
                float(contraction),
                rng,
                breathing,
                behind,
                field,
            )
        slices.append(
            {
                "slice": z,
                "height_mm": round(float(height), 3),
                "shift_mm": [round(float(v), 3) for v in hold],
                "breathing_mm": round(breathing.excursion_mm if breathing else 0.0, 3),
            }
        )
        if progress is not None:
            progress(z + 1, len(heights), "phantom slices")
    white = float(np.percentile(images[..., 0], 99.7))
    trigger = tuple(round(float(t), 1) for t in np.arange(frames) * (900.0 / frames))
    study = Study(
        name=f"phantom-{seed:04d}",
        frames=grey_values(images, scanner, white),
        grid=Grid(shape[:3], _affine(geometry, rng)),
        is_cine=frames > 1,
        trigger_times_ms=trigger,
        ed=0,
        es=int(curve.argmax()),
        kind="phantom",
        slice_thickness_mm=geometry.thickness,
    )
    truth: dict[str, object] = {
        "seed": seed,
        "group": subject.heart.group,
        "ed": 0,
        "es": int(curve.argmax()),
        "trigger_times_ms": list(trigger),
        "geometry": asdict(geometry),
        "slices": slices,
    }
    return PhantomStudy(study, labels, truth)


def _sample_geometry(rng: np.random.Generator) -> StackGeometry:
    pixel = float(rng.uniform(1.1, 1.7))
    size = int(round(rng.uniform(290, 360) / pixel / 8)) * 8
    thickness = float(rng.choice([6.0, 8.0, 10.0]))
    return StackGeometry(
        size=(size, int(round(size * rng.uniform(0.8, 1.0) / 8)) * 8),
        pixel=round(pixel, 4),
        thickness=thickness,
        spacing=float(np.clip(thickness + rng.choice([0.0, 0.0, 2.0]), 6.0, 10.0)),
        turn=float(rng.uniform(-np.pi, np.pi)),
        mirrored=bool(rng.random() < 0.5),
        base_first=bool(rng.random() < 0.5),
    )


def _slice_heights(
    subject: Subject, geometry: StackGeometry, rng: np.random.Generator
) -> list[float]:
    """Heights of the slices in the order of the stack, from beyond the apex to beyond the base."""
    low = -subject.heart.wall_apex - rng.uniform(0.3, 1.2) * geometry.spacing
    high = subject.heart.length_ed + rng.uniform(0.4, 1.8) * geometry.spacing
    heights = np.arange(low, high, geometry.spacing)
    return [float(h) for h in (heights[::-1] if geometry.base_first else heights)]


def _affine(geometry: StackGeometry, rng: np.random.Generator) -> np.ndarray:
    """An oblique short-axis orientation, RAS+ mm, whose third axis follows the stack's order."""
    normal = np.array([-0.65, 0.6, -0.45]) + rng.normal(0.0, 0.08, 3)
    normal = normal / np.linalg.norm(normal)
    if not geometry.base_first:
        normal = -normal
    first = np.cross(normal, [0.3, 0.5, 0.8])
    first = first / np.linalg.norm(first)
    second = np.cross(normal, first) * (-1.0 if geometry.mirrored else 1.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first * geometry.pixel, second * geometry.pixel
    affine[:3, 2] = normal * geometry.spacing
    affine[:3, 3] = rng.normal(0.0, 30.0, 3) - affine[:3, :3] @ (np.array([*geometry.size, 9]) / 2)
    return affine
