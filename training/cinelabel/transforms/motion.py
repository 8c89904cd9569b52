"""Breathing and segmented k-space put onto a real image, as onto the phantom.

The image is taken for the heart at rest; every phase-encoding line sees it displaced, as in the
retrospective simulation of Oksuz et al., Med Image Anal 2019, but with breaths, heartbeats and
line orders of `cinelabel.phantom.breathing` and the acquisition of `cinelabel.phantom.acquisition`.
An approximation: the whole picture moves as one body, a magnitude image knows no phase, and for
want of other cardiac phases in one image no trigger fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.fft

from cinelabel.core.errors import RunError
from cinelabel.phantom.acquisition import LineStates, Poses, Scanner, acquire
from cinelabel.phantom.breathing import (
    Manner,
    SliceMotion,
    line_energy,
    sample_habit,
    sample_motion,
)

Directions = tuple[tuple[float, float, float], ...]
"""Rows: image axis 0, image axis 1 and the stack's direction in body axes (R, A, S)."""
PAD_SHARE = 0.1
"""Margin added by reflection at each end of an axis, as a share of its length."""
THROUGH_STEP_MM = 3.0
ROTATION_STEP_RAD = float(np.deg2rad(1.5))
"""Distance between the states that are interpolated from the image; lines mix neighbours."""
MOST_THROUGH, MOST_ROTATIONS = 5, 3
ACQUIRED_PIXEL_MM = 2.0
"""Resolution along phase encoding that is taken to have been acquired; it sets the heartbeats."""
STILL_MM = 0.3
STILL_RAD = float(np.deg2rad(0.4))
"""Ranges below which one state stands for all lines."""


@dataclass(frozen=True)
class MotionAugmentation:
    """Shares and ranges that `sample_motion_parameters` draws from.

    Attributes:
        manners: weights of full hold, half hold, free and intensive breathing.
        scale: factor on all displacements.
        shift_mm: spread of a constant displacement of each slice (its own breath-hold).
        noise: noise of the new acquisition, relative to the image's brightest percent.
        turn: spread of the slice's orientation in the body (rad) about a usual short axis.
        partial_fourier_share: share of the images acquired with partial Fourier.
    """

    manners: tuple[float, float, float, float] = (0.0, 0.4, 0.35, 0.25)
    scale: tuple[float, float] = (0.6, 1.1)
    shift_mm: float = 0.0
    noise: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.25
    partial_fourier_share: float = 0.2


@dataclass(frozen=True)
class MotionParameters:
    """All that `apply_motion` needs besides the image.

    Attributes:
        motions: breathing and timing of each slice, one for a picture.
        axes: rows are image axis 0, image axis 1 and the stack's direction in body axes (R, A, S).
        pixel: pixel size (mm).
        spacing: distance of the slices (mm), 0 for a picture.
        phase: cardiac phase of the image, 0 to 1.
        phase_axis: image axis of phase encoding.
        scale: factor on all displacements.
        shifts_mm: constant displacement of each slice along image axes 0 and 1.
        partial_fourier: share of lines acquired.
        noise: relative to the image's brightest percent.
        noise_seed: of the noise.
    """

    motions: tuple[SliceMotion, ...]
    axes: Directions
    pixel: float
    spacing: float
    phase: float
    phase_axis: int
    scale: float
    shifts_mm: tuple[tuple[float, float], ...]
    partial_fourier: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary from which `from_json` makes the same parameters again."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | str) -> MotionParameters:
        """The parameters of a dictionary of `to_json`, or of its JSON text."""
        data = dict(json.loads(value) if isinstance(value, str) else value)
        data["motions"] = tuple(SliceMotion.from_json(motion) for motion in data["motions"])
        data["axes"] = tuple(tuple(row) for row in data["axes"])
        data["shifts_mm"] = tuple(tuple(shift) for shift in data["shifts_mm"])
        return cls(**data)


def short_axis_directions(rng: np.random.Generator, turn: float) -> Directions:
    """Image axes 0 and 1 and the stack's direction of a usual short axis, in body axes (R, A, S).

    The stack runs from apex to base. Rows run downwards in the picture and columns to the
    patient's left, as short-axis pictures are displayed, turned by about `turn`.
    """
    normal = np.array([0.65, -0.6, 0.45]) + rng.normal(0.0, 0.5 * turn, 3)
    normal /= np.linalg.norm(normal)
    down = np.array([0.0, -0.35, -1.0]) + rng.normal(0.0, turn, 3)
    down -= (down @ normal) * normal
    down /= np.linalg.norm(down)
    side = np.cross(normal, down)
    side *= -np.sign(side[0]) or 1.0
    rows = ([float(v) for v in row] for row in (down, side, normal))
    return tuple((r, a, s) for r, a, s in rows)


def sample_motion_parameters(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    pixel: float,
    settings: MotionAugmentation | None = None,
    *,
    spacing: float = 0.0,
    phase: float = 0.0,
    manner: Manner | int | None = None,
    axes: np.ndarray | None = None,
) -> MotionParameters:
    """Draw motion for an image.

    Args:
        rng: source of chance.
        shape: of the image, (h, w) or (n, h, w).
        pixel: pixel size (mm).
        settings: shares and ranges; the defaults when None.
        spacing: distance of the slices of a stack (mm).
        phase: cardiac phase of the image (ES about 0.36).
        manner: how the person breathes; drawn when None.
        axes: (3, 3), rows are the directions of image axes 0 and 1 and of the stack in body axes
            (R, A, S) of any length, such as `affine[:3, :3].T`; a usual short axis when None.

    Raises:
        RunError: for a shape that is neither a picture nor a stack.
    """
    if len(shape) not in (2, 3):
        raise RunError(f"motion needs an image (h, w) or a stack (n, h, w), not {shape}")
    settings = MotionAugmentation() if settings is None else settings
    manner = _draw_manner(rng, settings) if manner is None else Manner(manner)
    phase_axis = int(rng.integers(2))
    count, lines = (shape[0] if len(shape) == 3 else 1), shape[-2:][phase_axis]
    acquired = max(int(round(lines * min(pixel / ACQUIRED_PIXEL_MM, 1.0))), 16)
    habit = sample_habit(rng, manner)
    motions = tuple(
        sample_motion(rng, manner, n_lines=acquired, arrhythmia_share=0.0, habit=habit)
        for _ in range(count)
    )
    usual = short_axis_directions(rng, settings.turn)  # axes change no later draw
    partial = rng.random() < settings.partial_fourier_share
    return MotionParameters(
        motions=motions,
        axes=usual if axes is None else _unit_rows(axes),
        pixel=float(pixel),
        spacing=float(spacing),
        phase=float(phase),
        phase_axis=phase_axis,
        scale=float(rng.uniform(*settings.scale)),
        shifts_mm=tuple(
            (float(a), float(b)) for a, b in rng.normal(0.0, 1.0, (count, 2)) * settings.shift_mm
        ),
        partial_fourier=float(rng.choice([0.75, 0.875])) if partial else 1.0,
        noise=float(rng.uniform(*settings.noise)),
        noise_seed=int(rng.integers(2**31)),
    )


def _draw_manner(rng: np.random.Generator, settings: MotionAugmentation) -> Manner:
    weights = np.array(settings.manners, float)
    return Manner(1 + int(rng.choice(4, p=weights / weights.sum())))


def _unit_rows(axes: np.ndarray) -> Directions:
    """Rows of a matrix (3, 3), brought to length 1."""
    rows = np.asarray(axes, float)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return tuple((float(r), float(a), float(s)) for r, a, s in rows)


def apply_motion(
    image: np.ndarray,
    parameters: MotionParameters,
    labels: np.ndarray | None = None,
    *,
    shift_labels: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Acquire an image again while the heart moves.

    Motion during the acquisition leaves the labels alone: it is counted from where most of the
    signal was acquired. Of a stack, lines that saw a displacement along the stack's direction see
    what lies between the neighbouring slices; of a picture this part is left out.

    Args:
        image: (h, w) or a stack (n, h, w), magnitudes of any scale.
        parameters: of `sample_motion_parameters` for this shape.
        labels: of the image's shape; returned as they are unless shifted.
        shift_labels: whether the slices' constant shifts move image and labels; they are left out
            otherwise.

    Returns:
        float32 of the image's shape, of the same mean; with `labels`, both.

    Raises:
        RunError: if the image has not one slice for each of the parameters' motions.
    """
    stack = np.asarray(image, np.float32)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or len(stack) != len(parameters.motions):
        raise RunError(
            f"an image of shape {np.shape(image)} does not fit motion of "
            f"{len(parameters.motions)} slices"
        )
    floor = float(stack.min())
    result = np.empty_like(stack)
    for k, slice_ in enumerate(stack):
        shift = np.array(parameters.shifts_mm[k]) if shift_labels else np.zeros(2)
        seen = _acquire_slice(stack - floor, k, parameters, shift)
        result[k] = seen * ((slice_ - floor).mean() / max(float(seen.mean()), 1e-12)) + floor
    result = result.reshape(np.shape(image))
    if labels is None:
        return result
    return result, _shifted(labels, parameters) if shift_labels else labels


def _acquire_slice(
    stack: np.ndarray, k: int, parameters: MotionParameters, shift: np.ndarray
) -> np.ndarray:
    """Slice k of a stack with its motion and a constant shift (mm), float32 (h, w)."""
    pixel, axis = parameters.pixel, parameters.phase_axis
    moved, turned = line_motion(parameters, k, _padded(stack.shape[1 + axis]))
    in_plane = moved[:, :2] + shift
    through = moved[:, 2] if len(stack) > 1 and parameters.spacing > 0.0 else np.zeros(len(moved))
    depths = _grid(through, STILL_MM, THROUGH_STEP_MM, MOST_THROUGH)
    turns = _grid(turned, STILL_RAD, ROTATION_STEP_RAD, MOST_ROTATIONS)
    margins = [_margin(n) for n in stack.shape[1:]]
    pictures = np.stack([_between_slices(stack, k, depth, parameters.spacing) for depth in depths])
    pictures = np.pad(pictures, [(0, 0), *margins], mode="reflect")
    # Poses interpolate over two states of the heart: here its depth and, for want of a second
    # phase, its rotation in the place of contraction.
    poses = Poses(
        moving=np.stack([_turned(pictures, turn) for turn in turns], axis=1),
        static=None,
        through_mm=depths,
        contraction=turns,
    )
    scanner = Scanner(
        noise=parameters.noise * float(np.percentile(stack[k], 99.0)),
        phase_axis=axis,
        partial_fourier=parameters.partial_fourier,
    )
    rng = np.random.default_rng([parameters.noise_seed, k])
    seen = acquire(poses, pixel, scanner, rng, LineStates(in_plane, through, turned))
    (top, _), (left, _) = margins
    return seen[top : top + stack.shape[1], left : left + stack.shape[2]]


def line_motion(
    parameters: MotionParameters, k: int, n_lines: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the lines of slice k see: displacement (n, 3) and rotation (n,), ascending k.

    Displacement in mm along image axes 0 and 1 and the stack's direction, rotation in rad, both
    against the mean that the energy of k-space gives.
    """
    _, moved, turned, _ = parameters.motions[k].states(parameters.phase, n_lines)
    energy = line_energy(n_lines)
    moved = parameters.scale * (moved - energy @ moved) @ np.array(parameters.axes).T
    return moved, parameters.scale * (turned - energy @ turned)


def _padded(size: int) -> int:
    """Length of an axis with its margins, quick to transform."""
    margin = min(max(int(np.ceil(PAD_SHARE * size)), 8), size - 1)
    return int(scipy.fft.next_fast_len(size + 2 * margin, real=True))


def _margin(size: int) -> tuple[int, int]:
    extra = _padded(size) - size
    return extra // 2, extra - extra // 2


def _grid(values: np.ndarray, still: float, step: float, most: int) -> np.ndarray:
    """Few ascending values that span those given; 0 alone where they hardly differ."""
    low, high = float(values.min()), float(values.max())
    if high - low < still:
        return np.zeros(1)
    return np.linspace(low, high, int(np.clip(np.ceil((high - low) / step) + 1, 2, most)))


def _between_slices(stack: np.ndarray, k: int, depth: float, spacing: float) -> np.ndarray:
    """What slice k shows once the heart has moved by `depth` mm along the stack."""
    at = float(np.clip(k - depth / spacing, 0, len(stack) - 1)) if depth else float(k)
    below = min(int(at), max(len(stack) - 2, 0))
    share = np.float32(at - below)
    if share == 0.0:
        return stack[below]
    return (1.0 - share) * stack[below] + share * stack[below + 1]


def _turned(pictures: np.ndarray, angle: float) -> np.ndarray:
    """Pictures (d, h, w) turned about their middle by `angle` (rad) from axis 0 towards axis 1.

    Three shears, each an exact phase ramp (Unser, Thevenaz and Yaroslavsky, IEEE Trans Image
    Process 1995), so that a turned state is no more blurred than the one at rest.
    """
    if angle == 0.0:
        return pictures
    tangent, sine = np.tan(0.5 * angle), np.sin(angle)
    turned = _sheared(pictures, -tangent)
    turned = _sheared(turned.swapaxes(1, 2), sine).swapaxes(1, 2)
    return _sheared(turned, -tangent)


def _sheared(pictures: np.ndarray, slope: float) -> np.ndarray:
    """Columns (d, h, :) moved along axis 1 by `slope` times their distance from the middle."""
    size, width = pictures.shape[1:]
    shift = slope * (np.arange(width) - (width - 1) / 2.0)
    cycles = scipy.fft.rfftfreq(size)
    ramp = np.exp(-2j * np.pi * cycles[:, None] * shift[None]).astype(np.complex64)
    spectrum = scipy.fft.rfft(pictures, axis=1)
    sheared: np.ndarray = scipy.fft.irfft(spectrum * ramp, n=size, axis=1)
    return sheared


def _shifted(labels: np.ndarray, parameters: MotionParameters) -> np.ndarray:
    """Labels moved by the constant shifts, to the nearest whole pixel; nothing comes in."""
    stack = labels[None] if labels.ndim == 2 else labels
    result = np.zeros_like(stack)
    for k, shift in enumerate(parameters.shifts_mm):
        steps = [int(round(v / parameters.pixel)) for v in shift]
        sizes = stack.shape[1:]
        here = tuple(slice(max(d, 0), n + min(d, 0)) for d, n in zip(steps, sizes, strict=True))
        there = tuple(slice(max(-d, 0), n - max(d, 0)) for d, n in zip(steps, sizes, strict=True))
        result[k][here] = stack[k][there]
    return result.reshape(labels.shape)
