"""The challenger's check against forgetting: phantoms that are the same for all versions.

The cohort is made once and kept. It has a seed of its own, so that no network learned from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.config import DataConfig
from cinelabel.learning.data import Progress, SliceCache, open_cache
from cinelabel.learning.tuned import CLASSES

COHORT_SEED = 3_000_001
BATCH = 8


def open_cohort(
    data: DataConfig, count: int, folder: Path, progress: Progress | None = None
) -> SliceCache:
    """So many phantom slices, or stacks, as a member sees them, made if they are not there yet.

    Args:
        data: how phantoms for the member are made.
        count: of phantoms.
        folder: of caches.
        progress: told how many are made, of how many, and what is done.

    Raises:
        RunError, OutputError: as `data.open_cache`.
    """
    whole = data.validation_phantom
    return open_cache(data, count, COHORT_SEED, whole, folder, 1, CLASSES, progress)


def score_cohort(
    network: nn.Module,
    cohort: SliceCache,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, float]:
    """Dice over all of the cohort together, of each structure that it has; network on the CPU.

    `finish`: what is done to the member's images at the end.
    """
    shared, ours, theirs = np.zeros((3, CLASSES))
    network.eval()
    for first in range(0, len(cohort), BATCH):
        images = cohort.images[first : first + BATCH].astype(np.float32)
        images = finish(images) if finish else images
        with torch.inference_mode():
            found = network(torch.from_numpy(images)[:, None]).argmax(1).numpy()
        truth = cohort.labels[first : first + BATCH]
        for value in (structure.value for structure in STRUCTURES):
            shared[value] += np.count_nonzero((found == value) & (truth == value))
            ours[value] += np.count_nonzero(found == value)
            theirs[value] += np.count_nonzero(truth == value)
    dice = 2 * shared / np.maximum(ours + theirs, 1)
    return {s.name: round(float(dice[s.value]), 5) for s in STRUCTURES if theirs[s.value]}
