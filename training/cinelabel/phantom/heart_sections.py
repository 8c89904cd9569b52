"""Borders of short-axis sections of the heart and their volumes: the compiled part of anatomy.

The wall keeps its volume: at a share of the length, the area between the borders grows as the
heart shortens (Arts et al., Biophys J 1991). The right ventricle is a rounded polygon about the
LV's axis, the p-norm of its sides' gauge functions, minus the left ventricle: triangles near the
apex, crescents in the middle, boxes that widen to the outflow tract.
"""

from __future__ import annotations

import numpy as np

from cinelabel.phantom.compiled import kernel

ANGLES = 360
ANGLE_TABLE = (np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)) - np.float32(
    np.pi
)
"""Angles in [-pi, pi) at which every border is tabulated."""
BORDERS = 5
"""Endocardium, epicardium, RV cavity, RV outer border, pericardium."""


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles brought into [-pi, pi)."""
    return (angle + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi)


def chord(flattening: float) -> np.ndarray:
    """Form of a cavity whose septum is flattened to a chord, 0 (round) to 0.35, (ANGLES,)."""
    distance = max(1.25 - 1.8 * flattening, 0.5)
    gauge = np.maximum(np.cos(ANGLE_TABLE), 0.0) / np.float32(distance)
    return ((1.0 + gauge**10) ** np.float32(-0.1)).astype(np.float32)


@kernel()
def _whole_power(value: float, power: int) -> float:
    """value ** power by squaring."""
    result = 1.0
    while power > 0:
        if power & 1:
            result *= value
        value *= value
        power >>= 1
    return result


@kernel()
def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@kernel(inline="always")
def _kept(forms: np.ndarray, shift: int, stride: int) -> float:
    """Factor by which the closing form keeps the area of the cavity that it deforms."""
    round_area, closing_area = 1e-9, 1e-9
    for i in range(0, 360, stride):
        form = forms[1, i] * forms[7, i]
        closed = form * forms[2, (i + shift) % 360]
        round_area += form * form
        closing_area += closed * closed
    return np.sqrt(round_area / closing_area)


@kernel()
def _left(
    z: float,
    contraction: float,
    scalars: np.ndarray,
    forms: np.ndarray,
    patches: np.ndarray,
    around: np.ndarray,
    stride: int,
    out: np.ndarray,
) -> float:
    """Fill endocardium and epicardium; returns the epicardium's mean radius."""
    length_ed = scalars[0]
    length = length_ed - scalars[1] * contraction
    height = z / length
    clipped = _clip(height, 0.0, 1.0)
    outline = (1.0 - (1.0 - clipped) ** scalars[5]) ** scalars[6]
    outline *= 1.0 - scalars[4] * max(clipped - 0.65, 0.0)
    radius_ed = scalars[2] * outline
    radius_es = max(scalars[3] * outline - scalars[9] * (1.0 - clipped) ** 1.5, 0.0)
    wall_here = scalars[7] * (0.78 + 0.22 * clipped)
    wall_here *= max(1.0 - 2.2 * max(height - 1.0, 0.0), 0.2)
    cap = 1.0
    if z < 0.0:
        cap = np.sqrt(max(1.0 - (z / scalars[8]) ** 2, 0.0))
    shift = int(scalars[10] * clipped * (360.0 / 6.2831853)) % 360
    weights = np.zeros(8, np.float32)
    for b in range(patches.shape[0]):
        away = (clipped - patches[b, 1]) / patches[b, 2]
        weights[b] = patches[b, 3] * np.exp(-0.5 * away * away)
    keep = _kept(forms, shift, stride)
    total, count = 0.0, 0
    for i in range(0, 360, stride):
        wall = wall_here * forms[0, i]
        motion, bulge = 1.0, 1.0
        for b in range(patches.shape[0]):
            here = weights[b] * around[b, i]
            if patches[b, 0] == 0.0:
                wall *= 1.0 + here
            elif patches[b, 0] == 1.0:
                wall *= 1.0 - 0.5 * min(here, 1.2)
                motion *= 1.0 - min(here, 1.25)
            else:
                bulge += here
        wall = max(wall, 1.8)
        endo_ed = radius_ed * forms[1, i] * forms[6, i] * bulge
        round_es = radius_es * forms[1, i] * forms[7, i] * bulge
        # The wall outside does not follow the slits and corners of a closing cavity.
        level = max(endo_ed + (round_es - endo_ed) * contraction * motion, 0.0)
        endo_es = round_es * keep * forms[2, (i + shift) % 360]
        endo = max(endo_ed + (endo_es - endo_ed) * contraction * motion, 0.0)
        area = (endo_ed + wall) ** 2 - endo_ed * endo_ed
        epi = np.sqrt(level * level + area * (length_ed / length))
        endo = min(endo, max(epi - 1.5, 0.6 * epi))
        if z < 0.0:
            endo = 0.0
            epi *= cap
        out[0, i] = endo
        out[1, i] = epi
        total += epi
        count += 1
    return total / count


@kernel(inline="always")
def _side(angle: float, distance: float) -> tuple[float, float, float]:
    """A side of the RV: cosine and sine of where it looks to, and 1 / distance from the axis."""
    return np.cos(angle), np.sin(angle), 1.0 / (distance + 1e-3)


@kernel()
def _right(
    z: float,
    contraction: float,
    radius: float,
    scalars: np.ndarray,
    forms: np.ndarray,
    stride: int,
    out: np.ndarray,
) -> None:
    """Fill the RV's cavity and outer border; `radius` is the epicardium's mean radius."""
    length = scalars[0] - scalars[1] * contraction
    height = z / length
    apex = scalars[13]
    rise = _clip((height - apex) / (1.0 - apex), 0.0, 1.15)
    over = max(z - (length + scalars[26] - scalars[25] * contraction), 0.0)
    beyond = max(over - 8.0, 0.0) / 18.0
    fade = max(1.0 - beyond * beyond, 0.0)
    depth = scalars[11] * (1.0 - scalars[12] * contraction) * min(rise, 0.85) ** 0.55 * fade
    depth *= _clip(radius / 10.0, 0.0, 1.0)
    share = _clip(height, 0.0, 1.0)
    window = scalars[15] + (scalars[14] - scalars[15]) * share
    turn = scalars[16] + scalars[17] * share
    squeeze = scalars[23] * contraction
    narrow = 0.6 + 0.4 * min(rise * 1.3, 1.0)
    widening = scalars[22] * _clip((height - 0.55) / 0.45, 0.0, 1.2)
    # A side that looks to `flare` and meets the epicardium at the insertion has this distance.
    opening = 0.4 * _clip((height - 0.35) / 0.5, 0.0, 1.0)
    to_inferior, to_anterior = scalars[28] + opening, scalars[29] + opening
    inferior = to_inferior - ((scalars[18] - squeeze) * narrow - beyond)
    anterior = to_anterior - ((scalars[19] - squeeze) * narrow + widening)
    inferior = max(np.cos(max(inferior, 0.0)), 0.05)
    anterior = max(np.cos(max(anterior, 0.0)), 0.05)
    power = int(scalars[21])
    # Free wall, anterior shoulder, inferior wall, anterior wall, inferior shoulder.
    sides = (
        _side(turn, radius + depth),
        _side(turn + 0.85, radius + depth * scalars[20]),
        _side(turn - to_inferior, radius * inferior),
        _side(turn + to_anterior, radius * anterior),
        _side(turn - 0.80, radius + depth * scalars[30]),
    )
    wall = scalars[24] * (1.0 + 0.4 * contraction)
    middle = turn + 0.12 * share
    for i in range(0, 360, stride):
        epi = out[1, i]
        out[2, i] = epi
        out[3, i] = epi
        if depth <= 0.2 or epi <= 0.0:
            continue
        angle = i * (6.2831853 / 360.0) - 3.14159265 - middle
        if angle < -3.14159265:
            angle += 6.2831853
        elif angle >= 3.14159265:
            angle -= 6.2831853
        inside = _clip((window - abs(angle)) / 0.4, 0.0, 1.0)
        if inside == 0.0:
            continue
        cosine, sine = forms[4, i], forms[5, i]
        gauge = 0.0
        for across, along, closeness in sides:
            towards = cosine * across + sine * along
            gauge += _whole_power(max(towards, 0.0) * closeness, power)
        off = gauge ** (-1.0 / power) - epi
        if off <= 0.0:
            continue
        off *= inside * inside * (3.0 - 2.0 * inside)
        out[2, i] = epi + off
        out[3, i] = epi + off + wall * _clip(off / 3.0, 0.0, 1.0)


@kernel()
def _fat(
    z: float, contraction: float, scalars: np.ndarray, forms: np.ndarray, out: np.ndarray
) -> None:
    """Fill the pericardium: fat round both ventricles, more over the RV and in the grooves."""
    length = scalars[0] - scalars[1] * contraction
    height = z / length
    first, last = -1, -1
    for i in range(360):
        if out[2, i] - out[1, i] > 0.5:
            if first < 0:
                first = i
            last = i
    near_base = 1.0 + 0.8 * _clip(height - 0.75, 0.0, 0.4)
    tip = 1.0
    if z < -scalars[8]:
        tip = _clip(1.0 + (z + scalars[8]) / 12.0, 0.0, 1.0)
    for i in range(360):
        off = out[2, i] - out[1, i]
        over = 1.0 + 1.1 * _clip(off / 3.0, 0.0, 1.0)
        groove = 0.0
        if first >= 0:
            for edge in (first, last):
                steps = abs(i - edge)
                away = min(steps, 360 - steps) / 12.0
                groove += np.exp(-0.5 * away * away)
        fat = scalars[27] * (forms[3, i] * over + 1.2 * groove) + 0.8 * groove
        out[4, i] = max(out[3, i], out[1, i]) + fat * near_base * tip


@kernel(fastmath=False)
def section_tables(
    z: float,
    contraction: float,
    scalars: np.ndarray,
    forms: np.ndarray,
    patches: np.ndarray,
    around: np.ndarray,
) -> np.ndarray:
    """Borders at height z (mm) and a contraction, float32 (BORDERS, ANGLES).

    Args:
        z: height above the apex of the cavity (mm).
        contraction: 0 at ED to 1 at ES.
        scalars: in the order of `Heart._packed`, float32.
        forms: modulations of wall, cavity, closing and fat, cosine and sine of the angles, chord
            of the septum at ED and at ES, float32 (8, ANGLES).
        patches: kind (0 thickening, 1 scar, 2 aneurysm), height, its width, amount, (k, 4), k <= 8.
        around: each patch's weight round the axis, (k, ANGLES).
    """
    out = np.zeros((BORDERS, 360), np.float32)
    radius = _left(z, contraction, scalars, forms, patches, around, 1, out)
    _right(z, contraction, radius, scalars, forms, 1, out)
    _fat(z, contraction, scalars, forms, out)
    return out


@kernel()
def enclose_discs(discs: np.ndarray, share: float, border: np.ndarray) -> None:
    """Widen a border in place towards discs: their x, y and radius (mm), float32 (k, 3).

    `share` is how far it goes out to where a ray from the axis leaves a disc, 0 to 1.
    """
    for k in range(discs.shape[0]):
        x, y, radius = discs[k, 0], discs[k, 1], discs[k, 2]
        for i in range(360):
            angle = i * (6.2831853 / 360.0) - 3.14159265
            cosine, sine = -np.cos(angle), np.sin(angle)
            beside = x * sine - y * cosine
            half = radius * radius - beside * beside
            if half <= 0.0:
                continue
            leave = x * cosine + y * sine + np.sqrt(half)
            if leave > border[i]:
                border[i] += share * (leave - border[i])


@kernel()
def _below(low: float, high: float, rise: float, room: float) -> float:
    """Half the difference of squares of radii from low to high where rise * radius > -room.

    That is the sector's area over its angle that lies below a valve plane which is `room` mm above
    at the axis and climbs by `rise` a mm.
    """
    if rise > 1e-6:
        low = max(low, -room / rise)
    elif rise < -1e-6:
        high = min(high, -room / rise)
    elif room <= 0.0:
        return 0.0
    if high <= low:
        return 0.0
    return 0.5 * (high * high - low * low)


@kernel(fastmath=False)
def section_volumes(
    low: float,
    high: float,
    count: int,
    stride: int,
    contraction: float,
    planes: np.ndarray,
    scalars: np.ndarray,
    forms: np.ndarray,
    patches: np.ndarray,
    around: np.ndarray,
) -> np.ndarray:
    """Volumes of LV, MYO and RV below the valve planes in ml, float64 (3,).

    Args:
        low: lowest height (mm); `high` the highest, `count` sections between.
        high: see above.
        count: see above.
        stride: step on the angle table.
        contraction: 0 at ED to 1 at ES.
        planes: height at the axis and slopes along x and y of the mitral, then the tricuspid plane.
        scalars: as for `section_tables`; `forms`, `patches` and `around` too.
        forms: see above.
        patches: see above.
        around: see above.
    """
    out = np.zeros((BORDERS, 360), np.float32)
    volumes = np.zeros(3)
    step = (high - low) / count
    for k in range(count):
        z = low + (k + 0.5) * step
        radius = _left(z, contraction, scalars, forms, patches, around, stride, out)
        _right(z, contraction, radius, scalars, forms, stride, out)
        for i in range(0, 360, stride):
            cosine, sine = forms[4, i], forms[5, i]
            rise = planes[2] * sine - planes[1] * cosine
            rv_rise = planes[5] * sine - planes[4] * cosine
            room, rv_room = planes[0] - z, planes[3] - z
            volumes[0] += _below(0.0, out[0, i], rise, room)
            volumes[1] += _below(out[0, i], out[1, i], rise, room)
            volumes[2] += _below(out[1, i], out[2, i], rv_rise, rv_room)
    return volumes * (step * stride * (6.2831853 / 360.0) / 1000.0)
