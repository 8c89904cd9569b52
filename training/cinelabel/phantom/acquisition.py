"""From an ideal slice to what a scanner gives: coils, k-space, motion, noise, grey values.

Cartesian segmented cine (Atkinson and Edelman, Radiology 1991): each phase-encoding line of k-space
sees the heart at its own respiratory and cardiac state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from cinelabel.phantom.compiled import kernel
from cinelabel.phantom.fields import smooth_field


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
        wrap_mm: how much of what lies beyond either end of the picture along phase encoding folds
            into it; for who paints the pictures, `acquire` takes them folded.
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


@dataclass(frozen=True)
class Sampling:
    """Which spatial frequencies are acquired, and the window over them.

    `rows` and `columns` are whole frequencies (cycles a picture) along the phase-encoding and the
    readout axis, ascending; the weights have their lengths. `full_lines` counts the rows before
    partial Fourier."""

    rows: np.ndarray
    columns: np.ndarray
    row_weights: np.ndarray
    column_weights: np.ndarray
    full_lines: int

    @property
    def filter_power(self) -> float:
        """Mean square of the window over the rectangle of full sampling."""
        power = np.sum(self.row_weights**2) * np.sum(self.column_weights**2)
        return float(power / (self.full_lines * self.columns.size))


def sampling(shape: tuple[int, int], pixel: float, scanner: Scanner) -> Sampling:
    """The acquired rectangle of k-space.

    Args:
        shape: pixels along the phase-encoding axis and along the readout axis.
        pixel: pixel size (mm).
        scanner: resolution, filter and partial Fourier share.
    """
    axis = scanner.phase_axis
    rows = _frequencies(shape[0], pixel, scanner.resolution[axis])
    columns = _frequencies(shape[1], pixel, scanner.resolution[1 - axis])
    full = rows.size
    skipped = int(round((1.0 - scanner.partial_fourier) * full))
    row_weights = _raised_cosine(rows, scanner.apodisation)[skipped:]
    column_weights = _raised_cosine(columns, scanner.apodisation)
    return Sampling(rows[skipped:], columns, row_weights, column_weights, full)


def _frequencies(size: int, pixel: float, resolution: float) -> np.ndarray:
    """Whole frequencies up to 1 / (2 resolution), an odd number of them unless all are taken."""
    limit = size if resolution <= 0.0 else int(np.floor(0.5 * size * pixel / resolution + 1e-6))
    if limit >= size // 2:
        return np.arange(size) - size // 2
    return np.arange(-limit, limit + 1)


def _raised_cosine(frequencies: np.ndarray, depth: float) -> np.ndarray:
    edge = max(float(np.abs(frequencies).max()), 1.0)
    taper = 1.0 - depth * 0.5 * (1.0 - np.cos(np.pi * frequencies / edge))
    return taper.astype(np.float32)


def acquire(
    poses: Poses,
    pixel: float,
    scanner: Scanner,
    rng: np.random.Generator,
    lines: LineStates | None = None,
) -> np.ndarray:
    """The magnitude image of one slice.

    The pictures already carry the coils' sensitivity and the bands of off-resonance.

    Args:
        poses: the slice at some states, signed signals.
        pixel: pixel size (mm).
        scanner: sampling, noise and reconstruction.
        rng: source of the noise.
        lines: state of the heart at each phase-encoding line; None for a perfect breath-hold at
            through_mm 0 and the first contraction.

    Returns:
        float32 (n, m), not negative; signal of LV blood about 1 where the sensitivity is 1.

    Raises:
        ValueError: if `lines` has not one entry a line of the picture.
    """
    axis = scanner.phase_axis
    shape = (poses.moving.shape[2 + axis], poses.moving.shape[3 - axis])
    if lines is not None and len(lines.through_mm) != shape[0]:
        raise ValueError(f"{len(lines.through_mm)} line states for {shape[0]} lines of the picture")
    kept = sampling(shape, pixel, scanner)
    if lines is None:
        pictures, states = _at_rest(poses)[None], _resting_states(kept.rows.size)
    else:
        pictures, states = _all_pictures(poses), _line_states(poses, pixel, axis, lines, kept)
    if axis == 1:
        pictures = np.ascontiguousarray(pictures.swapaxes(-1, -2))
    has_static = lines is not None and poses.static is not None
    half = scipy.fft.rfft(pictures, axis=-1)[..., : int(np.abs(kept.columns).max()) + 1]
    spectra = scipy.fft.fft(half, axis=-2)
    apart = scanner.acceleration > 1 or scanner.channels > 1
    samples = np.zeros((2 if apart else 1, shape[0], kept.columns.size), np.complex64)
    _fill_lines(spectra, has_static, shape[1], kept.rows, kept.columns, *states, samples[0])
    if scanner.noise > 0.0:
        samples[-1, kept.rows] += _noise(rng, kept, shape, scanner.noise)
    samples[:, kept.rows] *= kept.row_weights[:, None] * kept.column_weights[None]
    image = _inverse(samples, kept.columns, shape[1])
    magnitude = _reconstruct(image, kept, scanner) if apart else _modulus(image[0])
    return magnitude if axis == 0 else np.ascontiguousarray(magnitude.T)


def _at_rest(poses: Poses) -> np.ndarray:
    """The picture at through_mm 0 and the first contraction, float32 (n, m)."""
    lower, part = _between(poses.through_mm, np.zeros(1))
    moving = poses.moving[lower[0], 0]
    if part[0] > 0.0:
        moving = (1.0 - part[0]) * moving + part[0] * poses.moving[lower[0] + 1, 0]
    return moving if poses.static is None else moving + poses.static


def _all_pictures(poses: Poses) -> np.ndarray:
    """Every pose, (kz kc, n, m), and last what does not move."""
    pictures = poses.moving.reshape(-1, *poses.moving.shape[2:])
    return pictures if poses.static is None else np.concatenate([pictures, poses.static[None]])


def _between(grid: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the grid point at or below each value, and how far it is to the next, float32."""
    at = np.interp(values, grid, np.arange(len(grid)))
    lower = np.minimum(at.astype(np.intp), max(len(grid) - 2, 0))
    return lower, (at - lower).astype(np.float32)


def _resting_states(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    share = np.zeros((count, 4), np.float32)
    share[:, 0] = 1.0
    return np.zeros((count, 4), np.intp), share, np.zeros((count, 2))


def _line_states(
    poses: Poses, pixel: float, axis: int, lines: LineStates, kept: Sampling
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four poses and their shares (rows, 4), and the shift in pixels (phase, readout) of each row.

    Only acquired lines are looked at."""
    size = poses.moving.shape[2 + axis]
    row = kept.rows + size // 2
    depth, depth_part = _between(poses.through_mm, lines.through_mm[row])
    beat, beat_part = _between(poses.contraction, lines.contraction[row])
    deeper = np.minimum(depth + 1, len(poses.through_mm) - 1)
    later = np.minimum(beat + 1, len(poses.contraction) - 1)
    kc = len(poses.contraction)
    pose = np.stack(
        [depth * kc + beat, deeper * kc + beat, depth * kc + later, deeper * kc + later], axis=-1
    )
    share = np.stack(
        [
            (1.0 - depth_part) * (1.0 - beat_part),
            depth_part * (1.0 - beat_part),
            (1.0 - depth_part) * beat_part,
            depth_part * beat_part,
        ],
        axis=-1,
    )
    shift = np.asarray(lines.in_plane, float)[row][:, [axis, 1 - axis]] / pixel
    return pose, share.astype(np.float32), np.ascontiguousarray(shift)


@kernel()
def _fill_lines(
    spectra: np.ndarray,
    has_static: bool,
    width: int,
    rows: np.ndarray,
    columns: np.ndarray,
    pose: np.ndarray,
    share: np.ndarray,
    shift: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write each acquired line as the heart's state at its time gives it.

    `spectra` (poses, n, columns) holds only readout frequencies from 0 on; the others follow from
    the symmetry of the spectrum of a real picture.
    """
    size = spectra.shape[1]
    last = spectra.shape[0] - 1
    for i in range(rows.size):
        ky = rows[i]
        row, mirrored = ky % size, (-ky) % size
        angle = -2.0 * np.pi * (ky * shift[i, 0] / size + columns[0] * shift[i, 1] / width)
        ramp = complex(np.cos(angle), np.sin(angle))
        angle = -2.0 * np.pi * shift[i, 1] / width
        step = complex(np.cos(angle), np.sin(angle))
        for j in range(columns.size):
            kx = columns[j]
            value = 0.0 + 0.0j
            rest = 0.0 + 0.0j
            if kx >= 0:
                for k in range(4):
                    if share[i, k] > 0.0:
                        value += share[i, k] * spectra[pose[i, k], row, kx]
                if has_static:
                    rest = 1.0 * spectra[last, row, kx]
            else:
                for k in range(4):
                    if share[i, k] > 0.0:
                        value += share[i, k] * np.conj(spectra[pose[i, k], mirrored, -kx])
                if has_static:
                    rest = 1.0 * np.conj(spectra[last, mirrored, -kx])
            out[row, j] = value * ramp + rest
            ramp *= step


def _noise(
    rng: np.random.Generator, kept: Sampling, shape: tuple[int, int], deviation: float
) -> np.ndarray:
    """White complex noise of the acquired samples, complex64 (rows, columns).

    Scaled so that every line without a filter gives the picture's real part `deviation`."""
    drawn = rng.standard_normal((kept.rows.size, 2 * kept.columns.size), dtype=np.float32)
    scale = deviation * shape[0] * shape[1] / np.sqrt(kept.full_lines * kept.columns.size)
    drawn *= np.float32(scale)
    return drawn.view(np.complex64)


def _inverse(samples: np.ndarray, columns: np.ndarray, width: int) -> np.ndarray:
    """Complex pictures (k, n, width) of samples (k, n, columns), zeros beyond the columns."""
    rows = scipy.fft.ifft(samples, axis=-2, overwrite_x=True)
    wide = np.zeros((*rows.shape[:2], width), np.complex64)
    negative = int(np.sum(columns < 0))
    wide[..., : columns.size - negative] = rows[..., negative:]
    if negative:
        wide[..., -negative:] = rows[..., :negative]
    return scipy.fft.ifft(wide, axis=-1, overwrite_x=True)


@kernel()
def _modulus(image: np.ndarray) -> np.ndarray:
    result = np.empty(image.shape, np.float32)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            value = image[i, j]
            result[i, j] = np.sqrt(value.real * value.real + value.imag * value.imag)
    return result


def _reconstruct(image: np.ndarray, kept: Sampling, scanner: Scanner) -> np.ndarray:
    """Parallel imaging and the sum of squares: copies left over, noise amplified, many channels.

    The noise of R-fold acceleration grows by sqrt(R) g (Pruessmann et al., Magn Reson Med 1999).
    The other channels' noise adds a chi-square of 2 (channels - 1) degrees of freedom to the power
    (Constantinides et al., Magn Reson Med 1997).
    """
    size, width = image.shape[1:]
    copies = scanner.acceleration - 1 if scanner.residual > 0.0 else 0
    rows, columns = np.zeros((copies, size), np.float32), np.zeros((copies, width), np.float32)
    rng = np.random.default_rng(scanner.seed)
    for copy in range(copies):
        rows[copy] = scanner.residual * _wave(rng, size)
        columns[copy] = _wave(rng, width)
    deviation = np.float32(scanner.noise * np.sqrt(kept.filter_power))
    gain = noise_gain(size, scanner.acceleration)
    freedom = 2 * (scanner.channels - 1)
    return _combine(image[0], image[1], gain, rows, columns, freedom, deviation)


def _wave(rng: np.random.Generator, size: int) -> np.ndarray:
    """One slow wave of unit amplitude over the picture, float32 (size,)."""
    cycles, phase = rng.uniform(0.2, 1.2), rng.uniform(-np.pi, np.pi)
    return np.cos(2.0 * np.pi * cycles * np.arange(size) / size + phase).astype(np.float32)


def noise_gain(size: int, acceleration: int) -> np.ndarray:
    """sqrt(R) g along the phase-encoding axis, float32 (size,): 1 for R = 1.

    g rises in the middle of the body, where R pixels of tissue fold onto each other, to about 1.15,
    1.4 and 1.75 for R = 2, 3 and 4: our choice.
    """
    across = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    folds = 0.75 - 0.25 * np.cos(2.0 * np.pi * acceleration * np.arange(size) / size)
    excess = 0.05 * (acceleration**2 - 1) * across * folds
    return (np.sqrt(acceleration) * (1.0 + excess)).astype(np.float32)


@kernel()
def _combine(
    signal: np.ndarray,
    noise: np.ndarray,
    gain: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    freedom: int,
    deviation: np.float32,
) -> np.ndarray:
    """Magnitude of signal, its aliased copies and amplified noise; other channels' power added.

    The chi-square keeps the noise's correlation: it is made of the imaginary noise half a picture
    away by the cube of Wilson and Hilferty (Proc Natl Acad Sci 1931).
    """
    size, width = signal.shape
    result = np.empty((size, width), np.float32)
    copies = rows.shape[0]
    spread = np.float32(2.0 / (9.0 * freedom)) if freedom > 0 else np.float32(0.0)
    root = np.sqrt(spread) / max(deviation, np.float32(1e-12))
    line = np.empty(width, np.complex64)
    for i in range(size):
        for j in range(width):
            line[j] = signal[i, j] + gain[i] * noise[i, j]
        for copy in range(copies):
            source = (i + (copy + 1) * size // (copies + 1)) % size
            for j in range(width):
                line[j] += rows[copy, i] * columns[copy, j] * signal[source, j]
        far = (i + size // 2) % size
        power = gain[i] * gain[i] * deviation * deviation * np.float32(freedom)
        for j in range(width):
            total = line[j].real * line[j].real + line[j].imag * line[j].imag
            if freedom > 0:
                across = j + width // 2
                normal = noise[far, across if across < width else across - width].imag
                cube = max(np.float32(1.0) - spread + root * normal, np.float32(0.0))
                total += power * cube * cube * cube
            result[i, j] = np.sqrt(total)
    return result


def zero_fill(image: np.ndarray, matrix: int | tuple[int, int]) -> np.ndarray:
    """A vendor's interpolation: the spectrum is padded with zeros to a larger matrix.

    The centre of the first pixel stays where it is; pixels become smaller by n / new n. A smaller
    matrix crops the spectrum.

    Args:
        image: complex, or magnitudes, (..., n, m).
        matrix: pixels of both axes, or of the longer one; the other then follows in proportion.

    Returns:
        (..., new n, new m), complex64 for complex images, else float32 that is not negative.
    """
    if isinstance(matrix, int):
        longer = max(image.shape[-2:])
        rows, columns = (max(1, round(size * matrix / longer)) for size in image.shape[-2:])
        matrix = rows, columns
    if np.iscomplexobj(image):
        return (_resample(image.real, matrix) + 1j * _resample(image.imag, matrix)).astype("c8")
    return np.maximum(_resample(image, matrix), np.float32(0.0))


def _resample(image: np.ndarray, matrix: tuple[int, int]) -> np.ndarray:
    """Band-limited interpolation of real pictures (..., n, m); see `zero_fill`."""
    result = np.asarray(image, np.float32)
    for axis, target in zip((-2, -1), matrix, strict=True):
        size = result.shape[axis]
        spectrum = np.moveaxis(scipy.fft.rfft(result, axis=axis), axis, -1)
        shared = min(size, target)
        spectrum = spectrum[..., : shared // 2 + 1] * np.float32(target / size)
        if shared % 2 == 0 and target != size:  # the highest frequency is kept once, held twice
            spectrum[..., -1] *= 0.5 if target > size else 2.0
        result = np.moveaxis(scipy.fft.irfft(spectrum, n=target, axis=-1), -1, axis)
    return np.ascontiguousarray(result)


def grey_values(image: np.ndarray, scanner: Scanner, white: float) -> np.ndarray:
    """Whole grey values as stored by the scanner, float32.

    Args:
        image: magnitude, (n, m) or more axes.
        scanner: contrast curve and number of levels.
        white: magnitude shown as the brightest level.
    """
    shown = np.clip(image / np.float32(max(white, 1e-6)), 0.0, 1.0) ** np.float32(scanner.gamma)
    return np.round(shown * scanner.grey_levels).astype(np.float32)


NODE_STEP = 4
"""Pixels between the nodes at which sensitivities are worked out; linear in between."""


def sensitivity(scanner: Scanner, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Combined receive sensitivity, float32 (n, m), 1 at the heart frame's origin but for the bias.

    Root sum of squares (Roemer et al., Magn Reson Med 1990) of loops, each
    (1 + (d / reach)^2)^(-3/2) as on the axis of a circular loop, then partly flattened as by a
    vendor's correction.

    Args:
        scanner: coils, flattening, bias and seed.
        x: heart frame (mm), (n, m), changing little from pixel to pixel.
        y: heart frame (mm), (n, m).
    """
    shape = x.shape
    nodes = [np.unique(np.append(np.arange(0, n, NODE_STEP), n - 1)) for n in shape]
    at = np.ix_(*nodes)
    logarithm = 0.5 * (1.0 - scanner.flattening) * np.log(_coil_power(scanner, x[at], y[at]))
    if scanner.bias:
        smooth = smooth_field(np.random.default_rng(scanner.seed), shape, 3)
        logarithm += scanner.bias * smooth[at]
    return _between_nodes(np.exp(logarithm).astype(np.float32), shape[0], shape[1])


def _coil_power(scanner: Scanner, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of squared sensitivities relative to the one at the origin."""
    if not scanner.coils:
        return np.ones(x.shape)
    total, origin = np.zeros(x.shape), 0.0
    for coil in scanner.coils:
        distance = ((x - coil.x) ** 2 + (y - coil.y) ** 2) / coil.reach**2
        total += coil.weight**2 / (1.0 + distance) ** 3
        origin += coil.weight**2 / (1.0 + (coil.x**2 + coil.y**2) / coil.reach**2) ** 3
    return total / origin


@kernel()
def _between_nodes(coarse: np.ndarray, size: int, width: int) -> np.ndarray:
    """Bilinear interpolation of values at every NODE_STEP-th pixel and the last one."""
    result = np.empty((size, width), np.float32)
    for i in range(size):
        row = min(i // NODE_STEP, max(coarse.shape[0] - 2, 0))
        below = min(row + 1, coarse.shape[0] - 1)
        span = max(min(NODE_STEP, size - 1 - row * NODE_STEP), 1)
        down = np.float32((i - row * NODE_STEP) / span)
        for j in range(width):
            column = min(j // NODE_STEP, max(coarse.shape[1] - 2, 0))
            right = min(column + 1, coarse.shape[1] - 1)
            span = max(min(NODE_STEP, width - 1 - column * NODE_STEP), 1)
            along = np.float32((j - column * NODE_STEP) / span)
            upper = coarse[row, column] + along * (coarse[row, right] - coarse[row, column])
            lower = coarse[below, column] + along * (coarse[below, right] - coarse[below, column])
            result[i, j] = upper + down * (lower - upper)
    return result


def sample_scanner(rng: np.random.Generator) -> Scanner:
    """A protocol as met on the clinical scanners of four vendors."""
    readout = rng.uniform(1.2, 2.1)
    lines = readout * rng.uniform(1.0, 1.4)
    phase_axis = int(rng.integers(2))
    acceleration = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.45, 0.1, 0.05]))
    return Scanner(
        coils=_sample_coils(rng),
        flattening=float(rng.choice([0.0, rng.uniform(0.3, 0.95)], p=[0.45, 0.55])),
        bias=float(abs(rng.normal(0.0, 0.12))),
        resolution=(lines, readout) if phase_axis == 0 else (readout, lines),
        apodisation=float(rng.choice([0.0, rng.uniform(0.2, 1.0)])),
        noise=float(rng.gamma(2.0, 0.008) / np.sqrt(acceleration)),
        channels=int(rng.choice([1, 2, 4, 8], p=[0.65, 0.15, 0.15, 0.05])),
        phase_axis=phase_axis,
        partial_fourier=float(rng.choice([1.0, 0.875, 0.75, 0.625], p=[0.6, 0.2, 0.15, 0.05])),
        acceleration=acceleration,
        residual=float(rng.choice([0.0, rng.gamma(2.0, 0.02)])),
        gamma=float(np.exp(rng.normal(0.0, 0.14))),
        grey_levels=int(rng.choice([255, 1023, 4095])),
        zero_fill=(None, 256, 512)[int(rng.choice(3, p=[0.5, 0.3, 0.2]))],
        wrap_mm=float(rng.uniform(5.0, 40.0)) if rng.random() < 0.06 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def _sample_coils(rng: np.random.Generator) -> tuple[Coil, ...]:
    """An array on the chest before the right ventricle, and at times one behind the back."""
    chest = rng.normal(2.4, 0.3)
    coils = []
    for _ in range(int(rng.integers(1, 5))):
        angle, distance = chest + rng.normal(0.0, 0.5), rng.uniform(70.0, 120.0)
        x, y = distance * np.cos(angle), distance * np.sin(angle)
        coils.append(Coil(float(x), float(y), float(rng.uniform(70.0, 200.0)), 1.0))
    for _ in range(int(rng.integers(0, 4))):
        angle, distance = chest + np.pi + rng.normal(0.0, 0.5), rng.uniform(110.0, 170.0)
        x, y = distance * np.cos(angle), distance * np.sin(angle)
        reach, weight = float(rng.uniform(80.0, 220.0)), float(rng.uniform(0.3, 1.3))
        coils.append(Coil(float(x), float(y), reach, weight))
    return tuple(coils)
