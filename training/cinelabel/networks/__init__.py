"""Networks: specifications without torch, and `build`, which imports torch when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cinelabel.networks.specs import PRESETS, NetworkSpec, resolve

if TYPE_CHECKING:
    from cinelabel.networks.base import Network

__all__ = ["PRESETS", "NetworkSpec", "build", "resolve"]

_BUILDERS = {
    "nnunet2d": ("nnunet", "NnUNet"),
    "nnunet3d": ("nnunet", "NnUNet"),
    "swin_unetr": ("swin_unetr", "SwinUnetr"),
    "swin_unet": ("swin_unet", "SwinUnet"),
}


def build(spec: NetworkSpec | str) -> Network:
    """A freshly initialised network in training mode, from a specification or a preset's name.

    Input (b, in_channels, h, w), or (b, in_channels, slices, h, w) in three dimensions, float32
    with sides that `spec.accepts`; output logits (b, classes, ...); in training mode with deep
    supervision a list of logits, finest first. Weights depend on torch's global random state.
    Raises ModelError for an unknown preset.
    """
    resolved = resolve(spec)
    module, name = _BUILDERS[resolved.family]
    return getattr(import_module(f"cinelabel.networks.{module}"), name)(resolved)
