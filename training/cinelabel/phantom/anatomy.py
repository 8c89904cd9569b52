"""The phantom's anatomy: a beating biventricular heart, analytic in three dimensions and time.

A left ventricle as a deformed truncated ellipsoid whose wall keeps its volume while it contracts, a
right ventricle wrapped round the septum, papillary muscles, atria and great vessels above a tilted
valve plane. Sizes follow the ranges of healthy adults and of the common diseases as reported by
Kawel-Boehm et al. (J Cardiovasc Magn Reson 2020, normal values: LV EDV 77-195 ml, EF 57-77 %) and
by the groups of ACDC (Bernard et al., IEEE TMI 2018).

Everything is expressed in the *heart frame*: millimetres, the long axis along z with the LV apex of
the cavity at z = 0 and the mitral plane at z = length, the septum towards -x, anterior towards +y.
Angles are measured from the middle of the septum, positive towards the anterior wall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

ANGLES = 720
ANGLE_TABLE = (np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)) - np.float32(
    np.pi
)
"""Angles in [-pi, pi) at which every border is tabulated."""

GROUPS: dict[str, float] = {
    "normal": 0.34,
    "dilated": 0.14,
    "hypertrophic": 0.22,
    "infarcted": 0.10,
    "abnormal_rv": 0.10,
    "small": 0.10,
}
"""Groups of the population and their shares in training."""


@dataclass(frozen=True)
class Ranges:
    """Uniform ranges of one group; lengths in mm, fractions without unit.

    `radius` is the cavity's radius at ED, `length` apex to mitral plane, `wall` the mean wall at
    ED, `ejection` the ejection fraction, `rv_depth` how far the right ventricle stands off the
    septum.
    """

    radius: tuple[float, float] = (21.0, 28.0)
    length: tuple[float, float] = (72.0, 98.0)
    wall: tuple[float, float] = (6.0, 10.5)
    ejection: tuple[float, float] = (0.52, 0.74)
    rv_depth: tuple[float, float] = (22.0, 42.0)
    rv_contraction: tuple[float, float] = (0.25, 0.5)


RANGES: dict[str, Ranges] = {
    "normal": Ranges(),
    "dilated": Ranges((27, 40), (85, 120), (5.0, 9.0), (0.10, 0.42), (20, 46), (0.1, 0.4)),
    "hypertrophic": Ranges((14, 25), (62, 95), (9.0, 17.0), (0.58, 0.92), (16, 40), (0.25, 0.6)),
    "infarcted": Ranges((23, 34), (78, 108), (5.5, 9.5), (0.22, 0.5), (20, 40), (0.2, 0.45)),
    "abnormal_rv": Ranges((17, 26), (65, 95), (5.5, 10.0), (0.40, 0.70), (36, 66), (0.08, 0.4)),
    "small": Ranges((13, 21), (45, 72), (4.0, 8.0), (0.50, 0.75), (14, 30), (0.25, 0.5)),
}


@dataclass(frozen=True)
class Bump:
    """A patch of the wall: centre and width in angle (rad) and in height (share of the length)."""

    angle: float
    angle_width: float
    height: float
    height_width: float
    amount: float

    def at(self, height: float) -> np.ndarray:
        """The patch's weight on the angle table at a height, shape (ANGLES,)."""
        around = wrap(ANGLE_TABLE - np.float32(self.angle)) / np.float32(self.angle_width)
        along = np.exp(-0.5 * ((height - self.height) / self.height_width) ** 2)
        return (self.amount * along * np.exp(-0.5 * around**2)).astype(np.float32)


@dataclass(frozen=True)
class Vessel:
    """An elliptic chamber or vessel above the valves: centre and radii in mm, wall in mm."""

    name: str
    x: float
    y: float
    radius_x: float
    radius_y: float
    wall: float


@dataclass(frozen=True)
class Section:
    """Borders of a short-axis section on the angle table, mm from the axis, float32 (ANGLES,)."""

    endocardium: np.ndarray
    epicardium: np.ndarray
    rv_cavity: np.ndarray
    rv_outer: np.ndarray
    pericardium: np.ndarray


@dataclass(frozen=True)
class Heart:
    """One heart's parameters; `section` gives its borders at any height and contraction."""

    group: str
    radius_ed: float
    radius_es: float
    length_ed: float
    descent: float
    profile: tuple[float, float, float]
    wall: float
    wall_apex: float
    wall_waves: tuple[tuple[int, float, float], ...]
    shape_waves: tuple[tuple[int, float, float], ...]
    thickenings: tuple[Bump, ...]
    scars: tuple[Bump, ...]
    obliteration: float
    flattening: float
    rv_depth: float
    rv_contraction: float
    rv_apex: float
    rv_half_width: tuple[float, float]
    rv_turn: tuple[float, float]
    rv_form: tuple[float, float, float]
    rv_wall: float
    fat: float
    fat_waves: tuple[tuple[int, float, float], ...]
    papillaries: tuple[tuple[float, float, float, float], ...]
    valve_tilt: tuple[float, float]
    rv_valve: tuple[float, float, float]
    vessels: tuple[Vessel, ...]
    axis_tilt: tuple[float, float]

    def length(self, contraction: float) -> float:
        """Apex to mitral plane in mm; the valve plane descends towards a fixed apex."""
        return self.length_ed - self.descent * contraction

    def valve_height(
        self, x: np.ndarray | float, y: np.ndarray | float, contraction: float
    ) -> np.ndarray:
        """Height of the mitral and aortic plane over a point (mm), tilted as `valve_tilt` says."""
        slope_x, slope_y = self.valve_tilt
        return np.asarray(self.length(contraction) + slope_x * x + slope_y * y, dtype=np.float32)

    def rv_valve_height(self, x: np.ndarray, y: np.ndarray, contraction: float) -> np.ndarray:
        """Height of the tricuspid plane, with an offset from the mitral one (mm)."""
        offset, slope_x, slope_y = self.rv_valve
        return np.asarray(
            self.length(contraction) + offset + slope_x * (x + 40.0) + slope_y * y, np.float32
        )

    def _wall_ed(self, height: float) -> np.ndarray:
        wall = self.wall * (0.78 + 0.22 * min(max(height, 0.0), 1.0)) * _waves(self.wall_waves)
        for bump in self.thickenings:
            wall = wall + bump.at(height)
        for scar in self.scars:
            wall = wall * (1.0 - 0.5 * scar.at(height))
        return np.maximum(wall, 1.8).astype(np.float32)

    def _motion(self, height: float) -> np.ndarray:
        motion = np.ones(ANGLES, np.float32)
        for scar in self.scars:
            motion = motion * (1.0 - np.clip(scar.at(height), 0.0, 1.0))
        return motion

    def lv_borders(self, z: float, contraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Endocardium and epicardium at height z (mm), each (ANGLES,) in mm; zero where absent."""
        length = self.length(contraction)
        height = z / length
        form = _waves(self.shape_waves) - self.flattening * np.exp(
            -0.5 * (ANGLE_TABLE / np.float32(0.75)) ** 2
        )
        clipped = min(max(height, 0.0), 1.0)
        widest, power, inverse = self.profile
        outline = (1.0 - (1.0 - clipped) ** power) ** inverse
        outline *= 1.0 - widest * max(clipped - 0.65, 0.0)
        wall = self._wall_ed(clipped)
        endo_ed = self.radius_ed * outline * form
        radius_es = max(self.radius_es * outline - self.obliteration * (1.0 - clipped), 0.0)
        endo = endo_ed + (radius_es * form - endo_ed) * contraction * self._motion(clipped)
        endo = np.maximum(endo, 0.0)
        wall = wall * max(1.0 - 2.2 * max(height - 1.0, 0.0), 0.2)
        endo = endo * max(1.0 - 1.5 * max(height - 1.05, 0.0), 0.0)
        wall_area = (endo_ed + wall) ** 2 - endo_ed**2
        epi = np.sqrt(endo**2 + wall_area * (self.length_ed / length))
        if z < 0.0:
            endo = np.zeros_like(endo)
            cap = 1.0 - (z / self.wall_apex) ** 2
            epi = epi * np.sqrt(cap) if cap > 0.0 else np.zeros_like(epi)
        return endo.astype(np.float32), epi.astype(np.float32)

    def section(self, z: float, contraction: float) -> Section:
        """All borders at height z (mm) and contraction 0 (ED) to 1 (ES)."""
        endo, epi = self.lv_borders(z, contraction)
        height = z / self.length(contraction)
        depth, half_width, turn = self._rv_at(height, contraction)
        around = wrap(ANGLE_TABLE - np.float32(turn)) / np.float32(half_width)
        power, inverse, skew = self.rv_form
        arch = np.maximum(1.0 - np.abs(around) ** power, 0.0) ** inverse
        stand_off = depth * arch * (1.0 + skew * np.clip(around, -1.0, 1.0))
        rv_cavity = epi + stand_off
        inside = np.clip(stand_off / 3.0, 0.0, 1.0)
        rv_outer = rv_cavity + self.rv_wall * (1.0 + 0.4 * contraction) * inside
        sides = ANGLE_TABLE - np.float32(turn)
        over_rv = 1.0 + 1.3 * inside
        grooves = sum(
            np.exp(-0.5 * (wrap(sides - np.float32(side * half_width)) / 0.2) ** 2)
            for side in (-1.0, 1.0)
        )
        fat = self.fat * (np.maximum(_waves(self.fat_waves), 0.1) * over_rv + 1.2 * grooves)
        fat = fat * (1.0 + 0.8 * min(max(height - 0.75, 0.0), 0.4))
        if z < 0.0 and not epi.any():
            fat = fat * max(0.0, 1.0 + (z + self.wall_apex) / 12.0)
        pericardium = np.maximum(rv_outer, epi) + fat
        return Section(
            endo,
            epi,
            rv_cavity.astype(np.float32),
            rv_outer.astype(np.float32),
            pericardium.astype(np.float32),
        )

    def _rv_at(self, height: float, contraction: float) -> tuple[float, float, float]:
        rise = np.clip((height - self.rv_apex) / (1.0 - self.rv_apex), 0.0, 1.1)
        rise *= max(1.0 - 2.0 * max(height - 1.08, 0.0), 0.0)
        depth = self.rv_depth * (1.0 - self.rv_contraction * contraction) * float(rise) ** 0.65
        base, apex = self.rv_half_width
        share = float(np.clip(height, 0.0, 1.0))
        return depth, apex + (base - apex) * share, self.rv_turn[0] + self.rv_turn[1] * share


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles brought into [-pi, pi)."""
    return (angle + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi)


def _waves(waves: tuple[tuple[int, float, float], ...]) -> np.ndarray:
    """1 + sum of amplitude * cos(order * angle + phase) on the angle table."""
    total = np.ones(ANGLES, np.float32)
    for order, amplitude, phase in waves:
        total = total + np.float32(amplitude) * np.cos(order * ANGLE_TABLE + np.float32(phase))
    return total


def _sample_waves(
    rng: np.random.Generator, amplitudes: dict[int, float]
) -> tuple[tuple[int, float, float], ...]:
    return tuple(
        (order, float(rng.normal(0.0, size)), float(rng.uniform(-np.pi, np.pi)))
        for order, size in amplitudes.items()
    )


def sample_group(rng: np.random.Generator) -> str:
    """A group by its share in `GROUPS`."""
    return str(rng.choice(list(GROUPS), p=np.array(list(GROUPS.values()))))


def sample_heart(rng: np.random.Generator, group: str | None = None) -> Heart:
    """One heart of the population.

    Args:
        rng: source of randomness; the same state gives the same heart.
        group: one of `GROUPS`; sampled by its share when None.
    """
    group = group or sample_group(rng)
    ranges = RANGES[group]
    radius, length = rng.uniform(*ranges.radius), rng.uniform(*ranges.length)
    ejection, wall = rng.uniform(*ranges.ejection), rng.uniform(*ranges.wall)
    descent = length * rng.uniform(0.06, 0.20) * min(1.0, ejection / 0.55)
    radius_es = radius * np.sqrt((1.0 - ejection) * length / (length - descent))
    heart = Heart(
        group=group,
        radius_ed=radius,
        radius_es=float(min(radius_es, radius)),
        length_ed=length,
        descent=descent,
        profile=(rng.uniform(0.0, 0.5), rng.uniform(1.7, 3.2), rng.uniform(0.42, 0.62)),
        wall=wall,
        wall_apex=wall * rng.uniform(0.5, 1.0),
        wall_waves=_sample_waves(rng, {1: 0.08, 2: 0.06, 3: 0.03}),
        shape_waves=_sample_waves(rng, {2: 0.04, 3: 0.02, 4: 0.012}),
        thickenings=(),
        scars=(),
        obliteration=0.0,
        flattening=rng.uniform(-0.02, 0.06),
        rv_depth=rng.uniform(*ranges.rv_depth),
        rv_contraction=rng.uniform(*ranges.rv_contraction),
        rv_apex=rng.uniform(-0.02, 0.30),
        rv_half_width=(rng.uniform(1.1, 1.6), rng.uniform(0.65, 1.2)),
        rv_turn=(rng.uniform(-0.35, 0.2), rng.uniform(-0.2, 0.4)),
        rv_form=(rng.uniform(1.3, 3.0), rng.uniform(0.5, 1.2), rng.uniform(-0.3, 0.4)),
        rv_wall=rng.uniform(1.5, 4.0),
        fat=float(rng.gamma(1.1, 1.5)),
        fat_waves=_sample_waves(rng, {1: 0.6, 2: 0.4, 3: 0.25}),
        papillaries=_sample_papillaries(rng, radius),
        valve_tilt=(float(rng.normal(0.0, 0.14)), float(rng.normal(-0.05, 0.14))),
        rv_valve=(float(rng.normal(4.0, 6.0)), rng.normal(0.0, 0.08), rng.normal(0.08, 0.12)),
        vessels=_sample_vessels(rng, radius),
        axis_tilt=(float(rng.normal(0.0, 0.10)), float(rng.normal(0.0, 0.10))),
    )
    return _with_disease(rng, heart)


def _with_disease(rng: np.random.Generator, heart: Heart) -> Heart:
    """The group's regional changes: asymmetric thickening, scars, a flattened septum."""
    if heart.group == "hypertrophic":
        bumps = [
            Bump(
                angle=float(rng.normal(0.15, 0.9)),
                angle_width=rng.uniform(0.5, 1.5),
                height=rng.uniform(0.3, 0.9),
                height_width=rng.uniform(0.2, 0.5),
                amount=float(rng.choice([0.0, 1.0], p=[0.25, 0.75]) * rng.uniform(2.0, 20.0)),
            )
        ]
        return replace(heart, thickenings=tuple(bumps), obliteration=float(rng.uniform(0.0, 9.0)))
    if heart.group == "infarcted":
        scars = [
            Bump(
                angle=float(rng.uniform(-np.pi, np.pi)),
                angle_width=rng.uniform(0.4, 1.0),
                height=rng.uniform(0.0, 0.8),
                height_width=rng.uniform(0.15, 0.4),
                amount=rng.uniform(0.5, 1.1),
            )
            for _ in range(int(rng.integers(1, 3)))
        ]
        return replace(heart, scars=tuple(scars))
    if heart.group == "abnormal_rv":
        return replace(
            heart,
            flattening=float(rng.uniform(0.02, 0.3)),
            rv_wall=float(rng.uniform(2.0, 7.5)),
            rv_apex=float(rng.uniform(-0.05, 0.12)),
        )
    return heart


def _sample_papillaries(
    rng: np.random.Generator, radius: float
) -> tuple[tuple[float, float, float, float], ...]:
    """Each: angle, radius (mm), distance of the centre from the wall (radii), root's height."""
    muscles = []
    for side in (-1.0, 1.0):
        for _ in range(int(rng.choice([1, 2], p=[0.75, 0.25]))):
            muscles.append(
                (
                    float(np.pi + side * rng.uniform(0.45, 1.15)),
                    float(radius * rng.uniform(0.10, 0.24)),
                    float(rng.uniform(0.0, 1.4)),
                    float(rng.uniform(0.08, 0.35)),
                )
            )
    for _ in range(int(rng.integers(0, 10))):
        muscles.append(
            (
                float(rng.uniform(-np.pi, np.pi)),
                float(radius * rng.uniform(0.04, 0.11)),
                float(rng.uniform(0.0, 1.6)),
                float(rng.uniform(-0.1, 0.5)),
            )
        )
    return tuple(muscles)


def _sample_vessels(rng: np.random.Generator, radius: float) -> tuple[Vessel, ...]:
    """Left and right atrium, aortic root and pulmonary outflow as they stand above the valves."""
    size = radius / 25.0

    def ellipse(name: str, x: float, y: float, low: float, high: float) -> Vessel:
        return Vessel(
            name,
            x * size + float(rng.normal(0.0, 5.0)),
            y * size + float(rng.normal(0.0, 5.0)),
            rng.uniform(low, high) * size,
            rng.uniform(low, high) * size,
            rng.uniform(1.0, 2.5),
        )

    return (
        ellipse("left_atrium", 3.0, -8.0, 20.0, 32.0),
        ellipse("right_atrium", -43.0, -13.0, 20.0, 31.0),
        ellipse("pulmonary_artery", -24.0, 27.0, 12.0, 18.0),
        ellipse("aorta", -16.0, 9.0, 13.0, 18.0),
    )
