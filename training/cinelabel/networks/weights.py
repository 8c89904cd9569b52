"""Weights of a network by name: taken out, put back, and an encoder's taken over by another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cinelabel.core.errors import ModelError
from cinelabel.networks.base import Network

ENCODER_GROUPS = ("stem", "encoder_", "bottleneck")
"""Names, or their beginnings, of the layer groups that make an encoder."""


def get_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, each tensor once, detached, still on its device.

    nnU-Net's library registers a convolution under several names, so `state_dict` repeats tensors,
    which safetensors refuses. Buffers a network computes itself (not persistent) are left out.
    """
    kept = network.state_dict().keys()
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: tensor.detach() for name, tensor in named if name in kept}


def on_cpu(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU, contiguous in the order of the axes, as safetensors wants them."""
    return {
        name: t.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
        for name, t in weights.items()
    }


def set_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights of `get_weights` into a network; ModelError if names or shapes differ."""
    own = get_weights(network)
    for name in sorted(set(own) ^ set(weights)):
        what = "lack" if name in own else "have an unexpected"
        raise ModelError(f"the weights {what} tensor '{name}'", remedy="Use the network's own spec")
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != weights[name].shape:
                shapes = f"{tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
                raise ModelError(f"tensor '{name}' of the weights has shape {shapes}")
            tensor.copy_(weights[name])


@dataclass(frozen=True)
class Transfer:
    """What a network took over from other weights.

    taken: names of the network's tensors that were filled.
    left: names of offered tensors that were not used, and why.
    kept: names of the encoder's tensors that keep the values they had.
    """

    taken: tuple[str, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A few lines for a log: counts, then each reason with its tensors."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            reasons.setdefault(reason, []).append(name)
        lines = [f"{len(self.taken)} tensors taken, {len(self.left)} left"]
        lines += [f"left, {reason}: {', '.join(names)}" for reason, names in reasons.items()]
        if self.kept:
            lines.append(f"as they were: {', '.join(self.kept)}")
        return "\n".join(lines)


def load_encoder(network: Network, checkpoint: Path | Mapping[str, torch.Tensor]) -> Transfer:
    """Fill the encoder (stem, encoder stages, bottleneck) from a checkpoint, by name and shape.

    checkpoint: a safetensors file, or weights as `get_weights` gives them, of a network of the same
    family; other stages, input channels or classes are allowed. Decoder and head stay as they are.
    Raises ModelError if the file cannot be read or nothing in it fits the encoder.
    """
    offered = read_weights(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    groups = network.layer_groups()
    encoder = {id(p) for name, group in groups.items() if is_encoder(name) for p in group}
    own = dict(network.named_parameters())
    taken, left = [], {}
    with torch.no_grad():
        for name, tensor in offered.items():
            if name not in own:
                left[name] = "this network has no such tensor"
            elif id(own[name]) not in encoder:
                left[name] = "not of the encoder"
            elif tensor.shape != own[name].shape:
                left[name] = f"shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
            else:
                own[name].copy_(tensor)
                taken.append(name)
    if not taken:
        where = checkpoint if isinstance(checkpoint, Path) else None
        raise ModelError(
            f"none of these weights fits the encoder of a network '{network.spec.family}'",
            where=where,
            remedy="Use weights of the same family and size",
        )
    kept = [name for name, p in own.items() if id(p) in encoder and name not in set(taken)]
    return Transfer(tuple(taken), left, tuple(kept))


def is_encoder(group: str) -> bool:
    """Whether a layer group of that name belongs to the encoder."""
    return group.startswith(ENCODER_GROUPS)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; ModelError if it is not one."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError("this is not a file of weights", where=path) from error
