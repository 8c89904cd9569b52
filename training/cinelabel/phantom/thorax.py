"""What surrounds the heart: a body in three dimensions, cut by any short-axis plane.

The body is a set of analytic shapes in patient axes (R right, A anterior, S superior, mm): a rib
cage as a rounded box whose outside carries ribs, muscles and subcutaneous fat, lungs with branching
vessels, a domed diaphragm into which the heart presses, liver, stomach, spleen, kidneys and bowel
below it, spine, aorta, oesophagus and veins. The idea of an anatomy of analytic solids is that of
the MCAT and XCAT phantoms (Segars et al., Med Phys 2010). Chest wall and diaphragm are fitted to
the heart's own outline. One body serves all slices, so a stack is coherent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cinelabel.phantom.anatomy import Heart
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.phantom.thorax_painting import (
    AIR,
    ANYWHERE,
    BESIDE_LIVER,
    BODY,
    BOWEL,
    CSF,
    ENVELOPE_ABOVE,
    ENVELOPE_START,
    ENVELOPE_STEP,
    FAT,
    GAS,
    IN_ABDOMEN,
    IN_LIVER,
    IN_LUNG,
    KIDNEY,
    LATTICE,
    MARROW,
    MUSCLE,
    ORGAN,
    OUTSIDE,
    SECTORS,
    SPLEEN,
    STOMACH,
    TISSUE_NAMES,
    TUBE,
    VESSEL,
    diaphragm,
    heights_above,
    least_depth,
    outline,
    paint_body,
    paint_plain,
    spine_line,
)

APEX_DIRECTION = (-0.65, 0.60, -0.45)
"""Mean direction from base to apex: left, anterior, inferior."""
STEEP_DIRECTION = (-0.50, 0.42, -0.76)
"""The same of a steep heart, whose short axis is nearly an axial plane."""
STEEP_SHARE = 0.25
SEPTUM_DIRECTION = (0.66, 0.74, 0.02)
"""Mean direction from the left ventricle to the right one: right and anterior."""


class Signals(Protocol):
    """The part of `Tissues` that painting needs."""

    @property
    def tissue_texture(self) -> float: ...

    def __getitem__(self, name: str) -> float: ...


@dataclass(frozen=True, eq=False)
class Thorax:
    """One subject's body round the heart.

    Attributes:
        heart_axes: float64 (3, 3); the columns are the heart frame's x, y and z in RAS. They are
            orthonormal. The heart frame of a body is left-handed (lateral, anterior, basal), so
            the determinant is -1.
        heart_centre: RAS of the middle of the LV axis, heart frame (0, 0, length_ed / 2), mm.
        axis_middle: length_ed / 2 in mm.
        body: one record of `BODY`, shape (1,).
        envelope: float32 (heights, SECTORS), the pericardium's distance from the axis in mm, at
            heights ENVELOPE_START + k ENVELOPE_STEP above the apex. Sectors divide evenly the
            "diamond" angle y / (|x| + |y|), continued round the circle, which needs no arctangent.
        organs: records of `ORGAN`, in painting order.
        tubes: records of `TUBE`, in painting order.
        lattice: float32 (LATTICE,) * 3 periodic noise of unit variance.
    """

    heart_axes: np.ndarray
    heart_centre: np.ndarray
    axis_middle: float
    body: np.ndarray
    envelope: np.ndarray
    organs: np.ndarray
    tubes: np.ndarray
    lattice: np.ndarray


def sample_thorax(
    rng: np.random.Generator,
    tissues: Signals,
    heart: Heart,
    settings: PhantomSettings | None = None,
) -> Thorax:
    """A body for a heart: the RV near the anterior chest wall, the inferior wall on the diaphragm.

    Args:
        rng: source of randomness; the same state gives the same body.
        tissues: signals (their names only are used, so that one body serves many scanners).
        heart: the heart; its group, length and pericardium at ED are used.
        settings: `organs` False gives a plain background.
    """
    settings = settings or PhantomSettings()
    axes = _sample_axes(rng)
    middle = 0.5 * float(heart.length_ed)
    size = _body_size(rng, heart)
    body = _sample_body(rng, heart, size)
    body["plain"] = 0.0 if settings.organs else 1.0
    envelope = _sample_envelope(heart)
    surface = _heart_surface(body, axes, envelope, middle)
    centre = _place_heart(rng, body, surface, size)
    lattice = rng.standard_normal((LATTICE, LATTICE, LATTICE), dtype=np.float32)
    return Thorax(
        heart_axes=axes,
        heart_centre=centre,
        axis_middle=middle,
        body=body,
        envelope=envelope,
        organs=_sample_organs(rng, body, size),
        tubes=_sample_tubes(rng, body, centre + axes[:, 2] * (middle + 27.0), size),
        lattice=np.clip(lattice, -2.0, 2.0),
    )


def _sample_axes(rng: np.random.Generator) -> np.ndarray:
    """Columns x, y, z of the heart in RAS: left-handed, as a heart frame in a body is."""
    mean = STEEP_DIRECTION if rng.random() < STEEP_SHARE else APEX_DIRECTION
    apex = np.array(mean) + rng.normal(0.0, (0.10, 0.10, 0.13))
    basal = -apex / np.linalg.norm(apex)
    septal = np.array(SEPTUM_DIRECTION) + rng.normal(0.0, (0.10, 0.10, 0.18))
    septal -= basal * (septal @ basal)
    lateral = -septal / np.linalg.norm(septal)
    anterior = np.cross(lateral, basal)
    return np.stack([lateral, anterior, basal], axis=1)


def _sectors() -> tuple[np.ndarray, np.ndarray]:
    """Directions of the envelope's sectors in the heart frame: (x, y) with |x| + |y| = 1."""
    turn = np.arange(SECTORS) * (4.0 / SECTORS)
    across = np.where(turn < 2.0, 1.0 - turn, turn - 3.0)
    along = np.where(turn < 1.0, turn, np.where(turn < 3.0, 2.0 - turn, turn - 4.0))
    return across, along


def _sample_envelope(heart: Heart) -> np.ndarray:
    """The pericardium at ED, mm from the axis: float32 (heights, SECTORS); see `Thorax`."""
    across, along = _sectors()
    angle = np.arctan2(along, -across) + np.pi
    rows = []
    for height in np.arange(ENVELOPE_START, heart.length_ed + ENVELOPE_ABOVE, ENVELOPE_STEP):
        radii = heart.section(float(height), 0.0).pericardium
        index = np.round(angle * (len(radii) / (2 * np.pi))).astype(int) % len(radii)
        rows.append(radii[index])
    return np.asarray(rows, np.float32)


def _body_size(rng: np.random.Generator, heart: Heart) -> float:
    """Linear size of the body relative to an adult's."""
    if heart.group == "child":
        return float(np.clip(heart.length_ed / 88.0 * rng.uniform(0.95, 1.1), 0.5, 0.95))
    grown = 0.65 + 0.35 * float(heart.length_ed) / 88.0
    return float(np.clip(grown * rng.normal(1.0, 0.06), 0.8, 1.2))


def _sample_body(rng: np.random.Generator, heart: Heart, size: float) -> np.ndarray:
    group = heart.group
    fat = float(np.clip(rng.gamma(2.6, 5.5), 3.0, 42.0))
    if group == "obese":
        fat = rng.uniform(20.0, 42.0)
    elif group in ("athlete", "child"):
        fat = min(fat, 12.0)
    female = rng.random() < 0.45 and group != "child"
    values = {
        "half_width": size * rng.normal(128.0, 8.0),
        "half_depth": size * rng.normal(86.0, 7.0),
        "corner": rng.uniform(0.75, 0.98),
        "top": size * rng.uniform(140.0, 185.0),
        "slope": rng.uniform(-0.02, 0.14),
        "rib_layer": size * rng.uniform(8.0, 11.0),
        "rib_pitch": size * rng.uniform(24.0, 30.0),
        "rib_phase": rng.uniform(0.0, 1.0),
        "rib_drop": rng.uniform(0.35, 0.7),
        "muscle": size * rng.uniform(5.0, 13.0),
        "pectoral": size * rng.uniform(4.0, 18.0),
        "fat": fat,
        "breast": (rng.uniform(8.0, 45.0) + 0.4 * fat) if female else rng.uniform(0.0, 4.0),
        "flank": rng.uniform(0.0, 0.6),
        "endothoracic": rng.uniform(0.0, 0.10) * fat + rng.uniform(-1.0, 0.8),
        "diaphragm_top": 0.0,
        "diaphragm_drop": size * rng.uniform(70.0, 130.0),
        "dome_right": size * rng.uniform(8.0, 26.0),
        "dome_left": size * rng.uniform(0.0, 22.0),
        "diaphragm_tilt": size * rng.uniform(-4.0, 14.0),
        "margin": rng.uniform(-5.0, -1.0) + 0.08 * fat,
        "fillet": rng.uniform(2.0, 18.0) + 0.9 * fat,
        "axis_tilt_x": heart.axis_tilt[0],
        "axis_tilt_y": heart.axis_tilt[1],
        "liver_left": size * rng.uniform(35.0, 100.0),
        "liver_height": size * rng.uniform(120.0, 185.0),
        "spine_pitch": size * rng.uniform(26.0, 32.0),
        "spine_phase": rng.uniform(0.0, 1.0),
        "spine_radius": size * rng.uniform(15.0, 18.5),
        "mediastinum": size * rng.uniform(10.0, 19.0),
        "junction": rng.uniform(1.5, 4.0) + 0.12 * fat if rng.random() < 0.35 else -8.0,
        "bowel": rng.uniform(0.15, 0.5) + 0.012 * fat,
        "warp": rng.uniform(2.0, 5.0),
        "plain": 0.0,
    }
    body = np.zeros(1, BODY)
    for name, value in values.items():
        body[name] = value
    return body


def _heart_surface(
    body: np.ndarray, axes: np.ndarray, envelope: np.ndarray, middle: float
) -> np.ndarray:
    """Points of the ventricles' envelope relative to the heart centre in RAS, float32 (k, 3)."""
    across, along = _sectors()
    radius = envelope / np.hypot(across, along)
    rise = ENVELOPE_START + ENVELOPE_STEP * np.arange(len(envelope))[:, None] - middle
    x = radius * across + float(body["axis_tilt_x"][0]) * rise
    y = radius * along + float(body["axis_tilt_y"][0]) * rise
    points = np.stack([x, y, np.broadcast_to(rise, x.shape)], axis=-1)
    ventricles = (envelope > 3.0) & (rise < middle)
    return (points[ventricles] @ axes.T).astype(np.float32)


def _place_heart(
    rng: np.random.Generator, body: np.ndarray, surface: np.ndarray, size: float
) -> np.ndarray:
    """Heart centre in RAS; widens the chest for a large heart and raises the diaphragm to it."""
    left = -size * rng.normal(28.0, 7.0)
    gap = float(rng.uniform(-8.0, 3.0))
    for _ in range(4):
        low, high = -90.0, 120.0
        for _ in range(18):
            forward = 0.5 * (low + high)
            points = surface + np.array([left, forward, 0.0], np.float32)
            if least_depth(body[0], points) > gap:
                low = forward
            else:
                high = forward
        behind = -float(body["half_depth"][0]) + 14.0 * size + float(body["spine_radius"][0])
        deficit = behind + 10.0 - float(points[np.abs(points[:, 0]) < 35.0, 1].min(initial=80.0))
        if deficit <= 0.0:
            break
        body["half_depth"] += 0.5 * deficit + 1.0
        body["half_width"] += 0.3 * deficit
    heights = heights_above(body[0], points)
    lowest = float(heights.min())
    # a share of the surface rests on the diaphragm, not only the lowest point
    rest = float(np.quantile(heights, rng.uniform(0.06, 0.17)))
    body["diaphragm_top"] += np.float32(min(max(rest, lowest + 5.0), lowest + 30.0))
    return np.array([left, forward, 0.0])


def _organ(
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    turn: np.ndarray,
    tissue: int,
    **values: float,
) -> tuple[Any, ...]:
    matrix = (turn / np.asarray(radii)[None]).T
    defaults = {
        "gain": 1.0,
        "wall": 0.0,
        "halo": 1.5,
        "gas_level": 1e4,
        "core": 0.0,
        "core_gain": 1.0,
        "texture": 0.0,
        "lump": 3.0,
        "clip": IN_ABDOMEN,
    }
    defaults.update(values)
    rest = tuple(defaults[name] for name in ORGAN.names[5:-1] if name != "gain")  # type: ignore[index]
    return (centre, matrix, max(radii), tissue, defaults["gain"], *rest, int(defaults["clip"]))


def _random_turn(rng: np.random.Generator, spread: float) -> np.ndarray:
    """A rotation by three small angles."""
    turn = np.eye(3)
    for axis in range(3):
        angle = rng.normal(0.0, spread)
        one, two = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[one, one] = step[two, two] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def _sample_organs(rng: np.random.Generator, body: np.ndarray, size: float) -> np.ndarray:
    """Organs under the diaphragm in painting order: the last lie in front."""
    width, depth = float(body["half_width"][0]), float(body["half_depth"][0])
    left_top = float(diaphragm(body[0], np.float32(-0.5 * width), np.float32(0.0))[0])
    halo = 0.6 + 0.10 * float(body["fat"][0])
    organs = []

    def add(
        place: tuple[float, float, float],
        spread: float,
        radii: tuple[float, float, float],
        tissue: int,
        tilt: float = 0.3,
        **values: float,
    ) -> None:
        r, a, s = np.asarray(place) + rng.normal(0.0, spread * size, 3)
        scaled = np.asarray(radii) * size * rng.uniform(0.85, 1.15, 3)
        values.setdefault("halo", halo)
        organs.append(
            _organ(
                (r, a, left_top + s * size),
                (scaled[0], scaled[1], scaled[2]),
                _random_turn(rng, tilt),
                tissue,
                **values,
            )
        )

    _add_bowel(rng, add, width, depth)
    for side in (-1.0, 1.0):
        place = (side * 0.46 * width, -0.52 * depth, -118.0 - 12.0 * side)
        add(
            place,
            6.0,
            (27, 24, 54),
            KIDNEY,
            0.15,
            halo=halo + 3.0,
            core=0.55,
            core_gain=rng.uniform(1.1, 1.6),
        )
    add((-0.70 * width, -0.40 * depth, -48), 7.0, (30, 48, 52), SPLEEN, 0.25, lump=7.0)
    _add_colon(rng, add, width, depth)
    _add_stomach(rng, add, width, depth)
    if rng.random() < 0.5:
        add((0.35 * width, 0.35 * depth, -80), 8.0, (13, 13, 28), CSF, 0.4, halo=0.5, gain=0.9)
    table = np.zeros(len(organs), ORGAN)
    table[:] = organs
    return table


def _add_bowel(
    rng: np.random.Generator, add: Callable[..., None], width: float, depth: float
) -> None:
    """Loops of bowel beside the liver."""
    for _ in range(int(rng.integers(2, 7))):
        r, a, s = rng.uniform(-0.7, 0.4), rng.uniform(-0.3, 0.8), rng.uniform(-200, -85)
        radii = (rng.uniform(10, 22), rng.uniform(10, 17), rng.uniform(10, 22))
        place = (r * width, a * depth, s)
        filled = {"gain": _content(rng), "clip": BESIDE_LIVER}
        add(place, 6.0, radii, BOWEL, 1.0, wall=2.0, **filled)


def _add_colon(
    rng: np.random.Generator, add: Callable[..., None], width: float, depth: float
) -> None:
    """Splenic flexure and transverse colon: a chain of bulges that merge into one tube."""
    end = rng.uniform(-0.2, 0.3) * width
    level = depth * rng.uniform(0.3, 0.7) if rng.random() < 0.5 else 1e4
    gain = _content(rng)
    for share in np.linspace(0.0, 1.0, 8):
        place = (
            -0.74 * width + share * (end + 0.74 * width),
            (0.15 + 0.6 * np.sqrt(share)) * depth,
            -42.0 - 70.0 * share,
        )
        add(
            place,
            3.0,
            (20, 19, 21),
            BOWEL,
            0.6,
            halo=0.0,
            gain=gain,
            gas_level=level,
            texture=0.25,
            clip=BESIDE_LIVER,
        )


def _add_stomach(
    rng: np.random.Generator, add: Callable[..., None], width: float, depth: float
) -> None:
    """The stomach, more or less full, now and then with gas above a level."""
    full = rng.uniform(0.45, 1.15)
    level = rng.uniform(-10.0, 40.0) if rng.random() < 0.4 else 1e4
    add(
        (-0.42 * width, 0.02 * depth, -44.0),
        8.0,
        (50 * full, 42 * full, 58 * full),
        STOMACH,
        0.45,
        wall=rng.uniform(2.0, 4.5),
        gain=_content(rng),
        gas_level=level,
        texture=rng.uniform(0.0, 0.25),
        lump=6.0,
    )


def _content(rng: np.random.Generator) -> float:
    """Brightness of what fills a hollow organ relative to its tissue."""
    return float(
        rng.choice([0.35, 0.7, 1.0, 1.5], p=[0.2, 0.3, 0.35, 0.15]) * rng.uniform(0.8, 1.2)
    )


def _tree(
    rng: np.random.Generator,
    root: np.ndarray,
    directions: np.ndarray,
    radius: float,
    length: float,
    levels: int,
    spread: float,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Forks of a branching vessel: (starts, ends, radii at start, radii at end) a level."""
    starts = np.repeat(root[None], len(directions), axis=0)
    headings = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    radii = radius * rng.uniform(0.8, 1.15, len(starts))
    forks = []
    for _ in range(levels):
        reach = length * rng.uniform(0.6, 1.4, (len(starts), 1))
        ends = starts + headings * reach
        thinner = radii * rng.uniform(0.72, 0.92, len(radii))
        forks.append((starts, ends, radii, thinner))
        starts, radii = np.repeat(ends, 2, axis=0), np.repeat(thinner, 2)
        radii = radii * rng.uniform(0.65, 1.0, len(radii))
        headings = np.repeat(headings, 2, axis=0) + rng.normal(0.0, spread, (len(starts), 3))
        headings /= np.linalg.norm(headings, axis=1, keepdims=True)
        length *= 0.88
    return forks


def _tubes_of(
    forks: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], clip: int, gain: float
) -> np.ndarray:
    table = np.zeros(sum(len(fork[0]) for fork in forks), TUBE)
    for index, name in enumerate(("start", "end", "radius_start", "radius_end")):
        table[name] = np.concatenate([fork[index] for fork in forks])
    table["tissue"], table["clip"], table["gain"] = VESSEL, clip, gain
    return table[table["radius_start"] > 0.55]


def _chain(
    points: np.ndarray,
    radii: np.ndarray,
    tissue: int,
    clip: int = ANYWHERE,
    gain: float = 1.0,
    wall: float = 0.0,
    wall_tissue: int = MUSCLE,
) -> np.ndarray:
    """A tube along a line of points; its wall is painted first, so that no joint shows."""
    table = np.zeros(len(points) - 1, TUBE)
    table["start"], table["end"] = points[:-1], points[1:]
    table["radius_start"], table["radius_end"] = radii[:-1], radii[1:]
    table["tissue"], table["clip"], table["gain"] = tissue, clip, gain
    if wall == 0.0:
        return table
    shell = table.copy()
    shell["radius_start"] += wall
    shell["radius_end"] += wall
    shell["tissue"], shell["gain"] = wall_tissue, 1.0
    return np.concatenate([shell, table])


def _sample_tubes(
    rng: np.random.Generator, body: np.ndarray, base: np.ndarray, size: float
) -> np.ndarray:
    """Vessels of lung and liver, great vessels, airways, oesophagus and arms."""
    parts = []
    for side in (-1.0, 1.0):
        hilum = np.array([side * 36.0 * size, base[1] + 2.0, base[2] + 14.0 * size])
        out = [(1, 0, 1), (1, 0.7, 0.3), (1, -0.6, 0.2), (0.6, -0.5, -1), (0.7, 0.7, -0.6)]
        headings = np.array(
            out + [(0.5, 0.4, 1.2), (0.9, -0.8, -0.5), (1, 0.2, -0.2), (0.4, 1, 0.5)]
        ) * np.array([side, 1.0, 1.0])
        headings = headings + rng.normal(0.0, 0.25, headings.shape)
        forks = _tree(rng, hilum, headings, 4.0 * size, 24.0 * size, 7, 0.6)
        parts.append(_tubes_of(forks, IN_LUNG, float(rng.uniform(0.8, 1.2))))
    parts += _liver_vessels(rng, body, size)
    parts += _great_vessels(rng, body, base, size)
    if rng.random() < 0.7:
        parts += _arms(rng, body, size)
    return np.concatenate(parts)


def _liver_vessels(rng: np.random.Generator, body: np.ndarray, size: float) -> list[np.ndarray]:
    top = float(diaphragm(body[0], np.float32(20.0), np.float32(-20.0))[0])
    depth = float(body["half_depth"][0])
    veins = np.array([(1, 0.1, -0.5), (0.5, 0.8, -0.6), (-0.6, 0.8, -0.3), (0.6, -0.3, -1)])
    portal = np.array([(1, 0.2, 0.3), (0.8, -0.3, 0.0), (-0.8, 0.7, 0.4), (0.9, 0.6, -0.3)])
    vein_root = np.array([12.0 * size, -0.40 * depth, top - 12.0 * size])
    porta = np.array([14.0 * size, -0.12 * depth, top - 75.0 * size])
    gain = float(rng.uniform(0.55, 1.0))
    return [
        _tubes_of(
            _tree(rng, root, heads + rng.normal(0.0, 0.2, heads.shape), wide, 30 * size, 5, 0.45),
            IN_LIVER,
            gain,
        )
        for root, heads, wide in ((vein_root, veins, 4.5 * size), (porta, portal, 5.0 * size))
    ]


def _great_vessels(
    rng: np.random.Generator, body: np.ndarray, base: np.ndarray, size: float
) -> list[np.ndarray]:
    heights = np.linspace(-240.0, 75.0, 15) * size
    spine = np.array([spine_line(body[0], np.float32(height)) for height in heights])
    front = spine + float(body["spine_radius"][0])
    wide = size * rng.uniform(9.5, 15.0)
    left = np.interp(heights / size, [-160, -60, 75], [-6.0, -17.0, -24.0]) * size
    sway = rng.normal(0.0, 2.0)
    aorta = np.stack([left + sway, front + wide * 0.35, heights], axis=1)
    arch = np.array(
        [aorta[-1], aorta[-1] + (3, 14, 18), aorta[-1] + (14, 42, 20), aorta[-1] + (26, 60, 2)]
    )
    gullet = np.stack([left * 0.2 + 2.0, front + wide * 0.9 + 4.0, heights], axis=1)[5:]
    cava = np.stack(
        [
            np.full(9, 22.0 * size),
            np.linspace(base[1] - 4.0, front[3] + 8.0, 9),
            np.linspace(base[2] - 28.0 * size, -200.0 * size, 9),
        ],
        axis=1,
    )
    airway = np.array([(4.0, front[-1] + 16.0, 75.0 * size), (4.0, front[-1] + 6.0, 160.0 * size)])
    azygos = np.stack([np.full(15, 8.0 * size), front + 3.0, heights], axis=1)
    flow = float(rng.uniform(0.75, 1.15))
    return [
        _chain(cava, np.full(9, 11.0 * size), VESSEL, gain=flow * 0.9, wall=0.8),
        _chain(azygos, np.full(15, 3.2 * size), VESSEL, gain=flow),
        _chain(gullet, np.full(len(gullet), 7.0 * size), MUSCLE, gain=1.15, wall=1.0),
        _chain(arch, np.array([1.0, 1.05, 1.1, 1.15]) * wide, VESSEL, gain=flow, wall=1.3),
        _chain(aorta, np.full(15, wide), VESSEL, gain=flow, wall=1.3),
        _chain(airway, np.full(2, 9.0 * size), GAS, wall=1.5),
    ]


def _arms(rng: np.random.Generator, body: np.ndarray, size: float) -> list[np.ndarray]:
    """Limbs beside the trunk: fat, muscle and a bone with its cortex."""
    aside = float(body["half_width"][0]) + float(body["fat"][0]) + 42.0 * size
    fat = 5.0 + 0.35 * float(body["fat"][0])
    muscle = size * rng.uniform(32.0, 42.0)
    forward = rng.uniform(-35.0, 15.0)
    parts = []
    for side in (-1.0, 1.0):
        line = np.array(
            [
                (side * (aside + 8.0), forward - 10.0, 150.0 * size),
                (side * (aside + 24.0), forward, -60.0 * size),
                (side * (aside + 30.0), forward + 15.0, -260.0 * size),
            ]
        )
        shape = np.array([1.1, 1.0, 0.8])
        parts.append(_chain(line, shape * (muscle + fat), FAT, OUTSIDE, wall=1.5))
        parts.append(_chain(line, shape * muscle, MUSCLE, OUTSIDE))
        bone = _chain(line, shape * 11.0 * size, MARROW, OUTSIDE, wall=2.5, wall_tissue=AIR)
        parts.append(bone)
    return parts


def paint_thorax(
    thorax: Thorax, tissues: Signals, x: np.ndarray, y: np.ndarray, height_mm: float, pixel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Signal of the surroundings on a plane, and what of it moves with breathing.

    Args:
        thorax: the body.
        tissues: signals; fat may be negative (opposed to water).
        x, y: heart-frame coordinates of the pixels in mm, shape (n, m), on a regular grid.
        height_mm: height of the plane above the apex (heart frame z).
        pixel: pixel size in mm, the least width of every soft edge.

    Returns:
        (signal, moving), both float32 (n, m); moving is 0 for chest wall, spine, arms and air, 1
        for lungs, mediastinum and abdomen.

    Raises:
        ValueError: x and y differ in shape or are not two-dimensional.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"x and y must be planes of one shape, got {x.shape} and {y.shape}")
    corner = _steps(thorax, x, y, height_mm)
    signals = np.array([tissues[name] for name in TISSUE_NAMES], np.float32)
    image = np.empty(x.shape, np.float32)
    moving = np.empty(x.shape, np.float32)
    if thorax.body["plain"][0] > 0.5:
        paint_plain(thorax.lattice, corner, image, moving)
        return image, moving
    paint_body(
        thorax.body[0],
        outline(thorax.envelope, float(height_mm)),
        thorax.organs,
        thorax.tubes,
        thorax.lattice,
        signals,
        corner,
        np.float32(max(pixel, 0.5)),
        np.float32(tissues.tissue_texture),
        image,
        moving,
    )
    return image, moving


def _steps(thorax: Thorax, x: np.ndarray, y: np.ndarray, height_mm: float) -> np.ndarray:
    """First pixel, step along rows, step along columns, plane normal: RAS and heart x, y, z."""
    last, end = max(x.shape[0] - 1, 1), max(x.shape[1] - 1, 1)
    rise = height_mm - thorax.axis_middle
    heart = np.array(
        [
            (x[0, 0], y[0, 0], rise),
            ((x[-1, 0] - x[0, 0]) / last, (y[-1, 0] - y[0, 0]) / last, 0.0),
            ((x[0, -1] - x[0, 0]) / end, (y[0, -1] - y[0, 0]) / end, 0.0),
            (0.0, 0.0, 1.0),
        ],
        np.float64,
    )
    body = heart @ thorax.heart_axes.T
    body[0] += thorax.heart_centre
    return np.concatenate([body, heart], axis=1).astype(np.float32)
