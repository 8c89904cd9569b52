"""From anatomy to one ideal slice: signal and labels on a grid of pixels, before any acquisition.

Layers are mixed from back to front by soft shares one pixel wide; a thick slice is the mean of
several thin ones, so borders that are oblique to the plane blur as they do in a scanner. Signals
are signed: opposed fat and water cancel along their border and leave the dark line of balanced SSFP
once the magnitude is taken (chemical shift of the second kind, Hood et al., RadioGraphics 1999).

Labels follow the readers of ACDC (Bernard et al. 2018): papillary muscles and trabeculae belong to
the cavity; the basal slice is the last with muscle on at least half of the circumference; an open
ring is drawn as muscle where muscle is, and the cavity is closed by the straight line across the
gap; the right ventricle is drawn to its valve, without the infundibulum above, and not where the
left one is not; specks are not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cinelabel.core.labels import LV, MYO, RV
from cinelabel.phantom.acquisition import Poses
from cinelabel.phantom.anatomy import ANGLE_TABLE, ANGLES, Heart, Section
from cinelabel.phantom.heart_painting import (
    CHAMBER_VALUES,
    LEVEL_VALUES,
    ROD_VALUES,
    SCENE_VALUES,
    TABLES,
    Levels,
    Surface,
    drop_specks,
    noise_tile,
    pack_section,
    paint_heart,
)
from cinelabel.phantom.thorax import Thorax, paint_thorax
from cinelabel.phantom.tissue import Tissues

BASE_SHARE = 0.5
"""Least share of the circumference that must be muscle for a slice to carry labels."""
FEW_LEVELS = (-1 / 3, 0.0, 1 / 3)
MANY_LEVELS = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Heights of the thin sections that make a thick slice, in slice thicknesses; the many where the
heart changes fast along its axis: at the apex and at the valves."""
MOST_RODS = 28
MOST_CHAMBERS = 10
TEXTURE_STEP_MM = 7.0
"""Height over which the texture of blood and muscle changes to another."""
WOBBLE_MM = 0.7
"""Spread of the smooth displacement that keeps borders from being regular."""
LINE_MM = 1.3
"""Thickness of the pericardium's dark line."""
SPECK_MM2 = 20.0
"""Pieces of muscle or right ventricle smaller than this are not drawn."""
LEAST_ROUGHNESS = 0.2
"""Trabeculation that every heart has."""
LEAST_TEXTURE = 0.025
"""Texture of blood that no scan is without."""
RIGHT_HEART = ("right", "pulmonary", "infundibulum", "outflow", "vena", "trunk")
"""Parts of the names of chambers that carry the right ventricle's blood."""


@dataclass(frozen=True)
class Subject:
    """A heart in its surroundings with the signals of one scanner.

    Attributes:
        heart: the anatomy.
        thorax: what surrounds it.
        tissues: signed signals, LV blood at rest 1.
        trabeculation: roughness of the left and of the right ventricle's inner side, 0 smooth,
            about 0.5 usual, above 1 strong.
        texture_seed: of everything that has no anatomy of its own: textures, trabeculae, dots.
    """

    heart: Heart
    thorax: Thorax
    tissues: Tissues
    trabeculation: tuple[float, float]
    texture_seed: int


@dataclass(frozen=True)
class Plane:
    """A plane's pixels in the heart frame.

    Attributes:
        x: coordinate of every pixel (mm), float32 (n, m).
        y: as `x`.
        pixel: pixel size (mm).
        axes: unit vectors of image axes 0 and 1 in the heart frame, as rows, (2, 2).
    """

    x: np.ndarray
    y: np.ndarray
    pixel: float
    axes: np.ndarray


@dataclass(frozen=True)
class Background:
    """What lies behind the heart in a view, the same at all phases.

    Attributes:
        signal: signed, float32 (n, m).
        moving: share of each pixel that moves with breathing, 0 to 1, float32 (n, m).
    """

    signal: np.ndarray
    moving: np.ndarray


def plane(
    size: tuple[int, int],
    pixel: float,
    centre: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    mirrored: bool = False,
) -> Plane:
    """A square-pixel plane in the heart frame.

    Args:
        size: pixels along both axes.
        pixel: pixel size in mm.
        centre: heart-frame position of the middle of the plane (mm).
        turn: in-plane rotation of the image axes (rad).
        mirrored: whether the first axis is reversed, changing handedness.
    """
    first = (np.arange(size[0], dtype=np.float32) - np.float32((size[0] - 1) / 2)) * pixel
    second = (np.arange(size[1], dtype=np.float32) - np.float32((size[1] - 1) / 2)) * pixel
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    side = -1.0 if mirrored else 1.0
    axes = np.array([[side * cosine, side * sine], [-sine, cosine]], np.float32)
    x = np.float32(centre[0]) + axes[0, 0] * first[:, None] + axes[1, 0] * second[None]
    y = np.float32(centre[1]) + axes[0, 1] * first[:, None] + axes[1, 1] * second[None]
    return Plane(x.astype(np.float32), y.astype(np.float32), pixel, axes)


def background(subject: Subject, view: Plane, height: float) -> Background:
    """What surrounds the heart at a height above its apex (mm), the same at all phases."""
    signal, moving = paint_thorax(
        subject.thorax, subject.tissues, view.x, view.y, height, view.pixel
    )
    return Background(signal, moving)


def render(
    subject: Subject,
    view: Plane,
    height: float,
    thickness: float,
    contraction: float,
    behind: Background | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One thick slice.

    Args:
        subject: what is imaged.
        view: the pixels.
        height: the slice's middle above the apex at z = 0 (mm).
        thickness: slice thickness (mm).
        contraction: 0 at ED to 1 at ES.
        behind: `background(...)` of the same view and height, to paint it once for all phases.

    Returns:
        (signed signal float32 (n, m), labels uint8 (n, m)).
    """
    behind = background(subject, view, height) if behind is None else behind
    painted = _paint(subject, view, height, thickness, contraction, behind.signal)
    labels = np.zeros(painted.signal.shape, np.uint8)
    if painted.box is not None and painted.drawn:
        drawn = _labels(painted.shares)
        for part in (MYO, RV):
            drop_specks(drawn, part.value, SPECK_MM2 / view.pixel**2)
        labels[painted.box] = drawn
    return painted.signal, labels


def render_poses(
    subject: Subject,
    view: Plane,
    height: float,
    thickness: float,
    contractions: Sequence[float] | np.ndarray,
    through_mm: Sequence[float] | np.ndarray,
    behind: Background | None = None,
    rotations_rad: Sequence[float] | np.ndarray | None = None,
) -> Poses:
    """Pictures of one slice with the heart at several heights and contractions.

    Args:
        subject: what is imaged.
        view: the pixels.
        height: the slice's middle above the apex at z = 0 (mm).
        thickness: slice thickness (mm).
        contractions: ascending, (kc,).
        through_mm: ascending heights that are added to `height` for the heart, (kz,). The
            surroundings are those of `height`.
        behind: `background(...)` of the same view and height.
        rotations_rad: rotation of the heart about its axis at each through-plane state, (kz,).

    Returns:
        Poses whose moving and static parts add up to what `render` gives; static is None where
        there is one through-plane state alone.
    """
    behind = background(subject, view, height) if behind is None else behind
    rotations = np.zeros(len(through_mm)) if rotations_rad is None else rotations_rad
    moving = np.empty((len(through_mm), len(contractions), *view.x.shape), np.float32)
    still = 1.0 - behind.moving if len(through_mm) > 1 else None
    if still is not None and not still.any():
        still = None
    for k, (through, rotation) in enumerate(zip(through_mm, rotations, strict=True)):
        for c, contraction in enumerate(contractions):
            painted = _paint(
                subject,
                view,
                height + float(through),
                thickness,
                float(contraction),
                behind.signal,
                float(rotation),
            )
            moving[k, c] = painted.signal
            if still is not None and painted.box is not None:
                # What the heart hides in any pose is not seen at rest behind it in another.
                still[painted.box] = np.minimum(still[painted.box], 1.0 - painted.cover)
    static = None
    if still is not None:
        static = behind.signal * still
        moving -= static
    return Poses(
        moving, static, np.asarray(through_mm, np.float32), np.asarray(contractions, np.float32)
    )


def readers_draw(heart: Heart, section: Section, height: float, contraction: float) -> bool:
    """Whether a reader draws a slice: muscle there, and on enough of the circumference."""
    if not section.epicardium.any():
        return False
    middle = 0.5 * (section.endocardium + section.epicardium)
    x, y = -middle * _COSINE, middle * _SINE
    return float(np.mean(heart.valve_height(x, y, contraction) > height)) >= BASE_SHARE


_COSINE, _SINE = np.cos(ANGLE_TABLE), np.sin(ANGLE_TABLE)


@dataclass(frozen=True)
class _Painted:
    """A picture; within `box` the share that is heart and the labelled shares (3, ...); whether
    readers draw it."""

    signal: np.ndarray
    box: tuple[slice, slice] | None
    cover: np.ndarray
    shares: np.ndarray
    drawn: bool


@dataclass(frozen=True)
class _Details:
    """What a texture seed stands for.

    Attributes:
        texture: places in the noise tile, one a step of height, (steps, 2) cells.
        teeth: depth of the trabeculae by height and angle, about 0 to 2, (steps, ANGLES); of the
            left ventricle where it is wide and where it is narrow, of the right ventricle.
        line: strength of the pericardial line by angle, 0 to 1, (ANGLES,).
        rv_rods: angle (share of the RV's width, -1 to 1), share of the depth, length, width (mm),
            turn, lowest and highest height (share of the length), (k, 7).
        vessels: angle offset, radius (mm), signal relative to blood, (k, 3).
    """

    texture: np.ndarray
    teeth: np.ndarray
    few_teeth: np.ndarray
    rv_teeth: np.ndarray
    line: np.ndarray
    rv_rods: np.ndarray
    vessels: np.ndarray


TEXTURE_STEPS = 64


@lru_cache(maxsize=64)
def _details(seed: int) -> _Details:
    rng = np.random.default_rng([seed, 0x7E87])
    tile = noise_tile()
    steps = np.arange(TEXTURE_STEPS)

    def teeth(cells_around: float) -> np.ndarray:
        """Teeth change slowly along the axis: trabeculae run along it."""
        around = (np.arange(ANGLES) * (cells_around / ANGLES)).astype(int)
        rows = int(rng.integers(256)) + steps[:, None] * 2
        noise = tile[rows % 256, (int(rng.integers(256)) + around[None]) % 256]
        fade = np.linspace(-1, 1, ANGLES) ** 8
        noise = (1.0 - fade) * noise + fade * noise[:, :1]
        smooth = 0.5 * noise + 0.25 * (np.roll(noise, 1, 1) + np.roll(noise, -1, 1))
        return np.clip(smooth + 0.35, 0.0, 2.2).astype(np.float32)

    count = int(rng.integers(2, 9))
    rv_rods = np.stack(
        [
            rng.uniform(-0.8, 0.8, count),
            rng.uniform(0.15, 0.85, count),
            rng.uniform(1.0, 5.0, count),
            rng.uniform(0.7, 1.9, count),
            rng.uniform(-np.pi, np.pi, count),
            rng.uniform(-0.2, 0.4, count),
            rng.uniform(0.3, 0.8, count),
        ],
        1,
    )
    if rng.random() < 0.7:
        # The moderator band crosses from the septum to the free wall.
        low = rng.uniform(0.2, 0.42)
        band = [rng.uniform(-0.4, 0.5), 0.5, 40.0, rng.uniform(1.0, 2.2), 0.0, low, low + 0.12]
        rv_rods = np.concatenate([rv_rods, [band]])
    vessels = np.stack(
        [
            np.array([np.nan, np.nan, *rng.uniform(-np.pi, np.pi, 3)]),
            rng.uniform(0.8, 1.9, 5),
            rng.uniform(0.5, 1.2, 5),
        ],
        1,
    )
    wave = sum(
        rng.normal(0.0, 0.35) * np.cos(order * ANGLE_TABLE + rng.uniform(-np.pi, np.pi))
        for order in (1, 2, 3, 5)
    )
    return _Details(
        texture=rng.uniform(0.0, 256.0, (TEXTURE_STEPS, 2)),
        teeth=teeth(float(rng.uniform(90.0, 150.0))),
        few_teeth=teeth(float(rng.uniform(35.0, 55.0))),
        rv_teeth=teeth(float(rng.uniform(70.0, 120.0))),
        line=np.clip(rng.uniform(0.1, 0.9) + wave, 0.0, 1.0).astype(np.float32),
        rv_rods=rv_rods,
        vessels=vessels,
    )


def _paint(
    subject: Subject,
    view: Plane,
    height: float,
    thickness: float,
    contraction: float,
    behind: np.ndarray,
    rotation: float = 0.0,
) -> _Painted:
    """One thick slice over what lies behind it."""
    heart = subject.heart
    length = heart.length(contraction)
    swift = height < 0.25 * length or abs(height - length) < 0.7 * thickness
    heights = [height + k * thickness for k in (MANY_LEVELS if swift else FEW_LEVELS)]
    levels, middle = _levels(subject, heights, contraction)
    reach = _reach(levels)
    box = _box(view, levels.planes[len(heights) // 2, 1:3], reach) if reach > 0.0 else None
    if box is None:
        empty = np.zeros((3, 0, 0), np.float32)
        return _Painted(behind.copy(), None, empty[0], empty, False)
    spacing = heights[1] - heights[0]
    details = _details(subject.texture_seed)
    surface = Surface(
        _vessels(subject.tissues, details, middle),
        noise_tile(),
        _texture_at(details, height),
        _scene(subject, view.pixel, reach, rotation, middle, contraction, spacing),
    )
    shape = view.x[box].shape
    signal, cover = behind.copy(), np.zeros(shape, np.float32)
    shares = np.zeros((3, *shape), np.float32)
    painted = np.empty(shape, np.float32)
    inside = view.x[box], view.y[box], behind[box]
    paint_heart(*inside, *levels, *surface, painted, cover, shares)
    signal[box] = painted
    return _Painted(signal, box, cover, shares, readers_draw(heart, middle, height, contraction))


def _levels(
    subject: Subject, heights: Sequence[float], contraction: float
) -> tuple[Levels, Section]:
    """Thin sections at some heights, and the middle one's borders."""
    heart, details, count = subject.heart, _details(subject.texture_seed), len(heights)
    levels = Levels(
        tables=np.empty((count, ANGLES + 1, TABLES), np.float32),
        planes=np.zeros((count, LEVEL_VALUES), np.float32),
        lv_rods=np.zeros((count, MOST_RODS, ROD_VALUES), np.float32),
        rv_rods=np.zeros((count, MOST_RODS, ROD_VALUES), np.float32),
        rod_counts=np.zeros((count, 2), np.int64),
        chambers=np.zeros((count, MOST_CHAMBERS, CHAMBER_VALUES), np.float32),
        chamber_counts=np.zeros(count, np.int64),
    )
    sections = [heart.section(z, contraction) for z in heights]
    for t, (z, section) in enumerate(zip(heights, sections, strict=True)):
        share = z / heart.length(contraction)
        levels.planes[t] = _level(heart, section, z, contraction)
        _pack(subject, details, section, z, contraction, levels.tables[t])
        levels.rod_counts[t, 0] = _lv_rods(heart, section, z, contraction, levels.lv_rods[t])
        levels.rod_counts[t, 1] = _rv_rods(details, section, share, levels.rv_rods[t])
        levels.chamber_counts[t] = _chambers(subject, z, contraction, levels.chambers[t])
    return levels, sections[count // 2]


def _labels(shares: np.ndarray) -> np.ndarray:
    """The structure with the largest share of each pixel; background where the rest is larger."""
    rest = 1.0 - shares.sum(0)
    best = shares.argmax(0)
    values = np.array([LV.value, MYO.value, RV.value], np.uint8)[best]
    return np.where(np.take_along_axis(shares, best[None], 0)[0] > rest, values, np.uint8(0))


def _index(angle: float) -> int:
    """The entry of the angle table that an angle falls on."""
    return int(round((angle + np.pi) * ANGLES / (2 * np.pi))) % ANGLES


def _axis_position(heart: Heart, height: float) -> tuple[float, float]:
    """Where the tilted long axis crosses a plane, the middle of the ventricle at the origin."""
    rise = height - 0.5 * heart.length_ed
    return heart.axis_tilt[0] * rise, heart.axis_tilt[1] * rise


def _level(heart: Heart, section: Section, z: float, contraction: float) -> np.ndarray:
    """Height, axis, mitral and tricuspid planes over the section, share of length, mean radius."""
    corner_x, corner_y = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    mitral = np.asarray(heart.valve_height(corner_x, corner_y, contraction), float)
    tricuspid = np.asarray(heart.rv_valve_height(corner_x, corner_y, contraction), float)
    return np.array(
        [
            z,
            *_axis_position(heart, z),
            *(mitral[0], mitral[1] - mitral[0], mitral[2] - mitral[0]),
            *(tricuspid[0], tricuspid[1] - tricuspid[0], tricuspid[2] - tricuspid[0]),
            z / heart.length(contraction),
            float(section.endocardium.mean()),
        ],
        np.float32,
    )


def _at_step(rows: np.ndarray, z: float) -> np.ndarray:
    """Rows that stand for steps of height, interpolated."""
    step = z / TEXTURE_STEP_MM + 8.0
    low = int(np.floor(step))
    part = np.float32(step - low)
    return (1 - part) * rows[low % len(rows)] + part * rows[(low + 1) % len(rows)]


def _pack(
    subject: Subject,
    details: _Details,
    section: Section,
    z: float,
    contraction: float,
    table: np.ndarray,
) -> None:
    """The section's table with the depth of its trabeculae."""
    heart = subject.heart
    height = z / heart.length(contraction)
    radius = max(float(section.endocardium.mean()), 0.1)
    # Trabeculae keep their bulk while the cavity closes round them.
    packed = min((heart.radius_ed / radius) ** 0.5, 2.2)
    rough = (LEAST_ROUGHNESS + subject.trabeculation[0]) * max(1.25 - height, 0.1)
    depth = min(2.6 * rough * packed, 0.55 * radius)
    smooth_septum = 1.0 - 0.65 * np.exp(-0.5 * (ANGLE_TABLE / np.float32(0.7)) ** 2)
    # The same trabeculae are fewer where the circumference is short.
    many = np.float32(min(max((radius - 5.0) / 12.0, 0.0), 1.0))
    teeth = many * _at_step(details.teeth, z) + (1 - many) * _at_step(details.few_teeth, z)
    trabeculae = depth * smooth_septum * teeth
    rv_rough = (LEAST_ROUGHNESS + subject.trabeculation[1]) * max(1.3 - height, 0.1)
    rv_depth = 2.6 * rv_rough * (1.0 + 0.5 * contraction)
    stand_off = np.maximum(section.rv_cavity - section.epicardium, 0.0)
    rv_trabeculae = np.minimum(rv_depth * _at_step(details.rv_teeth, z), 0.6 * stand_off)
    pack_section(
        section.endocardium,
        section.epicardium,
        section.rv_cavity,
        section.rv_outer,
        section.pericardium,
        trabeculae.astype(np.float32),
        rv_trabeculae.astype(np.float32),
        details.line * np.float32(min(float(section.pericardium.mean()) / 30.0, 1.0) ** 2),
        table,
    )


def _lv_rods(heart: Heart, section: Section, z: float, contraction: float, rods: np.ndarray) -> int:
    """Papillary muscles and free trabeculae at a height; returns how many."""
    height = z / heart.length(contraction)
    count = 0
    for angle, size, distance, root in heart.papillaries[:MOST_RODS]:
        top = root + 0.5
        if not root < height < top:
            continue
        at = _index(angle)
        radius = float(section.endocardium[at])
        taper = min(1.0, (top - height) / 0.12, (height - root) / 0.05 + 0.4)
        thick = min(size * (1.0 + 0.2 * contraction) * taper, 0.55 * radius)
        if thick < 0.4:
            continue
        reach = max(radius - distance * thick, 0.0)
        rods[count] = (
            -reach * np.cos(angle),
            reach * np.sin(angle),
            1.15 * thick,
            0.85 * thick,
            -np.cos(angle),
            np.sin(angle),
            0.16,
            0.0,
        )
        count += 1
    return count


def _rv_span(section: Section) -> tuple[int, int] | None:
    """First and last index of the angles at which there is a right ventricle."""
    wide = np.flatnonzero(section.rv_cavity - section.epicardium > 2.0)
    return (int(wide[0]), int(wide[-1])) if len(wide) else None


def _rv_rods(details: _Details, section: Section, height: float, rods: np.ndarray) -> int:
    """Trabeculae that cross the right ventricle at a height; returns how many."""
    span = _rv_span(section)
    if span is None:
        return 0
    count = 0
    for along, depth, length, width, turn, low, high in details.rv_rods:
        if not low < height < high:
            continue
        at = int(0.5 * (span[0] + span[1]) + 0.5 * along * (span[1] - span[0]))
        near, far = float(section.epicardium[at]), float(section.rv_cavity[at])
        radius = near + depth * (far - near)
        angle = float(ANGLE_TABLE[at])
        direction = angle + turn
        half = min(length, 0.6 * (far - near))
        if half < 0.6:
            continue
        rods[count] = (
            -radius * np.cos(angle),
            radius * np.sin(angle),
            half,
            min(width, half),
            -np.cos(direction),
            np.sin(direction),
            0.2,
            0.0,
        )
        count += 1
    return count


def _chambers(subject: Subject, z: float, contraction: float, out: np.ndarray) -> int:
    """Atria and great vessels at a height; returns how many."""
    tissues = subject.tissues
    count = 0
    for chamber in subject.heart.chambers(z, contraction)[:MOST_CHAMBERS]:
        if chamber.radius_x < 0.5 or chamber.radius_y < 0.5:
            continue
        right = any(part in chamber.name for part in RIGHT_HEART)
        blood = "rv_blood" if right else "blood" if "atrium" in chamber.name else "vessel"
        out[count] = (
            chamber.x,
            chamber.y,
            chamber.radius_x,
            chamber.radius_y,
            np.cos(chamber.turn),
            np.sin(chamber.turn),
            chamber.wall,
            chamber.lobes,
            max(chamber.radius_x, chamber.radius_y) * (1 + abs(chamber.lobes)) + chamber.wall,
            tissues[blood],
        )
        count += 1
    return count


def _vessels(tissues: Tissues, details: _Details, section: Section) -> np.ndarray:
    """Coronary vessels in the fat: in both grooves between the ventricles and elsewhere."""
    outer = np.maximum(section.rv_outer, section.epicardium)
    fat = section.pericardium - outer
    span = _rv_span(section)
    dots = []
    for k, (angle, radius, bright) in enumerate(details.vessels):
        if k < 2:
            if span is None:
                continue
            at = span[k]
        else:
            at = _index(angle)
        if fat[at] < 2.2:
            continue
        away = outer[at] + 0.5 * fat[at]
        turn = ANGLE_TABLE[at]
        size = min(radius, 0.4 * fat[at])
        dots.append((-away * np.cos(turn), away * np.sin(turn), size, bright * tissues["blood"]))
    return np.array(dots, np.float32).reshape(-1, 4)


def _texture_at(details: _Details, height: float) -> np.ndarray:
    step = height / TEXTURE_STEP_MM + 8.0
    low = int(np.floor(step))
    rows = details.texture
    first, second = rows[low % len(rows)], rows[(low + 1) % len(rows)]
    return np.array([*first, *second, step - low], np.float32)


def _scene(
    subject: Subject,
    pixel: float,
    reach: float,
    rotation: float,
    section: Section,
    contraction: float,
    spacing: float,
) -> np.ndarray:
    """What holds for all thin sections, in the order that `Surface` names."""
    tissues, flow = subject.tissues, subject.tissues.flow
    radius = float(section.endocardium.mean())
    # Outflow in systole, inflow in diastole; strongest while blood moves, not at its ends.
    emptying = 0.35 + 2.6 * contraction * (1.0 - contraction)
    scene = np.zeros(SCENE_VALUES, np.float32)
    scene[:21] = (
        pixel,
        reach,
        np.cos(rotation),
        np.sin(rotation),
        WOBBLE_MM,
        tissues["blood"],
        tissues["rv_blood"],
        tissues["myocardium"],
        tissues["fat"],
        tissues["pericardium"],
        LEAST_TEXTURE + tissues.blood_texture,
        tissues.tissue_texture,
        flow.inflow,
        flow.slow,
        flow.jet * min(emptying, 1.0),
        -0.45 * radius,
        0.25 * radius,
        max(0.55 * radius, 3.0),
        subject.trabeculation[1],
        LINE_MM,
        max(spacing, pixel),
    )
    return scene


def _reach(levels: Levels) -> float:
    """How far from the axis anything of the heart is painted (mm); 0 where there is none."""
    reach = float(levels.tables[:, :, 4].max())
    for bodies, count in zip(levels.chambers, levels.chamber_counts, strict=True):
        for body in bodies[:count]:
            reach = max(reach, float(np.hypot(body[0], body[1]) + body[8]))
    return reach + 5.0 if reach > 0.0 else 0.0


def _box(view: Plane, axis: np.ndarray, reach: float) -> tuple[slice, slice] | None:
    """Rows and columns of the view within reach of the axis; None where there are none."""
    sides = []
    from_corner = np.array([axis[0] - view.x[0, 0], axis[1] - view.y[0, 0]])
    for axis_vector, size in zip(view.axes, view.x.shape, strict=True):
        at, half = float(axis_vector @ from_corner) / view.pixel, reach / view.pixel
        first, last = max(int(np.floor(at - half)), 0), min(int(np.ceil(at + half)) + 1, size)
        if first >= last:
            return None
        sides.append(slice(first, last))
    return sides[0], sides[1]
