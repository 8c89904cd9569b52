"""MetaLR: a learning rate a layer group, learned while fine-tuning (Chen et al. 2022, Algorithm 1).

A step looks ahead along the direction d that the optimiser would take, theta_j - alpha_j d_j
(equation 2), asks a validation batch what its loss there says of each rate (equation 3), and then
takes the step with the new rates (equation 4). Because the look-ahead is linear in the rates,
the gradient of the validation loss is a scalar product,

    dL_val / dalpha_j = - < grad_j L_val(theta - alpha d), d_j >,

so a step costs two ordinary backward passes and no second-order graph. For SGD d_j is what SGD
subtracts: the gradient plus weight decay, with momentum its running sum. With AdamW as the
optimiser ("AdamW-outer", as in the authors' code) d_j stays the plain gradient: the rates are then
judged on another step than the one taken, an approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from cinelabel.core.errors import InputError, RunError
from cinelabel.learning.config import MetaSettings
from cinelabel.learning.depth import HEAD

Forward = Callable[[torch.Tensor], Any]
"""A network at some weights: images to logits."""
Objective = Callable[[Forward], torch.Tensor]
"""The loss of one batch, a scalar, as a function of the network that labels it."""


@dataclass(frozen=True)
class MetaStep:
    """What a step did.

    Attributes:
        training_loss: at the weights before the step.
        validation_loss: at the weights looked ahead to.
        gradients: dL_val/dalpha a group.
        rates: those the step was taken with, a group.
    """

    training_loss: float
    validation_loss: float
    gradients: dict[str, float]
    rates: dict[str, float]


class MetaLR:
    """Learns the rates of a network's layer groups while it learns the network.

    Parameters without a gradient (frozen, or not used by the loss) stay as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Mapping[str, Sequence[nn.Parameter]],
        settings: MetaSettings | None = None,
        rates: Mapping[str, float] | None = None,
        clip: float | None = None,
    ) -> None:
        """Take a network, its layer groups (`Network.layer_groups`) and perhaps first rates.

        `clip` is the largest norm of the training gradient, None for no clipping.

        Raises:
            InputError: a parameter lies in two groups, or a first rate in none.
        """
        self.network = network
        self.settings = settings or MetaSettings()
        self.clip = clip
        self._names = [name for name, parameters in groups.items() if parameters]
        members = [parameter for name in self._names for parameter in groups[name]]
        if len({id(parameter) for parameter in members}) != len(members):
            raise InputError("a parameter lies in two layer groups")
        if unknown := set(rates or {}) - set(groups):
            raise InputError(f"the network has no layer group {sorted(unknown)[0]!r}")
        first = {name: self._first(name) for name in self._names} | dict(rates or {})
        self.optimizer = self._optimizer(
            [
                {"params": list(groups[name]), "lr": self._bounded(first[name])}
                for name in self._names
            ]
        )
        called = _names(network)
        self._called = [[called[id(p)] for p in groups[name]] for name in self._names]

    @property
    def rates(self) -> dict[str, float]:
        """The rate of each layer group now."""
        rates = (float(group["lr"]) for group in self.optimizer.param_groups)
        return dict(zip(self._names, rates, strict=True))

    def step(self, training: Objective, validation: Objective) -> MetaStep:
        """One round of Algorithm 1.

        The network's buffers, such as running statistics, move with the training pass alone, and
        its weights once, at the end.

        Raises:
            RunError: a loss or gradient is not a number; weights and rates are then as before.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss = training(self.network)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.clip or math.inf)
        directions = self._directions()
        ahead, gradients = self._look_ahead(directions, validation)
        if not all(map(math.isfinite, (loss.item(), norm.item(), ahead, *gradients))):
            raise diverged()
        for group, gradient in zip(self.optimizer.param_groups, gradients, strict=True):
            group["lr"] = self._changed(group["lr"], gradient)
        self.optimizer.step()
        return MetaStep(
            loss.item(), ahead, dict(zip(self._names, gradients, strict=True)), self.rates
        )

    def state_dict(self) -> dict[str, Any]:
        """Rates and the optimiser's running sums, for a checkpoint."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.optimizer.load_state_dict(state)

    def _first(self, name: str) -> float:
        return self.settings.head if name == HEAD else self.settings.others

    def _bounded(self, rate: float) -> float:
        return min(max(rate, self.settings.floor), self.settings.largest)

    def _changed(self, rate: float, gradient: float) -> float:
        """Equation 3, within the bounds."""
        step = self.settings.hyper_rate * gradient
        return self._bounded(rate - (rate * step if self.settings.step == "proportional" else step))

    def _optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        settings = self.settings
        if settings.optimiser == "adamw":
            return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        return torch.optim.SGD(
            groups,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )

    @torch.no_grad()
    def _directions(self) -> list[list[torch.Tensor | None]]:
        """d of every parameter by group, as it is before the optimiser's own step."""
        return [
            [self._direction(parameter, group) for parameter in group["params"]]
            for group in self.optimizer.param_groups
        ]

    def _direction(self, parameter: nn.Parameter, group: dict[str, Any]) -> torch.Tensor | None:
        """What SGD would subtract, divided by the rate; the plain gradient with AdamW."""
        gradient = parameter.grad
        if gradient is None or self.settings.optimiser == "adamw":
            return gradient
        decay, momentum = group["weight_decay"], group["momentum"]
        direction = gradient.add(parameter, alpha=decay) if decay else gradient
        if momentum:
            past = self.optimizer.state[parameter].get("momentum_buffer")
            total = direction if past is None else direction.add(past, alpha=momentum)
            direction = direction.add(total, alpha=momentum) if group["nesterov"] else total
        return direction

    def _look_ahead(
        self, directions: Sequence[Sequence[torch.Tensor | None]], validation: Objective
    ) -> tuple[float, list[float]]:
        """The validation loss at the look-ahead weights, and its gradient in each rate."""
        weights = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        ahead, owners, taken = [], [], []
        for number, (group, moves) in enumerate(
            zip(self.optimizer.param_groups, directions, strict=True)
        ):
            for names, parameter, move in zip(
                self._called[number], group["params"], moves, strict=True
            ):
                if move is None:
                    continue
                moved = torch.sub(parameter.detach(), move, alpha=group["lr"]).requires_grad_()
                weights.update(dict.fromkeys(names, moved))
                ahead.append(moved)
                owners.append(number)
                taken.append(move)
        # Every place of a shared weight is named here; tying them once more would leave the
        # look-ahead's weights behind in modules that are registered twice.
        loss = validation(
            lambda images: functional_call(self.network, weights, (images,), tie_weights=False)
        )
        slopes = torch.autograd.grad(loss, ahead, allow_unused=True)
        totals = [0.0] * len(self._names)
        for number, move, slope in zip(owners, taken, slopes, strict=True):
            if slope is not None:
                totals[number] -= torch.sum(slope.double() * move.double()).item()
        return loss.item(), totals


def diverged() -> RunError:
    """The error of a step that cannot be taken."""
    return RunError(
        "the loss or its gradient is not a number", remedy="Lower lr or use precision 32-true"
    )


def _names(network: nn.Module) -> dict[int, list[str]]:
    """Of every parameter, by identity, the places where it is registered; modules count once."""
    found: dict[int, list[str]] = {}
    for prefix, module in network.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            found.setdefault(id(parameter), []).append(name)
    return found
