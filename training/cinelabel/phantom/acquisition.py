"""From an ideal slice to what a scanner gives: coils, k-space, breathing, noise, grey values.

First form. Breathing acts on whole heartbeats of a segmented Cartesian acquisition: each group of
phase-encoding lines sees the slice displaced (a phase ramp in k-space for the in-plane part,
another height of the anatomy for the through-plane part). Noise of a magnitude image is Rician
(Gudbjartsson and Patz, Magn Reson Med 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cinelabel.phantom.fields import smooth_field


@dataclass(frozen=True)
class Coil:
    """One receive element: position in the plane (mm), reach (mm) and weight."""

    x: float
    y: float
    reach: float
    weight: float


@dataclass(frozen=True)
class Scanner:
    """One protocol: sensitivities, resolution, noise and how grey values are stored."""

    coils: tuple[Coil, ...]
    flattening: float
    bias: float
    resolution: tuple[float, float]
    apodisation: float
    noise: float
    gamma: float
    grey_levels: int
    seed: int


@dataclass(frozen=True)
class Breathing:
    """Displacement of each heartbeat of one slice's acquisition.

    `in_plane` (n, 2) in mm along the image axes, `through_plane` (n,) in mm, `phase_axis` the axis
    of phase encoding, `interleaved` whether a heartbeat's lines are spread over k-space.
    """

    in_plane: tuple[tuple[float, float], ...]
    through_plane: tuple[float, ...]
    phase_axis: int
    interleaved: bool

    @property
    def excursion_mm(self) -> float:
        """Largest distance between two heartbeats' positions, in mm."""
        moves = np.column_stack([np.array(self.in_plane), np.array(self.through_plane)])
        return float(np.linalg.norm(moves[:, None] - moves[None], axis=-1).max())


def sample_scanner(rng: np.random.Generator) -> Scanner:
    """A protocol as met on the clinical scanners of four vendors."""
    coils = [
        Coil(
            float(rng.normal(-70.0, 30.0)),
            float(rng.normal(20.0, 60.0)),
            rng.uniform(60.0, 220.0),
            1.0,
        )
        for _ in range(int(rng.integers(1, 4)))
    ]
    coils += [
        Coil(
            float(rng.normal(120.0, 30.0)),
            float(rng.normal(0.0, 60.0)),
            rng.uniform(60.0, 220.0),
            rng.uniform(0.1, 1.0),
        )
        for _ in range(int(rng.integers(0, 3)))
    ]
    return Scanner(
        coils=tuple(coils),
        flattening=float(rng.choice([0.0, rng.uniform(0.3, 0.9)], p=[0.5, 0.5])),
        bias=float(abs(rng.normal(0.0, 0.12))),
        resolution=(rng.uniform(1.2, 2.1), rng.uniform(1.3, 2.6)),
        apodisation=float(rng.choice([0.0, rng.uniform(0.2, 1.0)])),
        noise=float(rng.gamma(2.0, 0.014)),
        gamma=float(np.exp(rng.normal(0.0, 0.14))),
        grey_levels=int(rng.choice([255, 1023, 4095])),
        seed=int(rng.integers(2**31)),
    )


def sample_breathing(rng: np.random.Generator, amplitude_mm: float) -> Breathing:
    """A breath-hold that fails by about `amplitude_mm`: a sinusoid, a drift or a single jump."""
    beats = int(rng.integers(6, 14))
    time = np.arange(beats) / beats
    kind = rng.choice(["cycle", "drift", "jump"])
    if kind == "cycle":
        course = 0.5 * np.sin(2 * np.pi * (time * rng.uniform(0.5, 3.0) + rng.uniform()))
    elif kind == "drift":
        course = time - 0.5
    else:
        course = (time > rng.uniform(0.25, 0.75)).astype(float) - 0.5
    course = amplitude_mm * (course + 0.05 * rng.standard_normal(beats))
    angle, through = rng.uniform(-np.pi, np.pi), rng.uniform(0.0, 0.8)
    direction = np.sqrt(1.0 - through**2) * np.array([np.cos(angle), np.sin(angle)])
    return Breathing(
        in_plane=tuple((float(a), float(b)) for a, b in course[:, None] * direction),
        through_plane=tuple(float(c) for c in course * through),
        phase_axis=int(rng.integers(2)),
        interleaved=bool(rng.random() < 0.6),
    )


def sensitivity(scanner: Scanner, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Combined receive sensitivity (root sum of squares, then partly flattened), float32."""
    total = np.zeros(x.shape, np.float32)
    for coil in scanner.coils:
        squared = (x - np.float32(coil.x)) ** 2 + (y - np.float32(coil.y)) ** 2
        total += (np.float32(coil.weight) / (1.0 + squared / np.float32(coil.reach) ** 2)) ** 2
    field = np.sqrt(total) ** np.float32(1.0 - scanner.flattening)
    bias = smooth_field(np.random.default_rng(scanner.seed), x.shape, 3)
    return (field * np.exp(np.float32(scanner.bias) * bias)).astype(np.float32)


def heartbeat_of_line(lines: int, beats: int, interleaved: bool) -> np.ndarray:
    """Which heartbeat acquires each phase-encoding line, int (lines,), lines in k-space order."""
    order = np.arange(lines)
    return order % beats if interleaved else np.minimum(order * beats // lines, beats - 1)


def acquire(
    images: Sequence[np.ndarray],
    pixel: float,
    scanner: Scanner,
    rng: np.random.Generator,
    breathing: Breathing | None = None,
    heights: Sequence[float] = (0.0,),
) -> np.ndarray:
    """The magnitude image of one slice.

    Args:
        images: ideal slices weighted by the coils, float32 (n, m), one at each of `heights`.
        pixel: pixel size (mm).
        scanner: resolution and noise.
        rng: source of the noise.
        breathing: displacement of each heartbeat; None for a perfect breath-hold.
        heights: through-plane position of each image relative to the slice (mm), ascending.

    Returns:
        float32 (n, m), signal of LV blood about 1 where the coils' sensitivity is 1.
    """
    spectra = [np.fft.fftshift(np.fft.fft2(image)) for image in images]
    frequencies = [np.fft.fftshift(np.fft.fftfreq(n, d=pixel)) for n in images[0].shape]
    if breathing is None:
        spectrum = spectra[len(spectra) // 2]
    else:
        spectrum = _segmented(spectra, frequencies, breathing, np.asarray(heights, float))
    spectrum = spectrum * _bandwidth(frequencies, scanner)
    complex_image = np.fft.ifft2(np.fft.ifftshift(spectrum))
    noise = scanner.noise * rng.standard_normal((2, *complex_image.shape), dtype=np.float32)
    real, imaginary = np.abs(complex_image) + noise[0], noise[1]
    return np.hypot(real, imaginary).astype(np.float32)


def _segmented(
    spectra: list[np.ndarray],
    frequencies: list[np.ndarray],
    breathing: Breathing,
    heights: np.ndarray,
) -> np.ndarray:
    """k-space put together from heartbeats that saw the slice at different positions."""
    axis = breathing.phase_axis
    beats = len(breathing.through_plane)
    owner = heartbeat_of_line(len(frequencies[axis]), beats, breathing.interleaved)
    result = np.zeros_like(spectra[0])
    for beat in range(beats):
        lines = np.flatnonzero(owner == beat)
        at = np.interp(breathing.through_plane[beat], heights, np.arange(len(heights)))
        lower = int(np.floor(at))
        upper, share = min(lower + 1, len(heights) - 1), at - lower
        take = (lines, slice(None)) if axis == 0 else (slice(None), lines)
        seen = (1.0 - share) * spectra[lower][take] + share * spectra[upper][take]
        move = breathing.in_plane[beat]
        ramps = [np.exp(-2j * np.pi * f * d) for f, d in zip(frequencies, move, strict=True)]
        ramps[axis] = ramps[axis][lines]
        result[take] = seen * ramps[0][:, None] * ramps[1][None]
    return result


def _bandwidth(frequencies: list[np.ndarray], scanner: Scanner) -> np.ndarray:
    """Separable window of the acquired k-space: cut at the resolution, tapered by the filter."""
    windows = []
    for frequency, resolution in zip(frequencies, scanner.resolution, strict=True):
        limit = 0.5 / resolution
        taper = 1.0 - scanner.apodisation * 0.5 * (1.0 - np.cos(np.pi * frequency / limit))
        windows.append(np.where(np.abs(frequency) <= limit, taper, 0.0))
    return (windows[0][:, None] * windows[1][None]).astype(np.float32)


def grey_values(image: np.ndarray, scanner: Scanner, white: float) -> np.ndarray:
    """Whole grey values as stored by the scanner, float32.

    Args:
        image: magnitude, (n, m) or more axes.
        scanner: contrast curve and number of levels.
        white: magnitude shown as the brightest level.
    """
    shown = np.clip(image / np.float32(max(white, 1e-6)), 0.0, 1.0) ** np.float32(scanner.gamma)
    return np.round(shown * scanner.grey_levels).astype(np.float32)
