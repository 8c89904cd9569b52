"""Dice plus cross-entropy with deep supervision, as nnU-Net trains (Isensee et al. 2021, methods).

The Dice term is taken over the whole batch, over all processes where there are several, and leaves
the background out. Deep supervision weighs level i by 1/2^i, the coarsest by 0, normalised to a sum
of 1. All of it in 2D, labels (b, h, w), and 3D, labels (b, n, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed
from torch.nn import functional

DICE_SMOOTHING = 1e-5
NEVER = -1e4
"""A logit whose probability is zero in float32; infinities have no gradient."""


def level_weights(levels: int) -> list[float]:
    """Weights of the deep supervision levels, finest first; one level alone weighs 1."""
    if levels == 1:
        return [1.0]
    raw = [2.0**-i for i in range(levels - 1)]
    return [*(weight / sum(raw) for weight in raw), 0.0]


def dice_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    dice_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
) -> torch.Tensor:
    """Weighted sum of cross-entropy and of one minus the mean Dice of the structures.

    logits (b, classes, ...) float32, labels (b, ...) int64. Equals monai.losses.DiceCELoss with
    softmax, batch=True and include_background=False, but gathers the probability of the true class
    instead of multiplying by one-hot labels: an order of magnitude less memory traffic on a CPU.

    With several processes the sums in the Dice are those of all batches together, and the
    cross-entropy is the process's own: averaged over processes with batches of one size, as
    distributed training does, the gradients are those of one process with the joint batch.
    """
    classes = logits.shape[1]
    log_probability = functional.log_softmax(logits.contiguous(), dim=1)
    log_true = log_probability.gather(1, labels[:, None])[:, 0]
    true = log_true.exp()
    masks = [labels == value for value in range(1, classes)]
    overlap = torch.stack([torch.where(mask, true, 0.0).sum() for mask in masks])
    sizes = torch.stack([mask.sum() for mask in masks])
    predicted = log_probability.exp().sum(dim=(0, *range(2, logits.ndim)))[1:]
    overlap, sizes, predicted = _over_processes(torch.stack([overlap, sizes, predicted]))
    dice = (2 * overlap + DICE_SMOOTHING) / (predicted + sizes + DICE_SMOOTHING)
    return dice_weight * (1 - dice.mean()) - cross_entropy_weight * log_true.mean()


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient, since all use the sum."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _over_processes(sums: torch.Tensor) -> torch.Tensor:
    """Sums of all processes together, with their gradients; those of this one if it is alone."""
    if not distributed.is_available() or not distributed.is_initialized():
        return sums
    return _SumOverProcesses.apply(sums)


def deep_supervision_loss(
    logits: torch.Tensor | Sequence[torch.Tensor],
    labels: torch.Tensor,
    dice_weight: float = 1.0,
    cross_entropy_weight: float = 1.0,
) -> torch.Tensor:
    """A scalar from logits (b, classes, ...), or a list finest first, and labels (b, ...).

    Coarser levels are compared with every second, fourth ... label along each axis that they are
    coarser in. The coarsest weighs 0 but is computed: distributed training needs every gradient.
    """
    levels = [logits] if isinstance(logits, torch.Tensor) else list(logits)
    total = levels[0].new_zeros((), dtype=torch.float32)
    for level, weight in zip(levels, level_weights(len(levels)), strict=True):
        strides = [n // m for n, m in zip(labels.shape[1:], level.shape[2:], strict=True)]
        strided = labels[(slice(None), *(slice(None, None, stride) for stride in strides))]
        total = total + weight * dice_cross_entropy(
            level.float(), strided, dice_weight, cross_entropy_weight
        )
    return total


def marginal_logits(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Logits in which a structure that an example's label leaves out counts as background there.

    The marginal loss of Shi et al. (Medical Image Analysis 2021): a reader who drew the left
    ventricle alone has not said that there is no right one. Any loss of the result against such a
    label leaves open which of the two a pixel of the background is.

    Args:
        logits: (b, classes, ...) float32.
        known: bool (b, classes), the background's True: what the label of each example tells; of
            stacks also (b, n, classes), a row a slice. Logits coarser than that take every second,
            fourth ... row, as `deep_supervision_loss` does with the labels.

    Returns:
        (b, classes, ...): log-probabilities; that of what is not known is lower than any other.
    """
    if known.ndim == 3:
        known = known[:, :: known.shape[1] // logits.shape[2]].transpose(1, 2)
    known = known.reshape(*known.shape, *(1,) * (logits.ndim - known.ndim))
    hidden = ~known
    log_probability = functional.log_softmax(logits, dim=1)
    behind = log_probability.masked_fill(known, NEVER)
    background = torch.logsumexp(torch.cat([log_probability[:, :1], behind], 1), 1, keepdim=True)
    rest = log_probability[:, 1:].masked_fill(hidden[:, 1:], NEVER)
    return torch.cat([background, rest], 1)


def example_dice(predicted: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Dice of each slice or stack and structure, (b, classes - 1); NaN where neither has it.

    predicted, labels: (b, ...) integer class values.
    """
    scores = []
    for value in range(1, classes):
        left, right = (predicted == value).flatten(1), (labels == value).flatten(1)
        sizes = left.sum(1) + right.sum(1)
        scores.append(2 * (left & right).sum(1) / sizes)  # 0 / 0 is NaN
    return torch.stack(scores, dim=1)
