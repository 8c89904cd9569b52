"""What every network is: a torch module with its specification and named layer groups."""

from __future__ import annotations

import torch
from torch import nn

from cinelabel.networks.specs import NetworkSpec


class Network(nn.Module):
    """A network of a specification.

    Input (b, in_channels, h, w) or (b, in_channels, slices, h, w) float32 with sides that
    `spec.accepts`; output logits (b, classes, ...); in training mode with deep supervision a list
    of logits, finest first.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Logits of images; see the class."""
        raise NotImplementedError

    def layers(self) -> dict[str, list[nn.Module]]:
        """The modules of each layer group; see `layer_groups`."""
        raise NotImplementedError

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter once, grouped and ordered from input to output.

        stem, encoder_1 .. (finest first), bottleneck, decoder_1 .. (in order of computation,
        coarsest first), head (all that follows the last decoder stage, and the classifiers of
        coarser stages).
        """
        return {
            name: [parameter for module in modules for parameter in module.parameters()]
            for name, modules in self.layers().items()
        }
