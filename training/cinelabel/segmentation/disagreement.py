"""Where the members of an ensemble disagree: by slice and structure, worst slices first.

The disagreement of two masks is 1 - Dice; of several members, its mean over each two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinelabel.core.grid import Grid
from cinelabel.core.labels import STRUCTURES
from cinelabel.segmentation.agreement import pairwise_dice

WORST = 20


@dataclass(frozen=True)
class SliceDisagreement:
    """What the members make of one slice of one phase.

    Attributes:
        frame, slice: counted from 0.
        structures: 1 - Dice by name (0 agreed, 1 nothing in common); None where nobody labelled it.
        mean: over the structures that somebody labelled.
        disputed_ml: volume of the voxels that not all members label alike.
    """

    frame: int
    slice: int
    structures: Mapping[str, float | None]
    mean: float
    disputed_ml: float


def disagreement(members: Mapping[str, np.ndarray], grid: Grid) -> list[SliceDisagreement]:
    """The slices that any of two or more members labelled, by frame and slice.

    members: each one's own labels uint8 (x, y, z, t), see `Segmentation.member_labels`.
    """
    labels = list(members.values())
    seen = np.any([each.any(axis=(0, 1)) for each in labels], axis=0)
    return [
        _of_slice([each[:, :, z, t] for each in labels], int(t), int(z), grid)
        for t, z in np.argwhere(seen.T)
    ]


def summary(slices: list[SliceDisagreement]) -> dict[str, Any]:
    """JSON-ready: the mean a structure over slices, every slice, and the worst slices first."""
    names = [structure.name for structure in STRUCTURES]
    worst = sorted(slices, key=lambda s: (-s.mean, -s.disputed_ml, s.frame, s.slice))
    return {
        "mean": {name: _mean([s.structures[name] for s in slices]) for name in names},
        "slices": [
            {"frame": s.frame, "slice": s.slice, **s.structures, "disputed_ml": s.disputed_ml}
            for s in slices
        ],
        "worst_slices": [
            {"frame": s.frame, "slice": s.slice, "disagreement": s.mean} for s in worst[:WORST]
        ],
    }


def _of_slice(labels: list[np.ndarray], frame: int, z: int, grid: Grid) -> SliceDisagreement:
    dice = pairwise_dice(labels)
    first, second = np.triu_indices(len(labels), 1)
    structures = {
        structure.name: _mean([1.0 - value for value in dice[k, first, second]])
        for k, structure in enumerate(STRUCTURES)
    }
    disputed = np.any([each != labels[0] for each in labels[1:]], axis=0)
    return SliceDisagreement(
        frame=frame,
        slice=z,
        structures=structures,
        mean=_mean(list(structures.values())) or 0.0,
        disputed_ml=round(float(np.count_nonzero(disputed)) * grid.voxel_volume_ml, 4),
    )


def _mean(values: list[float | None]) -> float | None:
    """Mean of what is known; None when nothing is."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    return round(float(np.mean(known)), 4) if known else None
