"""How bright each tissue is: the balanced SSFP signal with sampled relaxation times, or at random.

Steady-state signal for TR much shorter than T1 and T2 (Haacke et al., Magnetic Resonance Imaging,
2nd ed., ch. 18; Scheffler and Lehnhardt, Eur Radiol 2003):
    S = PD sin(a) / (1 + cos(a) + (1 - cos(a)) T1/T2)
T1 and T2 in ms at 1.5 T after Stanisz et al. (Magn Reson Med 2005) and Kellman and Hansen
(J Cardiovasc Magn Reson 2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Relaxation:
    """T1 and T2 in ms, proton density relative to water, and how far each is varied (log sd)."""

    t1: float
    t2: float
    density: float = 1.0
    spread: float = 0.12


RELAXATION: dict[str, Relaxation] = {
    "blood": Relaxation(1550, 220, 1.0, 0.10),
    "myocardium": Relaxation(1000, 50, 0.95, 0.12),
    "fat": Relaxation(300, 85, 0.95, 0.15),
    "muscle": Relaxation(1000, 42, 0.90, 0.12),
    "liver": Relaxation(600, 48, 0.90, 0.22),
    "spleen": Relaxation(1050, 80, 0.95, 0.25),
    "bowel": Relaxation(900, 90, 0.90, 0.6),
    "marrow": Relaxation(500, 55, 0.80, 0.25),
    "lung": Relaxation(1100, 40, 0.12, 0.5),
    "air": Relaxation(1000, 40, 0.0, 0.0),
}

RANDOM_SHARE = 0.15
"""Share of subjects whose contrast is drawn at random instead of from physics."""


@dataclass(frozen=True)
class Tissues:
    """Signal of each tissue (LV blood is 1), textures of blood and muscle, and `ink`.

    `ink` is the depth of the dark line that opposed fat and water leave at their border."""

    signal: Mapping[str, float]
    blood_texture: float
    tissue_texture: float
    ink: float

    def __getitem__(self, name: str) -> float:
        return self.signal[name]


def bssfp_signal(t1_ms: float, t2_ms: float, flip_degrees: float, density: float = 1.0) -> float:
    """Steady-state balanced SSFP signal for TR << T1, T2, relative to the equilibrium one."""
    cosine = np.cos(np.deg2rad(flip_degrees))
    sine = np.sin(np.deg2rad(flip_degrees))
    return float(density * sine / (1.0 + cosine + (1.0 - cosine) * t1_ms / t2_ms))


def sample_tissues(rng: np.random.Generator, random_share: float = RANDOM_SHARE) -> Tissues:
    """The signals of one subject at one scanner.

    Args:
        rng: source of randomness.
        random_share: probability of a random contrast (domain randomisation) in place of physics.
    """
    flip = rng.uniform(35.0, 75.0)
    signal = {}
    for name, tissue in RELAXATION.items():
        t1, t2 = tissue.t1 * _vary(rng, tissue.spread), tissue.t2 * _vary(rng, tissue.spread)
        signal[name] = bssfp_signal(t1, t2, flip, tissue.density * _vary(rng, tissue.spread * 0.5))
    inflow = rng.uniform(1.0, 2.1)
    signal["blood"] *= inflow
    signal["rv_blood"] = signal["blood"] * _vary(rng, 0.13)
    signal["vessel"] = signal["blood"] * _vary(rng, 0.18)
    signal["fat"] *= inflow * rng.uniform(0.5, 1.3)
    signal["pericardium"] = signal["muscle"] * rng.uniform(0.1, 0.9)
    if rng.random() < random_share:
        signal = _random_contrast(rng, signal)
    scale = 1.0 / max(signal["blood"], 1e-3)
    return Tissues(
        signal={name: float(value * scale) for name, value in signal.items()},
        blood_texture=float(rng.gamma(2.0, 0.035)),
        tissue_texture=float(rng.gamma(2.0, 0.03)),
        ink=float(rng.choice([0.0, rng.uniform(0.2, 0.9)], p=[0.35, 0.65])),
    )


def _vary(rng: np.random.Generator, spread: float) -> float:
    return float(np.exp(rng.normal(0.0, spread))) if spread else 1.0


def _random_contrast(rng: np.random.Generator, signal: dict[str, float]) -> dict[str, float]:
    """Every tissue at random; the muscle at most four fifths as bright as the cavity."""
    drawn = {name: float(rng.uniform(0.05, 1.3)) for name in signal}
    drawn["air"] = float(rng.choice([0.0, rng.uniform(0.0, 0.3)]))
    drawn["blood"] = float(rng.uniform(0.7, 1.3))
    drawn["myocardium"] = drawn["blood"] * float(rng.uniform(0.1, 0.8))
    drawn["rv_blood"] = drawn["blood"] * float(rng.uniform(0.6, 1.25))
    drawn["muscle"] = drawn["myocardium"] * float(rng.uniform(0.6, 1.4))
    return drawn
