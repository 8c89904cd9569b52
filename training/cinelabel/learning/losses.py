"""Dice plus cross-entropy with deep supervision, as nnU-Net trains (Isensee et al. 2021, methods).

The Dice term is taken over the whole batch and leaves the background out; both terms weigh 1.
Deep supervision weighs level i by 1/2^i, the coarsest by 0, normalised to a sum of 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceCELoss
from torch.nn import functional


def level_weights(levels: int) -> list[float]:
    """Weights of the deep supervision levels, finest first; one level alone weighs 1."""
    if levels == 1:
        return [1.0]
    raw = [2.0**-i for i in range(levels - 1)]
    return [*(weight / sum(raw) for weight in raw), 0.0]


class SegmentationLoss(torch.nn.Module):
    """Dice + cross-entropy of logits against labels, over all levels given."""

    def __init__(self) -> None:
        super().__init__()
        self.level_loss = DiceCELoss(
            softmax=True, to_onehot_y=True, include_background=False, batch=True
        )

    def forward(
        self, logits: torch.Tensor | Sequence[torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        """A scalar from logits (b, classes, h, w), or a list finest first, and labels (b, h, w)."""
        levels = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        target = labels[:, None].float()
        total = levels[0].new_zeros((), dtype=torch.float32)
        for level, weight in zip(levels, level_weights(len(levels)), strict=True):
            if weight > 0:
                shrunk = functional.interpolate(target, size=level.shape[2:], mode="nearest")
                total = total + weight * self.level_loss(level.float(), shrunk)
        return total


def slice_dice(predicted: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Dice of each slice and structure, (b, classes - 1); NaN where neither has the structure.

    predicted, labels: (b, h, w) integer class values.
    """
    scores = []
    for value in range(1, classes):
        left, right = (predicted == value).flatten(1), (labels == value).flatten(1)
        sizes = left.sum(1) + right.sum(1)
        scores.append(2 * (left & right).sum(1) / sizes)  # 0 / 0 is NaN
    return torch.stack(scores, dim=1)
