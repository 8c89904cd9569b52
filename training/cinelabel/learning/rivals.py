"""Ways to fine-tune besides one rate for all layers and MetaLR: parts that stay, rates by rule.

Last layer, layer-wise (Tajbakhsh et al. 2016), bi-directional (Chen et al. 2022, MetaLR, section
2.1) and the contracting path (Amiri et al. 2020) leave layers as they are. A random frozen encoder
asks whether what the encoder has learned matters (Karimi et al. 2021). AutoLR (Ro and Choi 2021)
wants deeper layers to change more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cinelabel.learning.config import FinetuneConfig
from cinelabel.learning.depth import HEAD, contracting, frozen_between, layers_of
from cinelabel.learning.metalr import MetaLR, Objective
from cinelabel.learning.methods import AllLayers, Method, Step
from cinelabel.networks import build
from cinelabel.networks.base import Network


class SomeLayers(AllLayers):
    """The layer groups that `frozen` does not name learn at one constant rate, the others stay."""

    def __init__(
        self, network: Network, config: FinetuneConfig, frozen: Collection[str] = ()
    ) -> None:
        for name, group in network.layer_groups().items():
            for parameter in group:
                parameter.requires_grad_(name not in frozen)
        super().__init__(network, config)


class AutoLR:
    """Every layer learns at a rate that makes deeper layers change more (Ro and Choi 2021).

    Steps are taken in rounds. At the end of a round the mean change of a weight is measured a
    layer group. Wanted are changes that rise evenly from the shallowest to the deepest; how near
    they are to this order is Spearman's correlation of change and depth. Below `QUALITY` the
    round is taken back and tried again, at most `TRIALS` times, with each rate multiplied by the
    wanted change over the measured one. Pruning of layers, the paper's other half, is left out: it
    would make another network of the member.
    """

    ROUND = 20
    TRIALS = 3
    QUALITY = 0.9

    validates = False
    takes_back = True

    def __init__(self, network: Network, config: FinetuneConfig) -> None:
        self._inner = AllLayers(network, config)
        self.groups = self._inner.groups
        self._network = network
        self._trial, self._steps = 0, 0
        self._start = self._weights()
        self._past = copy.deepcopy(self._inner.state_dict())

    def step(self, training: Objective, validation: Objective | None = None) -> Step:
        """See `Method`."""
        taken = self._inner.step(training)
        self._steps += 1
        kept = self._end_of_round() if self._steps == self.ROUND else None
        return replace(taken, kept=kept)

    def state_dict(self) -> dict[str, Any]:
        """See `Method`."""
        return {
            "inner": self._inner.state_dict(),
            "past": self._past,
            "start": self._start,
            "counts": [self._trial, self._steps],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self._inner.load_state_dict(state["inner"])
        self._past, self._start = state["past"], state["start"]
        self._trial, self._steps = state["counts"]

    def _end_of_round(self) -> bool:
        """Keep the round, or take it back; whether it was kept."""
        changes = self._changes()
        self._steps = 0
        if self._trial < self.TRIALS and sorting_quality(changes) < self.QUALITY:
            self._take_back(rates=self._wanted_rates(changes))
            self._trial += 1
            return False
        self._trial = 0
        self._start = self._weights()
        self._past = copy.deepcopy(self._inner.state_dict())
        return True

    def _wanted_rates(self, changes: Sequence[float]) -> list[float]:
        wanted = np.linspace(min(changes), max(changes), len(changes))
        groups = self._inner.optimiser.param_groups
        return [
            float(group["lr"] * (target / change if change > 0 else 1.0))
            for group, target, change in zip(groups, wanted, changes, strict=True)
        ]

    @torch.no_grad()
    def _take_back(self, rates: Sequence[float]) -> None:
        for parameters, kept in zip(self._by_group(), self._start, strict=True):
            for parameter, past in zip(parameters, kept, strict=True):
                parameter.copy_(past)
        self._inner.load_state_dict(copy.deepcopy(self._past))
        for group, rate in zip(self._inner.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate

    @torch.no_grad()
    def _changes(self) -> list[float]:
        """Mean absolute change of a weight since the round began, a layer group."""
        found = []
        for parameters, kept in zip(self._by_group(), self._start, strict=True):
            total = sum(
                float((p - past).abs().sum()) for p, past in zip(parameters, kept, strict=True)
            )
            found.append(total / sum(p.numel() for p in parameters))
        return found

    def _by_group(self) -> list[list[nn.Parameter]]:
        groups = self._network.layer_groups()
        return [groups[name] for name in self.groups]

    def _weights(self) -> list[list[torch.Tensor]]:
        return [[p.detach().clone() for p in parameters] for parameters in self._by_group()]


def sorting_quality(changes: Sequence[float]) -> float:
    """Spearman's correlation of values with their places: 1 where they rise, -1 where they fall."""
    from scipy.stats import spearmanr

    if len(set(changes)) < 2:
        return 0.0
    return float(spearmanr(range(len(changes)), changes).statistic)


class LearnedRates:
    """MetaLR as a method: the rates of the layer groups are learned on a second batch."""

    validates = True
    takes_back = False

    def __init__(self, network: Network, config: FinetuneConfig) -> None:
        clip = config.gradient_clip or None
        self._meta = MetaLR(network, network.layer_groups(), config.meta, clip=clip)
        self.groups = tuple(self._meta.rates)

    def step(self, training: Objective, validation: Objective | None = None) -> Step:
        """See `Method`."""
        if validation is None:
            raise ValueError("MetaLR judges a step on a second batch")
        taken = self._meta.step(training, validation)
        return Step(taken.training_loss, taken.rates)

    def state_dict(self) -> dict[str, Any]:
        """See `Method`."""
        return self._meta.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self._meta.load_state_dict(state)


def last_layer(network: Network, config: FinetuneConfig) -> Method:
    """The head alone learns."""
    return SomeLayers(network, config, [name for name in network.layer_groups() if name != HEAD])


def between(network: Network, config: FinetuneConfig) -> Method:
    """Layers m to n of `config.frozen` stay; layer-wise where m is 1."""
    m, n = config.frozen or (1, 1)
    return SomeLayers(network, config, frozen_between(layers_of(network, config), m, n))


def contracting_path(network: Network, config: FinetuneConfig) -> Method:
    """Stem, encoder and head learn, bottleneck and decoder stay (Amiri et al. 2020)."""
    groups = list(network.layer_groups())
    learning = {*contracting(groups), HEAD}
    return SomeLayers(network, config, [name for name in groups if name not in learning])


def random_encoder(network: Network, config: FinetuneConfig) -> Method:
    """Stem, encoder and bottleneck are drawn anew and stay; the rest learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        fresh = build(network.spec)
    drawn = [name for name in network.layer_groups() if not name.startswith(("decoder_", HEAD))]
    with torch.no_grad():
        for name in drawn:
            pairs = zip(network.layer_groups()[name], fresh.layer_groups()[name], strict=True)
            for old, new in pairs:
                old.copy_(new)
    return SomeLayers(network, config, drawn)


METHODS: Mapping[str, Callable[[Network, FinetuneConfig], Method]] = {
    "all": AllLayers,
    "last": last_layer,
    "layer-wise": between,
    "bi-directional": between,
    "contracting": contracting_path,
    "random-encoder": random_encoder,
    "autolr": AutoLR,
    "metalr": LearnedRates,
}
"""By the names of `FinetuneConfig.method`."""
