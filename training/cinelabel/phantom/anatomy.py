"""The phantom's anatomy: a beating biventricular heart, analytic in three dimensions and time.

A left ventricle as a deformed truncated ellipsoid whose wall keeps its volume while it contracts
(the incompressible wall of Arts et al., Biophys J 1991), a right ventricle as a rounded polygon
wrapped round the septum, papillary muscles, atria and great vessels above tilted valve planes.
Volumes, mass and ejection fraction of a subject are drawn first, from ranges about those of the
literature (`RANGES`), and the geometry is solved for them.

Everything is expressed in the *heart frame*: millimetres, the long axis along z with the LV apex of
the cavity at z = 0 and the mitral plane at z = length, the septum towards -x, anterior towards +y.
Angles are measured from the middle of the septum, positive towards the anterior wall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.measures import MYOCARDIAL_DENSITY_G_PER_ML
from cinelabel.phantom.heart_sections import (
    ANGLE_TABLE,
    ANGLES,
    chord,
    enclose_discs,
    section_tables,
    section_volumes,
    wrap,
)
from cinelabel.phantom.settings import PhantomSettings

GROUPS: dict[str, float] = {
    "normal": 0.22,
    "athlete": 0.06,
    "dilated": 0.12,
    "hypertrophic": 0.20,
    "infarcted": 0.12,
    "abnormal_rv": 0.11,
    "child": 0.05,
    "obese": 0.05,
    "small": 0.07,
}
"""Groups of the population and their shares in training: our choice."""
EVERYTHING = PhantomSettings()
CLOSING_GROUPS = ("hypertrophic", "small")
"""Groups that `PhantomSettings.closing_cavities` switches off."""
LARGEST_OPEN_EJECTION = 0.68
"""Ejection fraction up to which no cavity closes."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of one group, drawn from evenly; the geometry is solved for what is drawn.

    Attributes:
        edv: LV end-diastolic volume (ml), papillary muscles included.
        ejection: LV ejection fraction.
        mass_to_volume: LV mass over EDV (g/ml); relative, as mass and volume go together.
        rv_to_lv: RV EDV over LV EDV.
        rv_ejection: RV ejection fraction.
        slenderness: length over radius of the cavity at ED.
        thickest: thickest wall at ED (mm) that the wall is scaled to in place of the mass, or None.
        fat: fat between heart and pericardium (mm).
    """

    edv: tuple[float, float] = (75.0, 225.0)
    ejection: tuple[float, float] = (0.48, 0.76)
    mass_to_volume: tuple[float, float] = (0.45, 1.0)
    rv_to_lv: tuple[float, float] = (0.80, 1.30)
    rv_ejection: tuple[float, float] = (0.44, 0.72)
    slenderness: tuple[float, float] = (2.9, 3.8)
    thickest: tuple[float, float] | None = None
    fat: tuple[float, float] = (0.0, 5.0)


RANGES: dict[str, Ranges] = {
    "normal": Ranges(),
    "athlete": Ranges(
        edv=(160.0, 290.0),
        ejection=(0.48, 0.68),
        mass_to_volume=(0.62, 1.05),
        rv_to_lv=(0.95, 1.30),
        rv_ejection=(0.44, 0.62),
        fat=(0.0, 3.0),
    ),
    "dilated": Ranges(
        edv=(190.0, 430.0),
        ejection=(0.10, 0.40),
        mass_to_volume=(0.35, 0.80),
        rv_to_lv=(0.45, 1.10),
        rv_ejection=(0.15, 0.60),
        slenderness=(2.5, 3.5),
    ),
    "hypertrophic": Ranges(
        edv=(60.0, 200.0),
        ejection=(0.56, 0.93),
        rv_to_lv=(0.70, 1.25),
        rv_ejection=(0.45, 0.80),
        thickest=(15.0, 30.0),
    ),
    "infarcted": Ranges(
        edv=(110.0, 330.0),
        ejection=(0.15, 0.50),
        mass_to_volume=(0.45, 0.90),
        rv_to_lv=(0.50, 1.10),
        rv_ejection=(0.30, 0.65),
        slenderness=(2.7, 3.7),
    ),
    "abnormal_rv": Ranges(
        edv=(60.0, 190.0),
        ejection=(0.40, 0.72),
        mass_to_volume=(0.45, 1.0),
        rv_to_lv=(1.30, 2.80),
        rv_ejection=(0.12, 0.52),
        slenderness=(3.1, 4.2),
    ),
    "child": Ranges(
        edv=(22.0, 120.0),
        ejection=(0.55, 0.76),
        mass_to_volume=(0.45, 0.85),
        rv_to_lv=(0.90, 1.30),
        rv_ejection=(0.50, 0.74),
        slenderness=(2.9, 3.8),
        fat=(0.0, 1.5),
    ),
    "obese": Ranges(
        edv=(100.0, 230.0),
        mass_to_volume=(0.55, 1.10),
        fat=(5.0, 14.0),
    ),
    "small": Ranges(
        edv=(42.0, 105.0),
        ejection=(0.55, 0.85),
        mass_to_volume=(0.85, 1.60),
        rv_to_lv=(0.80, 1.35),
        rv_ejection=(0.48, 0.78),
    ),
}
"""Ranges by group: our choice, about the values below and wide enough that tails are learnt too.

- normal: EDV 160 +- 27 ml in men and 132 +- 23 ml in women, mass 134 +- 21 and 98 +- 21 g, EF
  67 +- 5 % (Kawel-Boehm et al., J Cardiovasc Magn Reson 2015); RV EDV 190 +- 33 and 148 +- 35 ml
  (Hudsmith et al., J Cardiovasc Magn Reson 2005); with the papillary muscles in the cavity, as
  here, EF 58 +- 5 and 61 +- 5 %, mass 53 +- 9 and 42 +- 7 g/m2 (UK Biobank, Petersen et al., J
  Cardiovasc Magn Reson 2017).
- athlete: both ventricles enlarged in balance (Scharhag et al., J Am Coll Cardiol 2002), on
  average to 123 to 129 ml/m2 in men and 107 ml/m2 in women, RV 136 to 144 and 115 to 118 ml/m2
  (Prakken et al., Eur J Cardiovasc Prev Rehabil 2010). Mass over volume is drawn higher than
  their means' 0.43 to 0.53 g/ml.
- dilated, infarcted, abnormal_rv: about the groups of ACDC, Bernard et al., IEEE TMI 2018 (dilated:
  EDV above 100 ml/m2 and EF below 40 %; infarcted: EF below 40 % with several abnormal segments,
  here up to 50 %; abnormal RV: EDV above 110 ml/m2 or EF below 40 %).
- hypertrophic: thickest wall at least 15 mm (ESC guidelines, Elliott et al., Eur Heart J 2014).
- child: the EDV that boys of about 0.4 to 1.4 m2 body surface have on average (Buechel et al., J
  Cardiovasc Magn Reson 2009, who measured children of 7 months to 18 years); larger adolescents
  resemble `normal`.
- obese: fat round a heart of usual size.
- small: concentric remodelling, mass over volume high, as in hypertension and in old age.
"""


@dataclass(frozen=True)
class Bump:
    """A patch of the wall: centre and width in angle (rad) and in height (share of the length)."""

    angle: float
    angle_width: float
    height: float
    height_width: float
    amount: float

    def around(self) -> np.ndarray:
        """The patch's weight on the angle table at its own height, without its amount."""
        away = wrap(ANGLE_TABLE - np.float32(self.angle)) / np.float32(self.angle_width)
        return np.exp(-0.5 * away**2).astype(np.float32)

    def at(self, height: float) -> np.ndarray:
        """The patch's weight on the angle table at a height, shape (ANGLES,)."""
        along = np.exp(-0.5 * ((height - self.height) / self.height_width) ** 2)
        return np.float32(self.amount * along) * self.around()


@dataclass(frozen=True)
class Body:
    """A chamber or vessel above the valves, as a stack of ellipses; mm, relative to the axis.

    Attributes:
        name: see `Heart.chambers`.
        foot: centre at its floor.
        head: centre from `settle` mm above the floor on.
        settle: height above the floor at which the centre has gone from foot to head.
        drift: further shift of the centre a mm of height.
        floor: height of its floor above the mitral plane.
        waist: radius at the floor as a share of the full one, reached `settle` mm above.
        ceiling: height above the floor at which the body ends as an ellipsoid; vessels: large.
        radius: full radii along its own axes.
        turn: of the first axis against x (rad).
        wall: thickness.
        lobes: amplitude of the three-lobed form (aortic sinuses).
        lobe_reach: height above the floor up to which there are lobes.
        systole: size at ES relative to ED.
    """

    name: str
    foot: tuple[float, float]
    head: tuple[float, float]
    settle: float
    drift: tuple[float, float]
    floor: float
    waist: float
    ceiling: float
    radius: tuple[float, float]
    turn: float
    wall: float
    lobes: float = 0.0
    lobe_reach: float = 0.0
    systole: float = 1.0


@dataclass(frozen=True)
class Chamber:
    """A section of a chamber or vessel: an ellipse in heart-frame mm relative to the axis.

    `lobes` is the amplitude of a modulation 1 + lobes * cos(3 * angle) of its radius.
    """

    name: str
    x: float
    y: float
    radius_x: float
    radius_y: float
    turn: float
    wall: float
    lobes: float


@dataclass(frozen=True)
class Section:
    """Borders of a short-axis section on the angle table, mm from the axis, float32 (ANGLES,)."""

    endocardium: np.ndarray
    epicardium: np.ndarray
    rv_cavity: np.ndarray
    rv_outer: np.ndarray
    pericardium: np.ndarray


Waves = tuple[tuple[int, float, float], ...]
"""Orders, amplitudes and phases of a modulation round the axis."""


@dataclass(frozen=True)
class Heart:
    """One heart's parameters; `section` gives its borders at any height and contraction.

    Attributes:
        group: see `GROUPS`.
        radius_ed: radius of the LV cavity at ED (mm), before its profile; `radius_es` at ES.
        radius_es: see above.
        length_ed: apex to mitral plane at ED (mm).
        descent: of the mitral plane in systole (mm).
        profile: narrowing at the base, roundness along the axis, pointedness of the apex.
        wall: mean wall at ED (mm).
        wall_apex: thickness of the apical cap (mm).
        wall_waves: modulation of the wall round the axis.
        shape_waves: modulation of the cavity round the axis.
        thickenings: patches where the wall is thicker by a share.
        scars: patches where the wall is thinner and moves less; beyond 1 it moves outwards.
        aneurysms: patches where the cavity is wider by a share, at all phases.
        closing: modulation of the logarithm of the cavity at ES: slits, triangles, crescents.
        closing_turn: turn of that form from apex to base (rad).
        obliteration: by how much the cavity at ES is narrower at the apex (mm).
        flattening: of the septum at ED and at ES, 0 round to 0.35 D-shaped.
        rv_depth: how far the right ventricle stands off the septum at ED (mm).
        rv_contraction: by which share that shrinks at ES.
        rv_apex: where the RV begins, share of the LV's length.
        rv_window: half of the angle that the RV can take at base and apex (rad).
        rv_turn: where its free wall looks to: at the apex, and its change to the base (rad).
        rv_insertion: angles at the base between the middle of the septum and the RV's inferior
            and anterior insertion (rad).
        rv_flare: directions that its inferior and anterior side look to, from where the free wall
            looks to (rad), 0.4 more at the base: beyond pi / 2 it widens away from the septum.
        rv_corner: stand-off of its inferior and anterior shoulder as a share of the depth.
        rv_sharpness: how angular the polygon is.
        rv_outflow: by how much its anterior insertion moves on near the base (rad).
        rv_squeeze: by how much its insertions come in at ES (rad).
        rv_wall: thickness of its free wall (mm).
        rv_descent: of the tricuspid plane beyond the mitral plane's in systole (mm).
        fat: mean thickness of the fat between heart and pericardium (mm).
        fat_waves: modulation of the fat round the axis.
        papillaries: papillary muscles and strands: angle, radius (mm), distance of the centre from
            the wall (own radii), root's height (share of the length).
        valve_tilt: slopes of the mitral and aortic plane along x and y.
        rv_valve: offset of the tricuspid plane (mm) and its slopes along x and y.
        bodies: atria and vessels above the valves.
        axis_tilt: shift along x and y a mm of height about the middle of the LV at ED.
    """

    group: str
    radius_ed: float
    radius_es: float
    length_ed: float
    descent: float
    profile: tuple[float, float, float]
    wall: float
    wall_apex: float
    wall_waves: Waves
    shape_waves: Waves
    thickenings: tuple[Bump, ...]
    scars: tuple[Bump, ...]
    aneurysms: tuple[Bump, ...]
    closing: Waves
    closing_turn: float
    obliteration: float
    flattening: tuple[float, float]
    rv_depth: float
    rv_contraction: float
    rv_apex: float
    rv_window: tuple[float, float]
    rv_turn: tuple[float, float]
    rv_insertion: tuple[float, float]
    rv_flare: tuple[float, float]
    rv_corner: tuple[float, float]
    rv_sharpness: int
    rv_outflow: float
    rv_squeeze: float
    rv_wall: float
    rv_descent: float
    fat: float
    fat_waves: Waves
    papillaries: tuple[tuple[float, float, float, float], ...]
    valve_tilt: tuple[float, float]
    rv_valve: tuple[float, float, float]
    bodies: tuple[Body, ...]
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

    def rv_valve_height(
        self, x: np.ndarray | float, y: np.ndarray | float, contraction: float
    ) -> np.ndarray:
        """Height of the tricuspid plane, with an offset from the mitral one (mm)."""
        offset, slope_x, slope_y = self.rv_valve
        middle = self.length(contraction) + offset - self.rv_descent * contraction
        return np.asarray(middle + slope_x * (x + 40.0) + slope_y * y, np.float32)

    def section(self, z: float, contraction: float) -> Section:
        """All borders at height z (mm) and contraction 0 (ED) to 1 (ES).

        The borders go on above the valve planes, which are tilted: the planes say where they end.
        """
        scalars, forms, patches, around = self._packed
        tables = section_tables(z, contraction, scalars, forms, patches, around)
        if z > self.length(contraction) - 12.0:
            self._enclose_chambers(tables[4], z, contraction)
        return Section(tables[0], tables[1], tables[2], tables[3], tables[4])

    def volumes_ml(self, contraction: float, step_mm: float = 1.0) -> dict[str, float]:
        """Volumes of the continuous anatomy below the valve planes (ml): LV, MYO and RV.

        Sections are integrated exactly round the axis and between the planes, and by the midpoint
        rule with steps of about `step_mm` along it.
        """
        volumes = self._integrate(contraction, step_mm, 1)
        return {"LV": float(volumes[0]), "MYO": float(volumes[1]), "RV": float(volumes[2])}

    def thickest_wall(self) -> float:
        """Thickest LV wall at ED between a tenth and 95 % of the length, in mm."""
        thickest = 0.0
        for height in np.linspace(0.1, 0.95, 18):
            section = self.section(float(height * self.length_ed), 0.0)
            thickest = max(thickest, float(np.max(section.epicardium - section.endocardium)))
        return thickest

    def chambers(self, z: float, contraction: float) -> tuple[Chamber, ...]:
        """What lies above the valves at height z (mm).

        Names: left_atrium, right_atrium, appendage (of the left atrium), right_appendage,
        superior_vena_cava, outflow (of the right ventricle, then the pulmonary trunk) and aorta.
        The bodies start somewhat below the valve planes, so that tilted planes find them there: the
        ventricles lie over them below.
        """
        found = []
        for body in self.bodies:
            floor = self.length(contraction) + body.floor
            if body.name in ("right_atrium", "outflow"):
                floor += self.rv_valve[0] - self.rv_descent * contraction
            chamber = _cut(body, z - floor, contraction)
            if chamber is not None:
                found.append(chamber)
        return tuple(found)

    def _enclose_chambers(self, pericardium: np.ndarray, z: float, contraction: float) -> None:
        """Widen the pericardium to what lies above the valves, and the fat between."""
        margin = 1.5 + 0.6 * self.fat
        discs = [
            (body.x, body.y, 0.5 * (body.radius_x + body.radius_y) + body.wall + margin)
            for body in self.chambers(z, contraction)
            if body.name != "superior_vena_cava"
        ]
        if discs:
            above = z - self.length(contraction)
            share = min(max((above + 12.0) / 12.0, 0.0), 1.0)
            enclose_discs(np.array(discs, np.float32), share, pericardium)

    def _integrate(self, contraction: float, step: float, stride: int) -> np.ndarray:
        """LV, MYO and RV in ml."""
        scalars, forms, patches, around = self._packed
        planes = np.array([*self._plane(contraction), *self._rv_plane(contraction)], np.float32)
        low = -self.wall_apex
        slope = abs(self.valve_tilt[0]) + abs(self.valve_tilt[1])
        rv_slope = abs(self.rv_valve[1]) + abs(self.rv_valve[2])
        reach = 1.5 * self.radius_ed + self.wall
        high = self.length(contraction) + max(
            slope * reach, self.rv_valve[0] + rv_slope * (reach + self.rv_depth)
        )
        count = max(int(np.ceil((high - low) / step)), 4)
        return section_volumes(
            low, high, count, stride, contraction, planes, scalars, forms, patches, around
        )

    def _plane(self, contraction: float) -> tuple[float, float, float]:
        return self.length(contraction), *self.valve_tilt

    def _rv_plane(self, contraction: float) -> tuple[float, float, float]:
        middle = float(self.rv_valve_height(0.0, 0.0, contraction))
        return middle, self.rv_valve[1], self.rv_valve[2]

    @cached_property
    def _packed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Parameters as `section_tables` takes them."""
        scalars = np.array(
            [
                *(self.length_ed, self.descent, self.radius_ed, self.radius_es, *self.profile),
                *(self.wall, self.wall_apex, self.obliteration, self.closing_turn),
                *(self.rv_depth, self.rv_contraction, self.rv_apex, *self.rv_window),
                *(*self.rv_turn, *self.rv_insertion, self.rv_corner[1], self.rv_sharpness),
                *(self.rv_outflow, self.rv_squeeze, self.rv_wall, self.rv_descent),
                *(self.rv_valve[0], self.fat, *self.rv_flare, self.rv_corner[0]),
            ],
            np.float32,
        )
        fixed = _fixed_tables(
            (self.wall_waves, self.shape_waves, self.closing, self.fat_waves),
            self.flattening,
            (self.thickenings, self.scars, self.aneurysms),
        )
        return scalars, *fixed


@lru_cache(maxsize=32)
def _fixed_tables(
    waves: tuple[Waves, Waves, Waves, Waves],
    flattening: tuple[float, float],
    bumps: tuple[tuple[Bump, ...], tuple[Bump, ...], tuple[Bump, ...]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What does not change while sizes are solved for: `forms`, `patches` and `around`."""
    wall, shape, closing, fat = (_waves(several) for several in waves)
    forms = np.stack(
        [
            1.0 + wall,
            1.0 + shape,
            np.exp(np.tanh(closing)),
            np.maximum(1.0 + fat, 0.1),
            np.cos(ANGLE_TABLE),
            np.sin(ANGLE_TABLE),
            chord(flattening[0]),
            chord(flattening[1]),
        ]
    ).astype(np.float32)
    kinds = [(kind, bump) for kind, several in enumerate(bumps) for bump in several]
    patches = np.array(
        [[kind, bump.height, bump.height_width, bump.amount] for kind, bump in kinds], np.float32
    ).reshape(-1, 4)
    around = np.array([bump.around() for _, bump in kinds], np.float32).reshape(-1, ANGLES)
    return forms, patches, around


def _waves(waves: Waves) -> np.ndarray:
    """Sum of amplitude * cos(order * angle + phase) on the angle table."""
    total = np.zeros(ANGLES, np.float32)
    for order, amplitude, phase in waves:
        total += np.float32(amplitude) * np.cos(order * ANGLE_TABLE + np.float32(phase))
    return total


def _cut(body: Body, above: float, contraction: float) -> Chamber | None:
    """A body's section `above` mm over its floor; None where it is not."""
    if not 0.0 <= above < body.ceiling:
        return None
    grown = min(above / body.settle, 1.0)
    eased = grown * (2.0 - grown)
    size = body.waist + (1.0 - body.waist) * eased
    beyond = max(above - 0.5 * body.ceiling, 0.0) / (0.5 * body.ceiling)
    size *= float(np.sqrt(max(1.0 - beyond * beyond, 0.0)))
    size *= 1.0 + (body.systole - 1.0) * contraction
    x = body.foot[0] + (body.head[0] - body.foot[0]) * eased + body.drift[0] * above
    y = body.foot[1] + (body.head[1] - body.foot[1]) * eased + body.drift[1] * above
    lobes = 0.0
    if above < body.lobe_reach:
        lobes = body.lobes * float(np.sin(np.pi * above / body.lobe_reach)) ** 0.5
    return Chamber(
        body.name,
        x,
        y,
        max(body.radius[0] * size, 0.1),
        max(body.radius[1] * size, 0.1),
        body.turn,
        body.wall,
        lobes,
    )


def sample_group(rng: np.random.Generator, settings: PhantomSettings = EVERYTHING) -> str:
    """A group by its share in `GROUPS`, without `CLOSING_GROUPS` where settings say so."""
    shares = dict(GROUPS)
    if not settings.closing_cavities:
        for name in CLOSING_GROUPS:
            del shares[name]
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def sample_heart(
    rng: np.random.Generator,
    group: str | None = None,
    settings: PhantomSettings = EVERYTHING,
) -> Heart:
    """One heart of the population.

    Args:
        rng: source of randomness; the same state gives the same heart.
        group: one of `GROUPS`; sampled by its share when None.
        settings: whether cavities may close.

    Raises:
        InputError: the group is none of `GROUPS`.
    """
    group = group or sample_group(rng, settings)
    if group not in RANGES:
        raise InputError(
            f"no group of hearts is named so; there are {', '.join(GROUPS)}", where=group
        )
    ranges = RANGES[group]
    targets = _sample_targets(rng, ranges)
    if not settings.closing_cavities:
        targets["ejection"] = min(targets["ejection"], LARGEST_OPEN_EJECTION)
    heart = _sample_shape(rng, group, ranges)
    heart = _with_disease(rng, heart)
    heart = _with_closing(rng, heart, targets["ejection"] if settings.closing_cavities else 0.0)
    heart = _solve(heart, targets)
    return replace(
        heart,
        papillaries=_sample_papillaries(rng, heart),
        bodies=_sample_bodies(rng, heart),
    )


def _sample_targets(rng: np.random.Generator, ranges: Ranges) -> dict[str, float]:
    """What the geometry is solved for."""
    names = ("edv", "ejection", "mass_to_volume", "rv_to_lv", "rv_ejection", "slenderness")
    targets = {name: float(rng.uniform(*getattr(ranges, name))) for name in names}
    if ranges.thickest is not None:
        low, high = ranges.thickest
        targets["thickest"] = float(low + (high - low) * rng.beta(1.1, 2.2))
    return targets


def _sample_shape(rng: np.random.Generator, group: str, ranges: Ranges) -> Heart:
    """A heart of unit targets: all that is not solved for."""
    radius = 25.0
    fat_low, fat_high = ranges.fat
    return Heart(
        group=group,
        radius_ed=radius,
        radius_es=0.7 * radius,
        length_ed=3.5 * radius,
        descent=0.12 * 3.5 * radius,
        profile=(rng.uniform(0.0, 0.55), rng.uniform(1.7, 3.0), rng.uniform(0.42, 0.62)),
        wall=8.0,
        wall_apex=8.0 * rng.uniform(0.45, 1.0),
        wall_waves=_sample_waves(rng, {1: 0.08, 2: 0.06, 3: 0.03}),
        shape_waves=_sample_waves(rng, {2: 0.035, 3: 0.018, 4: 0.01}),
        thickenings=(),
        scars=(),
        aneurysms=(),
        closing=(),
        closing_turn=float(rng.normal(0.0, 0.5)),
        obliteration=0.0,
        flattening=(rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.05)),
        rv_depth=30.0,
        rv_contraction=0.35,
        rv_apex=float(np.clip(rng.normal(0.10, 0.08), -0.02, 0.30)),
        rv_window=(rng.uniform(1.5, 1.90), rng.uniform(1.1, 1.5)),
        rv_turn=(rng.uniform(-0.45, 0.05), rng.uniform(0.0, 0.55)),
        rv_insertion=(rng.normal(1.24, 0.15), rng.normal(1.22, 0.15)),
        rv_flare=(rng.uniform(1.45, 1.80), rng.uniform(1.45, 1.80)),
        rv_corner=(rng.uniform(0.60, 1.05), rng.uniform(0.45, 0.95)),
        rv_sharpness=int(rng.choice([4, 6, 8, 10, 12], p=[0.38, 0.36, 0.16, 0.07, 0.03])),
        rv_outflow=rng.uniform(0.0, 0.35),
        rv_squeeze=rng.uniform(0.0, 0.14),
        rv_wall=rng.uniform(1.5, 3.6),
        rv_descent=rng.uniform(0.0, 5.0),
        fat=float(fat_low + (fat_high - fat_low) * rng.beta(1.0, 2.0)),
        fat_waves=_sample_waves(rng, {1: 0.6, 2: 0.4, 3: 0.25}),
        papillaries=(),
        valve_tilt=(float(rng.normal(0.08, 0.12)), float(rng.normal(0.0, 0.13))),
        rv_valve=(float(rng.normal(3.0, 4.0)), rng.normal(0.0, 0.08), rng.normal(0.10, 0.11)),
        bodies=(),
        axis_tilt=(float(rng.normal(0.0, 0.10)), float(rng.normal(0.0, 0.10))),
    )


def _sample_waves(rng: np.random.Generator, amplitudes: dict[int, float]) -> Waves:
    return tuple(
        (order, float(rng.normal(0.0, size)), float(rng.uniform(-np.pi, np.pi)))
        for order, size in amplitudes.items()
    )


def _with_disease(rng: np.random.Generator, heart: Heart) -> Heart:
    """The group's regional changes: thickenings, scars, aneurysms, a flattened septum."""
    if heart.group == "hypertrophic":
        return _hypertrophic(rng, heart)
    if heart.group == "infarcted":
        return _infarcted(rng, heart)
    if heart.group == "abnormal_rv":
        pressure, volume = rng.uniform(0.0, 0.30), rng.uniform(0.0, 0.22)
        return replace(
            heart,
            flattening=(float(max(volume, 0.4 * pressure)), float(max(pressure, 0.3 * volume))),
            rv_wall=float(rng.uniform(2.0, 7.5)),
            rv_apex=float(rng.uniform(-0.05, 0.12)),
            rv_insertion=(rng.normal(1.30, 0.12), rng.normal(1.30, 0.12)),
            rv_flare=(rng.uniform(1.55, 1.90), rng.uniform(1.55, 1.90)),
            rv_window=(rng.uniform(1.45, 1.80), rng.uniform(1.1, 1.55)),
        )
    if heart.group == "dilated" and rng.random() < 0.3:
        # Left bundle branch block and the like: one side hardly moves.
        side = Bump(float(rng.normal(0.0, 0.6)), 0.7, 0.5, 0.5, rng.uniform(0.3, 0.8))
        return replace(heart, scars=(side,))
    return heart


def _hypertrophic(rng: np.random.Generator, heart: Heart) -> Heart:
    """Asymmetric septal, concentric, apical or mid-ventricular hypertrophy; shares: our choice."""
    kind = str(rng.choice(["septal", "concentric", "apical", "mid"], p=[0.5, 0.22, 0.16, 0.12]))
    if kind == "septal":
        bumps = [
            Bump(
                angle=float(rng.normal(0.25, 0.5)),
                angle_width=rng.uniform(0.5, 1.3),
                height=rng.uniform(0.45, 0.95),
                height_width=rng.uniform(0.2, 0.5),
                amount=rng.uniform(0.5, 1.9),
            )
        ]
    elif kind == "concentric":
        bumps = [Bump(float(rng.uniform(-np.pi, np.pi)), 1.2, 0.5, 0.5, rng.uniform(0.0, 0.35))]
    else:
        height = rng.uniform(0.02, 0.22) if kind == "apical" else rng.uniform(0.38, 0.6)
        width = rng.uniform(0.12, 0.25)
        bumps = [Bump(float(rng.uniform(-np.pi, np.pi)), 2.5, height, width, rng.uniform(0.5, 1.3))]
    pointed = rng.uniform(0.65, 1.1) if kind == "apical" else heart.profile[2]
    return replace(
        heart,
        thickenings=tuple(bumps),
        profile=(heart.profile[0], heart.profile[1], float(pointed)),
        wall_apex=heart.wall_apex * (1.6 if kind == "apical" else 1.0),
        rv_wall=float(rng.uniform(2.0, 5.5)),
    )


def _infarcted(rng: np.random.Generator, heart: Heart) -> Heart:
    """One or two territories thinned and without motion, at times an aneurysm."""
    # Within the anterior, lateral and inferior territory: our choice, as territories vary.
    middles = {"anterior": (0.7, 0.25), "lateral": (2.5, 0.55), "inferior": (-1.6, 0.6)}
    names = list(rng.permutation(list(middles)))[: int(rng.choice([1, 2], p=[0.7, 0.3]))]
    scars = []
    for name in names:
        angle, height = middles[name]
        scars.append(
            Bump(
                angle=float(angle + rng.normal(0.0, 0.35)),
                angle_width=rng.uniform(0.45, 1.1),
                height=float(np.clip(height + rng.normal(0.0, 0.15), 0.0, 0.9)),
                height_width=rng.uniform(0.18, 0.45),
                amount=rng.uniform(0.5, 1.2),
            )
        )
    aneurysms: tuple[Bump, ...] = ()
    if rng.random() < 0.3:
        aneurysms = (replace(scars[0], amount=float(rng.uniform(0.08, 0.3))),)
    return replace(heart, scars=tuple(scars), aneurysms=aneurysms)


def _with_closing(rng: np.random.Generator, heart: Heart, ejection: float) -> Heart:
    """How the cavity is deformed at ES: the more, the more it closes."""
    strength = float(np.clip((ejection - 0.45) / 0.4, 0.0, 1.0))
    if strength == 0.0:
        return heart
    sizes = {1: 0.15, 2: 0.32, 3: 0.20, 4: 0.08, 5: 0.05}
    closing = tuple(
        (order, strength * amplitude, phase)
        for order, amplitude, phase in _sample_waves(rng, sizes)
    )
    obliteration = 0.0
    if ejection > 0.6:
        obliteration = float(rng.uniform(0.0, 12.0) * (ejection - 0.6) / 0.3)
    return replace(heart, closing=closing, obliteration=obliteration)


def _solve(heart: Heart, targets: dict[str, float]) -> Heart:
    """Sizes that give the volumes, mass and ejection fractions asked for."""
    ejection, slenderness = targets["ejection"], targets["slenderness"]

    def sized(radius: float) -> Heart:
        length = slenderness * radius
        descent = length * (0.05 + 0.10 * min(ejection / 0.6, 1.2))
        return replace(heart, radius_ed=radius, length_ed=length, descent=descent)

    solved = sized(25.0)
    solved = sized(25.0 * (targets["edv"] / float(_coarse(solved, 0.0)[0])) ** (1.0 / 3.0))
    if "thickest" in targets:
        for _ in range(2):
            scale = targets["thickest"] / solved.thickest_wall()
            solved = _with_wall(solved, solved.wall * scale)
    else:
        muscle = targets["mass_to_volume"] * targets["edv"] / MYOCARDIAL_DENSITY_G_PER_ML
        solved = _root(
            lambda wall: _with_wall(solved, wall), lambda h: _coarse(h, 0.0)[1], muscle, (2.5, 24.0)
        )
    end_systolic = targets["edv"] * (1.0 - ejection)
    radius = solved.radius_ed
    solved = _root(
        lambda size: replace(solved, radius_es=size),
        lambda h: _coarse(h, 1.0)[0],
        end_systolic,
        (0.04 * radius, 1.1 * radius),
    )
    right = targets["rv_to_lv"] * targets["edv"]
    vigour = min(targets["rv_ejection"] / 0.55, 1.3)
    solved = replace(
        solved,
        rv_descent=solved.rv_descent * vigour**2,
        rv_squeeze=solved.rv_squeeze * vigour,
    )
    solved = _root(
        lambda depth: replace(solved, rv_depth=depth),
        lambda h: _coarse(h, 0.0)[2],
        right,
        (4.0, 85.0),
    )
    return _root(
        lambda share: replace(solved, rv_contraction=share),
        lambda h: _coarse(h, 1.0)[2],
        right * (1.0 - targets["rv_ejection"]),
        (0.95, -0.2),
    )


def _with_wall(heart: Heart, wall: float) -> Heart:
    return replace(heart, wall=wall, wall_apex=heart.wall_apex * wall / heart.wall)


def _coarse(heart: Heart, contraction: float) -> np.ndarray:
    """LV, MYO and RV in ml within about one per cent, fast."""
    return heart._integrate(contraction, heart.length_ed / 20.0, 6)


def _root(
    build: Callable[[float], Heart],
    measure: Callable[[Heart], float],
    target: float,
    bounds: tuple[float, float],
    rounds: int = 6,
) -> Heart:
    """The heart whose measure, which grows from bounds[0] to bounds[1], is the target.

    Regula falsi with the Illinois step (Dowell and Jarratt, BIT 1971); a target out of reach gives
    the nearer bound.
    """
    low, high = bounds
    below = float(measure(build(low))) - target
    above = float(measure(build(high))) - target
    if below >= 0.0:
        return build(low)
    if above <= 0.0:
        return build(high)
    middle, side = low, 0
    for _ in range(rounds):
        middle = (low * above - high * below) / (above - below)
        off = float(measure(build(middle))) - target
        if abs(off) < 0.004 * target:
            break
        if off > 0.0:
            high, above = middle, off
            below *= 0.5 if side > 0 else 1.0
            side = 1
        else:
            low, below = middle, off
            above *= 0.5 if side < 0 else 1.0
            side = -1
    return build(middle)


def _sample_papillaries(
    rng: np.random.Generator, heart: Heart
) -> tuple[tuple[float, float, float, float], ...]:
    """Two groups of one to three heads, and strands; see `Heart.papillaries`."""
    radius = heart.radius_ed
    thick = (0.17, 0.34) if heart.group in CLOSING_GROUPS else (0.11, 0.24)
    muscles = []
    for side in (-1.0, 1.0):
        middle = np.pi + side * rng.uniform(0.55, 1.05)
        heads = int(rng.choice([1, 2, 3], p=[0.55, 0.33, 0.12]))
        size = radius * rng.uniform(*thick) / np.sqrt(heads) ** 0.7
        root = rng.uniform(0.10, 0.32)
        for _ in range(heads):
            spread = 0.0 if heads == 1 else float(rng.normal(0.0, 0.28))
            muscles.append(
                (
                    float(wrap(np.array(middle + spread))),
                    float(size * rng.uniform(0.8, 1.2)),
                    float(rng.uniform(0.2, 1.7)),
                    float(np.clip(root + rng.normal(0.0, 0.04), 0.05, 0.4)),
                )
            )
    for _ in range(int(rng.integers(0, 9))):
        muscles.append(
            (
                float(rng.uniform(-np.pi, np.pi)),
                float(radius * rng.uniform(0.04, 0.10)),
                float(rng.uniform(0.0, 1.6)),
                float(rng.uniform(-0.1, 0.5)),
            )
        )
    return tuple(muscles)


def _sample_bodies(rng: np.random.Generator, heart: Heart) -> tuple[Body, ...]:
    """Atria and great vessels, packed round the aortic root as one sees them above the base."""
    size = float(np.clip(0.6 * heart.length_ed / 90.0 + 0.4 * heart.radius_ed / 25.0, 0.5, 1.35))
    root = size * rng.uniform(14.0, 18.5)
    trunk = size * rng.uniform(12.5, 17.0)
    left = size * rng.uniform(17.5, 25.0) * (1.15 if heart.group == "dilated" else 1.0)
    right = size * rng.uniform(17.5, 24.5) * (1.25 if heart.group == "abnormal_rv" else 1.0)
    touch = rng.uniform(0.80, 0.97)
    aorta = np.array([-0.42, 0.36]) * heart.radius_ed + rng.normal(0.0, 2.0, 2)

    def beside(radius: float, degrees: float, spread: float) -> np.ndarray:
        return aorta + touch * (root + radius) * _towards(degrees + rng.normal(0.0, spread))

    outflow, atrium = beside(trunk, 84.0, 12.0), beside(right, 207.0, 9.0)
    left_atrium = beside(left, 302.0, 9.0)
    left_rim = left_atrium + 0.72 * left * _towards(rng.uniform(40.0, 70.0))
    right_rim = atrium + 0.75 * right * _towards(rng.uniform(60.0, 85.0))
    cava = atrium + np.array([0.1, 0.45]) * right
    mitral = np.array([0.14, -0.12]) * heart.radius_ed
    tricuspid = np.array([-heart.radius_ed - heart.wall - 0.42 * heart.rv_depth, -0.25 * right])
    cone = outflow + size * np.array([-6.0, -3.0])
    # Foot, head, radius; then floor, settling and ceiling in mm of a heart of usual size, waist.
    shapes = {
        "left_atrium": (mitral, left_atrium, left, -14.0, 30.0, 62.0, 0.8 * heart.radius_ed / left),
        "right_atrium": (tricuspid, atrium, right, -9.0, 24.0, 56.0, 0.7),
        "appendage": (left_rim, left_rim, 0.33 * left, 5.0, 10.0, 34.0, 0.5),
        "right_appendage": (right_rim, right_rim, 0.42 * right, 4.0, 10.0, 32.0, 0.5),
        "superior_vena_cava": (cava, cava, size * rng.uniform(8.0, 11.5), 26.0, 6.0, 400.0, 0.9),
        "outflow": (cone, outflow, trunk, -9.0, 24.0, 400.0, 0.95),
        "aorta": (0.9 * aorta, aorta, root, -10.0, 14.0, 400.0, 0.8),
    }
    bodies = {name: _body(rng, name, size, *shape) for name, shape in shapes.items()}
    changes: dict[str, dict[str, Any]] = {
        "left_atrium": {
            "systole": rng.uniform(1.08, 1.25),
            "lobes": float(rng.normal(0.0, 0.06)),
            "lobe_reach": 70.0 * size,
        },
        "right_atrium": {
            "systole": rng.uniform(1.06, 1.22),
            "lobes": float(rng.normal(0.0, 0.08)),
            "lobe_reach": 70.0 * size,
        },
        "superior_vena_cava": {"drift": (0.0, 0.1)},
        "outflow": {
            "systole": rng.uniform(0.82, 0.96),
            "drift": (float(rng.uniform(0.05, 0.3)), 0.0),
        },
        "aorta": {
            "systole": 1.05,
            "drift": (float(rng.uniform(-0.2, 0.0)), 0.0),
            "lobes": float(rng.uniform(0.05, 0.13)),
            "lobe_reach": 34.0 * size,
        },
    }
    return tuple(replace(body, **changes.get(name, {})) for name, body in bodies.items())


def _towards(degrees: float) -> np.ndarray:
    """The unit vector in the heart frame, from +x towards +y."""
    angle = np.deg2rad(degrees)
    return np.array([np.cos(angle), np.sin(angle)])


def _body(
    rng: np.random.Generator,
    name: str,
    size: float,
    foot: np.ndarray,
    head: np.ndarray,
    radius: float,
    floor: float,
    settle: float,
    ceiling: float,
    waist: float,
) -> Body:
    """A body with a random ellipticity; heights grow with the heart's size."""
    squash = float(np.exp(rng.normal(0.0, 0.14 if "atrium" in name else 0.09)))
    return Body(
        name=name,
        foot=(float(foot[0]), float(foot[1])),
        head=(float(head[0]), float(head[1])),
        settle=size * settle,
        drift=(0.0, 0.0),
        floor=size * floor,
        waist=waist,
        ceiling=size * ceiling,
        radius=(float(radius * squash), float(radius / squash)),
        turn=float(rng.uniform(-np.pi, np.pi)),
        wall=float(rng.uniform(0.8, 2.0)),
    )
