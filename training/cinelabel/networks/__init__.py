"""Networks: specifications without torch, and `build`, which imports torch when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cinelabel.networks.specs import PRESETS, NetworkSpec, resolve

if TYPE_CHECKING:
    from cinelabel.networks.nnunet import NnUNet2d

__all__ = ["PRESETS", "NetworkSpec", "build", "resolve"]


def build(spec: NetworkSpec | str) -> NnUNet2d:
    """A freshly initialised network in training mode, from a specification or a preset's name.

    Input (b, in_channels, h, w) float32 with h and w multiples of `spec.divisor`; output logits
    (b, classes, h, w); in training mode with deep supervision a list of logits, finest first.
    Weights depend on torch's global random state. Raises ModelError for an unknown preset.
    """
    from cinelabel.networks.nnunet import NnUNet2d

    return NnUNet2d(resolve(spec))
