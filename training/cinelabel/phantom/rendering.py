"""From anatomy to one ideal slice: signal and labels on a grid of pixels, before any acquisition.

Layers are painted from back to front with soft edges one pixel wide; a thick slice is the mean of
several thin ones, so borders that are oblique to the plane blur as they do in a scanner.

Labels follow the readers of ACDC (Bernard et al. 2018): papillary muscles and trabeculae belong to
the cavity, the basal slice is the last with muscle on at least half of the circumference, and the
right ventricle is not drawn where the left one is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinelabel.core.labels import LV, MYO, RV
from cinelabel.phantom.anatomy import ANGLES, Heart, Section
from cinelabel.phantom.fields import smooth_field
from cinelabel.phantom.thorax import Thorax, paint_thorax, soft
from cinelabel.phantom.tissue import Tissues

BASE_SHARE = 0.5
"""Least share of the circumference that must be muscle for a slice to carry labels."""
THIN_SLICES = (-0.36, 0.0, 0.36)
"""Heights of the thin slices that make a thick one, in slice thicknesses."""


@dataclass(frozen=True)
class Subject:
    """A heart in its surroundings with the signals of one scanner."""

    heart: Heart
    thorax: Thorax
    tissues: Tissues
    trabeculation: tuple[float, float]
    texture_seed: int


@dataclass(frozen=True)
class Plane:
    """A plane's pixels: heart-frame coordinates (n, m) in mm, and the pixel size."""

    x: np.ndarray
    y: np.ndarray
    pixel: float


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
    if mirrored:
        first = -first
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x = np.float32(centre[0]) + cosine * first[:, None] - sine * second[None]
    y = np.float32(centre[1]) + sine * first[:, None] + cosine * second[None]
    return Plane(x.astype(np.float32), y.astype(np.float32), pixel)


def background(subject: Subject, view: Plane, height: float) -> np.ndarray:
    """Signal of the surroundings, the same at all phases, float32 (n, m)."""
    return paint_thorax(
        subject.thorax, subject.tissues, view.x, view.y, height, max(view.pixel, 1.0)
    )


def render(
    subject: Subject,
    view: Plane,
    height: float,
    thickness: float,
    contraction: float,
    behind: np.ndarray | None = None,
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
        (signal float32 (n, m), labels uint8 (n, m)).
    """
    image = background(subject, view, height) if behind is None else behind.copy()
    box = _heart_box(subject.heart, view, height)
    if box is None:
        return image, np.zeros(image.shape, np.uint8)
    rng = np.random.default_rng((subject.texture_seed, int(round(height * 10)) & 0xFFFF))
    shape = image[box].shape
    textures = _Textures(
        smooth_field(rng, shape, 5), smooth_field(rng, shape, 22), smooth_field(rng, shape, 12)
    )
    total = np.zeros(shape, np.float32)
    occupancy = np.zeros((3, *shape), np.float32)
    labelled = _readers_draw(subject.heart, height, contraction)
    for offset in THIN_SLICES:
        level = height + offset * thickness
        painted, cover = _paint_heart(subject, view, box, image[box], level, contraction, textures)
        total += painted
        occupancy += cover
    image[box] = total / len(THIN_SLICES)
    labels = np.zeros(image.shape, np.uint8)
    if labelled:
        occupancy /= len(THIN_SLICES)
        labels[box] = _labels(occupancy)
    return image, labels


@dataclass(frozen=True)
class _Textures:
    coarse: np.ndarray
    fine: np.ndarray
    medium: np.ndarray


def _labels(occupancy: np.ndarray) -> np.ndarray:
    rest = 1.0 - occupancy.sum(0)
    stack = np.concatenate([rest[None], occupancy])
    values = np.array([0, LV.value, MYO.value, RV.value], np.uint8)
    return values[stack.argmax(0)]


def _readers_draw(heart: Heart, height: float, contraction: float) -> bool:
    """Whether a reader draws this slice: muscle there, and on enough of the circumference."""
    endo, epi = heart.lv_borders(height, contraction)
    if not epi.any():
        return False
    angles = np.linspace(-np.pi, np.pi, 72, endpoint=False)
    middle = 0.5 * float(endo.mean() + epi.mean())
    x, y = -middle * np.cos(angles), middle * np.sin(angles)
    share = float(np.mean(heart.valve_height(x, y, contraction) > height))
    return share >= BASE_SHARE


def _axis_position(heart: Heart, height: float) -> tuple[float, float]:
    """Where the tilted long axis crosses a plane, the middle of the ventricle at the origin."""
    rise = height - 0.5 * heart.length_ed
    return heart.axis_tilt[0] * rise, heart.axis_tilt[1] * rise


def _heart_box(heart: Heart, view: Plane, height: float) -> tuple[slice, slice] | None:
    reach = 1.6 * (heart.radius_ed + heart.wall) + heart.rv_depth + 4.0 * heart.fat + 30.0
    axis = _axis_position(heart, height)
    near = np.hypot(view.x - np.float32(axis[0]), view.y - np.float32(axis[1])) < reach
    rows, columns = near.any(1), near.any(0)
    if not rows.any():
        return None
    return (
        slice(int(rows.argmax()), int(len(rows) - rows[::-1].argmax())),
        slice(int(columns.argmax()), int(len(columns) - columns[::-1].argmax())),
    )


def _paint_heart(
    subject: Subject,
    view: Plane,
    box: tuple[slice, slice],
    behind: np.ndarray,
    height: float,
    contraction: float,
    textures: _Textures,
) -> tuple[np.ndarray, np.ndarray]:
    """One thin slice: signal and the shares of LV, MYO and RV in each pixel of the box."""
    heart, tissues = subject.heart, subject.tissues
    axis = _axis_position(heart, height)
    x = view.x[box] - np.float32(axis[0])
    y = view.y[box] - np.float32(axis[1])
    x = x + np.float32(1.1) * textures.coarse
    edge = max(view.pixel, 1.0)
    radius = np.hypot(x, y)
    angle = np.arctan2(y, -x)
    index = ((angle + np.float32(np.pi)) * np.float32(ANGLES / (2 * np.pi))).astype(np.int32)
    index %= ANGLES
    section = heart.section(height, contraction)

    image = behind + (np.float32(tissues["pericardium"]) - behind) * soft(
        section.pericardium[index] + np.float32(1.2) - radius, edge
    )
    image = _paint(image, tissues["fat"], section.pericardium[index] - radius, edge)
    outline = np.maximum(section.rv_outer, section.epicardium)[index] - radius
    line = np.exp(-((outline / np.float32(0.8 * edge)) ** 2))
    line = np.maximum(line, np.exp(-(((outline + fat_reach(section, index)) / edge) ** 2)))
    image = image * (1.0 - np.float32(tissues.ink) * line)
    ventricular = soft(heart.valve_height(x, y, contraction) - np.float32(height), 3.0)
    rv_below = soft(heart.rv_valve_height(x, y, contraction) - np.float32(height), 3.0)
    muscle = tissues["myocardium"] * (1.0 + tissues.tissue_texture * textures.fine)
    beyond = soft(radius - section.epicardium[index], edge)
    rv_wall = soft(section.rv_outer[index] - radius, edge) * beyond
    image = image + (muscle - image) * rv_wall
    rv_share = soft(section.rv_cavity[index] - radius, edge) * beyond
    image = image + (_rv_blood(subject, section, index, radius, textures) - image) * rv_share

    atrial = np.float32(0.25) + np.float32(0.75) * ventricular
    outer = section.endocardium[index]
    outer = outer + (section.epicardium - section.endocardium)[index] * atrial
    image = image + (muscle - image) * soft(outer - radius, edge)
    endo = soft(section.endocardium[index] - radius, edge)
    blood = _lv_blood(subject, section, index, radius, height, contraction, x, y, textures, edge)
    image = image + (blood - image) * endo

    image = _paint_vessels(image, heart, tissues, x, y, height, contraction, edge)

    ring = soft(section.epicardium[index] - radius, edge)
    cavity = soft(section.endocardium[index] - radius, edge)
    cover = np.stack([cavity, ring - cavity, rv_share * rv_below * (1.0 - ring)])
    return image.astype(np.float32), np.clip(cover, 0.0, 1.0)


def fat_reach(section: Section, index: np.ndarray) -> np.ndarray:
    """Thickness of the fat round the heart at each pixel's angle, in mm."""
    return (section.pericardium - np.maximum(section.rv_outer, section.epicardium))[index]


def _paint(image: np.ndarray, signal: float, distance: np.ndarray, edge: float) -> np.ndarray:
    return image + (np.float32(signal) - image) * soft(distance, edge)


def _paint_vessels(
    image: np.ndarray,
    heart: Heart,
    tissues: Tissues,
    x: np.ndarray,
    y: np.ndarray,
    height: float,
    contraction: float,
    edge: float,
) -> np.ndarray:
    """Atria and great vessels, growing out of the valve plane."""
    above = height - heart.length(contraction)
    if above <= 0.0:
        return image
    opened = min(1.0, 0.4 + above / 18.0)
    for vessel in heart.vessels:
        wide, tall = vessel.radius_x * opened, vessel.radius_y * opened
        distance = 1.0 - np.hypot(
            (x - np.float32(vessel.x)) / wide, (y - np.float32(vessel.y)) / tall
        )
        distance = distance * np.float32(min(wide, tall))
        image = _paint(image, tissues["myocardium"], distance + np.float32(vessel.wall), edge)
        image = _paint(image, tissues["vessel"], distance, edge)
    return image


def _rv_blood(
    subject: Subject, section: Section, index: np.ndarray, radius: np.ndarray, textures: _Textures
) -> np.ndarray:
    """Blood of the right ventricle, darkened where trabeculae run along its free wall."""
    tissues = subject.tissues
    blood = tissues["rv_blood"] * (1.0 + tissues.blood_texture * textures.medium)
    inner = section.rv_cavity[index] - radius
    band = np.clip(1.0 - inner / np.float32(10.0), 0.0, 1.0)
    share = np.clip(subject.trabeculation[1] * band * (textures.fine + 0.6), 0.0, 0.9)
    return blood + (np.float32(tissues["myocardium"]) - blood) * share


def _lv_blood(
    subject: Subject,
    section: Section,
    index: np.ndarray,
    radius: np.ndarray,
    height: float,
    contraction: float,
    x: np.ndarray,
    y: np.ndarray,
    textures: _Textures,
    edge: float,
) -> np.ndarray:
    """Blood of the left ventricle with its papillary muscles and trabeculae."""
    heart, tissues = subject.heart, subject.tissues
    blood = tissues["blood"] * (1.0 + tissues.blood_texture * textures.coarse)
    endo = section.endocardium[index]
    share_of_length = height / heart.length(contraction)
    reach_of_trabeculae = np.float32(3.0 + 0.16 * float(endo.max()))
    band = np.clip(1.3 - (endo - radius) / reach_of_trabeculae, 0.0, 1.0)
    rough = subject.trabeculation[0] * (1.4 - share_of_length)
    muscle = np.clip(rough * band * (textures.fine + 0.5), 0.0, 0.9)
    for angle, size, distance, root in heart.papillaries:
        if not root < share_of_length < root + 0.5:
            continue
        at = int((angle % (2 * np.pi) + np.pi) / (2 * np.pi) * ANGLES) % ANGLES
        wide = min(size, 0.55 * float(section.endocardium[at]))
        reach = max(float(section.endocardium[at]) - distance * wide, 0.0)
        centre_x, centre_y = -reach * np.cos(angle), reach * np.sin(angle)
        gap = np.float32(wide) - np.hypot(x - np.float32(centre_x), y - np.float32(centre_y))
        muscle = np.maximum(muscle, soft(gap, edge))
    return blood + (np.float32(tissues["myocardium"]) - blood) * muscle
