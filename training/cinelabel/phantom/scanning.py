"""One slice of a segmented cine scan: what every phase-encoding line saw, put together.

Each line of k-space is acquired at its own time, hence at its own respiratory position and cardiac
phase. The anatomy is rendered at a few poses that span what the lines saw (through-plane position
times contraction), and every line takes its share of the neighbouring poses; the in-plane part of
the displacement is an exact phase ramp in k-space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cinelabel.phantom.acquisition import LineStates, Poses, Scanner, acquire, sampling, sensitivity
from cinelabel.phantom.breathing import (
    SYSTOLE,
    SliceMotion,
    grade,
    line_energy,
    motion_effect,
    motion_severity,
)
from cinelabel.phantom.rendering import (
    Background,
    Plane,
    Subject,
    background,
    render,
    render_poses,
)
from cinelabel.phantom.tissue import banding

DIASTASIS = 0.85
"""End of filling as a share of the cycle."""
POSE_STEP_MM = 4.0
"""Through-plane distance between the poses that are rendered, and the most of them."""
MOST_POSES = 4
STILL_MM = 0.5
STILL_CONTRACTION = 0.06
STILL_IN_PLANE_MM = 0.1
"""Spreads below which lines are taken to have seen the same contraction, the same position."""


@dataclass(frozen=True)
class SlicePose:
    """Where a slice was taken: view, height above the apex (mm) and thickness (mm)."""

    view: Plane
    height: float
    thickness: float


@dataclass(frozen=True)
class ScannedSlice:
    """Pictures of one slice with their truth.

    Attributes:
        images: magnitude, float32 (f, n, m).
        labels: uint8 (f, n, m), of the position that the picture shows.
        severity_mm: worst over the frames, see `breathing.motion_severity`.
        effect: worst over the judged frames, see `breathing.motion_effect`; 0 if none was judged.
        grade: 1 mild, 2 intermediate, 3 severe.
    """

    images: np.ndarray
    labels: np.ndarray
    severity_mm: float
    effect: float
    grade: int


def contraction_at(phase: np.ndarray | float) -> np.ndarray:
    """Contraction 0 (ED) to 1 (ES) at phases of the cardiac cycle, 0 at the R wave, periodic."""
    phase = np.asarray(phase, float) % 1.0
    rising = 0.5 - 0.5 * np.cos(np.pi * np.minimum(phase / SYSTOLE, 1.0))
    filling = np.clip((phase - SYSTOLE) / (DIASTASIS - SYSTOLE), 0.0, 1.0)
    return np.where(phase < SYSTOLE, rising, 0.5 + 0.5 * np.cos(np.pi * filling))


def acquired_lines(shape: tuple[int, ...], pixel: float, scanner: Scanner) -> np.ndarray:
    """Indices of the lines of a picture's k-space that the protocol acquires, ascending."""
    axis = scanner.phase_axis
    kept = sampling((shape[axis], shape[1 - axis]), pixel, scanner)
    return kept.rows + shape[axis] // 2


@dataclass(frozen=True)
class _Seen:
    """What every line of one frame saw, in the heart frame and the picture's axes."""

    in_plane: np.ndarray
    through: np.ndarray
    rotation: np.ndarray
    contraction: np.ndarray
    severity_mm: float


def _seen(
    motion: SliceMotion, phase: float, slice_: SlicePose, subject: Subject, scanner: Scanner
) -> _Seen:
    lines = slice_.view.x.shape[scanner.phase_axis]
    acquired = acquired_lines(slice_.view.x.shape, slice_.view.pixel, scanner)
    _, moved, turned, phases = motion.states(phase, len(acquired))
    energy = line_energy(lines)[acquired]
    energy /= energy.sum()
    severity = motion_severity(moved, energy)
    # The picture shows the heart where most of the energy saw it: motion is counted from there.
    moved = moved - energy @ moved
    turned = turned - energy @ turned
    around = ((int(acquired[0]), lines - 1 - int(acquired[-1])),)
    moved = np.pad(moved, (*around, (0, 0)), mode="edge")
    turned, phases = np.pad(turned, around, mode="edge"), np.pad(phases, around, mode="edge")
    heart = moved @ np.asarray(subject.thorax.heart_axes)
    return _Seen(
        in_plane=heart[:, :2] @ slice_.view.axes.T,
        through=-heart[:, 2],
        rotation=turned,
        contraction=contraction_at(phases),
        severity_mm=float(severity),
    )


def _grid(values: np.ndarray, still: float, step: float, most: int, rest: float) -> np.ndarray:
    """Few ascending values that span what the lines saw; `rest` alone where hardly anything."""
    low, high = float(values.min()), float(values.max())
    if high - low < still:
        return np.array([rest])
    count = int(np.clip(np.ceil((high - low) / step) + 1, 2, most))
    return np.linspace(low, high, count)


def scan_slice(
    subject: Subject,
    scanner: Scanner,
    slice_: SlicePose,
    phases: Sequence[float],
    rng: np.random.Generator,
    *,
    motion: SliceMotion | None = None,
    behind: Background | None = None,
    field: np.ndarray | None = None,
    judge: Sequence[int] = (),
) -> ScannedSlice:
    """Acquire the frames of one slice.

    Args:
        subject: what is imaged.
        scanner: the protocol.
        slice_: where.
        phases: cardiac phase of each frame, 0 to 1 of the cycle.
        rng: source of the noise.
        motion: breathing and triggering; None for a perfect breath-hold and rhythm.
        behind: `background(...)` of the slice, to paint it once.
        field: `receive_field(...)` of the slice.
        judge: frames whose picture is compared with the one of a still heart, for the grade.

    Returns:
        Pictures, labels and the grade of the motion.
    """
    view = slice_.view
    behind = seen_background(subject, scanner, slice_) if behind is None else behind
    field = receive_field(subject, scanner, slice_) if field is None else field
    images = np.empty((len(phases), *view.x.shape), np.float32)
    labels = np.empty(images.shape, np.uint8)
    severity = effect = 0.0
    for t, phase in enumerate(phases):
        contraction = float(contraction_at(phase))
        still, labels[t] = render(
            subject, view, slice_.height, slice_.thickness, contraction, behind
        )
        if motion is None:
            images[t] = acquire(Poses.still(still * field), view.pixel, scanner, rng)
            continue
        seen = _seen(motion, float(phase), slice_, subject, scanner)
        poses, lines = _poses(subject, slice_, seen, behind, field, still)
        images[t] = acquire(poses, view.pixel, scanner, rng, lines)
        severity = max(severity, seen.severity_mm)
        if t in judge:
            quiet = replace(scanner, noise=0.0)
            moved = acquire(poses, view.pixel, quiet, rng, lines)
            sharp = acquire(Poses.still(still * field), view.pixel, quiet, rng)
            effect = max(effect, motion_effect(moved, sharp, _heart_box(subject, slice_)))
    found = grade(severity, effect if judge else None)
    return ScannedSlice(images, labels, severity, effect, found)


def receive_field(subject: Subject, scanner: Scanner, slice_: SlicePose) -> np.ndarray:
    """Coil sensitivity and off-resonance profile over a slice, float32 (n, m)."""
    view = slice_.view
    field = sensitivity(scanner, view.x, view.y)
    bands = banding(subject.tissues, view.x, view.y, slice_.height)
    return field if bands is None else field * bands


def seen_background(subject: Subject, scanner: Scanner, slice_: SlicePose) -> Background:
    """The surroundings of a slice, with what lies beyond the field of view folded into it.

    Phase encoding cannot tell positions a field of view apart: `scanner.wrap_mm` of what lies
    beyond either edge appears at the other one.
    """
    view = slice_.view
    behind = background(subject, view, slice_.height)
    axis, strip = scanner.phase_axis, int(round(scanner.wrap_mm / view.pixel))
    if strip < 1:
        return behind
    strip = min(strip, view.x.shape[axis])
    signal = np.moveaxis(behind.signal.copy(), axis, 0)
    span = view.axes[axis] * view.pixel * signal.shape[0]
    for rows, side in ((slice(-strip, None), -1.0), (slice(0, strip), 1.0)):
        take = (rows, slice(None)) if axis == 0 else (slice(None), rows)
        beyond = Plane(
            view.x[take] + np.float32(side * span[0]),
            view.y[take] + np.float32(side * span[1]),
            view.pixel,
            view.axes,
        )
        folded = background(subject, beyond, slice_.height).signal
        signal[rows] += np.moveaxis(folded, axis, 0)
    return replace(behind, signal=np.ascontiguousarray(np.moveaxis(signal, 0, axis)))


def _poses(
    subject: Subject,
    slice_: SlicePose,
    seen: _Seen,
    behind: Background,
    field: np.ndarray,
    still: np.ndarray,
) -> tuple[Poses, LineStates | None]:
    """The poses that span what the lines of a frame saw, weighted by the receive field.

    `still` is the slice rendered at rest: the only pose where the lines saw no other.
    """
    through = _grid(seen.through, STILL_MM, POSE_STEP_MM, MOST_POSES, 0.0)
    contractions = _grid(
        seen.contraction, STILL_CONTRACTION, 0.5, 3, float(np.median(seen.contraction))
    )
    if len(through) == 1 and len(contractions) == 1:
        if np.abs(seen.in_plane).max() < STILL_IN_PLANE_MM:
            return Poses.still(still * field), None
        static = behind.signal * (1.0 - behind.moving)
        one = Poses(
            ((still - static) * field)[None, None], static * field, np.zeros(1), np.zeros(1)
        )
        return one, _lines(seen)
    rotations = [float(seen.rotation[np.abs(seen.through - at).argmin()]) for at in through]
    poses = render_poses(
        subject,
        slice_.view,
        slice_.height,
        slice_.thickness,
        contractions,
        through,
        behind,
        rotations if len(through) > 1 else [0.0],
    )
    static = None if poses.static is None else poses.static * field
    return replace(poses, moving=poses.moving * field, static=static), _lines(seen)


def _lines(seen: _Seen) -> LineStates:
    return LineStates(
        seen.in_plane.astype(np.float32),
        seen.through.astype(np.float32),
        seen.contraction.astype(np.float32),
    )


def _heart_box(subject: Subject, slice_: SlicePose) -> tuple[slice, slice]:
    """Rows and columns round the ventricles, where the effect of motion is judged."""
    heart, view = subject.heart, slice_.view
    reach = heart.radius_ed + heart.wall + heart.rv_depth
    near = (np.abs(view.x) < reach) & (np.abs(view.y) < reach)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not len(rows) or not len(columns):
        return slice(0, view.x.shape[0]), slice(0, view.x.shape[1])
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
