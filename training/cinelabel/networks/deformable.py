"""Modulated deformable convolution (DCN v2, Zhu et al. 2019), the plain convolution at the start.

The offsets (Dai et al. 2017) and modulations come from a convolution of the same geometry whose
weights start at zero, so that a fresh one equals the convolution it replaces.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.ops import DeformConv2d


class DeformableConvolution(DeformConv2d):
    """A 2D convolution that moves and weighs each of its samples at each pixel.

    `weight` and `bias` are named and shaped as those of `nn.Conv2d`; `sampling` gives the offsets
    in pixels (y, x of each sample) and the modulations, 2 * sigmoid, so that zero means 1.
    """

    sampling: nn.Conv2d

    @classmethod
    def like(cls, convolution: nn.Conv2d) -> DeformableConvolution:
        """The deformable form of a plain convolution, with its weights."""
        geometry = (
            _pair(convolution.kernel_size),
            _pair(convolution.stride),
            _pair(convolution.padding),
            _pair(convolution.dilation),
        )
        height, width = geometry[0]
        inputs, outputs = convolution.in_channels, convolution.out_channels
        biased = convolution.bias is not None
        new = cls(inputs, outputs, *geometry, convolution.groups, bias=biased)
        new.weight, new.bias = convolution.weight, convolution.bias
        new.sampling = nn.Conv2d(inputs, 3 * height * width, *geometry)
        for parameter in new.sampling.parameters():
            nn.init.zeros_(parameter)
        return new

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, in_channels, h, w) -> (b, out_channels, h', w'), in float32 under autocast too.

        Half precision is too coarse for offsets, and on the CPU torchvision refuses bfloat16.
        """
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            numbers = self.sampling(images)
            samples = numbers.shape[1] // 3
            offsets, modulations = numbers.split([2 * samples, samples], dim=1)
            return super().forward(images, offsets, 2 * torch.sigmoid(modulations))


def _pair(numbers: Any) -> tuple[int, int]:
    """Numbers of height and width; torch's types allow words and any length."""
    height, width = numbers
    return int(height), int(width)
