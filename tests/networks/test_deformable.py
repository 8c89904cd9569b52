"""Deformable convolution: plain at the start, sampling elsewhere once it has learned."""

from __future__ import annotations

import pytest
import torch
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.deformable import DeformableConvolution
from cinelabel.networks.weights import get_weights
from torch import nn

PLAIN = NetworkSpec(features=(4, 8, 12))
DEFORMABLE = NetworkSpec(features=(4, 8, 12), deformable_bottleneck=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_fresh_deformable_convolution_equals_the_plain_one(stride):
    plain = nn.Conv2d(3, 5, 3, stride=stride, padding=1)
    images = torch.randn(2, 3, 12, 10)
    torch.testing.assert_close(DeformableConvolution.like(plain)(images), plain(images))


def test_a_network_with_deformable_bottleneck_starts_as_the_plain_one():
    torch.manual_seed(3)
    plain = build(PLAIN).eval()
    torch.manual_seed(3)
    deformable = build(DEFORMABLE).eval()
    images = torch.randn(2, 1, 32, 24)
    with torch.inference_mode():
        torch.testing.assert_close(deformable(images), plain(images))
    weights, added = get_weights(plain), get_weights(deformable)
    assert all(torch.equal(weights[name], added[name]) for name in weights)
    assert all(added[name].abs().max() == 0 for name in set(added) - set(weights))


def test_both_convolutions_of_the_last_encoder_stage_are_deformable_and_no_other():
    network = build(DEFORMABLE)
    found = [m for m in network.modules() if isinstance(m, DeformableConvolution)]
    bottleneck = {id(parameter) for parameter in network.layer_groups()["bottleneck"]}
    assert len(found) == 2
    assert all(id(parameter) in bottleneck for m in found for parameter in m.parameters())
    blocks = network.unet.encoder.stages[-1][0].convs
    assert all(block.conv is block.all_modules[0] for block in blocks)


def test_offsets_of_one_pixel_shift_what_the_convolution_sees():
    plain = nn.Conv2d(1, 2, 3, padding=1)
    deformable = DeformableConvolution.like(plain)
    with torch.no_grad():
        deformable.sampling.bias[1:18:2] = 1.0  # offsets are (y, x) pairs, then modulations
    images = torch.randn(1, 1, 8, 8)
    shifted = torch.roll(images, -1, dims=3)
    inside = (..., slice(1, -1), slice(1, -2))
    torch.testing.assert_close(deformable(images)[inside], plain(shifted)[inside])


def test_a_modulation_weighs_its_sample():
    plain = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    deformable = DeformableConvolution.like(plain)
    with torch.no_grad():
        deformable.sampling.bias[18:] = 50.0  # twice the sigmoid of much: 2
    images = torch.randn(1, 1, 6, 6)
    torch.testing.assert_close(deformable(images), 2 * plain(images))


def test_offsets_learn_from_the_first_step():
    network = build(DEFORMABLE).train()
    sum(level.square().mean() for level in network(torch.randn(2, 1, 32, 32))).backward()
    first = network.unet.encoder.stages[-1][0].convs[0].conv
    assert first.sampling.weight.grad.abs().max() > 0


def test_it_computes_in_full_precision_under_autocast():
    deformable = DeformableConvolution.like(nn.Conv2d(2, 3, 3, padding=1))
    images = torch.randn(1, 2, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = deformable(images)
    assert found.dtype == torch.float32
    assert torch.equal(found, deformable(images))
