"""MetaLR: gradients of the rates against two other ways, and Algorithm 1 by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cinelabel.core.errors import InputError, RunError
from cinelabel.learning.config import MetaSettings
from cinelabel.learning.losses import deep_supervision_loss
from cinelabel.learning.metalr import MetaLR, Objective
from cinelabel.networks import build
from torch import nn
from torch.func import functional_call

PLAIN: dict[str, Any] = {"momentum": 0.0, "nesterov": False}
EXACT = [
    {},
    {"weight_decay": 0.03},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.03},
    {"momentum": 0.9, "weight_decay": 0.03, "nesterov": True},
    {"clip": 0.01, "momentum": 0.5},
]


class Two(nn.Module):
    """y = b + a x, a group each."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(b, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x + self.b

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"stem": [self.a], "head": [self.b]}


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3))
    return nn.Sequential(*layers).double()


def groups_of(network: nn.Sequential) -> dict[str, list[nn.Parameter]]:
    return {
        "stem": [*network[0].parameters()],
        "middle": [*network[1].parameters()],
        "head": [*network[3].parameters()],
    }


def batch(seed: int) -> Callable[[Any], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (6,), generator=generator)
    return lambda network: nn.functional.cross_entropy(network(x), y)


def parts(options: dict[str, Any], hyper_rate: float = 0.0) -> tuple[nn.Sequential, MetaLR]:
    network = small_network()
    known = PLAIN | {key: value for key, value in options.items() if key != "clip"}
    settings = MetaSettings(hyper_rate=hyper_rate, head=0.3, others=0.2, ceiling=1.0, **known)
    return network, MetaLR(network, groups_of(network), settings, clip=options.get("clip"))


def loss_after_step(options: dict[str, Any], rates: dict[str, float], before: int) -> float:
    """The validation loss after torch's own optimiser took a step with these rates."""
    network, meta = parts(options)
    for seed in range(before):
        meta.step(batch(10 + seed), batch(20 + seed))
    buffers = copy.deepcopy(dict(network.named_buffers()))
    for name, group in zip(rates, meta.optimizer.param_groups, strict=True):
        group["lr"] = rates[name]
    meta.optimizer.zero_grad()
    batch(1)(network).backward()
    if meta.clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), meta.clip)
    meta.optimizer.step()
    after = {**buffers, **dict(network.named_parameters())}
    # statistics of the training pass belong to the look-ahead as well
    moved = small_network()
    moved.load_state_dict(network.state_dict())
    after.update(dict(moved.named_buffers()))
    return batch(2)(lambda x: functional_call(network, after, (x,))).item()


@pytest.mark.parametrize("options", EXACT)
@pytest.mark.parametrize("before", [0, 2])
def test_gradients_of_the_rates_are_those_of_finite_differences(
    options: dict[str, Any], before: int
) -> None:
    _, meta = parts(options)
    for seed in range(before):
        meta.step(batch(10 + seed), batch(20 + seed))
    rates = meta.rates
    found = meta.step(batch(1), batch(2)).gradients
    width = 1e-6
    for name in rates:
        higher = loss_after_step(options, {**rates, name: rates[name] + width}, before)
        lower = loss_after_step(options, {**rates, name: rates[name] - width}, before)
        assert found[name] == pytest.approx((higher - lower) / (2 * width), rel=2e-4, abs=1e-8)


def test_gradients_of_the_rates_are_those_of_autograd_through_the_step() -> None:
    network, meta = parts({"weight_decay": 0.03})
    twin = small_network()
    rates = {
        name: torch.tensor(r, dtype=torch.float64, requires_grad=True)
        for name, r in meta.rates.items()
    }
    weights = dict(twin.named_parameters())
    slopes = torch.autograd.grad(batch(1)(twin), list(weights.values()), create_graph=True)
    owner = {id(p): name for name, ps in groups_of(twin).items() for p in ps}
    ahead = {
        key: weight - rates[owner[id(weight)]] * (slope + 0.03 * weight)
        for (key, weight), slope in zip(weights.items(), slopes, strict=True)
    }
    loss = batch(2)(lambda x: functional_call(twin, ahead, (x,)))
    expected = torch.autograd.grad(loss, list(rates.values()))
    found = meta.step(batch(1), batch(2)).gradients
    for value, name in zip(expected, rates, strict=True):
        assert found[name] == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("form", ["proportional", "literal"])
def test_algorithm_1_gives_what_it_gives_by_hand(form: Any) -> None:
    """y = 2 x + 1, training (x, y) = (1, 5), validation (2, 4), squared error."""
    network = Two(2.0, 1.0)
    settings = MetaSettings(step=form, hyper_rate=0.01, others=0.1, head=0.05, ceiling=1.0, **PLAIN)
    meta = MetaLR(network, network.groups(), settings)

    def error(x: float, y: float) -> Callable[[Any], torch.Tensor]:
        return lambda model: (model(torch.tensor(x, dtype=torch.float64)) - y) ** 2

    done = meta.step(error(1, 5), error(2, 4))
    # error 3 - 5 = -2: loss 4, slopes a: -4, b: -4; look-ahead a = 2.4, b = 1.2
    # validation: 2.4 * 2 + 1.2 = 6, error 2, loss 4; slopes a: 8, b: 4
    assert done.training_loss == pytest.approx(4)
    assert done.validation_loss == pytest.approx(4)
    assert done.gradients == pytest.approx({"stem": 32, "head": 16})
    hand = {
        "proportional": {"stem": 0.1 * (1 - 0.32), "head": 0.05 * (1 - 0.16)},
        "literal": {"stem": settings.floor, "head": settings.floor},
    }[form]
    assert done.rates == pytest.approx(hand)
    assert network.a.item() == pytest.approx(2 + 4 * hand["stem"])
    assert network.b.item() == pytest.approx(1 + 4 * hand["head"])


@pytest.mark.parametrize("options", EXACT)
def test_with_rates_that_stay_it_is_the_optimiser_of_torch(options: dict[str, Any]) -> None:
    network, meta = parts(options)
    twin = small_network()
    by_group = zip(groups_of(twin).values(), meta.rates.values(), strict=True)
    known = {k: v for k, v in options.items() if k != "clip"}
    plain = torch.optim.SGD([{"params": p, "lr": r} for p, r in by_group], **known)
    for seed in range(4):
        meta.step(batch(seed), batch(50 + seed))
        plain.zero_grad()
        batch(seed)(twin).backward()
        if "clip" in options:
            nn.utils.clip_grad_norm_(twin.parameters(), options["clip"])
        plain.step()
    for left, right in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_the_look_ahead_leaves_weights_and_running_statistics_alone() -> None:
    network, meta = parts({"momentum": 0.9}, hyper_rate=0.1)
    seen: list[dict[str, torch.Tensor]] = []

    def validation(ahead: Any) -> torch.Tensor:
        loss = batch(2)(ahead)
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return loss

    twin = small_network()
    batch(1)(twin)  # one training pass moves the statistics once
    meta.step(batch(1), validation)
    assert all(torch.equal(seen[0][name], tensor) for name, tensor in twin.state_dict().items())


class Shared(nn.Module):
    """A layer registered twice, as in nnU-Net's blocks, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 5, dtype=torch.float64)
        self.again = nn.Sequential(self.first, nn.Tanh())
        self.last = nn.Linear(5, 5, bias=False, dtype=torch.float64)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.again(x))


def test_layers_registered_twice_and_shared_weights_are_looked_ahead_to_and_left_alone() -> None:
    network = Shared()
    before = {name: (id(p), p.clone()) for name, p in network.named_parameters()}
    meta = MetaLR(network, {"head": list(network.parameters())}, MetaSettings(head=0.1, **PLAIN))
    gradient = meta.step(batch(1), batch(2)).gradients["head"]
    assert {name: id(p) for name, p in network.named_parameters()} == {
        name: identity for name, (identity, _) in before.items()
    }
    assert id(network.last.weight) == id(network.first.weight) == id(network.again[0].weight)

    def ahead(rate: float) -> float:
        twin = Shared()
        batch(1)(twin).backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.sub_(parameter.grad, alpha=rate)
        return batch(2)(twin).item()

    assert gradient == pytest.approx((ahead(0.1 + 1e-6) - ahead(0.1 - 1e-6)) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("family", ["nnunet2d", "nnunet3d", "swin_unetr", "swin_unet"])
def test_a_step_of_every_family_moves_its_own_weights_and_judges_every_group(family: str) -> None:
    network = build(f"{family}-compact")
    side = network.spec.size or 64
    depth = (4,) if network.spec.dimensions == 3 else ()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 1, *depth, side, side, generator=generator)
    labels = torch.randint(0, 4, (1, *depth, side, side), generator=generator)
    identities = [id(p) for p in network.parameters()]
    meta = MetaLR(network, network.layer_groups())
    done = meta.step(*[lambda forward: deep_supervision_loss(forward(images), labels)] * 2)
    assert [id(p) for p in network.parameters()] == identities
    assert all(gradient != 0 for gradient in done.gradients.values())
    assert done.validation_loss < done.training_loss


def test_rates_stay_within_their_bounds() -> None:
    network = small_network()
    settings = MetaSettings(step="literal", hyper_rate=100.0, floor=1e-4, ceiling=0.02)
    meta = MetaLR(network, groups_of(network), settings)
    found = {r for i in range(6) for r in meta.step(batch(i), batch(90 + i)).rates.values()}
    assert min(found) == 1e-4
    assert max(found) == 0.02


def test_the_first_rates_are_the_papers() -> None:
    network = small_network()
    meta = MetaLR(network, groups_of(network))
    assert meta.rates == {"stem": 0.001, "middle": 0.001, "head": 0.01}
    assert MetaSettings().largest == 0.1
    assert MetaSettings(optimiser="adamw").largest == 0.01


def test_rates_grow_where_training_and_validation_agree_and_shrink_where_they_do_not() -> None:
    network, meta = parts({}, hyper_rate=0.1)
    before = meta.rates
    same = meta.step(batch(1), batch(1))
    assert all(same.rates[name] > before[name] for name in before)
    network, meta = parts({}, hyper_rate=0.1)
    against = meta.step(batch(1), lambda ahead: -batch(1)(ahead))
    assert all(against.rates[name] < before[name] for name in before)


def test_with_adamw_the_step_is_adamws_and_the_judgement_that_of_the_plain_gradient() -> None:
    network, meta = parts({"optimiser": "adamw", "weight_decay": 0.01})
    _, plain = parts({})
    assert meta.step(batch(1), batch(2)).gradients == plain.step(batch(1), batch(2)).gradients
    twin = small_network()
    by_group = zip(groups_of(twin).values(), meta.rates.values(), strict=True)
    adamw = torch.optim.AdamW([{"params": p, "lr": r} for p, r in by_group], weight_decay=0.01)
    batch(1)(twin).backward()
    adamw.step()
    for left, right in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped() -> None:
    options = {"momentum": 0.9}
    network, meta = parts(options, hyper_rate=0.1)
    for seed in range(3):
        meta.step(batch(seed), batch(50 + seed))
    again, resumed = parts(options, hyper_rate=0.1)
    again.load_state_dict(copy.deepcopy(network.state_dict()))
    resumed.load_state_dict(copy.deepcopy(meta.state_dict()))
    assert meta.step(batch(7), batch(8)) == resumed.step(batch(7), batch(8))


def test_frozen_parameters_stay_and_take_no_part() -> None:
    network, meta = parts({}, hyper_rate=0.1)
    for parameter in network[0].parameters():
        parameter.requires_grad_(False)
    before = network[0].weight.clone()
    done = meta.step(batch(1), batch(2))
    assert torch.equal(network[0].weight, before)
    assert done.gradients["stem"] == 0.0


def endless_slope(objective: Objective) -> Objective:
    """The same loss, whose gradient is not a number."""
    return lambda forward: objective(forward) + torch.sqrt(0 * objective(forward))


@pytest.mark.parametrize("spoilt", [lambda made: lambda f: made(f) * torch.nan, endless_slope])
@pytest.mark.parametrize("side", ["training", "validation"])
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing(
    spoilt: Callable[[Objective], Objective], side: str
) -> None:
    network, meta = parts({}, hyper_rate=0.1)
    weights, rates = copy.deepcopy(dict(network.named_parameters())), meta.rates
    batches = {"training": batch(1), "validation": batch(2)}
    with pytest.raises(RunError, match="is not a number. Lower lr"):
        meta.step(**batches | {side: spoilt(batches[side])})
    assert all(torch.equal(weights[name], p) for name, p in network.named_parameters())
    assert meta.rates == rates


def test_a_parameter_in_two_groups_is_refused() -> None:
    network = small_network()
    shared = [*network[0].parameters()]
    with pytest.raises(InputError, match="two layer groups"):
        MetaLR(network, {"stem": shared, "head": shared})
