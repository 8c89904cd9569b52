"""The loss equals MONAI's and values worked out by hand; deep supervision weighs its levels."""

from __future__ import annotations

import math

import pytest
import torch
from cinelabel.learning.losses import (
    deep_supervision_loss,
    dice_cross_entropy,
    example_dice,
    level_weights,
)


@pytest.mark.parametrize("shape", [(8, 6), (4, 8, 6)], ids=["slices", "stacks"])
@pytest.mark.parametrize(("dice", "cross_entropy"), [(1.0, 1.0), (0.6, 0.4)])
def test_the_loss_and_its_gradient_are_those_of_monai(shape, dice, cross_entropy):
    from monai.losses import DiceCELoss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, *shape, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (3, *shape), generator=generator)
    reference = DiceCELoss(
        softmax=True,
        to_onehot_y=True,
        include_background=False,
        batch=True,
        lambda_dice=dice,
        lambda_ce=cross_entropy,
    )
    expected = reference(logits, labels[:, None].float())
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    found = dice_cross_entropy(logits, labels, dice, cross_entropy)
    (gradient,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_an_undecided_network_of_two_classes_costs_what_is_worked_out_by_hand():
    labels = torch.tensor([[[1, 0], [0, 0]]])
    # p = 1/2 everywhere: cross-entropy ln 2; Dice 2 * 0.5 / (4 * 0.5 + 1) = 1/3
    expected = math.log(2) + 1 - 1 / 3
    assert dice_cross_entropy(torch.zeros(1, 2, 2, 2), labels).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_a_perfect_prediction_costs_nothing():
    labels = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = 50.0 * torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert dice_cross_entropy(logits, labels).item() == pytest.approx(0.0, abs=1e-4)


def test_levels_weigh_half_of_the_one_before_and_the_coarsest_nothing():
    assert level_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0.0])
    assert level_weights(2) == [1.0, 0.0]
    assert level_weights(1) == [1.0]


def test_deep_supervision_compares_each_level_with_every_second_label():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (2, 8, 8), generator=generator)
    levels = [torch.randn(2, 4, size, size, generator=generator) for size in (8, 4, 2)]
    expected = 2 / 3 * dice_cross_entropy(levels[0], labels)
    expected += 1 / 3 * dice_cross_entropy(levels[1], labels[:, ::2, ::2])
    torch.testing.assert_close(deep_supervision_loss(levels, labels), expected)
    torch.testing.assert_close(
        deep_supervision_loss(levels[0], labels), dice_cross_entropy(levels[0], labels)
    )


def test_levels_of_stacks_are_compared_along_each_axis_by_their_own_stride():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (2, 4, 8, 8), generator=generator)
    sizes = ((4, 8, 8), (4, 4, 4), (2, 2, 2), (1, 1, 1))
    levels = [torch.randn(2, 4, *size, generator=generator) for size in sizes]
    expected = 4 / 7 * dice_cross_entropy(levels[0], labels)
    expected += 2 / 7 * dice_cross_entropy(levels[1], labels[:, :, ::2, ::2])
    expected += 1 / 7 * dice_cross_entropy(levels[2], labels[:, ::2, ::4, ::4])
    torch.testing.assert_close(deep_supervision_loss(levels, labels), expected)


def test_dice_of_a_slice_is_worked_out_by_hand_and_nan_where_a_structure_is_nowhere():
    truth = torch.tensor([[[1, 1], [2, 0]], [[0, 0], [0, 0]]])
    predicted = torch.tensor([[[1, 0], [2, 2]], [[0, 1], [0, 0]]])
    found = example_dice(predicted, truth, 4)
    # slice 0: LV 2*1/(2+1), MYO 2*1/(1+2); slice 1: LV predicted where there is none
    assert found[0, :2].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found[1, 0].item() == 0.0
    assert torch.isnan(found[0, 2])
    assert torch.isnan(found[1, 1:]).all()


def test_dice_of_a_stack_is_taken_over_its_slices_together():
    truth = torch.tensor([[[[1, 1], [0, 0]], [[0, 0], [0, 0]]]])
    predicted = torch.tensor([[[[1, 1], [0, 0]], [[1, 1], [0, 0]]]])
    assert example_dice(predicted, truth, 2).tolist() == [[pytest.approx(2 * 2 / (4 + 2))]]
