"""Paints thin short-axis sections of the heart, pixel by pixel: the compiled part of rendering.

Signed signals are mixed linearly by soft shares, from back to front: pericardium, fat with its
vessels, chambers above the valves, right ventricle, left ventricle. A share is the part of a pixel
that lies inside a border (the box filter of Crow 1977 along the border's normal), so a thick slice
is the mean of thin ones and a border between opposed fat and water cancels. Chambers that touch
share their wall as the cells of a power diagram do (Aurenhammer 1987).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from cinelabel.phantom.anatomy import ANGLES
from cinelabel.phantom.compiled import kernel

TILE = 256
"""Edge of the periodic noise tile; its features are about five cells wide."""
TABLES = 14
"""Columns of a section's table: see `pack_section`."""
LEVEL_VALUES = 11
"""Values of a level: height, axis (2), mitral plane (3), tricuspid plane (3), share of the length,
mean radius of the cavity."""
ROD_VALUES = 8
"""Values of a rod: x, y, half-lengths (2), cosine and sine of its turn, irregularity, unused."""
CHAMBER_VALUES = 10
"""Values of a chamber: x, y, radii (2), cosine and sine of its turn, wall, lobes, how far it
reaches from its centre, signal."""
PRESSED_MM = 11.0
"""How far from their contact neighbouring chambers are flattened."""
CLOSING = (2.2, 0.9, 1.5)
"""How far borders come in a mm of height above the valves: outer ones, LV and RV cavity."""
SCENE_VALUES = 24
"""Values that hold for all levels: see `Surface`."""


class Levels(NamedTuple):
    """Thin sections of the heart, by arrays that kernels read.

    Attributes:
        tables: `pack_section` of each level, float32 (levels, ANGLES + 1, TABLES).
        planes: heights, axis and valve planes, float32 (levels, LEVEL_VALUES).
        lv_rods: papillary muscles, float32 (levels, k, ROD_VALUES); `rv_rods` alike.
        rv_rods: of the right ventricle.
        rod_counts: rods in use of the LV and of the RV, int64 (levels, 2).
        chambers: atria and great vessels, float32 (levels, k, CHAMBER_VALUES).
        chamber_counts: chambers in use, int64 (levels,).
    """

    tables: np.ndarray
    planes: np.ndarray
    lv_rods: np.ndarray
    rv_rods: np.ndarray
    rod_counts: np.ndarray
    chambers: np.ndarray
    chamber_counts: np.ndarray


class Surface(NamedTuple):
    """What is the same at all levels.

    Attributes:
        vessels: dots in the fat: x, y, radius, signal, float32 (k, 4).
        tile: `noise_tile()`.
        texture_at: places of the texture in the tile, float32 (5,).
        scene: pixel, reach, rotation (cosine, sine), wobble, signals of blood, RV blood,
            myocardium, fat, pericardium, textures of blood and tissue, inflow, slow flow, jet, the
            jet's place x, y and radius, RV trabeculation, thickness of the pericardial line,
            distance between the sections; float32 (SCENE_VALUES,).
    """

    vessels: np.ndarray
    tile: np.ndarray
    texture_at: np.ndarray
    scene: np.ndarray


class Texture(NamedTuple):
    """Noise at a pixel: features of about 21, 8 and 3 mm."""

    coarse: float
    swirl: float
    fine: float


class Pixel(NamedTuple):
    """A pixel of a level, and what several layers ask of it.

    Attributes:
        x: heart-frame coordinates from the level's axis (mm); `y` alike.
        y: see above.
        t: index of the level.
        k: index of the angle in the level's table.
        part: share of the way to the next angle.
        radius: distance from the axis (mm).
        per_width: 1 / pixel size.
        epicardium: its distance from the axis at this angle (mm).
        outer: that of the RV's outer border.
        ring: share of the pixel inside the epicardium.
        valve: height of the mitral plane over the level (mm).
        rv_valve: that of the tricuspid plane.
        muscle: signal of the myocardium here.
    """

    x: float
    y: float
    t: int
    k: int
    part: float
    radius: float
    per_width: float
    epicardium: float
    outer: float
    ring: float
    valve: float
    rv_valve: float
    muscle: float


@lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """Periodic smooth noise of zero mean and unit spread, float32 (TILE, TILE); read only."""
    white = np.random.default_rng(0x5EED).standard_normal((TILE, TILE))
    smooth = gaussian_filter(white, 2.0, mode="wrap")
    smooth = ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)
    smooth.setflags(write=False)
    return smooth


@kernel()
def _noise(tile: np.ndarray, u: float, v: float) -> float:
    """Bilinear look-up in the periodic tile; u and v in cells."""
    whole_u, whole_v = np.floor(u), np.floor(v)
    part_u, part_v = u - whole_u, v - whole_v
    i, j = int(whole_u) & 255, int(whole_v) & 255
    k, m = (i + 1) & 255, (j + 1) & 255
    low = tile[i, j] + part_v * (tile[i, m] - tile[i, j])
    high = tile[k, j] + part_v * (tile[k, m] - tile[k, j])
    return low + part_u * (high - low)


@kernel()
def _layered(tile: np.ndarray, at: np.ndarray, u: float, v: float) -> float:
    """Noise that changes with height: two places of the tile, mixed by `at[4]`."""
    first = _noise(tile, u + at[0], v + at[1])
    second = _noise(tile, u + at[2], v + at[3])
    return (1.0 - at[4]) * first + at[4] * second


@kernel()
def _share(inside: float, per_width: float) -> float:
    """Share of a pixel inside a border, `inside` mm from it; `per_width` is 1 / pixel."""
    return min(max(0.5 + inside * per_width, 0.0), 1.0)


@kernel()
def _angle_index(x: float, y: float) -> float:
    """Place of the angle arctan2(y, -x) in a table of ANGLES entries from -pi; error < 0.01."""
    across, along = abs(x), abs(y)
    ratio = min(across, along) / (max(across, along) + 1e-9)
    square = ratio * ratio
    angle = ((-0.0464964749 * square + 0.15931422) * square - 0.327622764) * square * ratio + ratio
    if along > across:
        angle = 0.5 * np.pi - angle
    if x > 0.0:
        angle = np.pi - angle
    if y < 0.0:
        angle = -angle
    return min(max((angle + np.pi) * (ANGLES / (2.0 * np.pi)), 0.0), ANGLES - 1e-3)


@kernel()
def pack_section(
    endocardium: np.ndarray,
    epicardium: np.ndarray,
    rv_cavity: np.ndarray,
    rv_outer: np.ndarray,
    pericardium: np.ndarray,
    trabeculae: np.ndarray,
    rv_trabeculae: np.ndarray,
    line: np.ndarray,
    table: np.ndarray,
) -> None:
    """Fill a section's table, float32 (ANGLES + 1, TABLES).

    Columns 0-4: endocardium, epicardium, RV cavity, RV outer border (at least the epicardium) and
    pericardium (mm); 5: depth of the trabeculae (mm); 6: depth of the RV's; 7: strength of the
    pericardial line; 8-12: cosine between the radius and the normal of the borders 0-4, which turns
    a radial distance into the distance from the border; 13: thickness of the fat.
    """
    for k in range(ANGLES + 1):
        i = k % ANGLES
        row = table[k]
        row[0], row[1], row[2] = endocardium[i], epicardium[i], max(rv_cavity[i], epicardium[i])
        row[3] = max(rv_outer[i], row[2])
        row[4] = max(pericardium[i], row[3])
        row[5], row[6], row[7] = trabeculae[i], rv_trabeculae[i], line[i]
        row[13] = row[4] - row[3]
    step = 4.0 * np.pi / ANGLES
    for k in range(ANGLES + 1):
        before, after = (k - 1) % ANGLES, (k + 1) % ANGLES
        for b in range(5):
            radius = max(table[k, b], 1e-3)
            slope = (table[after, b] - table[before, b]) / step
            table[k, 8 + b] = max(radius / np.sqrt(radius * radius + slope * slope), 0.3)


@kernel()
def _rods(
    rods: np.ndarray, t: int, count: int, x: float, y: float, rough: float, per_width: float
) -> float:
    """Share of a pixel that is papillary muscle, trabecula or band."""
    most = 0.0
    for k in range(count):
        across, along = x - rods[t, k, 0], y - rods[t, k, 1]
        length, width = rods[t, k, 2], rods[t, k, 3]
        reach = max(length, width) * 1.6 + 1.0
        if across * across + along * along > reach * reach:
            continue
        u = (rods[t, k, 4] * across + rods[t, k, 5] * along) / length
        v = (rods[t, k, 4] * along - rods[t, k, 5] * across) / width
        away = np.sqrt(u * u + v * v) + 1e-6
        steepness = np.sqrt((u / length) ** 2 + (v / width) ** 2) / away
        inside = (1.0 - away + rods[t, k, 6] * rough) / max(steepness, 1.0 / max(length, width))
        most = max(most, _share(inside, per_width))
    return most


@kernel()
def _chambers(
    chambers: np.ndarray, t: int, count: int, x: float, y: float, per_width: float
) -> tuple[float, float, float]:
    """Shares of wall and blood, and the signal, of the chamber that owns a pixel."""
    best, second, wall, signal = -1e3, -1e3, 1.0, 0.0
    for k in range(count):
        across, along = x - chambers[t, k, 0], y - chambers[t, k, 1]
        near = chambers[t, k, 8] + 2.0 / per_width
        if across * across + along * along > near * near:
            continue
        u = chambers[t, k, 4] * across + chambers[t, k, 5] * along
        v = chambers[t, k, 4] * along - chambers[t, k, 5] * across
        wide, tall = chambers[t, k, 2], chambers[t, k, 3]
        away = np.sqrt((u / wide) ** 2 + (v / tall) ** 2) + 1e-6
        steepness = np.sqrt((u / wide**2) ** 2 + (v / tall**2) ** 2) / away
        bulge = 1.0
        if chambers[t, k, 7] != 0.0:
            length = np.sqrt(u * u + v * v) + 1e-6
            cosine = u / length
            bulge += chambers[t, k, 7] * (4.0 * cosine**3 - 3.0 * cosine)
        inside = (bulge - away) / max(steepness, 1.0 / max(wide, tall))
        if inside > best:
            second = best
            best, wall, signal = inside, chambers[t, k, 6], chambers[t, k, 9]
        elif inside > second:
            second = inside
    # Neighbours press against each other: the gap at their contact is filled.
    pressed = max(PRESSED_MM - (best - second), 0.0)
    filled = best + 0.25 * pressed * pressed / PRESSED_MM
    blood = min(filled, 0.5 * (best - second) - 0.5 * wall)
    return _share(filled + wall, per_width), _share(blood, per_width), signal


@kernel()
def _leaflet(above: float, spacing: float) -> float:
    """Share of a thin section that is valve leaflet, spread over the distance between sections."""
    return min(1.0 / spacing, 0.7) * max(1.0 - abs(above) / spacing, 0.0)


@kernel()
def _over(below: float, signal: float, share: float) -> float:
    return below + (signal - below) * share


@kernel()
def _between(tables: np.ndarray, t: int, k: int, column: int, part: float) -> float:
    """An entry of a level's table between two angles."""
    return tables[t, k, column] + part * (tables[t, k + 1, column] - tables[t, k, column])


@kernel()
def paint_heart(
    x: np.ndarray,
    y: np.ndarray,
    behind: np.ndarray,
    tables: np.ndarray,
    planes: np.ndarray,
    lv_rods: np.ndarray,
    rv_rods: np.ndarray,
    rod_counts: np.ndarray,
    chambers: np.ndarray,
    chamber_counts: np.ndarray,
    vessels: np.ndarray,
    tile: np.ndarray,
    texture_at: np.ndarray,
    scene: np.ndarray,
    signal: np.ndarray,
    cover: np.ndarray,
    shares: np.ndarray,
) -> None:
    """Mean of thin sections over `behind`.

    Arrays come one by one: numba counts references to those of a tuple at every pixel, which made
    painting four times slower. The layers of a pixel are compiled into it: calls cost an eighth.

    Args:
        x: heart-frame coordinates of the pixels (mm), (n, m).
        y: as `x`.
        behind: what lies behind the heart, (n, m).
        tables: of `Levels`, as are those up to `chamber_counts`.
        planes: see above.
        lv_rods: see above.
        rv_rods: see above.
        rod_counts: see above.
        chambers: see above.
        chamber_counts: see above.
        vessels: of `Surface`, as are those up to `scene`.
        tile: see above.
        texture_at: see above.
        scene: see above.
        signal: out, float32 (n, m).
        cover: out, share of the pixel that is heart, float32 (n, m).
        shares: out, labelled shares of LV, MYO and RV, float32 (3, n, m).
    """
    reach, cosine, sine, wobble = scene[1], scene[2], scene[3], scene[4]
    per_width = 1.0 / scene[0]
    n_levels = planes.shape[0]
    middle_x, middle_y = planes[n_levels // 2, 1], planes[n_levels // 2, 2]
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            from_x, from_y = x[i, j] - middle_x, y[i, j] - middle_y
            base = behind[i, j]
            if from_x * from_x + from_y * from_y > reach * reach:
                signal[i, j] = base
                continue
            at_x = cosine * from_x + sine * from_y
            at_y = cosine * from_y - sine * from_x
            if not _near_heart(at_x, at_y, tables, chambers, chamber_counts):
                signal[i, j] = base
                continue
            coarse = _layered(tile, texture_at, 0.24 * at_x, 0.24 * at_y)
            other = _layered(tile, texture_at, 0.24 * at_x + 91.0, 0.24 * at_y + 37.0)
            swirl = _layered(tile, texture_at, 0.6 * at_x + 17.0, 0.6 * at_y + 133.0)
            fine = _layered(tile, texture_at, 1.7 * at_x + 57.0, 1.7 * at_y + 11.0)
            at_x += wobble * coarse
            at_y += wobble * other
            total = opaque = lv = myo = rv = 0.0
            for t in range(n_levels):
                value, shown, inner, ring, right = _paint_pixel(
                    at_x + middle_x - planes[t, 1],
                    at_y + middle_y - planes[t, 2],
                    t,
                    base,
                    tables,
                    planes,
                    lv_rods,
                    rv_rods,
                    rod_counts,
                    chambers,
                    chamber_counts,
                    vessels,
                    tile,
                    texture_at,
                    scene,
                    per_width,
                    Texture(coarse, swirl, fine),
                )
                total += value
                opaque += shown
                lv += inner
                myo += ring
                rv += right
            signal[i, j] = total / n_levels
            cover[i, j] = opaque / n_levels
            shares[0, i, j] = lv / n_levels
            shares[1, i, j] = myo / n_levels
            shares[2, i, j] = rv / n_levels


@kernel()
def _near_heart(
    x: float, y: float, tables: np.ndarray, chambers: np.ndarray, chamber_counts: np.ndarray
) -> bool:
    """Whether anything of the heart can reach a pixel, judged by the outermost sections."""
    square = x * x + y * y
    k = int(_angle_index(x, y))
    for t in (0, tables.shape[0] // 2, tables.shape[0] - 1):
        outer = tables[t, k, 4] + 5.0
        if square < outer * outer:
            return True
        for c in range(chamber_counts[t]):
            outer = chambers[t, c, 8] + 5.0
            if (x - chambers[t, c, 0]) ** 2 + (y - chambers[t, c, 1]) ** 2 < outer * outer:
                return True
    return False


@kernel()
def _paint_pixel(
    x: float,
    y: float,
    t: int,
    base: float,
    tables: np.ndarray,
    planes: np.ndarray,
    lv_rods: np.ndarray,
    rv_rods: np.ndarray,
    rod_counts: np.ndarray,
    chambers: np.ndarray,
    chamber_counts: np.ndarray,
    vessels: np.ndarray,
    tile: np.ndarray,
    texture_at: np.ndarray,
    scene: np.ndarray,
    per_width: float,
    texture: Texture,
) -> tuple[float, float, float, float, float]:
    """Signal, share of heart, and labelled shares of LV, MYO and RV of one pixel of a level."""
    place = _angle_index(x, y)
    k = int(place)
    part = place - k
    radius = np.sqrt(x * x + y * y)
    thickness = _between(tables, t, k, 13, part)
    pericardium = _between(tables, t, k, 4, part)
    to_pericardium = (pericardium - radius) * tables[t, k, 12]
    if chamber_counts[t] == 0 and to_pericardium < -scene[19] - 1.0 / per_width:
        return base, 0.0, 0.0, 0.0, 0.0
    epicardium = _between(tables, t, k, 1, part)
    outer = _between(tables, t, k, 3, part)
    ring = _share((epicardium - radius) * tables[t, k, 9], per_width) if epicardium > 0.0 else 0.0
    at = Pixel(
        x=x,
        y=y,
        t=t,
        k=k,
        part=part,
        radius=radius,
        per_width=per_width,
        epicardium=epicardium,
        outer=outer,
        ring=ring,
        valve=planes[t, 3] + planes[t, 4] * x + planes[t, 5] * y - planes[t, 0],
        rv_valve=planes[t, 6] + planes[t, 7] * x + planes[t, 8] * y - planes[t, 0],
        muscle=scene[7] * (1.0 + scene[11] * texture.fine),
    )
    value, shown = _paint_fat(base, at, to_pericardium, thickness, tables, vessels, scene, texture)
    if chamber_counts[t] > 0 and (at.valve < 6.0 or at.rv_valve < 6.0):
        value, shown = _paint_above(
            value, shown, at, tables, chambers, chamber_counts, scene, texture
        )
    value, shown, rv = _paint_right(
        value, shown, at, tables, planes, rv_rods, rod_counts, tile, texture_at, scene, texture
    )
    value, shown, lv = _paint_left(
        value, shown, at, tables, planes, lv_rods, rod_counts, scene, texture
    )
    drawn = _share(at.valve, 1.0)
    return (
        value,
        shown,
        lv * drawn,
        (ring - lv) * drawn,
        rv * (1.0 - ring) * _share(at.rv_valve, 1.0),
    )


@kernel(inline="always")
def _paint_fat(
    value: float,
    at: Pixel,
    to_pericardium: float,
    thickness: float,
    tables: np.ndarray,
    vessels: np.ndarray,
    scene: np.ndarray,
    texture: Texture,
) -> tuple[float, float]:
    """Signal and share of heart once the pericardium, the fat and its vessels are over `value`.

    Fat thinner than a pixel fades, so that no ring is left where there is none.
    """
    line = _share(to_pericardium + scene[19], at.per_width) * tables[at.t, at.k, 7]
    value = _over(value, scene[9], line)
    here = min(max(max(thickness, 0.5 * to_pericardium) / 0.9 - 0.15, 0.0), 1.0)
    fat = _share(to_pericardium, at.per_width) * here
    bright = scene[8] * (1.0 + 0.08 * texture.coarse + 0.5 * scene[11] * texture.swirl)
    value = _over(value, bright, fat)
    shown = 1.0 - (1.0 - line) * (1.0 - fat)
    if fat > 0.0:
        for v in range(vessels.shape[0]):
            away = np.sqrt((at.x - vessels[v, 0]) ** 2 + (at.y - vessels[v, 1]) ** 2)
            if away < vessels[v, 2] + 1.5:
                value = _over(value, vessels[v, 3], _share(vessels[v, 2] - away, at.per_width))
    return value, shown


@kernel(inline="always")
def _paint_above(
    value: float,
    shown: float,
    at: Pixel,
    tables: np.ndarray,
    chambers: np.ndarray,
    chamber_counts: np.ndarray,
    scene: np.ndarray,
    texture: Texture,
) -> tuple[float, float]:
    """Signal and share of heart once what stands above the valves is over `value`.

    There both ventricles close like domes, which the chambers then lie over; a flat end would
    leave broad bands where blood and opposed fat cancel.
    """
    t, k = at.t, at.k
    if at.radius < at.outer:
        above = max(-(at.valve if at.radius < at.epicardium else at.rv_valve), 0.0)
        column, border, bright, closing = 2, 10, scene[6], CLOSING[2]
        edge = (at.outer - at.radius) * tables[t, k, 11]
        if at.radius < at.epicardium:
            column, border, bright, closing = 0, 8, scene[5], CLOSING[1]
            edge = (at.epicardium - at.radius) * tables[t, k, 9]
        value = _over(value, at.muscle, _share(edge - CLOSING[0] * above, at.per_width))
        depth = (_between(tables, t, k, column, at.part) - at.radius) * tables[t, k, border]
        value = _over(value, bright, _share(depth - closing * above, at.per_width))
    wall, blood, bright = _chambers(
        chambers,
        t,
        chamber_counts[t],
        at.x + 1.5 * texture.coarse,
        at.y + 1.5 * texture.swirl,
        at.per_width,
    )
    value = _over(value, at.muscle, wall)
    flowing = scene[10] * (0.7 * texture.coarse + 0.4 * texture.swirl)
    value = _over(value, bright * (1.0 + flowing), blood)
    return value, 1.0 - (1.0 - shown) * (1.0 - wall)


@kernel(inline="always")
def _paint_right(
    value: float,
    shown: float,
    at: Pixel,
    tables: np.ndarray,
    planes: np.ndarray,
    rods: np.ndarray,
    rod_counts: np.ndarray,
    tile: np.ndarray,
    texture_at: np.ndarray,
    scene: np.ndarray,
    texture: Texture,
) -> tuple[float, float, float]:
    """Signal and share of heart once the right ventricle is over `value`; share of its cavity."""
    if at.outer - at.epicardium <= 0.05 or at.ring >= 1.0:
        return value, shown, 0.0
    t, k, spacing = at.t, at.k, scene[20]
    below = _share(at.rv_valve, 1.0 / spacing)
    cavity = _between(tables, t, k, 2, at.part)
    is_wall = min((at.outer - at.epicardium) * tables[t, k, 11] * at.per_width, 1.0)
    is_cavity = min((cavity - at.epicardium) * tables[t, k, 10] * at.per_width, 1.0)
    depth = (cavity - at.radius) * tables[t, k, 10]
    wall = _share((at.outer - at.radius) * tables[t, k, 11], at.per_width) * is_wall
    rv = _share(depth, at.per_width) * is_cavity
    if below > 0.0 and wall > 0.0:
        inside = _over(value, at.muscle, wall)
        if rv > 0.0:
            blood = _rv_content(
                at, depth, tables, planes, rods, rod_counts, tile, texture_at, scene, texture
            )
            inside = _over(inside, blood, rv)
        value = _over(value, inside, below)
        shown = 1.0 - (1.0 - shown) * (1.0 - wall * below)
    if at.rv_valve < spacing:
        value = _over(value, at.muscle, rv * _leaflet(at.rv_valve, spacing))
    return value, shown, rv


@kernel(inline="always")
def _paint_left(
    value: float,
    shown: float,
    at: Pixel,
    tables: np.ndarray,
    planes: np.ndarray,
    rods: np.ndarray,
    rod_counts: np.ndarray,
    scene: np.ndarray,
    texture: Texture,
) -> tuple[float, float, float]:
    """Signal and share of heart once the left ventricle is over `value`; share of its cavity."""
    if at.ring <= 0.0:
        return value, shown, 0.0
    spacing, lv = scene[20], 0.0
    below = _share(at.valve, 1.0 / spacing)
    endocardium = _between(tables, at.t, at.k, 0, at.part)
    depth = (endocardium - at.radius) * tables[at.t, at.k, 8]
    if endocardium > 0.2:
        lv = min(_share(depth, at.per_width), at.ring)
    if below > 0.0:
        inside = _over(value, at.muscle, at.ring)
        if lv > 0.0:
            blood = _lv_content(at, depth, tables, planes, rods, rod_counts, scene, texture)
            inside = _over(inside, blood, lv)
        value = _over(value, inside, below)
        shown = 1.0 - (1.0 - shown) * (1.0 - at.ring * below)
    if at.valve < spacing:
        value = _over(value, at.muscle, lv * _leaflet(at.valve, spacing))
    return value, shown, lv


@kernel()
def _lv_content(
    at: Pixel,
    depth: float,
    tables: np.ndarray,
    planes: np.ndarray,
    rods: np.ndarray,
    rod_counts: np.ndarray,
    scene: np.ndarray,
    texture: Texture,
) -> float:
    """Signal inside the endocardium: blood that flows, trabeculae, papillary muscles."""
    coarse, swirl, fine = texture
    share = planes[at.t, 9]
    bite = _between(tables, at.t, at.k, 5, at.part)
    blood = 1.0 + scene[10] * (0.6 * coarse + 0.35 * swirl + 0.25 * fine)
    blood += scene[12] * (share - 0.5)
    still = min(max(0.5 - share, 0.0), 0.5) + 0.4 * max(1.0 - depth / 5.0, 0.0)
    blood -= scene[13] * still
    if scene[14] > 0.0 and at.valve < 28.0:
        away = ((at.x - scene[15]) ** 2 + (at.y - scene[16]) ** 2) / (scene[17] * scene[17])
        if away < 4.0:
            near = np.exp(-1.5 * away) * (1.0 - max(at.valve, 0.0) / 28.0)
            blood -= scene[14] * near * min(max(0.6 + 0.5 * swirl, 0.0), 1.0)
    blood = scene[5] * max(blood, 0.15)
    # Trabeculae: the serrated border, with blood caught between its teeth.
    caught = min(max(0.5 + 0.35 * fine, 0.0), 1.0)
    free = _share(depth - bite * (0.75 + 0.25 * caught), 0.8 * at.per_width)
    solid = 1.0 - free
    count = rod_counts[at.t, 0]
    if count > 0:
        rough = 0.6 * swirl + 0.4 * coarse
        solid = max(solid, _rods(rods, at.t, count, at.x, at.y, rough, at.per_width))
    return blood + (at.muscle - blood) * solid


@kernel()
def _rv_content(
    at: Pixel,
    depth: float,
    tables: np.ndarray,
    planes: np.ndarray,
    rods: np.ndarray,
    rod_counts: np.ndarray,
    tile: np.ndarray,
    texture_at: np.ndarray,
    scene: np.ndarray,
    texture: Texture,
) -> float:
    """Signal inside the right ventricle: blood, trabeculae of the free wall, bands."""
    coarse, swirl, fine = texture
    share = planes[at.t, 9]
    bite = _between(tables, at.t, at.k, 6, at.part)
    slow = 0.5 * scene[13] * (1.0 - share)
    flowing = scene[10] * (0.6 * coarse + 0.35 * swirl + 0.25 * fine)
    blood = scene[6] * max(1.0 + flowing - slow, 0.2)
    solid = 1.0 - _share(depth - bite, 0.8 * at.per_width)
    reach = 5.0 + 28.0 * max(0.8 - share, 0.0)
    near = 1.0 - depth / reach
    if near > 0.0 and scene[18] > 0.0:
        u, v = 0.8 * at.x + 201.0, 0.8 * at.y + 77.0
        ridge = abs(_layered(tile, texture_at, u, v))
        width = min(0.8 * scene[18] * (1.25 - share), 0.6) * min(near * 1.6, 1.0)
        solid = max(solid, min(max((width - ridge) / 0.25, 0.0), 0.9))
    count = rod_counts[at.t, 1]
    if count > 0:
        solid = max(solid, _rods(rods, at.t, count, at.x, at.y, swirl, at.per_width))
    return blood + (at.muscle - blood) * solid


@kernel(fastmath=False)
def drop_specks(labels: np.ndarray, value: int, least: float) -> None:
    """Set pieces of `value` of less than `least` pixels (joined by edges) to 0, in place."""
    rows, columns = labels.shape
    seen = np.zeros((rows, columns), np.bool_)
    piece = np.empty((rows * columns, 2), np.int32)
    for i in range(rows):
        for j in range(columns):
            if labels[i, j] != value or seen[i, j]:
                continue
            seen[i, j] = True
            piece[0, 0], piece[0, 1] = i, j
            count, at = 1, 0
            while at < count:
                for side in range(4):
                    k = piece[at, 0] + (side == 0) - (side == 1)
                    m = piece[at, 1] + (side == 2) - (side == 3)
                    if not (0 <= k < rows and 0 <= m < columns) or seen[k, m]:
                        continue
                    if labels[k, m] == value:
                        seen[k, m] = True
                        piece[count, 0], piece[count, 1] = k, m
                        count += 1
                at += 1
            if count < least:
                for at in range(count):
                    labels[piece[at, 0], piece[at, 1]] = 0
