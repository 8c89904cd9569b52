"""Ways to fine-tune: which layers learn, at which rates, and that a kill changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from cinelabel.learning.config import FinetuneConfig, parse_finetuning
from cinelabel.learning.losses import deep_supervision_loss
from cinelabel.learning.rivals import METHODS, AutoLR, sorting_quality
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.base import Network

GROUPS = ["stem", "encoder_1", "bottleneck", "decoder_1", "decoder_2", "head"]
LEARNING = {
    "all": ({}, GROUPS),
    "last": ({}, ["head"]),
    "layer-wise": ({"frozen": (1, 2)}, GROUPS[2:]),
    "bi-directional": ({"frozen": (2, 4)}, ["stem", "decoder_2", "head"]),
    "contracting": ({}, ["stem", "encoder_1", "head"]),
    "random-encoder": ({}, ["decoder_1", "decoder_2", "head"]),
    "autolr": ({}, GROUPS),
    "metalr": ({}, GROUPS),
}


def network_of(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(NetworkSpec.from_dict({"features": [4, 8, 12]}))


def configured(method: str, **changes: Any) -> FinetuneConfig:
    values = {"name": "run", "method": method, "lr": 0.01, **changes}
    return parse_finetuning(values, "test")


def objective(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 16, 16), generator=generator)
    images = labels[:, None] + 0.1 * torch.randn(2, 1, 16, 16, generator=generator)
    return lambda forward: deep_supervision_loss(forward(images), labels)


def weights(network: Network) -> dict[str, list[torch.Tensor]]:
    return {k: [p.detach().clone() for p in v] for k, v in network.layer_groups().items()}


def changed(before: dict[str, list[torch.Tensor]], after: dict[str, list[torch.Tensor]]) -> list:
    return [
        name
        for name, group in before.items()
        if any(not torch.equal(p, q) for p, q in zip(group, after[name], strict=True))
    ]


def test_the_table_of_this_file_has_every_method() -> None:
    assert list(LEARNING) == list(METHODS)
    assert list(network_of().layer_groups()) == GROUPS


@pytest.mark.parametrize("method", LEARNING)
def test_the_layers_of_a_method_learn_and_the_others_stay(method: str) -> None:
    options, expected = LEARNING[method]
    network = network_of()
    made = METHODS[method](network, configured(method, **options))
    before = weights(network)
    taken = made.step(objective(1), objective(2))
    assert changed(before, weights(network)) == expected
    assert list(taken.rates) == list(made.groups) == GROUPS
    assert taken.loss > 0


@pytest.mark.parametrize("method", LEARNING)
def test_a_method_goes_on_from_its_state_as_if_it_had_not_stopped(method: str) -> None:
    options, _ = LEARNING[method]
    steps = AutoLR.ROUND + 2
    config = configured(method, **options)
    network = network_of()
    made = METHODS[method](network, config)
    for seed in range(steps):
        if seed == AutoLR.ROUND - 3:
            state = copy.deepcopy((network.state_dict(), made.state_dict()))
        made.step(objective(seed), objective(100 + seed))
    again = network_of()
    resumed = METHODS[method](again, config)
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    for seed in range(AutoLR.ROUND - 3, steps):
        resumed.step(objective(seed), objective(100 + seed))
    assert changed(weights(network), weights(again)) == []


def test_a_random_encoder_is_that_of_the_seed_and_not_the_trained_one() -> None:
    encoders = []
    for seed in (1, 1, 2):
        network = network_of()
        METHODS["random-encoder"](network, configured("random-encoder", seed=seed))
        encoders.append(weights(network))
    assert changed(encoders[0], encoders[1]) == []
    assert changed(encoders[0], encoders[2]) == GROUPS[:3]
    assert changed(weights(network_of()), encoders[0]) == GROUPS[:3]


def test_autolr_takes_back_a_round_whose_changes_do_not_rise_with_depth() -> None:
    network = network_of()
    made = AutoLR(network, configured("autolr"))
    before = weights(network)
    steps = [made.step(objective(seed)) for seed in range(AutoLR.ROUND)]
    rates = steps[-1].rates
    assert [step.kept for step in steps] == [None] * (AutoLR.ROUND - 1) + [False]
    assert changed(before, weights(network)) == []
    after = made.step(objective(0)).rates
    assert rates == dict.fromkeys(GROUPS, 0.01)
    # the shallowest changed more than the least, so it gets less; the deepest reaches the most
    assert after["stem"] <= 0.01
    assert after["head"] >= 0.01
    assert len(set(after.values())) > 1


def test_autolr_keeps_a_round_after_so_many_trials() -> None:
    network = network_of()
    made = AutoLR(network, configured("autolr"))
    before = weights(network)
    for seed in range(AutoLR.ROUND * (AutoLR.TRIALS + 1)):
        last = made.step(objective(seed))
    assert last.kept
    assert changed(before, weights(network)) == GROUPS


@pytest.mark.parametrize(
    ("changes", "quality"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], -1.0), ([1, 3, 2, 4], 0.8)]
)
def test_sorting_quality_is_spearmans_correlation_with_depth(
    changes: list[float], quality: float
) -> None:
    assert sorting_quality(changes) == pytest.approx(quality)


def test_frozen_layers_belong_to_the_methods_by_depth() -> None:
    for method, frozen in (("all", (1, 2)), ("bi-directional", None), ("layer-wise", (2, 3))):
        with pytest.raises(Exception, match="frozen"):
            configured(method, frozen=frozen)
