"""Several members: average, votes, weights, agreement, cost and memory, with drawn networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cinelabel.core.errors import InputError, ModelError
from cinelabel.networks import resolve
from cinelabel.segmentation import predictor
from cinelabel.transforms.preparation import CONVOLUTIONAL, TRANSFORMER, Preparation
from scipy import special, stats


def dice(a: np.ndarray, b: np.ndarray, value: int) -> float:
    return 2.0 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum())


def says(*shares: float):
    """A network that gives every pixel these probabilities."""
    logits = np.log(np.array(shares, np.float32))

    def network(images: np.ndarray) -> np.ndarray:
        return np.broadcast_to(
            logits.reshape(1, 4, *[1] * (images.ndim - 2)), (len(images), 4, *images.shape[2:])
        )

    return network


LV, MYO, RV = says(0.1, 0.7, 0.1, 0.1), says(0.1, 0.1, 0.7, 0.1), says(0.1, 0.1, 0.1, 0.7)


def at_heart(result) -> int:
    """The label in the middle of the heart, before post-processing."""
    x, y = (round(c) for c in result.heart.centre)
    return int(result.average_labels[x, y, 2, 0])


def by_mixing(*weights: float):
    """A network whose logits are smooth functions of the grey values."""

    def network(images: np.ndarray) -> np.ndarray:
        return np.concatenate([np.sin(w * images + k) * 3 for k, w in enumerate(weights)], 1)

    return network


def test_the_average_is_that_of_a_second_implementation(make_ensemble, drawn) -> None:
    study, _ = drawn.study(frames=2)
    networks = {"a": by_mixing(1, 2, 3, 4), "b": by_mixing(4, 1, 2, 3), "c": by_mixing(2, 3, 1, 2)}
    preparations = {
        "a": Preparation(1.5, 128),
        "b": Preparation(None, 160, intensity="min-max"),
        "c": Preparation(2.0, 192, window="image", order=3, normalised_over="volume"),
    }
    weights = {"a": 1.0, "b": 0.5, "c": 2.0}
    cards = {n: {**preparations[n].to_dict(), "weight": weights[n]} for n in networks}
    segmenter = make_ensemble(networks, cards=cards)
    result = segmenter.segment(study, mirror=False, keep_members=True, uncertainty=True)
    for t in range(2):
        total = np.zeros((4, *study.grid.shape))
        for name, network in networks.items():
            preparation = preparations[name]
            crop = preparation.crop(study.grid, result.heart.centre, result.heart.extent_mm)
            images = preparation.prepare(study.frame(t), crop)
            maps = special.softmax(network(images[:, None].astype(np.float64)), 1)
            restored = crop.restore_probabilities(maps)
            total += weights[name] * restored
            own = result.member_labels[name][..., t]
            assert np.mean(own == restored.argmax(0)) > 0.9999
        assert np.mean(result.average_labels[..., t] == total.argmax(0)) > 0.9999
        np.testing.assert_allclose(result.entropy[..., t], stats.entropy(total, axis=0), atol=2e-3)
        assert (result.labels[..., t] <= result.average_labels[..., t]).all()


def test_an_average_listens_to_the_sure_and_a_vote_counts_heads(make_ensemble, drawn) -> None:
    study, _ = drawn.study(frames=1)
    unsure = says(0.0001, 0.4, 0.5999, 0.0001)
    ensemble = make_ensemble({"sure": says(0.01, 0.97, 0.01, 0.01), "b": unsure, "c": unsure})
    assert at_heart(ensemble.segment(study, keep_members=True)) == 1
    assert at_heart(ensemble.segment(study, keep_members=True, vote="hard")) == 2


def test_the_lowest_of_labels_with_equally_many_votes_wins(make_ensemble, drawn) -> None:
    study, _ = drawn.study(frames=1)
    ensemble = make_ensemble({"a": RV, "b": MYO, "c": LV})
    assert at_heart(ensemble.segment(study, keep_members=True, vote="hard")) == 1
    pair = ensemble.segment(study, keep_members=True, vote="hard", members=["a", "b"])
    assert at_heart(pair) == 2
    assert pair.members == ("a", "b")


@pytest.mark.parametrize("vote", ["average", "hard"])
def test_a_member_with_more_weight_outweighs_two(make_ensemble, drawn, vote) -> None:
    study, _ = drawn.study(frames=1)
    light = make_ensemble({"a": LV, "b": LV, "c": RV})
    assert at_heart(light.segment(study, keep_members=True, vote=vote)) == 1
    heavy = make_ensemble({"a": LV, "b": LV, "c": RV}, cards={"c": {"weight": 2.5}})
    assert at_heart(heavy.segment(study, keep_members=True, vote=vote)) == 3


def test_agreement_is_that_of_the_members_own_labels(make_ensemble, drawn) -> None:
    study, _ = drawn.study(frames=2)
    ensemble = make_ensemble({"a": drawn.reads_structures, "b": LV, "c": drawn.reads_structures})
    result = ensemble.segment(study, frames=[1], keep_members=True)
    agreement = result.agreement
    assert (agreement.members, agreement.frames) == (("a", "b", "c"), (1,))
    own = {name: labels[..., 1] for name, labels in result.member_labels.items()}
    assert agreement.dice[0, 0, 0, 1] == pytest.approx(dice(own["a"], own["b"], 1))
    assert agreement.dice[0, :, 0, 2].tolist() == [1.0, 1.0, 1.0]
    assert agreement.dice[0, 1, 0, 1] == 0.0
    assert ensemble.segment(study, members=["a"]).agreement is None
    assert ensemble.segment(study, members=["a", "a"]).members == ("a",)


def test_only_one_member_at_a_time_holds_memory_to_compute(make_ensemble, drawn) -> None:
    study, _ = drawn.study(frames=3)
    holding: set[str] = set()
    together: list[int] = []

    def noted(name, function):
        def network(images: np.ndarray) -> np.ndarray:
            holding.add(name)
            together.append(len(holding))
            return function(images)

        return network

    names = {"a": drawn.reads_structures, "b": LV, "c": RV}
    ensemble = make_ensemble({name: noted(name, function) for name, function in names.items()})
    for name, backend in ensemble.version.networks.items():
        backend.release = lambda name=name: holding.discard(name)
    ensemble.segment(study)
    assert len(together) == 3 * 3 * 4
    assert max(together) == 1
    assert not holding


def test_a_long_cine_goes_in_parts_with_the_same_result(make_ensemble, drawn, monkeypatch) -> None:
    study, _ = drawn.study(frames=5)
    networks = {"a": drawn.reads_structures, "b": by_mixing(1, 2, 3, 4)}
    ensemble = make_ensemble(networks)
    whole = ensemble.segment(study, keep_members=True, uncertainty=True)
    order = []
    monkeypatch.setattr(predictor, "MEMORY_BYTES", 1)
    parts = ensemble.segment(
        study,
        keep_members=True,
        uncertainty=True,
        progress=lambda done, total, name: order.append((done, total, name)),
    )
    assert order == [(k + 1, 10, "ab"[k % 2]) for k in range(10)]
    np.testing.assert_array_equal(parts.labels, whole.labels)
    np.testing.assert_array_equal(parts.entropy, whole.entropy)
    np.testing.assert_array_equal(parts.agreement.dice, whole.agreement.dice)


def test_fast_is_one_pass_of_one_member_and_loads_no_other(
    make_ensemble, drawn, monkeypatch
) -> None:
    study, truth = drawn.study(frames=2)
    calls = []

    def counted(images: np.ndarray) -> np.ndarray:
        calls.append(images.shape)
        return drawn.reads_structures(images)

    ensemble = make_ensemble({"slow": LV, "quick": counted}, fast="quick")
    loaded = []
    monkeypatch.setattr(
        "cinelabel.segmentation.member.load_backend",
        lambda version, member, device: loaded.append(member.name) or version.networks[member.name],
    )
    result = ensemble.segment(study, fast=True)
    assert sorted(loaded) == ["quick", "where"]
    assert len(calls) == 2
    assert result.fast
    assert result.members == ("quick",)
    assert dice(result.labels, truth, 1) > 0.93
    assert make_ensemble({"first": LV, "second": RV}).fast_member == "first"


def test_each_member_has_its_cost(make_ensemble, drawn) -> None:
    result = make_ensemble({"a": LV, "b": RV}).segment(drawn.study(frames=1)[0])
    assert list(result.member_costs) == ["a", "b"]
    for cost in result.member_costs.values():
        assert 0 < cost.seconds < result.timings_s["total"]
        assert cost.peak_bytes is None or cost.peak_bytes > 2**20


def reads_stack(images: np.ndarray) -> np.ndarray:
    """`reads_structures` of a stack (1, 1, n, h, w): its range is that of the whole stack."""
    low, high = images.min(), images.max()
    grey = 120.0 * (images - low) / (high - low)
    return np.concatenate([-np.abs(grey - level) for level in (0.0, 120.0, 80.0, 50.0)], 1)


def test_a_stack_is_labelled_by_a_network_of_volumes(make_ensemble, drawn) -> None:
    study, truth = drawn.study()
    seen = []

    def network(stack: np.ndarray) -> np.ndarray:
        seen.append(stack.shape)
        return reads_stack(stack)

    cards = {"stack": {"network": "nnunet3d-compact", "depth": 10, "normalised_over": "volume"}}
    result = make_ensemble({"stack": network}, cards=cards).segment(study)
    assert {shape[:3] for shape in seen} == {(1, 1, 6)}
    assert len(seen) == 8 * 3
    for value in (1, 2, 3):
        assert dice(result.labels, truth, value) > 0.93


@pytest.mark.parametrize("centre", [(60.0, 50.0), (265.0, 225.0)])
@pytest.mark.parametrize("member", ["compact", "stack", "transformer", "convolutional"])
def test_a_heart_at_the_border_is_labelled(make_ensemble, drawn, member, centre) -> None:
    study, truth = drawn.study(frames=1, centre_mm=centre)
    cards = {
        "compact": {},
        "stack": {"network": "nnunet3d-compact", "normalised_over": "volume"},
        "transformer": {"network": "swin_unet-paper", **TRANSFORMER.to_dict()},
        "convolutional": {"network": "nnunet2d-paper", **CONVOLUTIONAL.to_dict()},
    }
    network = reads_stack if member == "stack" else drawn.reads_structures
    ensemble = make_ensemble({member: network}, cards={member: cards[member]})
    result = ensemble.segment(study, mirror=False)
    for value in (1, 2, 3):
        assert dice(result.labels, truth, value) > 0.9


def test_a_window_stays_one_that_the_network_can_halve(make_ensemble, drawn) -> None:
    seen = set()

    def network(images: np.ndarray) -> np.ndarray:
        seen.add(images.shape[2:])
        return drawn.reads_structures(images)

    ensemble = make_ensemble({"deep": network}, cards={"deep": {"network": "nnunet2d-paper"}})
    ensemble.segment(drawn.study(frames=1)[0], mirror=False)
    assert seen == {(128, 128)}


def test_unknown_members_and_votes_are_refused_by_name(make_ensemble, drawn) -> None:
    ensemble = make_ensemble({"a": LV, "b": RV})
    study, _ = drawn.study(frames=1)
    with pytest.raises(InputError, match="no member 'z' that segments. Known: a, b"):
        ensemble.segment(study, members=["a", "z"])
    with pytest.raises(InputError, match="at least one member"):
        ensemble.segment(study, members=[])
    with pytest.raises(InputError, match="average, hard, not 'loud'"):
        ensemble.segment(study, vote="loud")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"network": replace(resolve("nnunet2d-compact"), classes=2)}, "has 2 classes"),
        ({"network": replace(resolve("nnunet2d-compact"), in_channels=3)}, "3 input channel"),
        ({"spacing_mm": -1.0}, "'spacing_mm'"),
        ({"size": 100}, "100 pixels are no multiple of the 16"),
    ],
)
def test_a_member_that_does_not_fit_is_named_with_the_reason(make_ensemble, card, said) -> None:
    with pytest.raises(ModelError, match=f"drawn-1: the member 'odd' .*{said}"):
        make_ensemble({"fine": LV, "odd": RV}, cards={"odd": card})
