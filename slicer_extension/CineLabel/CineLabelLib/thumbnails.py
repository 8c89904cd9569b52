"""What the images themselves show of each breath-hold, without any model: a picture and findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from CineLabelLib.study import CineStudy


@dataclass(frozen=True, eq=False)
class SliceLook:
    """What is seen of a slice.

    Attributes:
        index: slice along the third axis, from 0.
        thumbnail: (x, y) uint8, small, of the ED frame or the first one.
        badness: 0 (nothing found) to 1.
        shift_mm: in-plane shift along the first and second axis against its neighbours; None
            where it cannot be told.
        findings: of two to eight words each, such as "low contrast".
    """

    index: int
    thumbnail: np.ndarray
    badness: float = 0.0
    shift_mm: tuple[float, float] | None = None
    findings: tuple[str, ...] = ()


def look(study: CineStudy) -> tuple[SliceLook, ...]:
    """What is seen of every slice, in the order of the slices; may take a second."""
    frame = study.frame(study.ed or 0).astype(np.float32)
    low, high = np.percentile(frame, (1, 99))
    shown = np.clip((frame - low) / max(float(high - low), 1e-6), 0, 1)
    step = max(1, max(frame.shape[:2]) // 96)
    pictures = (shown[::step, ::step] * 255).astype(np.uint8)
    return tuple(SliceLook(k, pictures[:, :, k]) for k in range(study.n_slices))
