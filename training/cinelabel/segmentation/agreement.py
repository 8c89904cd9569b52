"""How far the members of an ensemble agree: Dice between each two, a structure and a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cinelabel.core.labels import STRUCTURES


@dataclass(frozen=True, eq=False)
class Agreement:
    """Dice between the members' own labels, before post-processing.

    Attributes:
        members: names.
        frames: phases of the study.
        dice: float64 (frames, structures, members, members), symmetric; NaN where neither of two
            members has the structure.
    """

    members: tuple[str, ...]
    frames: tuple[int, ...]
    dice: np.ndarray

    def pairs(self) -> list[tuple[int, int]]:
        """Positions of each two members."""
        return list(combinations(range(len(self.members)), 2))

    def mean(self) -> dict[str, float | None]:
        """A structure's mean over pairs and frames, without those where both lack it."""
        first, second = (list(side) for side in zip(*self.pairs(), strict=True))
        between = self.dice[:, :, first, second]
        return {s.name: _mean(between[:, k]) for k, s in enumerate(STRUCTURES)}

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form: the means, and a structure's values a frame for each pair."""
        return {
            "mean": self.mean(),
            "frames": list(self.frames),
            "pairs": [
                {
                    "members": [self.members[i], self.members[j]],
                    **{
                        s.name: [_number(value) for value in self.dice[:, k, i, j]]
                        for k, s in enumerate(STRUCTURES)
                    },
                }
                for i, j in self.pairs()
            ],
        }


def pairwise_dice(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Dice between each two label arrays of one shape: float64 (structures, members, members)."""
    seen = np.any([each > 0 for each in labels], axis=0)
    kept = np.stack([each[seen] for each in labels])
    result = []
    for structure in STRUCTURES:
        masks = (kept == structure.value).astype(np.float32)
        sizes = masks.sum(1, dtype=np.float64)
        both = sizes[:, None] + sizes[None]
        with np.errstate(invalid="ignore"):
            result.append(2.0 * (masks @ masks.T) / both)
    return np.stack(result)


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if known.size else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
