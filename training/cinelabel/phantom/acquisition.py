"""From an ideal slice to what a scanner gives: coils, k-space, motion, noise, grey values.

Cartesian segmented cine: each phase-encoding line of k-space sees the heart at its own respiratory
and cardiac state (Wang et al., Magn Reson Med 1995; Atkinson and Edelman, Radiology 1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Coil:
    """One receive element: position in the plane (heart frame, mm), reach (mm) and weight."""

    x: float
    y: float
    reach: float
    weight: float


@dataclass(frozen=True)
class Scanner:
    """One protocol: sensitivities, sampling of k-space, noise and how grey values are stored.

    `Scanner()` is ideal: even sensitivity, every line, no noise.

    Attributes:
        coils: receive elements; none for an even sensitivity.
        flattening: share of the coils' shading that the vendor's correction removes, 0 to 1.
        bias: log spread of what is left of a smooth bias field.
        resolution: acquired voxel size along image axes 0 and 1 (mm); 0 for the picture's own.
        apodisation: depth of the raised-cosine filter at the edge of k-space, 0 to 1.
        noise: standard deviation of the real part of the noise at every line, no filter, no
            acceleration, in units of the LV blood's signal.
        channels: receive channels combined by the sum of squares; 1 for Rician noise.
        phase_axis: image axis of phase encoding, 0 or 1.
        partial_fourier: share of the lines acquired, 0.5 < share <= 1; the rest is zero.
        acceleration: R of parallel imaging, 1 to 4.
        residual: amplitude of the aliased copies that the reconstruction leaves.
        gamma: exponent of the grey value curve.
        grey_levels: highest grey value.
        zero_fill: final matrix of the longer axis, None for as acquired.
        wrap_mm: how far the body reaches beyond the field of view along phase encoding and folds.
        seed: of the smooth fields (bias, residual ghosts).
    """

    coils: tuple[Coil, ...] = ()
    flattening: float = 0.0
    bias: float = 0.0
    resolution: tuple[float, float] = (0.0, 0.0)
    apodisation: float = 0.0
    noise: float = 0.0
    channels: int = 1
    phase_axis: int = 0
    partial_fourier: float = 1.0
    acceleration: int = 1
    residual: float = 0.0
    gamma: float = 1.0
    grey_levels: int = 4095
    zero_fill: int | None = None
    wrap_mm: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 < self.partial_fourier <= 1.0:
            raise ValueError("partial_fourier must lie above 0.5 and not above 1")
        if self.phase_axis not in (0, 1):
            raise ValueError("phase_axis must be 0 or 1")
        if self.channels < 1 or self.acceleration < 1:
            raise ValueError("channels and acceleration must be at least 1")


@dataclass(frozen=True)
class Poses:
    """Pictures of one slice at a few states of the heart, between which lines interpolate.

    Attributes:
        moving: what breathes and beats, signed float32 (kz, kc, n, m).
        static: what does not move, signed float32 (n, m); None where nothing is static.
        through_mm: through-plane displacement of each of the kz states (mm), ascending (kz,).
        contraction: contraction of each of the kc states, ascending (kc,).
    """

    moving: np.ndarray
    static: np.ndarray | None
    through_mm: np.ndarray
    contraction: np.ndarray

    def __post_init__(self) -> None:
        if self.moving.ndim != 4 or self.moving.shape[:2] != (
            len(self.through_mm),
            len(self.contraction),
        ):
            raise ValueError("moving must be (through_mm, contraction, n, m)")
        if self.static is not None and self.static.shape != self.moving.shape[2:]:
            raise ValueError("static must have the shape of one moving picture")
        for name in ("through_mm", "contraction"):
            if np.any(np.diff(getattr(self, name)) <= 0):
                raise ValueError(f"{name} must ascend")

    @classmethod
    def still(cls, image: np.ndarray) -> Poses:
        """One picture (n, m), at rest."""
        return cls(np.asarray(image, np.float32)[None, None], None, np.zeros(1), np.zeros(1))


@dataclass(frozen=True)
class LineStates:
    """Where the heart is while each phase-encoding line is acquired.

    One entry a line of the picture, as many as its pixels along `Scanner.phase_axis`, in ascending
    order of spatial frequency (the order of `fftshift`).

    Attributes:
        in_plane: displacement along image axes 0 and 1 (mm), (lines, 2).
        through_mm: through-plane displacement (mm), (lines,).
        contraction: contraction of the heart, (lines,).
    """

    in_plane: np.ndarray
    through_mm: np.ndarray
    contraction: np.ndarray

    def __post_init__(self) -> None:
        lines = len(self.through_mm)
        if self.in_plane.shape != (lines, 2) or self.contraction.shape != (lines,):
            raise ValueError("in_plane must be (lines, 2), through_mm and contraction (lines,)")


def acquire(
    poses: Poses,
    pixel: float,
    scanner: Scanner,
    rng: np.random.Generator,
    lines: LineStates | None = None,
) -> np.ndarray:
    """The magnitude image of one slice, float32 (n, m)."""
    raise NotImplementedError
