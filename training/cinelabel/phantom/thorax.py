"""What surrounds the heart: a body in three dimensions, cut by any short-axis plane.

The body is a set of analytic shapes in patient axes (R right, A anterior, S superior, mm): a rib
cage as a rounded box whose outside carries ribs, muscles and subcutaneous fat, lungs with branching
vessels, a domed diaphragm into which the heart presses, liver, stomach, spleen, kidneys and bowel
below it, spine, aorta, oesophagus and veins. The idea of an anatomy of analytic solids is that of
the MCAT and XCAT phantoms (Segars et al., Med Phys 2010); distances to ellipsoids are taken to
first order (Taubin, IEEE TPAMI 1994). Borders oblique to the plane are softened over the slice's
thickness, as partial volume does. One body serves all slices, so a stack is coherent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numba import njit

from cinelabel.phantom.anatomy import Heart
from cinelabel.phantom.settings import PhantomSettings

TISSUE_NAMES = (
    "air",
    "fat",
    "muscle",
    "lung",
    "liver",
    "spleen",
    "stomach",
    "bowel",
    "gas",
    "marrow",
    "kidney",
    "csf",
    "vessel",
)
"""Order of the signals handed to the kernel."""
AIR, FAT, MUSCLE, LUNG, LIVER, SPLEEN, STOMACH, BOWEL, GAS, MARROW, KIDNEY, CSF, VESSEL = range(13)

OUTSIDE, IN_LUNG, IN_ABDOMEN, IN_LIVER, ANYWHERE = range(5)
"""Compartments a shape is clipped to."""

APEX_DIRECTION = (-0.65, 0.60, -0.45)
"""Mean direction from base to apex: left, anterior, inferior."""
STEEP_DIRECTION = (-0.50, 0.42, -0.76)
"""The same of a steep heart, whose short axis is nearly an axial plane."""
STEEP_SHARE = 0.25
SEPTUM_DIRECTION = (0.66, 0.74, 0.02)
"""Mean direction from the left ventricle to the right one: right and anterior."""
SLICE_MM = 7.0
"""Thickness over which borders oblique to the plane are softened."""
SECTORS = 64
"""Directions in which the heart's envelope is tabulated."""
ENVELOPE_START, ENVELOPE_STEP, ENVELOPE_ABOVE = -15.0, 5.0, 45.0
"""Heights of the envelope's rows from the apex to above the valves (mm)."""
LATTICE = 32
"""Points along each edge of the periodic noise lattice."""

BODY = np.dtype(
    [
        (name, np.float32)
        for name in (
            "half_width",  # of the chest cavity
            "half_depth",
            "corner",  # radius of the rounded edges, share of the half depth
            "top",  # S of the lung apex
            "slope",  # how far the cavity leans back for each mm upwards
            "rib_layer",
            "rib_pitch",
            "rib_phase",
            "rib_drop",  # mm that a rib falls for each mm forwards
            "muscle",
            "pectoral",
            "fat",
            "breast",
            "flank",
            "endothoracic",
            "diaphragm_top",
            "diaphragm_drop",
            "dome_right",
            "dome_left",
            "diaphragm_tilt",
            "margin",  # mm by which mediastinal fat exceeds the heart's envelope
            "fillet",  # size of the cardiophrenic fat pads
            "axis_tilt_x",  # shift of the heart's axis for each mm upwards
            "axis_tilt_y",
            "liver_left",
            "liver_height",
            "spine_pitch",
            "spine_phase",
            "spine_radius",
            "mediastinum",
            "junction",  # half width of the fat where the lungs meet in front, negative: none
            "bowel",  # how much noise makes a loop of bowel: more for wider fat between
            "warp",
            "plain",  # 1: no organs, a smooth field alone
        )
    ]
)
"""Parameters of the rib cage, wall, diaphragm, liver and spine; mm where not said otherwise."""

ORGAN = np.dtype(
    [
        ("centre", np.float32, (3,)),
        ("matrix", np.float32, (3, 3)),  # |matrix (p - centre)| = 1 on the surface
        ("reach", np.float32),
        ("tissue", np.int32),
        ("gain", np.float32),
        ("wall", np.float32),
        ("halo", np.float32),
        ("gas_level", np.float32),  # A above which gas floats
        ("core", np.float32),  # share of the radius filled by the core
        ("core_gain", np.float32),
        ("texture", np.float32),
        ("lump", np.float32),  # mm by which the surface is bent
        ("clip", np.int32),
    ]
)
"""An ellipsoidal organ."""

TUBE = np.dtype(
    [
        ("start", np.float32, (3,)),
        ("end", np.float32, (3,)),
        ("radius_start", np.float32),
        ("radius_end", np.float32),
        ("tissue", np.int32),
        ("gain", np.float32),
        ("clip", np.int32),
    ]
)
"""A tapered tube: vessel, airway, bone or limb."""


class Signals(Protocol):
    """The part of `Tissues` that painting needs."""

    tissue_texture: float

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
        outline = heart.section(float(height), 0.0).pericardium
        index = np.round(angle * (len(outline) / (2 * np.pi))).astype(int) % len(outline)
        rows.append(outline[index])
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
        "mediastinum": size * rng.uniform(14.0, 23.0),
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
            if _least_depth(body[0], points) > gap:
                low = forward
            else:
                high = forward
        behind = -float(body["half_depth"][0]) + 14.0 * size + float(body["spine_radius"][0])
        deficit = behind + 10.0 - float(points[np.abs(points[:, 0]) < 35.0, 1].min(initial=80.0))
        if deficit <= 0.0:
            break
        body["half_depth"] += 0.5 * deficit + 1.0
        body["half_width"] += 0.3 * deficit
    overlap = rng.uniform(2.0, 10.0)
    body["diaphragm_top"] += np.float32(_least_height(body[0], points) + overlap)
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
    left_top = float(_diaphragm(body[0], np.float32(-0.5 * width), np.float32(0.0))[0])
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

    for _ in range(int(rng.integers(2, 7))):
        r, a, s = rng.uniform(-0.7, 0.4), rng.uniform(-0.3, 0.8), rng.uniform(-200, -85)
        radii = (rng.uniform(10, 22), rng.uniform(10, 17), rng.uniform(10, 22))
        add((r * width, a * depth, s), 6.0, radii, BOWEL, 1.0, wall=2.0, gain=_content(rng))
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
    end = rng.uniform(-0.2, 0.3) * width
    gas = rng.random() < 0.5
    for share in np.linspace(0.0, 1.0, 9):
        place = (
            -0.74 * width + share * (end + 0.74 * width),
            (0.15 + 0.6 * np.sqrt(share)) * depth,
            -42.0 - 70.0 * share,
        )
        add(
            place,
            4.0,
            (20, 19, 21),
            BOWEL,
            0.6,
            wall=1.5,
            halo=1.2,
            gain=_content(rng),
            gas_level=float(place[1] + rng.normal(0, 8)) if gas else 1e4,
            texture=0.25,
        )
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
        lump=9.0,
    )
    if rng.random() < 0.5:
        add((0.35 * width, 0.35 * depth, -80), 8.0, (13, 13, 28), CSF, 0.4, halo=0.5, gain=0.9)
    table = np.zeros(len(organs), ORGAN)
    table[:] = organs
    return table


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
    top = float(_diaphragm(body[0], np.float32(20.0), np.float32(-20.0))[0])
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
    spine = np.array([_spine_line(body[0], np.float32(height)) for height in heights])
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
        _paint_plain(thorax.lattice, corner, image, moving)
        return image, moving
    _paint_body(
        thorax.body[0],
        _outline(thorax.envelope, float(height_mm)),
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


def soft(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of a pixel inside a border: distance in mm (positive inside), edge width in mm."""
    share = distance * np.float32(1.0 / width) + np.float32(0.5)
    return np.minimum(np.maximum(share, np.float32(0.0)), np.float32(1.0))


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


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _soft(distance, width):  # type: ignore[no-untyped-def]
    return min(max(distance / width + 0.5, 0.0), 1.0)


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _step(low, high, value):  # type: ignore[no-untyped-def]
    """Smooth step from 0 at low to 1 at high."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return share * share * (3.0 - 2.0 * share)


@njit(cache=True, fastmath=True, nogil=True)
def _noise(lattice, r, a, s):  # type: ignore[no-untyped-def]
    """Smoothly interpolated lattice noise; coordinates in cells."""
    i, j, k = np.floor(r), np.floor(a), np.floor(s)
    u, v, w = r - i, a - j, s - k
    u, v, w = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v), w * w * (3.0 - 2.0 * w)
    i0, j0, k0 = int(i) & 31, int(j) & 31, int(k) & 31
    i1, j1, k1 = (i0 + 1) & 31, (j0 + 1) & 31, (k0 + 1) & 31
    low = lattice[i0, j0, k0] + (lattice[i1, j0, k0] - lattice[i0, j0, k0]) * u
    high = lattice[i0, j1, k0] + (lattice[i1, j1, k0] - lattice[i0, j1, k0]) * u
    near = low + (high - low) * v
    low = lattice[i0, j0, k1] + (lattice[i1, j0, k1] - lattice[i0, j0, k1]) * u
    high = lattice[i0, j1, k1] + (lattice[i1, j1, k1] - lattice[i0, j1, k1]) * u
    return np.float32(near + (low + (high - low) * v - near) * w)


@njit(cache=True, fastmath=True, nogil=True)
def _cage(body, r, a, s):  # type: ignore[no-untyped-def]
    """Depth inside the chest cavity (mm, negative outside) and its outward normal."""
    rise = max(s - 30.0, 0.0) / body.top
    width = body.half_width * (1.0 - 0.42 * min(rise, 1.2) ** 2)
    depth = body.half_depth * (1.0 - 0.30 * min(rise, 1.2) ** 2)
    round_ = body.corner * depth
    lean = a + body.slope * max(s, -80.0)
    qr = abs(r) - (width - round_)
    qa = abs(lean) - (depth - round_)
    qs = s - (body.top - round_)
    er, ea, es = max(qr, 0.0), max(qa, 0.0), max(qs, 0.0)
    outside = np.sqrt(er * er + ea * ea + es * es) + 1e-6
    inner = min(max(qr, max(qa, qs)), 0.0)
    nr, na = er / outside, ea / outside
    nr = nr if r > 0.0 else -nr
    na = na if lean > 0.0 else -na
    return round_ - outside - inner, nr, na, es / outside


@njit(cache=True, nogil=True)
def _least_depth(body, points):  # type: ignore[no-untyped-def]
    least = 1e9
    for index in range(points.shape[0]):
        depth = _cage(body, points[index, 0], points[index, 1], points[index, 2])[0]
        least = min(least, depth)
    return least


@njit(cache=True, fastmath=True, nogil=True)
def _diaphragm(body, r, a):  # type: ignore[no-untyped-def]
    """Height S of the diaphragm over (r, a) and its slopes along r and a."""
    u, v = r / body.half_width, a / body.half_depth
    q = u * u + v * v
    height = body.diaphragm_top - body.diaphragm_drop * q * q + body.diaphragm_tilt * v
    steep = -4.0 * body.diaphragm_drop * q
    slope_r, slope_a = steep * u / body.half_width, steep * v / body.half_depth
    right = max(1.0 - ((u - 0.5) / 0.55) ** 2 - v * v, 0.0)
    left = max(1.0 - ((u + 0.55) / 0.5) ** 2 - v * v, 0.0)
    height += body.dome_right * right * right + body.dome_left * left * left
    return height, slope_r, slope_a


@njit(cache=True, nogil=True)
def _least_height(body, points):  # type: ignore[no-untyped-def]
    """Least height of the points above the diaphragm."""
    least = 1e9
    for index in range(points.shape[0]):
        floor = _diaphragm(body, points[index, 0], points[index, 1])[0]
        least = min(least, points[index, 2] - floor)
    return least


@njit(cache=True, fastmath=True, nogil=True)
def _spine_line(body, s):  # type: ignore[no-untyped-def]
    """A of the middle of the vertebral bodies at height s."""
    rise = max(s - 30.0, 0.0) / body.top
    depth = body.half_depth * (1.0 - 0.30 * min(rise, 1.2) ** 2)
    return -depth - body.slope * max(s, -80.0) + 0.85 * body.spine_radius


@njit(cache=True, fastmath=True, nogil=True)
def _wall(body, signals, lattice, out, r, a, s, width):  # type: ignore[no-untyped-def]
    """Signal of the chest wall at `out` mm outside the cavity."""
    fat, muscle, marrow = signals[FAT], signals[MUSCLE], signals[MARROW]
    lean = a + body.slope * max(s, -80.0)
    front = _step(0.25, 0.75, lean / body.half_depth)
    back = _step(0.45, 0.85, -lean / body.half_depth)
    middle = np.exp(-((r / 26.0) ** 2))
    chest = _step(-70.0, -20.0, s)
    flesh = body.muscle * (1.0 - 0.25 * back) + body.pectoral * front * chest * (1.0 - middle)
    flesh += body.pectoral * _step(70.0, 150.0, s) * 2.2
    flesh += 22.0 * back * np.exp(-((r / 42.0) ** 2)) - 0.9 * body.muscle * front * middle * chest
    flesh *= 1.0 + 0.18 * _noise(lattice, r * 0.03, a * 0.03, s * 0.03)
    flesh = max(flesh, 0.6)
    breast = ((abs(r) - 0.62 * body.half_width) / 55.0) ** 2 + ((s + 12.0) / 62.0) ** 2
    under = body.fat * (1.0 - 0.35 * back - 0.3 * front * middle + body.flank * _step(0, -120, s))
    under += body.breast * front * np.exp(-breast)
    under *= 1.0 + 0.15 * _noise(lattice, r * 0.02, a * 0.02, 9.0 + s * 0.02)
    under = max(under, 2.0)

    inner, skin = body.rib_layer, body.rib_layer + flesh + under
    air = _soft(out - skin, width)
    value = fat * (1.0 + 0.03 * _noise(lattice, r * 0.05, a * 0.05, s * 0.05))
    value += (muscle - value) * _soft(out - skin + 1.8, width)
    between = out - inner
    share = _soft(inner + flesh - out, width)
    if share > 0.0:
        tone = muscle * (1.0 + 0.10 * _noise(lattice, r * 0.12, a * 0.12, s * 0.05))
        wave = _noise(lattice, 5.0 + r * 0.025, a * 0.025, s * 0.025)
        plane = flesh * (0.42 + 0.15 * wave)
        line = 1.0 - _soft(abs(between - plane) - 0.3 - 0.025 * body.fat - 0.5 * wave, width)
        line *= _step(4.0, 9.0, flesh)
        hollow = flesh * 0.45 * _step(25.0, 95.0, s) * _step(0.3, 0.6, abs(r) / body.half_width)
        line = max(line, _soft(hollow * (1.0 + 0.5 * wave) - between, width) * _step(2, 6, hollow))
        tone += (fat - tone) * line
        value += (tone - value) * share
    share = _soft(inner - out, width)
    if share > 0.0:
        layer = _ribs(body, fat, muscle, marrow, front, out, r, lean, s, width)
        value += (layer - value) * share
    return value + (signals[AIR] - value) * air


@njit(cache=True, fastmath=True, nogil=True)
def _ribs(body, fat, muscle, marrow, front, out, r, lean, s, width):  # type: ignore[no-untyped-def]
    """Signal inside the rib layer: ribs or cartilage with dark cortex, muscle, sternum."""
    across = out - 0.5 * body.rib_layer
    value = muscle
    value += (fat - value) * (1.0 - _soft(abs(across) - 0.35 * body.rib_layer, width)) * 0.0
    value += (fat - value) * _soft(abs(across) - 0.42 * body.rib_layer, width) * 0.5
    turn = (s + body.rib_drop * lean) / body.rib_pitch + body.rib_phase
    along = (turn - np.floor(turn) - 0.5) * body.rib_pitch / np.sqrt(1.0 + body.rib_drop**2)
    high, thick = 0.27 * body.rib_pitch, 0.44 * body.rib_layer
    k0 = np.sqrt((along / high) ** 2 + (across / thick) ** 2) + 1e-6
    k1 = np.sqrt((along / high**2) ** 2 + (across / thick**2) ** 2) + 1e-6
    bone = (1.0 - k0) * k0 / k1
    cartilage = front * _step(0.75, 0.55, abs(r) / body.half_width)
    core = marrow + (0.8 * muscle - marrow) * cartilage
    if s > -45.0 and lean > 0.0:
        plate = min(18.0 - abs(r), thick - abs(across))
        if plate > bone:
            bone, core = plate, marrow
    value -= value * _soft(bone + 0.8, width)
    return value + (core - value) * _soft(bone - 0.7, width)


@njit(cache=True, fastmath=True, nogil=True)
def _spine(body, signals, value, r, a, s, width):  # type: ignore[no-untyped-def]
    """Vertebrae, discs, canal and processes over `value`; also the share of the spine."""
    radius = body.spine_radius
    fat, muscle, marrow = signals[FAT], signals[MUSCLE], signals[MARROW]
    ahead = a - _spine_line(body, s)
    turn = s / body.spine_pitch + body.spine_phase
    along = abs(turn - np.floor(turn) - 0.5) * body.spine_pitch
    waist = 1.0 + 0.10 * (along / (0.5 * body.spine_pitch)) ** 2
    wide, deep = 1.12 * radius * waist, 0.92 * radius * waist
    k0 = np.sqrt((r / wide) ** 2 + (ahead / deep) ** 2) + 1e-6
    k1 = np.sqrt((r / wide**2) ** 2 + (ahead / deep**2) ** 2) + 1e-6
    column = (1.0 - k0) * k0 / k1
    behind = ahead + 1.55 * radius
    canal = 0.52 * radius - np.sqrt((r * 0.85) ** 2 + behind**2)
    arch = canal + 0.38 * radius
    process = min(0.24 * radius - abs(r), min(-behind - 0.3 * radius, behind + 2.4 * radius))
    process = min(process, 0.34 * body.spine_pitch - abs(along - 0.12 * body.spine_pitch))
    wing = min(0.30 * radius - abs(behind - 0.1 * radius), 2.1 * radius - abs(r))
    wing = min(wing, 0.24 * body.spine_pitch - along)
    bone = max(process, max(wing, min(arch, 0.30 * body.spine_pitch - along)))
    value += (0.5 * (fat + muscle) - value) * _soft(arch + 2.0, width)
    value -= value * _soft(bone + 1.0, width)
    value += (0.85 * marrow - value) * _soft(bone - 0.8, width)
    value -= value * _soft(column + 1.2, width)
    body_height = 0.40 * body.spine_pitch - along
    disc = (0.55 + 0.5 * _soft(0.55 - k0, 0.3)) * muscle
    value += (disc - value) * _soft(column, width) * _soft(-body_height - 0.8, width)
    value += (marrow - value) * _soft(min(column, body_height) - 0.8, width)
    value += (signals[CSF] - value) * _soft(canal, width)
    cord = 0.27 * radius - np.sqrt((r * 0.8) ** 2 + behind**2)
    value += (1.1 * muscle - value) * _soft(cord, width)
    return value, _soft(max(column, max(arch, bone)) + 2.0, 4.0)


@njit(cache=True, fastmath=True, nogil=True)
def _outline(envelope, height):  # type: ignore[no-untyped-def]
    """The envelope's radii in a plane; beside its ends they shrink as the distance grows."""
    row = np.full(SECTORS, -1e3, np.float32)
    place = min(max((height - ENVELOPE_START) / ENVELOPE_STEP, 0.0), envelope.shape[0] - 1.001)
    first = int(place)
    share = place - first
    outside = abs(height - ENVELOPE_START - ENVELOPE_STEP * place)
    for sector in range(SECTORS):
        low, high = envelope[first, sector], envelope[first + 1, sector]
        row[sector] = low + (high - low) * share - 0.8 * outside
        for index in range(envelope.shape[0]):
            away = abs(height - ENVELOPE_START - ENVELOPE_STEP * index)
            row[sector] = max(row[sector], envelope[index, sector] - 0.8 * away)
    return row


@njit(cache=True, fastmath=True, nogil=True)
def _sac(body, row, x, y, z):  # type: ignore[no-untyped-def]
    """Depth inside the heart's envelope; x, y, z from the middle of the LV axis."""
    x, y = x - body.axis_tilt_x * z, y - body.axis_tilt_y * z
    turn = y / (abs(x) + abs(y) + 1e-6)
    turn = (2.0 - turn if x < 0.0 else turn + 4.0) * (0.25 * SECTORS)
    first = int(turn)
    share = turn - first
    low, high = row[first % SECTORS], row[(first + 1) % SECTORS]
    return low + (high - low) * share - np.sqrt(x * x + y * y)


@njit(cache=True, fastmath=True, nogil=True)
def _inside(body, signals, lattice, r, a, s, sac, depth, tilt, width):  # type: ignore[no-untyped-def]
    """Lung, mediastinum and abdomen: signal and the shares of lung, abdomen and liver."""
    fat, muscle = signals[FAT], signals[MUSCLE]
    height, slope_r, slope_a = _diaphragm(body, r, a)
    steep = np.sqrt(1.0 + slope_r * slope_r + slope_a * slope_a)
    below = (height - s) / steep
    through = abs(tilt[2] - slope_r * tilt[0] - slope_a * tilt[1]) / steep
    edge = width + SLICE_MM * through

    below = min(below, -sac)

    lung = signals[LUNG] * (1.0 - 0.35 * a / body.half_depth)
    value = lung
    if below < 4.0:
        value *= 1.0 + 0.18 * _noise(lattice, r * 0.06, a * 0.06, s * 0.06)
    sway = _noise(lattice, 7.0, a * 0.02, s * 0.02)
    front = _step(-0.35, 0.35, a / body.half_depth)
    wide = body.mediastinum + (body.junction - body.mediastinum) * front
    column = wide * (1.0 + 0.25 * sway) - abs(r + 4.0 + 7.0 * sway * front)
    heart = sac + body.margin
    blend = max(1.0 - abs(heart - below) / (body.fillet + 0.1), 0.0)
    pad = max(heart, below) + 0.25 * body.fillet * blend * blend
    pad = max(pad, column)
    near = max(1.0 - abs(heart + depth) / (0.8 * body.fillet + 6.0), 0.0)
    pad = max(pad, max(heart, -depth) + (0.2 * body.fillet + 1.5) * near * near)
    outer = width + 1.5
    full = _soft(pad, outer)
    value += (fat - value) * full
    lining = body.endothoracic * (1.0 + 0.6 * sway) + 0.6 * sway
    value += (fat - value) * _soft(lining - depth, width)
    lung_share = (1.0 - full) * _soft(depth - 1.0, width)

    belly = _soft(below, edge)
    lung_share *= 1.0 - _soft(below + 2.5, edge)
    value += (muscle - value) * _soft(below + 2.2, edge)
    low = body.diaphragm_top - 10.0 - 0.35 * a
    share = max(r + body.liver_left, 0.0) / (body.half_width + body.liver_left)
    low += 8.0 - body.liver_height * np.sqrt(share)
    lower = (s - low) * 0.70 + 6.0 * _noise(lattice, r * 0.02, a * 0.02, 3.0)
    rear = a + body.half_depth - 1.3 * max(10.0 - r, 0.0)
    solid = min(below - 3.0, min(lower, rear))
    gap = max(12.0 - abs(below - 3.0 - min(lower, rear)), 0.0) / 12.0
    solid = min(solid - 3.0 * gap * gap, depth - body.endothoracic - 1.0)
    value += (fat - value) * belly
    if below > 30.0:
        loops = _noise(lattice, r * 0.034, a * 0.034, s * 0.034)
        loops += 0.4 * _noise(lattice, r * 0.08, a * 0.08, s * 0.08)
        share = _soft((abs(loops) - body.bowel) * 15.0, edge + 1.0) * _step(40.0, 65.0, below)
        value += (signals[BOWEL] * (0.8 if loops > 0.0 else 1.25) - value) * share
    liver = _soft(solid, edge) * belly
    return value + (signals[LIVER] - value) * liver, lung_share, belly, liver


@njit(cache=True, fastmath=True, nogil=True)
def _window(place, reach, corner, shape):  # type: ignore[no-untyped-def]
    """Rows and columns that a ball round `place` may touch; empty where the plane misses it."""
    dr = place[0] - corner[0, 0]
    da = place[1] - corner[0, 1]
    ds = place[2] - corner[0, 2]
    off = dr * corner[3, 0] + da * corner[3, 1] + ds * corner[3, 2]
    if abs(off) > reach:
        return 0, 0, 0, 0
    radius = np.sqrt(reach * reach - off * off)
    rows = corner[1, 0] ** 2 + corner[1, 1] ** 2 + corner[1, 2] ** 2 + 1e-9
    columns = corner[2, 0] ** 2 + corner[2, 1] ** 2 + corner[2, 2] ** 2 + 1e-9
    i = (dr * corner[1, 0] + da * corner[1, 1] + ds * corner[1, 2]) / rows
    j = (dr * corner[2, 0] + da * corner[2, 1] + ds * corner[2, 2]) / columns
    di, dj = radius / np.sqrt(rows), radius / np.sqrt(columns)
    top, bottom = max(int(i - di), 0), min(int(i + di) + 2, shape[0])
    left, right = max(int(j - dj), 0), min(int(j + dj) + 2, shape[1])
    return top, bottom, left, right


@njit(cache=True, fastmath=True, nogil=True)
def _paint_organ(organ, signals, lattice, corner, warped, shares, width, image):  # type: ignore[no-untyped-def]
    """Fat halo, wall, content and gas of one organ, clipped to its compartment."""
    top, bottom, left, right = _window(organ.centre, organ.reach + 14.0, corner, image.shape)
    m = organ.matrix
    content = signals[organ.tissue] * organ.gain
    for i in range(top, bottom):
        for j in range(left, right):
            clip = shares[organ.clip, i, j]
            if clip <= 0.0:
                continue
            r = warped[i, j, 0] - organ.centre[0]
            a = warped[i, j, 1] - organ.centre[1]
            s = warped[i, j, 2] - organ.centre[2]
            u = m[0, 0] * r + m[0, 1] * a + m[0, 2] * s
            v = m[1, 0] * r + m[1, 1] * a + m[1, 2] * s
            w = m[2, 0] * r + m[2, 1] * a + m[2, 2] * s
            k0 = np.sqrt(u * u + v * v + w * w) + 1e-6
            if k0 > 1.8:
                continue
            gr = m[0, 0] * u + m[1, 0] * v + m[2, 0] * w
            ga = m[0, 1] * u + m[1, 1] * v + m[2, 1] * w
            gs = m[0, 2] * u + m[1, 2] * v + m[2, 2] * w
            k1 = np.sqrt(gr * gr + ga * ga + gs * gs) + 1e-9
            distance = (1.0 - k0) * k0 / k1
            bend = _noise(lattice, r * 0.03, a * 0.03, s * 0.03)
            distance += organ.lump * bend
            through = abs(gr * corner[3, 0] + ga * corner[3, 1] + gs * corner[3, 2]) / k1
            edge = width + SLICE_MM * through
            value = image[i, j]
            value += (signals[FAT] - value) * _soft(distance + organ.halo, edge) * clip
            inner = content
            if organ.texture > 0.0:
                r, a, s = warped[i, j, 0] * 0.11, warped[i, j, 1] * 0.11, warped[i, j, 2] * 0.11
                inner *= 1.0 + organ.texture * _noise(lattice, r, a, s)
            if organ.core > 0.0:
                inner *= 1.0 + (organ.core_gain - 1.0) * _soft(organ.core - k0, 0.15)
            inner += (signals[GAS] - inner) * _soft(warped[i, j, 1] - organ.gas_level, width)
            if organ.wall > 0.0:
                shell = signals[MUSCLE] * 1.1
                inner = shell + (inner - shell) * _soft(distance - organ.wall, edge)
            image[i, j] = value + (inner - value) * _soft(distance, edge) * clip


@njit(cache=True, fastmath=True, nogil=True)
def _paint_tube(tube, signals, corner, warped, shares, width, image):  # type: ignore[no-untyped-def]
    """One tapered tube, clipped to its compartment."""
    span_r = tube.end[0] - tube.start[0]
    span_a = tube.end[1] - tube.start[1]
    span_s = tube.end[2] - tube.start[2]
    long = span_r * span_r + span_a * span_a + span_s * span_s + 1e-6
    widest = max(tube.radius_start, tube.radius_end)
    off0 = (tube.start[0] - corner[0, 0]) * corner[3, 0]
    off0 += (tube.start[1] - corner[0, 1]) * corner[3, 1]
    off0 += (tube.start[2] - corner[0, 2]) * corner[3, 2]
    off1 = off0 + span_r * corner[3, 0] + span_a * corner[3, 1] + span_s * corner[3, 2]
    reach = widest + 8.0
    if min(off0, off1) > reach or max(off0, off1) < -reach:
        return
    low, high = 0.0, 1.0
    rise = off1 - off0
    if abs(rise) > 1e-3:
        first, second = (-reach - off0) / rise, (reach - off0) / rise
        low, high = max(0.0, min(first, second)), min(1.0, max(first, second))
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    place = (
        tube.start[0] + middle * span_r,
        tube.start[1] + middle * span_a,
        tube.start[2] + middle * span_s,
    )
    ball = half * np.sqrt(long) + reach
    top, bottom, left, right = _window(place, ball, corner, image.shape)
    value = signals[tube.tissue] * tube.gain
    for i in range(top, bottom):
        for j in range(left, right):
            clip = shares[tube.clip, i, j]
            if clip <= 0.0:
                continue
            r = warped[i, j, 0] - tube.start[0]
            a = warped[i, j, 1] - tube.start[1]
            s = warped[i, j, 2] - tube.start[2]
            t = min(max((r * span_r + a * span_a + s * span_s) / long, 0.0), 1.0)
            r, a, s = r - t * span_r, a - t * span_a, s - t * span_s
            distance = np.sqrt(r * r + a * a + s * s) + 1e-6
            radius = tube.radius_start + t * (tube.radius_end - tube.radius_start)
            if distance > radius + 6.0:
                continue
            through = abs(r * corner[3, 0] + a * corner[3, 1] + s * corner[3, 2]) / distance
            edge = width + min(SLICE_MM, 2.0 * radius + 1.0) * through
            image[i, j] += (value - image[i, j]) * _soft(radius - distance, edge) * clip


@njit(cache=True, fastmath=True, nogil=True)
def _warp(lattice, corner, amount, stride, warped):  # type: ignore[no-untyped-def]
    """Body coordinates of every pixel, bent smoothly; the bend is worked out on a coarse grid."""
    rows, columns = warped.shape[0], warped.shape[1]
    many, more = (rows - 1) // stride + 2, (columns - 1) // stride + 2
    coarse = np.empty((many, more, 3), np.float32)
    for i in range(many):
        for j in range(more):
            r = corner[0, 0] + i * stride * corner[1, 0] + j * stride * corner[2, 0]
            a = corner[0, 1] + i * stride * corner[1, 1] + j * stride * corner[2, 1]
            s = corner[0, 2] + i * stride * corner[1, 2] + j * stride * corner[2, 2]
            for axis in range(3):
                shift = 11.0 * axis
                bend = _noise(lattice, r * 0.016 + shift, a * 0.016, s * 0.016)
                bend += 0.35 * _noise(lattice, r * 0.045, a * 0.045 + shift, s * 0.045)
                coarse[i, j, axis] = amount * bend
    for i in range(rows):
        p, u = i // stride, (i % stride) / stride
        for j in range(columns):
            q, v = j // stride, (j % stride) / stride
            for axis in range(3):
                low = coarse[p, q, axis] + (coarse[p + 1, q, axis] - coarse[p, q, axis]) * u
                high = coarse[p, q + 1, axis]
                high += (coarse[p + 1, q + 1, axis] - coarse[p, q + 1, axis]) * u
                straight = corner[0, axis] + i * corner[1, axis] + j * corner[2, axis]
                warped[i, j, axis] = straight + low + (high - low) * v


@njit(cache=True, fastmath=True, nogil=True)
def _paint_body(body, row, organs, tubes, lattice, signals, corner, pixel, texture, image, moving):  # type: ignore[no-untyped-def]
    """The whole body on one plane, in place; see `paint_thorax`."""
    rows, columns = image.shape
    warped = np.empty((rows, columns, 3), np.float32)
    shares = np.ones((5, rows, columns), np.float32)
    _warp(lattice, corner, body.warp, max(1, int(8.0 / pixel)), warped)
    tilt = (corner[3, 0], corner[3, 1], corner[3, 2])
    for i in range(rows):
        for j in range(columns):
            r, a, s = warped[i, j, 0], warped[i, j, 1], warped[i, j, 2]
            depth, nr, na, ns = _cage(body, r, a, s)
            x = corner[0, 3] + i * corner[1, 3] + j * corner[2, 3]
            y = corner[0, 4] + i * corner[1, 4] + j * corner[2, 4]
            sac = _sac(body, row, x, y, corner[0, 5])
            room = max(1.0 - abs(sac + 1.0 - depth) / 14.0, 0.0)
            depth = max(depth, sac + 1.0) + 3.5 * room * room
            width = pixel + min(SLICE_MM * abs(nr * tilt[0] + na * tilt[1] + ns * tilt[2]), 5.0)
            within = _soft(depth, width)
            value, lung, belly, liver, spine = np.float32(0.0), 0.0, 0.0, 0.0, 0.0
            if within < 1.0:
                value = _wall(body, signals, lattice, -depth, r, a, s, width)
            if within > 0.0:
                inner, lung, belly, liver = _inside(
                    body, signals, lattice, r, a, s, sac, depth, tilt, pixel
                )
                value += (inner - value) * within
            if abs(r) < 60.0 and a < _spine_line(body, s) + 40.0 and depth > -70.0:
                value, spine = _spine(body, signals, value, r, a, s, pixel + 1.0)
            image[i, j] = value
            moving[i, j] = _soft(depth - 3.0, 7.0) * (1.0 - spine)
            shares[OUTSIDE, i, j] = _soft(-depth - body.rib_layer - body.muscle - 1.0, 2.0)
            shares[IN_LUNG, i, j] = lung * within * (1.0 - spine)
            shares[IN_ABDOMEN, i, j] = belly * within * (1.0 - spine)
            shares[IN_LIVER, i, j] = liver * within * (1.0 - spine)
    for index in range(organs.shape[0]):
        _paint_organ(organs[index], signals, lattice, corner, warped, shares, pixel, image)
    for index in range(tubes.shape[0]):
        _paint_tube(tubes[index], signals, corner, warped, shares, pixel, image)
    for i in range(rows):
        for j in range(columns):
            r, a, s = warped[i, j, 0] * 0.17, warped[i, j, 1] * 0.17, warped[i, j, 2] * 0.17
            image[i, j] *= 1.0 + texture * _noise(lattice, r, a, s)


@njit(cache=True, fastmath=True, nogil=True)
def _paint_plain(lattice, corner, image, moving):  # type: ignore[no-untyped-def]
    """One smooth random field and nothing else, all of it moving."""
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            r = corner[0, 0] + i * corner[1, 0] + j * corner[2, 0]
            a = corner[0, 1] + i * corner[1, 1] + j * corner[2, 1]
            s = corner[0, 2] + i * corner[1, 2] + j * corner[2, 2]
            field = _noise(lattice, r * 0.014, a * 0.014, s * 0.014)
            image[i, j] = 0.05 + 0.45 * min(max(0.5 + 0.35 * field, 0.0), 1.0)
            moving[i, j] = 1.0
