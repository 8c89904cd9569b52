"""Volumes, ejection fraction and mass from labels, by summation of discs.

Schulz-Menger et al., Standardized image interpretation and post-processing in cardiovascular
magnetic resonance, 2020: every labelled voxel counts with its volume, papillary muscles and
trabeculae belong to the cavity, and myocardial mass is 1.05 g/ml times the volume at end-diastole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from .errors import GridError, InputError
from .grid import Grid
from .labels import CANONICAL, LV, MYO, RV, Structure

MYOCARDIAL_DENSITY_G_PER_ML = 1.05
CONVENTIONS = (
    "papillary muscles and trabeculae counted to the cavity; mass = 1.05 g/ml x MYO at ED; "
    "RV volumes at the ED and ES of the LV"
)


def structure_volume_ml(labels_3d: np.ndarray, grid: Grid, structure: Structure) -> float:
    """Volume in ml of a structure in labels (x, y, z). Raises GridError for another shape."""
    if labels_3d.shape != grid.shape:
        raise GridError(f"labels of shape {labels_3d.shape} do not fit the grid {grid.shape}")
    return float(np.count_nonzero(labels_3d == structure.value)) * grid.voxel_volume_ml


def volume_curve_ml(labels: np.ndarray, grid: Grid, structure: Structure) -> np.ndarray:
    """(t,) float64 volumes in ml of a structure in labels (x, y, z, t). Raises GridError."""
    if labels.ndim != 4:
        raise GridError(f"labels of shape {labels.shape} are not (x, y, z, t)")
    frames = range(labels.shape[3])
    return np.array([structure_volume_ml(labels[..., t], grid, structure) for t in frames])


def find_ed_es(lv_curve_ml: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """The frames of the largest and the smallest LV volume, the first of equals."""
    curve = np.asarray(lv_curve_ml, np.float64)
    if curve.ndim != 1 or curve.size == 0:
        raise InputError("a volume-time curve needs at least one frame")
    return int(curve.argmax()), int(curve.argmin())


@dataclass(frozen=True)
class Measures:
    """Function of the heart; None where a phase is not known or a ratio has no meaning.

    Volumes in ml, ejection fractions in percent, mass in g, trigger times in ms; `ed` and `es`
    count frames from 0. A frame without any label has 0 ml in the curves.
    """

    lv_edv_ml: float | None
    lv_esv_ml: float | None
    lv_sv_ml: float | None
    lv_ef_percent: float | None
    lv_mass_g: float | None
    rv_edv_ml: float | None
    rv_esv_ml: float | None
    rv_sv_ml: float | None
    rv_ef_percent: float | None
    ed: int | None
    es: int | None
    lv_curve_ml: tuple[float, ...]
    myo_curve_ml: tuple[float, ...]
    rv_curve_ml: tuple[float, ...]
    trigger_times_ms: tuple[float, ...] | None = None
    conventions: str = CONVENTIONS

    def as_dict(self) -> dict[str, object]:
        """The measures by name, ready for JSON: lists for tuples, None for what is not known."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in named.items()}


def measure(
    labels: np.ndarray,
    grid: Grid,
    ed: int | None = None,
    es: int | None = None,
    trigger_times_ms: Sequence[float] | None = None,
) -> Measures:
    """Measures of labels (x, y, z) or (x, y, z, t) with canonical values.

    With two or more labelled frames, phases that are not given are found from the LV volume;
    frames without any label are left out of that search, since data sets label only ED and ES.
    With one labelled frame a phase is known only if it is given.

    Raises:
        GridError: the labels do not fit the grid.
        LabelError: a value is none of the structures.
        InputError: `ed` or `es` is not a frame, or the trigger times do not fit.
    """
    if labels.ndim not in (3, 4):
        raise GridError(f"labels of shape {labels.shape} are not (x, y, z) or (x, y, z, t)")
    frames = labels[..., np.newaxis] if labels.ndim == 3 else labels
    frames = CANONICAL.to_canonical(frames, "labels")
    lv, myo, rv = (volume_curve_ml(frames, grid, s) for s in (LV, MYO, RV))
    return measure_curves(lv, myo, rv, ed, es, trigger_times_ms)


def measure_curves(
    lv: np.ndarray,
    myo: np.ndarray,
    rv: np.ndarray,
    ed: int | None = None,
    es: int | None = None,
    trigger_times_ms: Sequence[float] | None = None,
) -> Measures:
    """Measures of the (t,) volumes in ml of the structures; the rest is as for `measure`.

    For whoever has the volumes of all frames and measures again when one of them changes.
    """
    n_frames = len(lv)
    ed = _checked_frame(ed, n_frames, "ED")
    es = _checked_frame(es, n_frames, "ES")
    ed, es = _find_missing_phases(lv, lv + myo + rv > 0, ed, es)
    if trigger_times_ms is not None and len(trigger_times_ms) != n_frames:
        raise InputError(f"{len(trigger_times_ms)} trigger times are given for {n_frames} frames")
    lv_edv, lv_esv, lv_sv, lv_ef = _function(lv, ed, es)
    rv_edv, rv_esv, rv_sv, rv_ef = _function(rv, ed, es)
    return Measures(
        lv_edv_ml=lv_edv,
        lv_esv_ml=lv_esv,
        lv_sv_ml=lv_sv,
        lv_ef_percent=lv_ef,
        lv_mass_g=None if ed is None else MYOCARDIAL_DENSITY_G_PER_ML * float(myo[ed]),
        rv_edv_ml=rv_edv,
        rv_esv_ml=rv_esv,
        rv_sv_ml=rv_sv,
        rv_ef_percent=rv_ef,
        ed=ed,
        es=es,
        lv_curve_ml=tuple(lv.tolist()),
        myo_curve_ml=tuple(myo.tolist()),
        rv_curve_ml=tuple(rv.tolist()),
        trigger_times_ms=(
            None if trigger_times_ms is None else tuple(float(t) for t in trigger_times_ms)
        ),
    )


def _checked_frame(frame: int | None, n_frames: int, phase: str) -> int | None:
    if frame is not None and not 0 <= frame < n_frames:
        raise InputError(
            f"{phase} is frame {frame}, but the labels have {n_frames} frames, counted from 0"
        )
    return None if frame is None else int(frame)


def _find_missing_phases(
    lv: np.ndarray, labelled: np.ndarray, ed: int | None, es: int | None
) -> tuple[int | None, int | None]:
    """ED and ES as given, or from the LV volumes of the labelled frames if there are several."""
    candidates = np.flatnonzero(labelled)
    if candidates.size < 2:
        return ed, es
    largest, smallest = find_ed_es(lv[candidates])
    return (
        int(candidates[largest]) if ed is None else ed,
        int(candidates[smallest]) if es is None else es,
    )


def _function(
    curve: np.ndarray, ed: int | None, es: int | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """EDV, ESV, SV in ml and EF in percent of a cavity's volume curve."""
    edv = None if ed is None else float(curve[ed])
    esv = None if es is None else float(curve[es])
    if edv is None or esv is None:
        return edv, esv, None, None
    stroke = edv - esv
    return edv, esv, stroke, 100.0 * stroke / edv if edv > 0 else None
