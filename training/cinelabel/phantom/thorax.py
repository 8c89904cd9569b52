"""What surrounds the heart in a short-axis plane: chest wall, lungs, diaphragm, abdomen, spine.

Not a model of organs in three dimensions: an arrangement in the heart frame that has the neighbours
where a reader meets them (chest wall beside the right ventricle, lung over and behind the left one,
liver and stomach under the diaphragm), bent by a smooth displacement so that no border is regular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinelabel.phantom.fields import smooth_field
from cinelabel.phantom.tissue import Tissues


@dataclass(frozen=True)
class Organ:
    """A seed of the abdomen: position (mm), signal, and whether its border shows a line of fat."""

    x: float
    y: float
    signal: float
    texture: float


@dataclass(frozen=True)
class Disc:
    """An elliptic detail (vessel, vertebra, aorta): centre, radii, turn (rad) and signal."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    turn: float
    signal: float


@dataclass(frozen=True)
class Thorax:
    """One subject's surroundings of the heart, in the heart frame (mm)."""

    turn: float
    centre: tuple[float, float]
    half_axes: tuple[float, float]
    exponent: float
    skin_fat: float
    wall_muscle: float
    ribs: tuple[float, float]
    diaphragm: tuple[float, float, float, float]
    organs: tuple[Organ, ...]
    fat_line: tuple[float, float]
    details: tuple[Disc, ...]
    arms: tuple[Disc, ...]
    lung_signal: float
    mediastinum: tuple[float, float, float]
    warp: float
    chaos: float
    seed: int


def sample_thorax(
    rng: np.random.Generator, tissues: Tissues, heart_radius: float, rv_extent: float
) -> Thorax:
    """Surroundings for a heart of the given LV outer radius and RV extent from the LV axis (mm)."""
    half_width, half_height = rng.uniform(88, 135), rng.uniform(120, 260)
    skin_fat = float(np.clip(rng.gamma(2.2, 7.0), 2.0, 45.0))
    muscle = rng.uniform(5.0, 20.0)
    gap = rng.uniform(0.0, 16.0)
    inner_left = -(rv_extent + gap)
    centre_x = inner_left - muscle + half_width - skin_fat
    top = -(heart_radius + rng.uniform(-8.0, 5.0))
    return Thorax(
        turn=float(rng.normal(0.0, 0.4)),
        centre=(float(centre_x), float(rng.normal(-10.0, 50.0))),
        half_axes=(float(half_width + skin_fat), float(half_height)),
        exponent=rng.uniform(2.0, 3.6),
        skin_fat=skin_fat,
        wall_muscle=muscle,
        ribs=(rng.uniform(9.0, 26.0), rng.uniform(-np.pi, np.pi)),
        diaphragm=(top, rng.uniform(0.0, 0.0045), rng.uniform(-10, 50), rng.normal(0.0, 0.25)),
        organs=_sample_abdomen(rng, tissues),
        fat_line=(rng.uniform(1.0, 4.0), float(rng.choice([tissues["fat"], tissues["air"], 0.35]))),
        details=_sample_details(rng, tissues, heart_radius),
        arms=_sample_arms(rng, tissues, centre_x, half_width, half_height),
        lung_signal=float(tissues["lung"] * rng.uniform(0.3, 2.5)),
        mediastinum=(rng.uniform(15, 70), rng.uniform(-40, 60), rng.uniform(0.0, 32.0)),
        warp=rng.uniform(2.0, 13.0),
        chaos=float(rng.random()),
        seed=int(rng.integers(2**31)),
    )


def _sample_abdomen(rng: np.random.Generator, tissues: Tissues) -> tuple[Organ, ...]:
    organs = []
    for _ in range(int(rng.integers(5, 18))):
        x, y = rng.uniform(-110, 150), rng.uniform(-190, -15)
        names = ["liver", "bowel", "fat", "spleen", "muscle"]
        weights = [0.55, 0.1, 0.15, 0.05, 0.15] if x < 10 else [0.15, 0.35, 0.2, 0.2, 0.1]
        name = str(rng.choice(names, p=weights))
        signal = tissues[name]
        if name == "bowel":
            signal *= float(rng.choice([0.15, 0.6, 1.0, 2.0]))
        organs.append(Organ(float(x), float(y), signal, float(rng.gamma(1.5, 0.06))))
    return tuple(organs)


def _sample_details(
    rng: np.random.Generator, tissues: Tissues, heart_radius: float
) -> tuple[Disc, ...]:
    discs = []
    for _ in range(int(rng.integers(0, 60))):
        angle, distance = rng.uniform(-0.9, 2.3), heart_radius + rng.uniform(8.0, 90.0)
        size = float(rng.gamma(2.0, 0.7)) + 0.6
        discs.append(
            Disc(
                float(distance * np.cos(angle)),
                float(distance * np.sin(angle)),
                size,
                size * rng.uniform(0.6, 2.5),
                rng.uniform(0, np.pi),
                tissues["vessel"] * rng.uniform(0.3, 1.2),
            )
        )
    aorta = rng.uniform(8.0, 15.0)
    x, y = heart_radius + rng.uniform(14.0, 50.0), rng.uniform(-30, 55)
    discs.append(Disc(x, y, aorta, aorta * rng.uniform(0.8, 1.6), 0.0, tissues["vessel"]))
    spacing, spine_x = rng.uniform(24, 36), x + rng.uniform(22, 42)
    for k in range(-4, 5):
        discs.append(
            Disc(
                float(spine_x + rng.normal(0, 3) + 0.02 * (k * spacing) ** 2 / 10),
                float(k * spacing + rng.normal(0, 2)),
                rng.uniform(13, 19),
                spacing * rng.uniform(0.32, 0.44),
                0.0,
                tissues["marrow"] * rng.uniform(0.6, 1.2),
            )
        )
    for _ in range(int(rng.integers(0, 9))):
        discs.append(
            Disc(
                rng.uniform(-90, 110),
                rng.uniform(-170, -heart_radius - 12),
                rng.uniform(2, 11),
                rng.uniform(2, 11),
                rng.uniform(0, np.pi),
                float(rng.choice([tissues["vessel"], tissues["fat"], 0.05])),
            )
        )
    return tuple(discs)


def _sample_arms(
    rng: np.random.Generator, tissues: Tissues, x: float, half_width: float, half_height: float
) -> tuple[Disc, ...]:
    if rng.random() > 0.25:
        return ()
    side = float(rng.choice([-1.0, 1.0]))
    return (
        Disc(
            x + rng.uniform(-40, 40),
            side * (half_height + rng.uniform(35, 70)),
            rng.uniform(28, 48),
            rng.uniform(28, 48),
            0.0,
            tissues["fat"],
        ),
    )


def paint_thorax(
    thorax: Thorax, tissues: Tissues, x: np.ndarray, y: np.ndarray, height_mm: float, pixel: float
) -> np.ndarray:
    """Signal of the surroundings on a plane.

    Args:
        thorax: the subject's surroundings.
        tissues: signals.
        x, y: heart-frame coordinates of the pixels in mm, shape (n, m).
        height_mm: height of the plane above the apex; the diaphragm rises towards the apex.
        pixel: pixel size in mm, the width of every soft edge.

    Returns:
        Signal, float32 (n, m).
    """
    rng = np.random.default_rng(thorax.seed)
    x = x + thorax.warp * smooth_field(rng, x.shape, 6)
    y = y + thorax.warp * smooth_field(rng, x.shape, 6)
    cosine, sine = np.float32(np.cos(thorax.turn)), np.float32(np.sin(thorax.turn))
    u, v = cosine * x + sine * y, cosine * y - sine * x

    extents = (_Extent.of(u), _Extent.of(v))
    image = np.full(x.shape, np.float32(tissues["air"]))
    for arm in thorax.arms:
        _paint_disc(image, arm, u, v, extents, pixel)
    du = np.abs(u - np.float32(thorax.centre[0])) / np.float32(thorax.half_axes[0])
    dv = np.abs(v - np.float32(thorax.centre[1])) / np.float32(thorax.half_axes[1])
    power = np.float32(thorax.exponent)
    radius = (du**power + dv**power) ** np.float32(1.0 / thorax.exponent)
    depth = (1.0 - radius) * np.float32(min(thorax.half_axes))
    interior = depth - np.float32(thorax.skin_fat + thorax.wall_muscle)

    image = _over(image, tissues["fat"], depth, pixel)
    image = _over(image, tissues["muscle"], depth - np.float32(thorax.skin_fat), pixel)
    image = _ribs(image, thorax, tissues, v, interior, pixel)

    level, bend, top, slope = thorax.diaphragm
    below = (
        np.float32(level + slope * (40.0 - height_mm))
        - np.float32(bend) * (u - np.float32(top)) ** 2
        - v
    )
    inside = np.full(x.shape, np.float32(thorax.lung_signal))
    inside = inside * (1.0 + 0.3 * smooth_field(rng, x.shape, 14))
    inside = _blend(inside, _paint_abdomen(thorax, u, v, rng), below, pixel)
    reach_x, reach_y, size = thorax.mediastinum
    if size > 0.0:
        distance = np.float32(size) - np.hypot(
            (u - np.float32(reach_x)) * 0.7, v - np.float32(reach_y)
        )
        inside = _over(inside, 0.5 * (tissues["muscle"] + tissues["fat"]), distance, 4.0 * pixel)
    for disc in thorax.details:
        _paint_disc(inside, disc, u, v, extents, pixel)
    image = _blend(image, inside, interior, pixel)
    texture = 1.0 + tissues.tissue_texture * smooth_field(rng, x.shape, 40)
    return (image * texture).astype(np.float32)


def _paint_abdomen(
    thorax: Thorax, u: np.ndarray, v: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Nearest-seed organs with a line of fat or air between them."""
    seeds = np.array([(organ.x, organ.y) for organ in thorax.organs], np.float32)
    distance = (u[None] - seeds[:, 0, None, None]) ** 2 + (v[None] - seeds[:, 1, None, None]) ** 2
    nearest = distance.argmin(0)
    signal = np.array([organ.signal for organ in thorax.organs], np.float32)[nearest]
    texture = np.array([organ.texture for organ in thorax.organs], np.float32)[nearest]
    signal = signal * (1.0 + texture * smooth_field(rng, u.shape, 30))
    two = np.partition(distance, 1, axis=0)[:2]
    width, line = thorax.fat_line
    ridge = np.clip(1.0 - (np.sqrt(two[1]) - np.sqrt(two[0])) / np.float32(width), 0.0, 1.0)
    return signal + (np.float32(line) - signal) * ridge


def _ribs(
    image: np.ndarray,
    thorax: Thorax,
    tissues: Tissues,
    v: np.ndarray,
    interior: np.ndarray,
    pixel: float,
) -> np.ndarray:
    period, phase = thorax.ribs
    band = np.clip(1.0 + interior / np.float32(thorax.wall_muscle + 1.0), 0.0, 1.0)
    rhythm = np.clip(np.sin(v * np.float32(2 * np.pi / period) + np.float32(phase)), 0.0, 1.0)
    weight = band * rhythm * (interior < pixel)
    return image + (np.float32(tissues["marrow"]) - image) * weight * np.float32(0.8)


def soft(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of a pixel inside a border: distance in mm (positive inside), edge width in mm."""
    share = distance * np.float32(1.0 / width) + np.float32(0.5)
    return np.minimum(np.maximum(share, np.float32(0.0)), np.float32(1.0))


def _over(image: np.ndarray, signal: float, distance: np.ndarray, pixel: float) -> np.ndarray:
    return image + (np.float32(signal) - image) * soft(distance, pixel)


def _blend(image: np.ndarray, other: np.ndarray, distance: np.ndarray, pixel: float) -> np.ndarray:
    return image + (other - image) * soft(distance, pixel)


@dataclass(frozen=True)
class _Extent:
    """Lowest and highest coordinate of each row and each column of a plane."""

    rows: tuple[np.ndarray, np.ndarray]
    columns: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, coordinate: np.ndarray) -> _Extent:
        return cls((coordinate.min(1), coordinate.max(1)), (coordinate.min(0), coordinate.max(0)))


def _paint_disc(
    image: np.ndarray,
    disc: Disc,
    u: np.ndarray,
    v: np.ndarray,
    extents: tuple[_Extent, _Extent],
    pixel: float,
) -> None:
    """Paint an ellipse, in place, into the box it fills."""
    reach = np.float32(max(disc.radius_x, disc.radius_y) + pixel)
    x, y = np.float32(disc.x), np.float32(disc.y)

    def near(side: str) -> np.ndarray:
        """Rows or columns that may hold the disc: few, so that the rest costs nothing."""
        (low_u, high_u), (low_v, high_v) = (getattr(extent, side) for extent in extents)
        return (
            (low_u < x + reach) & (high_u > x - reach) & (low_v < y + reach) & (high_v > y - reach)
        )

    rows, columns = _span(near("rows")), _span(near("columns"))
    if rows is None or columns is None:
        return
    hit = (np.abs(u[rows, columns] - x) < reach) & (np.abs(v[rows, columns] - y) < reach)
    inner_rows, inner_columns = _span(hit.any(1)), _span(hit.any(0))
    if inner_rows is None or inner_columns is None:
        return
    picture, u, v = (whole[rows, columns][inner_rows, inner_columns] for whole in (image, u, v))
    cosine, sine = np.float32(np.cos(disc.turn)), np.float32(np.sin(disc.turn))
    du, dv = u - x, v - y
    along, across = cosine * du + sine * dv, cosine * dv - sine * du
    small = min(disc.radius_x, disc.radius_y)
    distance = (1.0 - np.hypot(along / disc.radius_x, across / disc.radius_y)) * np.float32(small)
    picture[...] = _over(picture, disc.signal, distance, pixel)


def _span(seen: np.ndarray) -> slice | None:
    """The slice from the first to the last True, None without any."""
    if not seen.any():
        return None
    return slice(int(seen.argmax()), len(seen) - int(seen[::-1].argmax()))
