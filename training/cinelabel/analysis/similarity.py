"""Similarity of two representations: PWCCA (Morcos et al., NeurIPS 2018, section 2).

Projection-weighted canonical correlation: the canonical correlations rho_i of two sets of
channels, averaged with weights alpha_i = sum_j |<h_i, x_j>| that say how much of the channels x_j
each canonical variate h_i accounts for. Both sets are whitened by their singular value
decomposition. The measure weighs by one of the two sets and is therefore asymmetric: both
directions are averaged. With few samples independent data look alike, so fewer than 50 samples a
channel are refused, and the value that independent data of the same size reach is reported.
Variates of equal correlations are defined up to a rotation, and their weights with them: where
many correlations are equal the value is defined to about 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinelabel.core.errors import InputError

MIN_SAMPLES_A_CHANNEL = 50
RELATIVE_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Similarity:
    """PWCCA of two representations.

    `value` is the mean of the two directions (1 for equal spaces); `floor` the mean value of
    independent normal data of the same sizes; `correlations` the canonical correlations, largest
    first.
    """

    value: float
    weighted_by_first: float
    weighted_by_second: float
    floor: float
    samples: int
    channels: tuple[int, int]
    correlations: tuple[float, ...]


def pwcca(
    first: np.ndarray, second: np.ndarray, *, floor_repeats: int = 3, seed: int = 0
) -> Similarity:
    """PWCCA of two arrays (samples, channels); rows of both are the same samples.

    Channel counts may differ. Raises InputError for arrays that are not 2D, unequal numbers of
    samples, values that are not finite, no variance at all, or fewer than 50 samples a channel.
    """
    first, second = _checked(first), _checked(second)
    if len(first) != len(second):
        raise InputError(
            f"the representations have {len(first)} and {len(second)} samples, "
            "and must have the same ones"
        )
    widest = max(first.shape[1], second.shape[1])
    if len(first) < MIN_SAMPLES_A_CHANNEL * widest:
        raise InputError(
            f"{len(first)} samples are too few for {widest} channels",
            remedy=f"Use at least {MIN_SAMPLES_A_CHANNEL} samples a channel: "
            f"{MIN_SAMPLES_A_CHANNEL * widest}",
        )
    by_first, by_second, correlations = directions(first, second)
    floor = noise_floor(
        len(first), first.shape[1], second.shape[1], repeats=floor_repeats, seed=seed
    )
    return Similarity(
        value=(by_first + by_second) / 2,
        weighted_by_first=by_first,
        weighted_by_second=by_second,
        floor=floor,
        samples=len(first),
        channels=(first.shape[1], second.shape[1]),
        correlations=tuple(float(rho) for rho in correlations),
    )


def directions(first: np.ndarray, second: np.ndarray) -> tuple[float, float, np.ndarray]:
    """PWCCA weighted by the first set, by the second, and the canonical correlations.

    Takes any number of samples: with few of them the values say little.
    """
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    basis_x, basis_y = _whitened(x), _whitened(y)
    left, correlations, right = np.linalg.svd(basis_x.T @ basis_y, full_matrices=False)
    correlations = np.clip(correlations, 0.0, 1.0)
    by_first = _weighted(correlations, basis_x @ left, x)
    by_second = _weighted(correlations, basis_y @ right.T, y)
    return by_first, by_second, correlations


def noise_floor(
    samples: int, first_channels: int, second_channels: int, *, repeats: int = 3, seed: int = 0
) -> float:
    """Mean PWCCA, both directions, of independent normal data of these sizes."""
    generator = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(repeats):
        x = generator.standard_normal((samples, first_channels))
        y = generator.standard_normal((samples, second_channels))
        values += directions(x, y)[:2]
    return float(np.mean(values))


def _checked(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"a representation has (samples, channels), not shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("a representation holds values that are not finite")
    if not np.ptp(array, axis=0).any():
        raise InputError("a representation does not vary at all")
    return array


def _whitened(centred: np.ndarray) -> np.ndarray:
    """Orthonormal basis (samples, rank) of the space that the centred channels span."""
    vectors, values, _ = np.linalg.svd(centred, full_matrices=False)
    return vectors[:, values > RELATIVE_RANK_TOLERANCE * values[0]]


def _weighted(correlations: np.ndarray, variates: np.ndarray, centred: np.ndarray) -> float:
    weights = np.abs(variates.T @ centred).sum(axis=1)
    return float(np.sum(weights * correlations) / np.sum(weights))
