"""What a step of MetaLR costs beside a plain one, on the members of the bundled ensemble.

Prints a table (pytest -m slow -s). The steps take turns, so that other programs slow both alike;
the median of each is compared. At most 2.2 times is aimed at.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from cinelabel.core.labels import STRUCTURES
from cinelabel.learning.config import FinetuneConfig
from cinelabel.learning.losses import deep_supervision_loss
from cinelabel.learning.metalr import Forward, Objective
from cinelabel.learning.rivals import METHODS
from cinelabel.models.store import ModelStore
from cinelabel.networks.base import Network
from cinelabel.networks.specs import NetworkSpec

VERSION = "phantom-ensemble-1"
BATCH, STACKS, SIDE, DEPTH = 16, 2, 128, 10
WARM_UP, REPEATS = 2, 8
TARGET = 2.2


@pytest.mark.slow
def test_a_step_of_metalr_costs_little_more_than_two_plain_ones() -> None:
    version = ModelStore().load(VERSION)
    ratios = {}
    print(f"\n{'member':<38}{'plain':>10}{'MetaLR':>10}  ratio")
    for member in version.card.members:
        if member.role != "segmenter":
            continue
        both = [_step(version.network(member), name) for name in ("all", "metalr")]
        plain, meta = _medians(both)
        ratios[member.name] = meta / plain
        print(f"{member.name:<38}{plain:8.3f} s{meta:8.3f} s{meta / plain:7.2f}", flush=True)
    assert statistics.median(ratios.values()) <= TARGET


def _step(network: object, method: str) -> Callable[[], object]:
    """A step on noise, of a method."""
    assert isinstance(network, Network)
    tuned = METHODS[method](network.train(), FinetuneConfig(name="cost", method=method))
    training, validation = (_objective(network.spec, seed) for seed in (1, 2))
    return lambda: tuned.step(training, validation)


def _objective(spec: NetworkSpec, seed: int) -> Objective:
    shape = (BATCH, 1, SIDE, SIDE) if spec.dimensions == 2 else (STACKS, 1, DEPTH, SIDE, SIDE)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(shape, generator=generator)
    labels = torch.randint(len(STRUCTURES) + 1, (shape[0], *shape[2:]), generator=generator)

    def loss(forward: Forward) -> torch.Tensor:
        return deep_supervision_loss(forward(images), labels)

    return loss


def _medians(steps: list[Callable[[], object]]) -> list[float]:
    """Seconds of each of several steps that take turns."""
    seconds: list[list[float]] = [[] for _ in steps]
    for repeat in range(WARM_UP + REPEATS):
        for step, found in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            if repeat >= WARM_UP:
                found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in seconds]
