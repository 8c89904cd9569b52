"""One network over the slices or stacks of a volume: views, batches, windows along the stack.

Averages over views are those of Gong et al. (STACOM 2022, section 2.5): mirroring along all axes,
4 passes in 2D and 8 in 3D. Quarter turns in the plane are what their published code does for the
transformers. Windows overlap by half and count by a Gaussian, as in nnU-Net (Isensee et al. 2021,
Nature Methods 18, supplement).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cinelabel.segmentation.backend import Backend
from cinelabel.transforms.preprocess import pad_slices


@dataclass(frozen=True)
class PassDefaults:
    """Bounds of a pass.

    Attributes:
        batch_pixels: of the slices that go through a 2D network together, which bounds its memory.
        long_stack: times the depth that a 3D network learned from; longer stacks go in windows.
        sigma: of the Gaussian along a window, as a share of its slices.
    """

    batch_pixels: int = 10 * 192 * 192
    long_stack: float = 1.5
    sigma: float = 1 / 8


DEFAULTS = PassDefaults()


@dataclass(frozen=True)
class View:
    """A way to show an image: flipped along axes (counted from the end), or turned in the plane."""

    flips: tuple[int, ...] = ()
    quarter_turns: int = 0

    def show(self, images: np.ndarray) -> np.ndarray:
        """The images in this view."""
        return np.rot90(np.flip(images, self.flips), self.quarter_turns, (-2, -1))

    def undo(self, maps: np.ndarray) -> np.ndarray:
        """Maps of a network on the images as they were."""
        return np.flip(np.rot90(maps, -self.quarter_turns, (-2, -1)), self.flips)


def views(dimensions: int, mirror: bool, turns: bool) -> list[View]:
    """Quarter turns (4 views), else mirrorings along all axes (2 to the dimensions), else one."""
    if turns:
        return [View(quarter_turns=k) for k in range(4)]
    if not mirror:
        return [View()]
    axes = range(-dimensions, 0)
    return [View(flips) for n in range(dimensions + 1) for flips in combinations(axes, n)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over axis 1, float32."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return np.asarray(shares, np.float32)


def slice_probabilities(
    network: Backend, images: np.ndarray, seen_as: Sequence[View]
) -> np.ndarray:
    """Softmax of a 2D network averaged over views: (n, h, w) -> float32 (n, classes, h, w)."""
    each = max(1, DEFAULTS.batch_pixels // (images.shape[1] * images.shape[2]))
    batches = [images[start : start + each, None] for start in range(0, len(images), each)]
    return np.concatenate([_averaged(network, batch, seen_as) for batch in batches])


def stack_probabilities(
    network: Backend,
    images: np.ndarray,
    seen_as: Sequence[View],
    divisor: int,
    depth: int | None,
) -> np.ndarray:
    """Softmax of a 3D network averaged over views: (n, h, w) -> float32 (n, classes, h, w).

    The stack is one example, its end slices repeated until it can be halved; a stack much longer
    than the network learned from goes through in windows.

    Args:
        network: the backend.
        images: prepared slices.
        seen_as: the views.
        divisor: of which the slices of an example must be a multiple.
        depth: slices of the examples it learned from; None takes every stack whole.
    """
    if depth is None or len(images) <= DEFAULTS.long_stack * depth:
        padded, where = pad_slices(images, divisor)
        return np.moveaxis(_averaged(network, padded[None, None], seen_as)[0], 1, 0)[where]
    length = -(-depth // divisor) * divisor
    weights = _gaussian(length)
    total: np.ndarray | None = None
    counted = np.zeros(len(images), np.float32)
    for window in _windows(len(images), length):
        maps = np.moveaxis(_averaged(network, images[None, None, window], seen_as)[0], 1, 0)
        if total is None:
            total = np.zeros((len(images), *maps.shape[1:]), np.float32)
        total[window] += weights[:, None, None, None] * maps
        counted[window] += weights
    assert total is not None
    return total / counted[:, None, None, None]


def _averaged(network: Backend, batch: np.ndarray, seen_as: Sequence[View]) -> np.ndarray:
    """Softmax averaged over views: (n, 1, ...) -> float32 (n, classes, ...)."""
    total: np.ndarray | None = None
    for view in seen_as:
        seen = view.undo(softmax(network(view.show(batch))))
        total = seen if total is None else total + seen
    assert total is not None
    return np.asarray(total / np.float32(len(seen_as)))


def _windows(n: int, length: int) -> Iterator[slice]:
    """Windows over n slices, evenly spread, that overlap by half or more."""
    count = int(np.ceil((n - length) / (length / 2))) + 1
    for start in np.linspace(0, n - length, count).round().astype(int):
        yield slice(int(start), int(start) + length)


def _gaussian(length: int) -> np.ndarray:
    offset = np.arange(length) - (length - 1) / 2
    return np.exp(-0.5 * (offset / (DEFAULTS.sigma * length)) ** 2).astype(np.float32)
