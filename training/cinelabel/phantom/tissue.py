"""How bright each tissue is: the balanced SSFP signal with its off-resonance profile, or at random.

Steady state of Freeman and Hill (J Magn Reson 1971) in the elliptical form of Xiang and Hoff
(Magn Reson Med 2014), refocused at TE = TR/2 (Scheffler and Hennig, Magn Reson Med 2003). Tissue
loses signal by magnetisation transfer besides (Bieri and Scheffler, Magn Reson Med 2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cinelabel.phantom.compiled import kernel
from cinelabel.phantom.settings import PhantomSettings

FAT_PEAKS_PPM = (-3.80, -3.40, -2.60, -1.94, -0.39, 0.60)
"""Chemical shifts of fat from water: six peaks, as usual where water and fat are separated."""

FAT_PEAK_SHARES = (0.087, 0.693, 0.128, 0.004, 0.039, 0.049)
"""How much of the fat resonates at each of `FAT_PEAKS_PPM`.

The usual shares, near those of Hamilton et al., NMR Biomed 2011, in whom 8.6 % lie beneath the
water's peak (here the last two, 8.8 %) and the first is 0.125 of the second."""

PROTON_HZ_PER_TESLA = 42.577e6
"""Gyromagnetic ratio of the proton, Hz/T."""


@dataclass(frozen=True)
class Relaxation:
    """T1 and T2 in ms at 1.5 T and 3 T, proton density, transfer and spread.

    Attributes:
        t1: T1 (ms) at 1.5 T and at 3 T.
        t2: T2 (ms) at 1.5 T and at 3 T.
        density: proton density relative to water.
        transfer: signal left by magnetisation transfer.
        spread: log standard deviation among subjects.
    """

    t1: tuple[float, float]
    t2: tuple[float, float]
    density: float = 1.0
    transfer: float = 1.0
    spread: float = 0.1


RELAXATION: dict[str, Relaxation] = {
    "blood": Relaxation((1500, 1650), (230, 170), 1.0, 1.0, 0.08),
    "myocardium": Relaxation((1000, 1170), (50, 45), 0.95, 0.75, 0.10),
    "muscle": Relaxation((1000, 1400), (42, 38), 0.90, 0.72, 0.10),
    "fat": Relaxation((300, 370), (85, 75), 0.95, 1.0, 0.12),
    "liver": Relaxation((590, 810), (46, 34), 0.90, 0.78, 0.20),
    "spleen": Relaxation((1060, 1330), (79, 61), 0.95, 0.85, 0.20),
    "stomach": Relaxation((1500, 1800), (180, 150), 1.0, 0.95, 0.60),
    "bowel": Relaxation((900, 1100), (80, 70), 0.90, 0.85, 0.45),
    "marrow": Relaxation((900, 1000), (60, 55), 0.80, 0.90, 0.20),
    "kidney": Relaxation((970, 1150), (87, 76), 0.95, 0.88, 0.15),
    "csf": Relaxation((3500, 4000), (1500, 1200), 1.0, 1.0, 0.15),
    "lung": Relaxation((1150, 1300), (40, 25), 0.15, 1.0, 0.40),
}
"""Tissues, each varied by its spread from subject to subject.

T1 and T2 of liver, spleen and kidney are those of de Bazelaire et al. (Radiology 2004), of the
myocardium at 3 T about those of von Knobelsdorff-Brenkenhoff et al. (J Cardiovasc Magn Reson 2013);
T1 of muscle is about that of Stanisz et al. (Magn Reson Med 2005). The others, densities, transfer
and spreads are our choice."""


BANDING_RELAXATION = (1200.0, 100.0)
"""T1 and T2 (ms), between blood's and muscle's, of the profile that shapes the bands."""


@dataclass(frozen=True)
class FieldSource:
    """A ball of air or tissue beside the heart that disturbs the main field (heart frame, mm).

    `shift_hz` is the disturbance at its surface on the main field's axis."""

    x: float
    y: float
    height: float
    radius: float
    shift_hz: float


@dataclass(frozen=True)
class OffResonance:
    """Error of the main field over the heart frame after shimming.

    Attributes:
        centre_hz: at the heart frame's origin.
        gradient_hz_mm: linear part along x, y and height.
        sources: dipoles at the borders with air.
        axis: direction of the main field in the heart frame, unit vector.
    """

    centre_hz: float = 0.0
    gradient_hz_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sources: tuple[FieldSource, ...] = ()
    axis: tuple[float, float, float] = (0.5, 0.7, 0.5)


@dataclass(frozen=True)
class Flow:
    """What moving blood does to the signal.

    Attributes:
        jet: darkening of jets and turbulence near valves, 0 (none) to 1 (black).
        inflow: brightness that fresh blood gains, as a share of the blood's signal.
        slow: darkening of slow blood at the apex and between trabeculae, 0 to 1.
    """

    jet: float = 0.0
    inflow: float = 0.0
    slow: float = 0.0


@dataclass(frozen=True)
class Tissues:
    """Signed signals of one subject at one scanner: LV blood at rest is 1, opposed fat negative.

    Attributes:
        signal: by name: blood rv_blood vessel myocardium muscle fat pericardium liver spleen
            stomach bowel gas marrow kidney csf lung air.
        blood_texture: relative spread of the blood's texture.
        tissue_texture: relative spread of the other tissues' texture.
        field_strength: 1.5 or 3.0 T.
        off_resonance: error of the main field.
        flow: what moving blood does.
        flip_degrees: excitation angle.
        repetition_ms: TR; the echo is at TR/2.
    """

    signal: Mapping[str, float]
    blood_texture: float = 0.0
    tissue_texture: float = 0.0
    field_strength: float = 1.5
    off_resonance: OffResonance = field(default_factory=OffResonance)
    flow: Flow = field(default_factory=Flow)
    flip_degrees: float = 50.0
    repetition_ms: float = 3.2

    def __getitem__(self, name: str) -> float:
        return self.signal[name]


def bssfp_signal(
    t1_ms: float,
    t2_ms: float,
    flip_degrees: float,
    density: float = 1.0,
    phase: float | np.ndarray = np.pi,
    repetition_ms: float = 3.2,
) -> float | np.ndarray:
    """Signed steady-state signal of balanced SSFP at TE = TR/2, relative to the equilibrium one.

    The component that refocuses; what lies at right angles to it is smaller by TR/T2 and left out,
    so that the signal passes through zero between two bands and changes sign there.

    Args:
        t1_ms: longitudinal relaxation time.
        t2_ms: transverse relaxation time.
        flip_degrees: excitation angle.
        density: proton density.
        phase: precession in one TR relative to the pulses (rad): pi on resonance with alternating
            pulses, where the signal is positive, 0 and 2 pi where it is null.
        repetition_ms: TR.

    Returns:
        a float, or an array of the shape of `phase`.
    """
    e1, e2 = np.exp(-repetition_ms / t1_ms), np.exp(-repetition_ms / t2_ms)
    cosine, sine = np.cos(np.deg2rad(flip_degrees)), np.sin(np.deg2rad(flip_degrees))
    divisor = 1.0 - e1 * cosine - e2**2 * (e1 - cosine)
    scale = density * (1.0 - e1) * sine / divisor * np.sqrt(e2)
    bend = e2 * (1.0 - e1) * (1.0 + cosine) / divisor
    signal = scale * (1.0 + e2) * np.sin(0.5 * np.asarray(phase)) / (1.0 - bend * np.cos(phase))
    return signal if np.ndim(phase) else float(signal)


def precession(shift_hz: float | np.ndarray, repetition_ms: float) -> float | np.ndarray:
    """Phase (rad) gained in one TR between alternating pulses by spins `shift_hz` off resonance."""
    return np.pi + 2.0 * np.pi * shift_hz * 1e-3 * repetition_ms


def banding(
    tissues: Tissues, x: np.ndarray, y: np.ndarray, height: float | np.ndarray
) -> np.ndarray | None:
    """What the error of the main field leaves of the signal: dark bands, and a change of sign.

    The profile of water with T1 and T2 between those of blood and muscle, 1 on resonance. Fat has
    its bands elsewhere; that is left out.

    Args:
        tissues: field, flip angle and TR.
        x: heart frame (mm), (n, m).
        y: heart frame (mm), (n, m).
        height: heart frame (mm), a number or (n, m).

    Returns:
        float32 (n, m) to multiply signals with, or None where the field has no error.
    """
    if tissues.off_resonance == OffResonance():
        return None
    shift = field_shift_hz(tissues.off_resonance, x, y, height)
    flip, repetition = tissues.flip_degrees, tissues.repetition_ms
    period = 1e3 / repetition
    offset = np.linspace(0.0, 2.0 * period, 513)  # the signed profile repeats after two bands
    phase = precession(offset, repetition)
    profile = bssfp_signal(*BANDING_RELAXATION, flip, 1.0, phase, repetition)
    table = np.asarray(profile / profile[0], np.float32)  # type: ignore[index]
    return _look_up(shift, np.float32(2.0 * period), table)


def field_shift_hz(
    off_resonance: OffResonance, x: np.ndarray, y: np.ndarray, height: float | np.ndarray
) -> np.ndarray:
    """Off-resonance of water (Hz), float32 (n, m).

    Balls disturb the field outside of them as dipoles, (3 cos^2 - 1) / 2 (a / r)^3 (Schenck, Med
    Phys 1996); inside the field is even, here as at the surface at its mean, zero.
    """
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    heights = np.broadcast_to(np.asarray(height, np.float32), x.shape)
    sources = np.array(
        [(s.x, s.y, s.height, s.radius, s.shift_hz) for s in off_resonance.sources], np.float32
    ).reshape(-1, 5)
    linear = np.array((off_resonance.centre_hz, *off_resonance.gradient_hz_mm), np.float32)
    return _shift(x, y, heights, linear, sources, np.array(off_resonance.axis, np.float32))


@kernel()
def _shift(
    x: np.ndarray,
    y: np.ndarray,
    height: np.ndarray,
    linear: np.ndarray,
    sources: np.ndarray,
    axis: np.ndarray,
) -> np.ndarray:
    result = np.empty(x.shape, np.float32)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            px, py, pz = x[i, j], y[i, j], height[i, j]
            value = linear[0] + linear[1] * px + linear[2] * py + linear[3] * pz
            for k in range(sources.shape[0]):
                dx, dy, dz = px - sources[k, 0], py - sources[k, 1], pz - sources[k, 2]
                squared = dx * dx + dy * dy + dz * dz
                radius = sources[k, 3]
                if squared > radius * radius:
                    along = dx * axis[0] + dy * axis[1] + dz * axis[2]
                    angular = np.float32(1.5) * along * along / squared - np.float32(0.5)
                    fall = radius / np.sqrt(squared)
                    value += sources[k, 4] * angular * fall * fall * fall
            result[i, j] = value
    return result


@kernel()
def _look_up(shift: np.ndarray, period: np.float32, table: np.ndarray) -> np.ndarray:
    """`table` over one period, linearly interpolated at `shift`."""
    last = table.size - 1
    result = np.empty(shift.shape, np.float32)
    for i in range(shift.shape[0]):
        for j in range(shift.shape[1]):
            at = shift[i, j] / period
            at = (at - np.floor(at)) * np.float32(last)
            lower = min(int(at), last - 1)
            part = at - np.float32(lower)
            result[i, j] = table[lower] + part * (table[lower + 1] - table[lower])
    return result


def sample_tissues(rng: np.random.Generator, settings: PhantomSettings | None = None) -> Tissues:
    """The signals of one subject at one scanner.

    Args:
        rng: source of randomness.
        settings: `random_contrast_share` of the subjects get a contrast drawn at random.
    """
    settings = settings or PhantomSettings()
    field_strength = 3.0 if rng.random() < 0.35 else 1.5
    high = field_strength > 2.0
    flip = float(rng.uniform(32.0, 58.0) if high else rng.uniform(45.0, 80.0))
    repetition = _sample_high_field_tr(rng) if high else float(rng.uniform(2.8, 3.8))
    signal = _physical_contrast(rng, field_strength, flip, repetition)
    if rng.random() < settings.random_contrast_share:
        signal = _random_contrast(rng, signal)
    scale = 1.0 / max(signal["blood"], 1e-3)
    return Tissues(
        signal={name: float(value * scale) for name, value in signal.items()},
        blood_texture=float(rng.gamma(2.0, 0.035)),
        tissue_texture=float(rng.gamma(2.0, 0.03)),
        field_strength=field_strength,
        off_resonance=_sample_off_resonance(rng, field_strength),
        flow=Flow(
            jet=float(rng.choice([0.0, rng.uniform(0.2, 1.0)], p=[0.3, 0.7])),
            inflow=float(rng.gamma(2.0, 0.06)),
            slow=float(rng.choice([0.0, rng.uniform(0.05, 0.4)], p=[0.5, 0.5])),
        ),
        flip_degrees=flip,
        repetition_ms=repetition,
    )


def _sample_high_field_tr(rng: np.random.Generator) -> float:
    """TR (ms) at 3 T: short, where fat opposes water; in some beyond fat's null at 3.4 ms."""
    return float(rng.uniform(2.6, 3.15) if rng.random() < 0.82 else rng.uniform(3.65, 4.1))


def _physical_contrast(
    rng: np.random.Generator, field_strength: float, flip: float, repetition: float
) -> dict[str, float]:
    """Every tissue by the equation; fat at its own frequencies, blood brightened by inflow."""
    column = int(field_strength > 2.0)
    centre_hz = rng.normal(0.0, 8.0 * field_strength)
    peaks = np.array(FAT_PEAKS_PPM) * 1e-6 * PROTON_HZ_PER_TESLA * field_strength
    signal = {}
    for name, tissue in RELAXATION.items():
        shifts = centre_hz + (peaks if name == "fat" else np.zeros(1))
        stationary = bssfp_signal(
            tissue.t1[column] * _vary(rng, tissue.spread),
            tissue.t2[column] * _vary(rng, tissue.spread),
            flip,
            tissue.density * _vary(rng, 0.5 * tissue.spread),
            precession(shifts, repetition),
            repetition,
        )
        shares = np.array(FAT_PEAK_SHARES) if name == "fat" else np.ones(1)
        signal[name] = tissue.transfer * float(np.sum(shares * stationary))
    signal["blood"] *= rng.uniform(0.9, 1.4)
    signal["rv_blood"] = 0.87 * signal["blood"] * _vary(rng, 0.1)
    signal["vessel"] = signal["blood"] * _vary(rng, 0.18)
    signal["pericardium"] = signal["muscle"] * rng.uniform(0.1, 0.9)
    signal["fat"] *= rng.uniform(0.9, 1.5)
    fatty = rng.uniform(0.05, 0.35)
    signal["marrow"] = (1.0 - fatty) * signal["marrow"] + fatty * signal["fat"]
    signal["gas"] = signal["air"] = 0.0
    return signal


def _vary(rng: np.random.Generator, spread: float) -> float:
    return float(np.exp(rng.normal(0.0, spread))) if spread else 1.0


def _random_contrast(rng: np.random.Generator, signal: dict[str, float]) -> dict[str, float]:
    """Every tissue at random; blood at least 1.25 times the muscle, in a few at least 1.08."""
    drawn = {name: float(rng.uniform(0.05, 1.3)) for name in signal}
    drawn["air"] = float(rng.choice([0.0, rng.uniform(0.0, 0.3)]))
    drawn["gas"] = float(rng.choice([drawn["air"], rng.uniform(0.0, 0.4)]))
    drawn["blood"] = float(rng.uniform(0.7, 1.3))
    ratio = rng.uniform(1.08, 1.25) if rng.random() < 0.12 else 1.0 / rng.uniform(0.1, 0.8)
    drawn["myocardium"] = drawn["blood"] / float(ratio)
    drawn["rv_blood"] = max(drawn["blood"] * float(rng.uniform(0.6, 1.25)), drawn["myocardium"])
    drawn["muscle"] = drawn["myocardium"] * float(rng.uniform(0.6, 1.4))
    drawn["fat"] *= float(rng.choice([-1.0, 1.0], p=[0.6, 0.4]))
    return drawn


def _sample_off_resonance(rng: np.random.Generator, field_strength: float) -> OffResonance:
    """A field without error in most; else a shim that fails, with dipoles beside the heart."""
    if rng.random() > (0.4 if field_strength > 2.0 else 0.1):
        return OffResonance()
    sources = []
    for _ in range(int(rng.integers(1, 4))):
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(55.0, 110.0)
        sources.append(
            FieldSource(
                x=float(distance * np.cos(angle)),
                y=float(distance * np.sin(angle)),
                height=float(rng.uniform(-20.0, 90.0)),
                radius=float(rng.uniform(15.0, 40.0)),
                shift_hz=float(rng.choice([-1.0, 1.0]) * rng.uniform(40.0, 110.0) * field_strength),
            )
        )
    axis = np.array([0.5, 0.7, 0.5]) + rng.normal(0.0, 0.15, 3)
    axis /= np.linalg.norm(axis)
    return OffResonance(
        centre_hz=float(rng.normal(0.0, 20.0 * field_strength)),
        gradient_hz_mm=tuple(float(v) for v in rng.normal(0.0, 0.3 * field_strength, 3)),  # type: ignore[arg-type]
        sources=tuple(sources),
        axis=(float(axis[0]), float(axis[1]), float(axis[2])),
    )
