"""Breathing and triggering of a segmented cine slice: when each line is acquired and what it sees.

Breaths have the form of Lujan et al., Med Phys 1999 (cos^2n with a dwell at end-expiration). That
the heart follows the diaphragm by a share was studied by Wang, Riederer and Ehman, Magn Reson Med
1995; its anterior motion and rotation by McLeish et al., IEEE Trans Med Imaging 2002, and Shechter
et al., IEEE Trans Med Imaging 2004; hysteresis by Nehrke et al., Radiology 2001; drift in a
breath-hold by Holland, Goldfarb and Edelman, Radiology 1998 (diaphragm at end-expiration: 0.15 mm/s
on average); the length of systole at another heart rate by Weissler, Harris and Schoenfeld,
Circulation 1968. What is drawn is our choice about their findings. The four manners are those of
CMRxMotion (2022).

Displacements are of the heart, in mm along the body axes right, anterior, superior (RAS+), relative
to where the slice's breath-hold began (without one: end-expiration).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np

HEART_SHARE = 0.6
"""Superior-inferior motion of the heart as a share of the diaphragm's.

As usual for navigators; the mean of Danias et al., AJR 1999, whose volunteers had 0.17 to 0.93."""
SYSTOLE = 0.36
"""End-systole as a share of the cycle at the mean heart rate."""
INSPIRATION = 0.42
"""Share of a breath that is inspiration."""
TRACE_STEP_S = 0.1
ENERGY_HALF_LINES = 0.04
"""Distance from the centre, as a share of all lines, at which a line's energy has halved."""
SEVERITY_SCALE_MM = 4.0
EFFECT_SCALE = 0.4
"""Residual displacement (mm) and image error that each count as one in a grade's score."""
GRADE_LIMITS = (0.6, 1.3)
"""Scores from which a slice is intermediate (2) and severe (3).

Set by eye: where borders of the muscle begin to double, and where they can no longer be drawn."""
STUDY_SHARE = 1.0 / 3.0
"""Share of the slices that must be as bad for a study to get a grade."""


class Manner(IntEnum):
    """How a volunteer of CMRxMotion breathed during the scan."""

    FULL_HOLD = 1
    HALF_HOLD = 2
    FREE = 3
    INTENSIVE = 4


class LineOrder(IntEnum):
    """How the lines of k-space are dealt to the heartbeats."""

    INTERLEAVED = 1
    SEQUENTIAL = 2
    CENTRIC = 3


@dataclass(frozen=True)
class Breath:
    """One breath: start (s), duration (s) and how far the heart descends (mm)."""

    start_s: float
    duration_s: float
    depth_mm: float


@dataclass(frozen=True)
class Habit:
    """How a person breathes; shared by the slices of a study.

    Attributes:
        depth_mm: superior-inferior excursion of the heart in a usual breath.
        period_s: duration of a usual breath.
        exponent: n of cos^2n; larger dwells longer at end-expiration.
        anterior_ratio, right_ratio: excursion along these axes for one of inspiration (inferior).
        hysteresis: anterior offset of inspiration against expiration, share of the depth.
        rotation_rad_mm: rotation in the short-axis plane for one mm of inspiration.
    """

    depth_mm: float
    period_s: float
    exponent: float
    anterior_ratio: float
    right_ratio: float
    hysteresis: float
    rotation_rad_mm: float


@dataclass(frozen=True)
class Respiration:
    """Displacement of the heart during one slice's acquisition.

    Attributes:
        habit: directions and form of a breath.
        breaths: in order of time, not overlapping; between them the heart rests.
        hold_depth_mm: how far below end-expiration the heart was held; given up at `release_s`.
        release_s: when the held breath is let out; infinite when it never is.
        drift_mm_s: steady drift (right, anterior, superior).
        tremor_mm, tremor_hz: unsteadiness of a hold.
    """

    habit: Habit
    breaths: tuple[Breath, ...] = ()
    hold_depth_mm: float = 0.0
    release_s: float = 1e9
    release_duration_s: float = 1.2
    drift_mm_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tremor_mm: float = 0.0
    tremor_hz: float = 0.5

    def displacement(self, times_s: np.ndarray) -> np.ndarray:
        """Displacement at times (n,) in s: float64 (n, 3), mm right, anterior, superior."""
        times = np.asarray(times_s, float)
        inspired, loop = self._inspired(times)
        habit = self.habit
        shares = np.array([habit.right_ratio, habit.anterior_ratio, -1.0])
        moved = inspired[:, None] * shares + times[:, None] * np.array(self.drift_mm_s)
        moved[:, 1] += habit.hysteresis * loop
        moved[:, 2] += self.tremor_mm * np.sin(2.0 * np.pi * self.tremor_hz * times)
        return moved

    def rotation_rad(self, times_s: np.ndarray) -> np.ndarray:
        """Rotation in the short-axis plane at times (n,) in s: float64 (n,), rad."""
        return self.habit.rotation_rad_mm * self._inspired(np.asarray(times_s, float))[0]

    def _inspired(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depth of inspiration (mm) against the hold, and the loop of the hysteresis (mm)."""
        inspired, loop = np.zeros(len(times)), np.zeros(len(times))
        if self.hold_depth_mm:
            share = np.clip((times - self.release_s) / self.release_duration_s, 0.0, 1.0)
            inspired -= self.hold_depth_mm * (0.5 - 0.5 * np.cos(np.pi * share))
        if self.breaths:
            start, duration, depth = np.array(
                [(b.start_s, b.duration_s, b.depth_mm) for b in self.breaths]
            ).T
            which = np.maximum(np.searchsorted(start, times, side="right") - 1, 0)
            share = np.clip((times - start[which]) / duration[which], 0.0, 1.0)
            share = share ** (np.log(0.5) / np.log(INSPIRATION))
            bump = depth[which] * np.sin(np.pi * share) ** (2.0 * self.habit.exponent)
            inspired += bump
            loop = bump * np.sin(2.0 * np.pi * share)
        return inspired, loop


@dataclass(frozen=True)
class Timing:
    """When the lines of one slice are acquired.

    Attributes:
        intervals_s: length of each heartbeat (RR) in which a segment is acquired.
        mean_interval_s: the RR interval that the phases of the cine refer to.
        delays_s: how late each heartbeat's trigger came (a T wave taken for an R wave: about 0.3).
        segment_s: duration of a segment (views per segment times TR).
        views: lines of a segment.
        order: how lines are dealt to heartbeats.
        retrospective: whether the scanner stretches its phases to each heartbeat's length.
    """

    intervals_s: tuple[float, ...]
    mean_interval_s: float
    delays_s: tuple[float, ...]
    segment_s: float
    views: int
    order: LineOrder
    retrospective: bool = True

    @property
    def beats(self) -> int:
        """Heartbeats of the acquisition."""
        return len(self.intervals_s)

    @property
    def duration_s(self) -> float:
        """Duration of the acquisition."""
        return float(sum(self.intervals_s))

    def beat_of_line(self, n_lines: int) -> tuple[np.ndarray, np.ndarray]:
        """Heartbeat of each line and its place in the segment, -0.5 to 0.5; both (n_lines,)."""
        line = np.arange(n_lines)
        beats = min(self.beats, n_lines)
        if self.order == LineOrder.INTERLEAVED:
            beat, view, views = line % beats, line // beats, -(-n_lines // beats)
            return beat, (view + 0.5) / views - 0.5
        if self.order == LineOrder.CENTRIC:
            outward = np.argsort(np.abs(line - n_lines // 2), kind="stable")
            rank = np.empty(n_lines, int)
            rank[outward] = line
            line = rank
        at = line * beats / n_lines
        return at.astype(int), at % 1.0 - 0.5

    def seen(self, frame_phase: float, n_lines: int) -> tuple[np.ndarray, np.ndarray]:
        """Time (s) and cardiac phase (0 to 1) at which each line of a frame is acquired."""
        beat, place = self.beat_of_line(n_lines)
        intervals = np.array(self.intervals_s)
        starts = np.concatenate([[0.0], np.cumsum(intervals)[:-1]])
        length = intervals[beat]
        planned = length if self.retrospective else self.mean_interval_s
        elapsed = frame_phase * planned + place * self.segment_s + np.array(self.delays_s)[beat]
        times = starts[beat] + elapsed
        over = elapsed >= length
        following = intervals[np.minimum(beat + 1, len(intervals) - 1)]
        elapsed, length = (
            np.where(over, elapsed - length, elapsed),
            np.where(over, following, length),
        )
        return times, cardiac_phase(elapsed, length, self.mean_interval_s)


def cardiac_phase(elapsed_s: np.ndarray, interval_s: np.ndarray, mean_s: float) -> np.ndarray:
    """Phase 0 to 1 of the mean cycle which a heartbeat of another length has reached, (n,).

    Systole shortens less than diastole when a heartbeat is short: electromechanical systole is
    546 ms - 2.1 ms per beat a minute (Weissler 1968, men).
    """
    interval = np.asarray(interval_s, float)
    change = (546.0 - 126.0 / interval) / (546.0 - 126.0 / mean_s)
    systole = np.clip(SYSTOLE * mean_s * change, 0.2 * interval, 0.75 * interval)
    elapsed = np.asarray(elapsed_s, float)
    phase = np.where(
        elapsed < systole,
        SYSTOLE * elapsed / systole,
        SYSTOLE + (1.0 - SYSTOLE) * (elapsed - systole) / (interval - systole),
    )
    return phase % 1.0


@dataclass(frozen=True)
class SliceMotion:
    """Motion during the acquisition of one slice, and where the slice was held.

    Attributes:
        manner: how the person breathed.
        respiration: of the slice.
        timing: of the slice.
        hold_offset: of this slice's breath-hold against the study's mean, mm (R, A, S).
    """

    manner: Manner
    respiration: Respiration
    timing: Timing
    hold_offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def states(
        self, frame_phase: float, n_lines: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What each of the acquired lines of a frame saw, in ascending order of k.

        Args:
            frame_phase: cardiac phase of the frame, 0 to 1.
            n_lines: phase-encoding lines acquired.

        Returns:
            float64 times (n,) in s from the start of the slice's acquisition; displacement (n, 3)
            in mm (R, A, S) relative to the hold; rotation (n,) in rad; cardiac phase (n,), 0 to 1.
        """
        times, phases = self.timing.seen(frame_phase, n_lines)
        return (
            times,
            self.respiration.displacement(times),
            self.respiration.rotation_rad(times),
            phases,
        )

    def trace(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (n,) in s over the acquisition and the displacement (n, 3) in mm (R, A, S)."""
        times = np.arange(0.0, self.timing.duration_s + 0.5 * TRACE_STEP_S, TRACE_STEP_S)
        return times, self.respiration.displacement(times)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary from which `from_json` makes the same motion again."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | str) -> SliceMotion:
        """The motion of a dictionary of `to_json`, or of its JSON text.

        Raises:
            KeyError, TypeError: for something `to_json` did not write.
        """
        data = json.loads(value) if isinstance(value, str) else value
        breathing, timing = dict(data["respiration"]), dict(data["timing"])
        breathing["habit"] = Habit(**breathing["habit"])
        breathing["breaths"] = tuple(Breath(**breath) for breath in breathing["breaths"])
        breathing["drift_mm_s"] = tuple(breathing["drift_mm_s"])
        for name in ("intervals_s", "delays_s"):
            timing[name] = tuple(timing[name])
        timing["order"] = LineOrder(timing["order"])
        right, anterior, superior = data["hold_offset"]
        return cls(
            manner=Manner(data["manner"]),
            respiration=Respiration(**breathing),
            timing=Timing(**timing),
            hold_offset=(right, anterior, superior),
        )


@dataclass(frozen=True)
class _Ranges:
    """What a manner draws from; drift and spread of the holds are of the heart."""

    diaphragm_mm: tuple[float, float]
    period_s: tuple[float, float]
    drift_mm_s: float
    hold_mm: float


RANGES = {
    Manner.FULL_HOLD: _Ranges((7.0, 18.0), (3.2, 5.5), 0.06, 1.6),
    Manner.HALF_HOLD: _Ranges((6.0, 26.0), (2.8, 5.0), 0.10, 2.2),
    Manner.FREE: _Ranges((6.0, 26.0), (2.8, 5.5), 0.05, 1.5),
    Manner.INTENSIVE: _Ranges((14.0, 45.0), (1.8, 4.2), 0.08, 2.5),
}
"""Quiet breathing moves the diaphragm by 6 to 26 mm, deep breathing by 14 to 45 mm, and the heart
by `HEART_SHARE` of it; holds of one person differ by millimetres between slices. Our choice; its
largest is about that of the right dome near vital capacity, 44 mm (Gierada et al., Radiology
1995)."""
BROKEN_HOLD_SHARE = 0.05
"""Share of the full breath-holds that are given up towards the end."""
DEEP_HOLD_SHARE = 0.06
"""Share of the slices held at a clearly different depth."""


def sample_habit(rng: np.random.Generator, manner: Manner) -> Habit:
    """How a person breathes in this manner, to be given to `sample_motion` for all slices."""
    ranges = RANGES[Manner(manner)]
    low, high = np.log(ranges.diaphragm_mm)
    return Habit(
        depth_mm=HEART_SHARE * float(np.exp(rng.uniform(low, high))),
        period_s=float(rng.uniform(*ranges.period_s)),
        exponent=float(rng.uniform(1.0, 3.0)),
        anterior_ratio=float(rng.uniform(0.1, 0.4)),
        right_ratio=float(rng.normal(0.0, 0.06)),
        hysteresis=float(rng.normal(0.0, 0.08)),
        rotation_rad_mm=float(rng.normal(0.0, np.deg2rad(0.15))),
    )


def sample_interval(rng: np.random.Generator) -> float:
    """A person's mean RR interval in s: 52 to 92 heartbeats a minute."""
    return float(rng.uniform(0.65, 1.15))


def sample_timing(
    rng: np.random.Generator,
    n_lines: int,
    frames: int = 25,
    *,
    arrhythmia: bool = False,
    interval_s: float | None = None,
) -> Timing:
    """Heartbeats and segments of one slice.

    Args:
        rng: source of chance.
        n_lines: phase-encoding lines of the picture; parallel imaging measures half to all.
        frames: phases of the cine; they set the views of a segment.
        arrhythmia: whether heartbeats come early (extrasystoles), vary widely or trigger late.
        interval_s: mean RR interval of the person (`sample_interval`); drawn when None.
    """
    drawn = sample_interval(rng)
    mean = drawn if interval_s is None else interval_s
    repetition = float(rng.uniform(0.0026, 0.0038))
    views = int(np.clip(round(mean / (np.clip(frames, 15, 30) * repetition)), 6, 18))
    measured = n_lines * float(rng.uniform(0.45, 1.0))
    beats = int(np.clip(np.ceil(measured / views), 4, 20))
    spread = rng.uniform(0.08, 0.2) if arrhythmia else rng.uniform(0.01, 0.04)
    intervals = mean * np.clip(1.0 + spread * rng.standard_normal(beats), 0.55, 1.6)
    delays = np.zeros(beats)
    if arrhythmia:
        for beat in np.flatnonzero(rng.random(beats) < 0.15):
            intervals[beat] = mean * rng.uniform(0.55, 0.75)
            if beat + 1 < beats:
                intervals[beat + 1] = mean * rng.uniform(1.2, 1.45)
        late = rng.random(beats) < 0.12
        delays[late] = rng.uniform(0.2, 0.35, int(late.sum()))
    orders = (LineOrder.INTERLEAVED, LineOrder.SEQUENTIAL, LineOrder.CENTRIC)
    return Timing(
        intervals_s=tuple(float(v) for v in intervals),
        mean_interval_s=mean,
        delays_s=tuple(float(v) for v in delays),
        segment_s=views * repetition,
        views=views,
        order=orders[int(rng.choice(3, p=[0.55, 0.35, 0.10]))],
        retrospective=bool(rng.random() < 0.8),
    )


def _breaths(
    rng: np.random.Generator, habit: Habit, start_s: float, end_s: float
) -> tuple[Breath, ...]:
    """Breaths of varying depth and length, with a short rest after each, from start to end."""
    breaths: list[Breath] = []
    time = start_s
    while time < end_s:
        duration = habit.period_s * float(np.clip(rng.normal(1.0, 0.12), 0.6, 1.5))
        depth = habit.depth_mm * float(np.clip(rng.normal(1.0, 0.18), 0.4, 1.7))
        breaths.append(Breath(time, duration, depth))
        time += duration * float(rng.uniform(1.0, 1.15))
    return tuple(breaths)


def _sample_respiration(
    rng: np.random.Generator, manner: Manner, habit: Habit, duration_s: float
) -> Respiration:
    """Breathing of one slice of `duration_s`."""
    drift = rng.normal(0.0, RANGES[manner].drift_mm_s, 3) * np.array([0.2, 0.4, 1.0])
    drift_mm_s = (float(drift[0]), float(drift[1]), float(drift[2]))
    if manner in (Manner.FREE, Manner.INTENSIVE):
        start = -float(rng.uniform(0.0, 1.5)) * habit.period_s
        return Respiration(habit, _breaths(rng, habit, start, duration_s), drift_mm_s=drift_mm_s)
    tremor = float(rng.gamma(2.0, 0.06))
    held = Respiration(
        habit, drift_mm_s=drift_mm_s, tremor_mm=tremor, tremor_hz=float(rng.uniform(0.2, 1.2))
    )
    broken = manner == Manner.HALF_HOLD or rng.random() < BROKEN_HOLD_SHARE
    if not broken:
        return held
    low = 0.3 if manner == Manner.HALF_HOLD else 0.7
    release = duration_s * float(rng.uniform(low, low + 0.3))
    kept = asdict(held) | {"habit": habit}
    kind = rng.random()
    if kind < 0.3:  # still breathing when the scan begins, held later
        until = duration_s - release
        breaths = _breaths(rng, habit, -habit.period_s, until)
        late = breaths[-1].start_s + breaths[-1].duration_s - until
        earlier = tuple(replace(breath, start_s=breath.start_s - late) for breath in breaths)
        return Respiration(**kept | {"breaths": earlier})
    if kind < 0.6:  # a breath held after inspiration is let out, then breathing goes on
        length = float(rng.uniform(0.8, 1.8))
        return Respiration(
            **kept
            | {
                "breaths": _breaths(rng, habit, release + length, duration_s),
                "hold_depth_mm": habit.depth_mm * float(rng.uniform(0.4, 1.2)),
                "release_s": release,
                "release_duration_s": length,
            }
        )
    return Respiration(**kept | {"breaths": _breaths(rng, habit, release, duration_s)})


def sample_motion(
    rng: np.random.Generator,
    manner: Manner | int,
    *,
    n_lines: int = 128,
    frames: int = 25,
    arrhythmia_share: float = 0.08,
    habit: Habit | None = None,
    interval_s: float | None = None,
) -> SliceMotion:
    """Motion of one slice.

    Args:
        rng: source of chance.
        manner: how the person breathes.
        n_lines: phase-encoding lines of the picture.
        frames: phases of the cine.
        arrhythmia_share: how often the heartbeat is irregular.
        habit: of the person (`sample_habit`); drawn when None.
        interval_s: mean RR interval of the person (`sample_interval`); drawn when None.
    """
    manner = Manner(manner)
    habit = sample_habit(rng, manner) if habit is None else habit
    arrhythmia = bool(rng.random() < arrhythmia_share)
    timing = sample_timing(rng, n_lines, frames, arrhythmia=arrhythmia, interval_s=interval_s)
    depth = RANGES[manner].hold_mm * float(rng.standard_normal())
    if rng.random() < DEEP_HOLD_SHARE:
        depth += float(rng.uniform(0.4, 1.2)) * min(habit.depth_mm, 10.0)
    sideways = rng.normal(0.0, 0.4, 2)
    return SliceMotion(
        manner=manner,
        respiration=_sample_respiration(rng, manner, habit, timing.duration_s),
        timing=timing,
        hold_offset=(
            float(habit.right_ratio * depth + sideways[0]),
            float(habit.anterior_ratio * depth + sideways[1]),
            -depth,
        ),
    )


def still(n_lines: int) -> SliceMotion:
    """A perfect breath-hold and rhythm for `n_lines` lines: every line sees the same."""
    beats = max(n_lines // 12, 1)
    return SliceMotion(
        manner=Manner.FULL_HOLD,
        respiration=Respiration(Habit(0.0, 4.0, 2.0, 0.0, 0.0, 0.0, 0.0)),
        timing=Timing((0.9,) * beats, 0.9, (0.0,) * beats, 0.0, 12, LineOrder.INTERLEAVED),
    )


def line_energy(n_lines: int) -> np.ndarray:
    """Typical share of a picture's energy in each line, ascending k, (n_lines,), sum 1."""
    distance = (np.arange(n_lines) - n_lines // 2) / max(n_lines, 1)
    energy = 1.0 / (1.0 + (distance / ENERGY_HALF_LINES) ** 2)
    return energy / energy.sum()


def motion_severity(displacement: np.ndarray, energy: np.ndarray | None = None) -> float:
    """Root mean square distance (mm) of what the lines saw from their mean, weighted by energy.

    Args:
        displacement: (n, 3) mm, lines in ascending order of k.
        energy: weight of each line (n,); `line_energy` when None, so that the centre counts most.

    Raises:
        ValueError: where the shapes disagree.
    """
    moved = np.asarray(displacement, float)
    weight = line_energy(len(moved)) if energy is None else np.asarray(energy, float)
    if moved.ndim != 2 or weight.shape != moved.shape[:1]:
        raise ValueError("displacement must be (lines, 3) and energy (lines,)")
    weight = weight / weight.sum()
    away = moved - weight @ moved
    return float(np.sqrt(weight @ (away**2).sum(1)))


def motion_effect(
    image: np.ndarray, still_image: np.ndarray, box: tuple[slice, slice] | None = None
) -> float:
    """Root mean square difference of two pictures over the still one's spread, inside a box.

    Args:
        image: with motion, (n, m).
        still_image: of the same heart at rest, (n, m).
        box: rows and columns round the heart; everything when None.
    """
    inside = (slice(None), slice(None)) if box is None else box
    sharp = np.asarray(still_image, float)[inside]
    difference = np.asarray(image, float)[inside] - sharp
    return float(np.sqrt((difference**2).mean()) / max(float(sharp.std()), 1e-9))


def grade(severity_mm: float, effect: float | None = None) -> int:
    """Motion grade of a slice: 1 mild, 2 intermediate, 3 severe.

    The score is the root mean square of severity / `SEVERITY_SCALE_MM` and effect / `EFFECT_SCALE`
    (of the severity alone where no effect was measured); `GRADE_LIMITS` cut it. It grows with both,
    so the grade never falls when either grows.
    """
    parts = [severity_mm / SEVERITY_SCALE_MM]
    if effect is not None:
        parts.append(effect / EFFECT_SCALE)
    score = float(np.sqrt(np.mean(np.square(parts))))
    return 1 + sum(score >= limit for limit in GRADE_LIMITS)


def study_grade(grades: Sequence[int]) -> int:
    """Grade of a study: the worst that at least `STUDY_SHARE` of its slices have or exceed.

    Raises:
        ValueError: without a slice.
    """
    if not len(grades):
        raise ValueError("a study without slices has no grade")
    needed = STUDY_SHARE * len(grades)
    return next((g for g in (3, 2) if sum(v >= g for v in grades) >= needed), 1)
