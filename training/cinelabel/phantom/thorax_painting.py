"""Painting of the body round the heart: one compiled kernel from analytic shapes to a plane.

Distances to ellipsoids are taken to first order (Taubin, IEEE TPAMI 1994). Signals mix linearly by
soft shares as wide as a pixel; borders oblique to the plane are softened over the slice's
thickness, as partial volume does. Coordinates are RAS in mm, S = 0 at the heart's centre.
"""

from __future__ import annotations

import numpy as np

from cinelabel.phantom.compiled import kernel

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

OUTSIDE, IN_LUNG, IN_ABDOMEN, IN_LIVER, BESIDE_LIVER, ANYWHERE = range(6)
"""Compartments a shape is clipped to."""

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


@kernel(inline="always")
def _soft(distance, width):  # type: ignore[no-untyped-def]
    return min(max(distance / width + 0.5, 0.0), 1.0)


@kernel(inline="always")
def _step(low, high, value):  # type: ignore[no-untyped-def]
    """Smooth step from 0 at low to 1 at high."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return share * share * (3.0 - 2.0 * share)


@kernel()
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


@kernel()
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


@kernel(fastmath=False)
def least_depth(body, points):  # type: ignore[no-untyped-def]
    least = 1e9
    for index in range(points.shape[0]):
        depth = _cage(body, points[index, 0], points[index, 1], points[index, 2])[0]
        least = min(least, depth)
    return least


@kernel()
def diaphragm(body, r, a):  # type: ignore[no-untyped-def]
    """Height S of the diaphragm over (r, a) and its slopes along r and a."""
    deep = body.half_depth if a < 0.0 else 1.6 * body.half_depth  # it ends higher in front
    u, v = r / body.half_width, a / deep
    q = u * u + v * v
    height = body.diaphragm_top - body.diaphragm_drop * q * q + body.diaphragm_tilt * v
    steep = -4.0 * body.diaphragm_drop * q
    slope_r, slope_a = steep * u / body.half_width, steep * v / deep
    right = max(1.0 - ((u - 0.5) / 0.55) ** 2 - v * v, 0.0)
    left = max(1.0 - ((u + 0.55) / 0.5) ** 2 - v * v, 0.0)
    height += body.dome_right * right * right + body.dome_left * left * left
    return height, slope_r, slope_a


@kernel(fastmath=False)
def heights_above(body, points):  # type: ignore[no-untyped-def]
    """Heights of the points above the diaphragm."""
    heights = np.empty(points.shape[0])
    for index in range(points.shape[0]):
        heights[index] = points[index, 2] - diaphragm(body, points[index, 0], points[index, 1])[0]
    return heights


@kernel()
def spine_line(body, s):  # type: ignore[no-untyped-def]
    """A of the middle of the vertebral bodies at height s."""
    rise = max(s - 30.0, 0.0) / body.top
    depth = body.half_depth * (1.0 - 0.30 * min(rise, 1.2) ** 2)
    return -depth - body.slope * max(s, -80.0) + 0.85 * body.spine_radius


@kernel()
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


@kernel()
def _ribs(body, fat, muscle, marrow, front, out, r, lean, s, width):  # type: ignore[no-untyped-def]
    """Signal inside the rib layer: ribs or cartilage with dark cortex, muscle, sternum."""
    across = out - 0.5 * body.rib_layer
    value = muscle
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


@kernel()
def _spine(body, signals, value, r, a, s, width):  # type: ignore[no-untyped-def]
    """Vertebrae, discs, canal and processes over `value`; also the share of the spine."""
    radius = body.spine_radius
    fat, muscle, marrow = signals[FAT], signals[MUSCLE], signals[MARROW]
    ahead = a - spine_line(body, s)
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


@kernel()
def outline(envelope, height):  # type: ignore[no-untyped-def]
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


@kernel()
def _sac(body, row, x, y, z):  # type: ignore[no-untyped-def]
    """Depth inside the heart's envelope; x, y, z from the middle of the LV axis."""
    x, y = x - body.axis_tilt_x * z, y - body.axis_tilt_y * z
    turn = y / (abs(x) + abs(y) + 1e-6)
    turn = (2.0 - turn if x < 0.0 else turn + 4.0) * (0.25 * SECTORS)
    first = int(turn)
    share = turn - first
    low, high = row[first % SECTORS], row[(first + 1) % SECTORS]
    return low + (high - low) * share - np.sqrt(x * x + y * y)


@kernel()
def _inside(body, signals, lattice, r, a, s, sac, depth, tilt, width):  # type: ignore[no-untyped-def]
    """Lung, mediastinum and abdomen: signal and the shares of lung, abdomen and liver."""
    fat, muscle = signals[FAT], signals[MUSCLE]
    height, slope_r, slope_a = diaphragm(body, r, a)
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


@kernel()
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


@kernel()
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
            share = _soft(distance, edge) * clip
            image[i, j] = value + (inner - value) * share
            shares[IN_LIVER, i, j] *= 1.0 - share


@kernel()
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


@kernel()
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


@kernel()
def paint_body(body, row, organs, tubes, lattice, signals, corner, pixel, texture, image, moving):  # type: ignore[no-untyped-def]
    """The whole body on one plane, in place; see `paint_thorax`."""
    rows, columns = image.shape
    warped = np.empty((rows, columns, 3), np.float32)
    shares = np.ones((6, rows, columns), np.float32)
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
            if abs(r) < 60.0 and a < spine_line(body, s) + 40.0 and depth > -70.0:
                value, spine = _spine(body, signals, value, r, a, s, pixel + 1.0)
            image[i, j] = value
            moving[i, j] = _soft(depth - 3.0, 7.0) * (1.0 - spine)
            shares[OUTSIDE, i, j] = _soft(-depth - body.rib_layer - body.muscle - 1.0, 2.0)
            shares[IN_LUNG, i, j] = lung * within * (1.0 - spine)
            shares[IN_ABDOMEN, i, j] = belly * within * (1.0 - spine)
            shares[BESIDE_LIVER, i, j] = (belly - liver) * within * (1.0 - spine)
            shares[IN_LIVER, i, j] = liver * within * (1.0 - spine)
    for index in range(organs.shape[0]):
        _paint_organ(organs[index], signals, lattice, corner, warped, shares, pixel, image)
    for index in range(tubes.shape[0]):
        _paint_tube(tubes[index], signals, corner, warped, shares, pixel, image)
    for i in range(rows):
        for j in range(columns):
            r, a, s = warped[i, j, 0] * 0.17, warped[i, j, 1] * 0.17, warped[i, j, 2] * 0.17
            image[i, j] *= 1.0 + texture * _noise(lattice, r, a, s)


@kernel()
def paint_plain(lattice, corner, image, moving):  # type: ignore[no-untyped-def]
    """One smooth random field and nothing else, all of it moving."""
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            r = corner[0, 0] + i * corner[1, 0] + j * corner[2, 0]
            a = corner[0, 1] + i * corner[1, 1] + j * corner[2, 1]
            s = corner[0, 2] + i * corner[1, 2] + j * corner[2, 2]
            field = _noise(lattice, r * 0.014, a * 0.014, s * 0.014)
            image[i, j] = 0.05 + 0.45 * min(max(0.5 + 0.35 * field, 0.0), 1.0)
            moving[i, j] = 1.0
