"""Whole subjects: sampled hearts in sampled bodies at sampled scanners, and studies of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from cinelabel.core.errors import InputError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import MYOCARDIAL_DENSITY_G_PER_ML
from cinelabel.phantom.acquisition import Scanner, grey_values, sample_scanner, zero_fill
from cinelabel.phantom.anatomy import sample_heart
from cinelabel.phantom.breathing import (
    Habit,
    Manner,
    SliceMotion,
    sample_habit,
    sample_interval,
    sample_motion,
    study_grade,
)
from cinelabel.phantom.rendering import Background, Plane, Subject, plane, render
from cinelabel.phantom.scanning import (
    ScannedSlice,
    SlicePose,
    acquired_lines,
    contraction_at,
    scan_slice,
)
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.phantom.thorax import sample_thorax
from cinelabel.phantom.tissue import sample_tissues
from cinelabel.studies.study import Study

Progress = Callable[[int, int, str], None]

MIXED = {Manner.FULL_HOLD: 0.72, Manner.HALF_HOLD: 0.1, Manner.FREE: 0.12, Manner.INTENSIVE: 0.06}
"""How often a slice of a study of mixed manner is taken in each."""
COARSE_PIXEL_MM = 1.3
"""Pictures of finer pixels are acquired at about this pixel and zero-filled to theirs."""
WHITE_PERCENTILE = 99.7
FEWEST_SLICES, MOST_SLICES = 6, 20
SHORT_SHARE = 0.08
"""How often a stack stops short of the apex, and of the base."""


@dataclass(frozen=True)
class StackGeometry:
    """Geometry of a phantom study: pixels, spacing, slices and how the image axes lie."""

    size: tuple[int, int] = (208, 224)
    pixel: float = 1.4
    thickness: float = 8.0
    spacing: float = 9.6
    turn: float = 0.0
    mirrored: bool = False
    base_first: bool = False


@dataclass(frozen=True)
class PhantomStudy:
    """A study with its truth: labels uint8 (x, y, z, t), what made it (JSON-ready), its motion."""

    study: Study
    labels: np.ndarray
    truth: dict[str, object]
    motions: tuple[SliceMotion, ...] = field(default=())


def sample_subject(
    rng: np.random.Generator,
    group: str | None = None,
    settings: PhantomSettings | None = None,
) -> Subject:
    """A heart, its surroundings and its contrast.

    Raises:
        InputError: for a group that the population does not have.
    """
    settings = settings or PhantomSettings()
    heart = sample_heart(rng, group, settings)
    tissues = sample_tissues(rng, settings)
    return Subject(
        heart=heart,
        thorax=sample_thorax(rng, tissues, heart, settings),
        tissues=tissues,
        trabeculation=(float(rng.gamma(1.6, 0.35)), float(rng.gamma(1.5, 0.3))),
        texture_seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class StudyPlan:
    """Who is scanned and how: drawn before anything is rendered.

    `middle` is the heart-frame position (mm) of the middle of the pictures, `heights` those of the
    slices above the apex in the order of the stack, `habits` how this person breathes, `interval_s`
    the mean time between heartbeats (s).
    """

    seed: int
    subject: Subject
    scanner: Scanner
    geometry: StackGeometry
    middle: tuple[float, float]
    heights: tuple[float, ...]
    habits: Mapping[Manner, Habit]
    interval_s: float

    @property
    def coverage(self) -> dict[str, bool]:
        """Whether the cavity reaches beyond either end of the stack, see `missing_ends`."""
        apex, base = missing_ends(self.heights, self.geometry.spacing, self.subject.heart.length_ed)
        return {"apex_missing": apex, "base_missing": base}


def missing_ends(heights: Sequence[float], spacing: float, length: float) -> tuple[bool, bool]:
    """Whether a cavity reaches beyond the apical and beyond the basal end of a stack.

    Args:
        heights: of the slices above the apex (mm), in any order.
        spacing: between the slices (mm); an end counts as missing from a quarter of it.
        length: of the cavity at ED (mm).
    """
    half = 0.5 * spacing
    return min(heights) - half > 0.5 * half, max(heights) + half < length - 0.5 * half


def plan_study(
    seed: int,
    *,
    group: str | None = None,
    geometry: StackGeometry | None = None,
    settings: PhantomSettings | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> StudyPlan:
    """Draw a subject, a protocol and a stack; arguments and errors as for `make_study`."""
    rng = np.random.default_rng([seed, 0xC14E])
    subject = sample_subject(rng, group, settings)
    scanner = _with_protocol(sample_scanner(rng), protocol or {})
    geometry = geometry or _fitted(_sample_geometry(rng), subject)
    heights = _slice_heights(subject, geometry, rng)
    middle = (float(rng.normal(-12.0, 12.0)), float(rng.normal(0.0, 12.0)))
    habits = {manner: sample_habit(rng, manner) for manner in Manner}
    interval_s = sample_interval(rng)
    filled = _acquired_grid(geometry)[0] != geometry.size
    scanner = replace(scanner, zero_fill=max(geometry.size) if filled else None)
    return StudyPlan(seed, subject, scanner, geometry, middle, tuple(heights), habits, interval_s)


def make_study(
    seed: int,
    *,
    frames: int = 20,
    group: str | None = None,
    geometry: StackGeometry | None = None,
    manner: Manner | None = None,
    settings: PhantomSettings | None = None,
    protocol: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PhantomStudy:
    """One whole cine study with truth, the same for the same arguments.

    Args:
        seed: of everything random.
        frames: cardiac phases, the first at ED.
        group: of the population; sampled when None.
        geometry: of the stack; sampled when None.
        manner: how the subject breathes; None for a clinic's mixture, slice by slice.
        settings: of the phantom.
        protocol: attributes of `Scanner` that replace those drawn.
        progress: called with slices done, slices in all, and what is done.

    Raises:
        InputError: for less than one frame, an unknown group, or a protocol that no scanner has.
    """
    if frames < 1:
        raise InputError("a study needs at least one frame", where=f"frames={frames}")
    plan = plan_study(seed, group=group, geometry=geometry, settings=settings, protocol=protocol)
    phases = np.arange(frames) / frames
    es = int(contraction_at(phases).argmax())
    images = np.empty((*plan.geometry.size, len(plan.heights), frames), np.float32)
    labels = np.empty(images.shape, np.uint8)
    slices: list[dict[str, object]] = []
    motions: list[SliceMotion] = []
    for z, height in enumerate(plan.heights):
        rng = np.random.default_rng([seed, z, 0x51CE])
        taken = _take_slice(plan, height, manner, rng)
        shown, drawn, found = _scan(plan, taken, phases, (0, es), rng)
        images[:, :, z], labels[:, :, z] = np.moveaxis(shown, 0, 2), np.moveaxis(drawn, 0, 2)
        slices.append({"slice": z, **_slice_truth(taken, found, height)})
        motions.append(taken.motion)
        if progress is not None:
            progress(z + 1, len(plan.heights), "phantom slices")
    white = float(np.percentile(images[..., 0], WHITE_PERCENTILE))
    cycle_ms = 1000.0 * plan.interval_s
    study = Study(
        name=f"phantom-{seed:04d}",
        frames=grey_values(images, plan.scanner, white),
        grid=Grid((*plan.geometry.size, len(plan.heights)), _affine(plan)),
        is_cine=frames > 1,
        trigger_times_ms=tuple(round(float(t), 1) for t in phases * cycle_ms),
        ed=0,
        es=es,
        kind="phantom",
        slice_thickness_mm=plan.geometry.thickness,
    )
    return PhantomStudy(study, labels, _truth(plan, manner, study, slices), tuple(motions))


def _with_protocol(scanner: Scanner, protocol: Mapping[str, Any]) -> Scanner:
    try:
        return replace(scanner, **protocol)
    except (TypeError, ValueError) as error:
        raise InputError(f"no scanner has this protocol, {error}", where="protocol") from error


@dataclass(frozen=True)
class _Taken:
    """How one slice was taken: where, and the breath-hold's offset from the planned position.

    `pose` lies on the acquired matrix, `final` on the matrix of the stored picture.
    """

    pose: SlicePose
    final: Plane
    motion: SliceMotion
    shift_mm: tuple[float, float]
    through_mm: float


def _take_slice(
    plan: StudyPlan, height: float, manner: Manner | None, rng: np.random.Generator
) -> _Taken:
    """Draw a slice's breath-hold and put its plane where the heart then is."""
    geometry = plan.geometry
    size, pixel = _acquired_grid(geometry)
    how = manner or Manner(int(rng.choice(list(MIXED), p=list(MIXED.values()))))
    lines = len(acquired_lines(size, pixel, plan.scanner))
    motion = sample_motion(
        rng, how, n_lines=lines, habit=plan.habits[how], interval_s=plan.interval_s
    )
    # The heart lies `offset` (heart frame) from where it was planned, and is seen from -offset.
    offset = np.asarray(motion.hold_offset) @ np.asarray(plan.subject.thorax.heart_axes)
    centre = (plan.middle[0] - float(offset[0]), plan.middle[1] - float(offset[1]))
    fine = view = plane(geometry.size, geometry.pixel, centre, geometry.turn, geometry.mirrored)
    if size != geometry.size:
        centre = _coarse_middle(centre, fine.axes, geometry)
        view = plane(size, pixel, centre, geometry.turn, geometry.mirrored)
    shift = view.axes @ offset[:2]
    return _Taken(
        SlicePose(view, height - float(offset[2]), geometry.thickness),
        fine,
        motion,
        (float(shift[0]), float(shift[1])),
        -float(offset[2]),
    )


def _acquired_grid(geometry: StackGeometry) -> tuple[tuple[int, int], float]:
    """Matrix and pixel that are acquired; a finer picture is zero-filled from them."""
    smaller = int(geometry.size[0] * geometry.pixel / COARSE_PIXEL_MM / 2) * 2
    if geometry.size[0] != geometry.size[1] or smaller > 0.8 * geometry.size[0]:
        return geometry.size, geometry.pixel
    return (smaller, smaller), geometry.pixel * geometry.size[0] / smaller


def _coarse_middle(
    middle: tuple[float, float], axes: np.ndarray, geometry: StackGeometry
) -> tuple[float, float]:
    """Middle of the acquired grid: zero-filling keeps the position of the first pixel."""
    size, pixel = _acquired_grid(geometry)
    step = 0.5 * ((size[0] - 1) * pixel - (geometry.size[0] - 1) * geometry.pixel)
    moved = np.array(middle) + step * (axes[0] + axes[1])
    return float(moved[0]), float(moved[1])


def _sample_geometry(rng: np.random.Generator) -> StackGeometry:
    """Stacks of clinical protocols: 0.53-2 mm pixels, every 5-12 mm with or without gaps."""
    thickness = float(rng.choice([5.0, 6.0, 7.0, 8.0, 10.0], p=[0.1, 0.2, 0.1, 0.45, 0.15]))
    gap = float(rng.choice([0.0, 1.0, 2.0, 3.0], p=[0.5, 0.1, 0.3, 0.1]))
    field_of_view = float(rng.uniform(270.0, 390.0))
    if rng.random() < 0.35:
        matrix = int(rng.choice([256, 512], p=[0.85, 0.15]))
        size = (matrix, matrix)
    else:
        matrix = int(round(field_of_view / rng.uniform(1.2, 2.0) / 8)) * 8
        size = (matrix, int(round(matrix * rng.uniform(0.8, 1.0) / 8)) * 8)
    return StackGeometry(
        size=size,
        pixel=round(field_of_view / matrix, 4),
        thickness=thickness,
        spacing=min(thickness + gap, 12.0),
        turn=float(rng.uniform(-np.pi, np.pi)),
        mirrored=bool(rng.random() < 0.5),
        base_first=bool(rng.random() < 0.5),
    )


def _fitted(geometry: StackGeometry, subject: Subject) -> StackGeometry:
    """The geometry with a spacing that covers the heart in 6 to 20 slices."""
    span = subject.heart.length_ed + subject.heart.wall_apex + 30.0
    spacing = float(np.clip(geometry.spacing, span / 19.0, max(span / 7.0, 5.0)))
    return replace(
        geometry, spacing=round(spacing, 3), thickness=min(geometry.thickness, round(spacing, 3))
    )


def _slice_heights(
    subject: Subject, geometry: StackGeometry, rng: np.random.Generator
) -> list[float]:
    """Heights of the slices in the order of the stack.

    From beyond the apex to beyond the base; now and then the stack stops short at one end, as
    stacks do that were planned on another breath-hold.
    """
    step = geometry.spacing
    low = -subject.heart.wall_apex - rng.uniform(0.3, 1.2) * step
    high = subject.heart.length_ed + rng.uniform(0.4, 1.8) * step
    short, cut = rng.random(2) < SHORT_SHARE, rng.uniform(0.6, 1.8, 2) * step
    whole = np.arange(low, high, step)[:MOST_SLICES]
    heights = np.arange(
        cut[0] if short[0] else low, subject.heart.length_ed - cut[1] if short[1] else high, step
    )[:MOST_SLICES]
    heights = heights if len(heights) >= FEWEST_SLICES else whole
    return [float(h) for h in (heights[::-1] if geometry.base_first else heights)]


def _scan(
    plan: StudyPlan,
    taken: _Taken,
    phases: np.ndarray,
    judge: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, ScannedSlice]:
    """Pictures and labels (t, x, y) of one slice on the final matrix, and how it was graded."""
    found = scan_slice(
        plan.subject,
        plan.scanner,
        taken.pose,
        [float(phase) for phase in phases],
        rng,
        motion=taken.motion,
        judge=judge,
    )
    size = plan.geometry.size
    if found.images.shape[1:] == size:
        return found.images, found.labels, found
    images = zero_fill(found.images, max(size))
    nothing = Background(np.zeros(size, np.float32), np.ones(size, np.float32))
    pose = taken.pose
    labels = [
        render(plan.subject, taken.final, pose.height, pose.thickness, float(moment), nothing)[1]
        for moment in contraction_at(phases)
    ]
    return images, np.stack(labels), found


def _slice_truth(taken: _Taken, found: ScannedSlice, height: float) -> dict[str, object]:
    times, displacement = taken.motion.trace()
    return {
        "height_mm": round(height, 3),
        "manner": taken.motion.manner.name.lower(),
        "shift_mm": [round(v, 3) for v in taken.shift_mm],
        "through_mm": round(taken.through_mm, 3),
        "severity_mm": round(found.severity_mm, 3),
        "effect": round(found.effect, 4),
        "grade": found.grade,
        "trace": {
            "time_s": np.round(times, 3).tolist(),
            "displacement_ras_mm": np.round(displacement, 2).tolist(),
        },
    }


def _truth(
    plan: StudyPlan, manner: Manner | None, study: Study, slices: list[dict[str, object]]
) -> dict[str, object]:
    """What made the study and what holds for it, JSON-ready."""
    heart = plan.subject.heart
    ed, es = heart.volumes_ml(0.0), heart.volumes_ml(1.0)
    return {
        "seed": plan.seed,
        "group": heart.group,
        "manner": manner.name.lower() if manner else "mixed",
        "grade": study_grade([int(str(entry["grade"])) for entry in slices]),
        "ed": study.ed,
        "es": study.es,
        "trigger_times_ms": list(study.trigger_times_ms or ()),
        "geometry": asdict(plan.geometry),
        "anatomy": {
            "LV_EDV_ml": round(ed["LV"], 2),
            "LV_ESV_ml": round(es["LV"], 2),
            "LV_EF_percent": round(100.0 * (1.0 - es["LV"] / ed["LV"]), 2),
            "MYO_mass_g": round(MYOCARDIAL_DENSITY_G_PER_ML * ed["MYO"], 2),
            "RV_EDV_ml": round(ed["RV"], 2),
            "RV_ESV_ml": round(es["RV"], 2),
        },
        "coverage": plan.coverage,
        "field_strength_t": plan.subject.tissues.field_strength,
        "flip_degrees": plan.subject.tissues.flip_degrees,
        "repetition_ms": plan.subject.tissues.repetition_ms,
        "scanner": asdict(plan.scanner),
        "slices": slices,
    }


def _affine(plan: StudyPlan) -> np.ndarray:
    """Where the stack lies in the body: RAS+ mm, the third axis follows the stack's order."""
    geometry, heights = plan.geometry, plan.heights
    to_body = np.asarray(plan.subject.thorax.heart_axes, float)
    view = plane(geometry.size, geometry.pixel, plan.middle, geometry.turn, geometry.mirrored)
    affine = np.eye(4)
    for axis in (0, 1):
        affine[:3, axis] = to_body[:, :2] @ view.axes[axis] * geometry.pixel
    order = -1.0 if geometry.base_first else 1.0
    affine[:3, 2] = to_body[:, 2] * geometry.spacing * order
    above = heights[0] - 0.5 * plan.subject.heart.length_ed
    first = np.array([float(view.x[0, 0]), float(view.y[0, 0]), above])
    affine[:3, 3] = np.asarray(plan.subject.thorax.heart_centre) + to_body @ first
    return affine
