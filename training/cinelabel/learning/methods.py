"""Methods of fine-tuning: how one step changes a network, and at which rate each layer group.

A method sees no data, only what a batch says of a network (`metalr.Objective`), so that one which
looks ahead can ask about weights that the network does not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from cinelabel.learning.config import FinetuneConfig
from cinelabel.learning.metalr import Objective, diverged
from cinelabel.networks.base import Network


@dataclass(frozen=True)
class Step:
    """What a step did.

    loss: of the training batch, before it.
    rates: of each layer group in it; 0 for a group that stays as it is.
    kept: of the round of steps that it ends, False where all of them were taken back; None where
        it ends none.
    """

    loss: float
    rates: Mapping[str, float]
    kept: bool | None = None


class Method(Protocol):
    """Fine-tunes one network, step by step.

    validates: whether a step wants a second batch, on which to judge what the first one teaches.
    takes_back: whether it takes steps in rounds, which it may take back.
    groups: the layer groups that have a rate, in the network's order.
    """

    validates: bool
    takes_back: bool
    groups: tuple[str, ...]

    def step(self, training: Objective, validation: Objective | None) -> Step:
        """Change the network once. Raises RunError where a loss or gradient is not a number."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on beside the network's weights: tensors and numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


class AllLayers:
    """Every layer learns at one constant rate, by AdamW."""

    validates = False
    takes_back = False

    def __init__(self, network: Network, config: FinetuneConfig) -> None:
        layers = {name: group for name, group in network.layer_groups().items() if group}
        self.groups = tuple(layers)
        self.clip = config.gradient_clip
        self.network = network
        self.optimiser = torch.optim.AdamW(
            [{"params": group} for group in layers.values()],
            lr=config.lr,
            weight_decay=config.weight_decay,
        )

    def step(self, training: Objective, validation: Objective | None = None) -> Step:
        """See `Method`."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = training(self.network)
        number = float(loss.detach())
        if not math.isfinite(number):
            raise diverged()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.clip or math.inf)
        if not torch.isfinite(norm):
            raise diverged()
        self.optimiser.step()
        rates = (
            float(group["lr"]) * any(p.requires_grad for p in group["params"])
            for group in self.optimiser.param_groups
        )
        return Step(number, dict(zip(self.groups, rates, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """See `Method`."""
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self.optimiser.load_state_dict(state)
