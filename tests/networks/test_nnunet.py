"""The 2D U-Net: its size, its outputs, its layer groups and its weights by name."""

from __future__ import annotations

import math

import pytest
import torch
from cinelabel.core.errors import ModelError
from cinelabel.networks import PRESETS, NetworkSpec, build
from cinelabel.networks.weights import get_weights, on_cpu, set_weights
from safetensors.torch import load, save

TINY = NetworkSpec(features=(4, 8, 12), decoder_convs_per_stage=1)


def parameters_by_formula(spec: NetworkSpec) -> int:
    """Count on paper: a block is a convolution, its bias, and a scale and shift a channel."""
    stages = range(len(spec.features))
    kernels = [math.prod(kernel) for kernel in spec.kernels] or [9 for _ in stages]
    strides = [math.prod(stride) for stride in spec.strides] or [4 if s else 1 for s in stages]

    def blocks(count: int, kernel: int, inputs: int, outputs: int) -> int:
        first, others = (kernel * n * outputs + 3 * outputs for n in (inputs, outputs))
        return first + (count - 1) * others

    inputs = (spec.in_channels, *spec.features)
    total = sum(
        blocks(spec.convs_per_stage, kernels[s], inputs[s], spec.features[s]) for s in stages
    )
    for s in stages[1:]:
        below, skip = spec.features[s], spec.features[s - 1]
        total += strides[s] * below * skip + skip
        total += blocks(spec.decoder_convs_per_stage, kernels[s - 1], 2 * skip, skip)
    if spec.deformable_bottleneck:  # 9 offsets of two numbers and 9 modulations, by 3x3 kernels
        into = (spec.features[-2], *[spec.features[-1]] * (spec.convs_per_stage - 1))
        total += sum(27 * 9 * channels + 27 for channels in into)
    heads = spec.features[:-1] if spec.deep_supervision else spec.features[:1]
    return total + sum((channels + 1) * spec.classes for channels in heads)


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", [name for name in PRESETS if not PRESETS[name].size])
def test_parameters_are_as_many_as_counted_on_paper(name):
    with torch.device("meta"):  # counted without being filled
        network = build(name)
    assert count(network) == parameters_by_formula(PRESETS[name])


def test_the_paper_presets_are_what_the_planner_of_nnunet_makes():
    """Topology by nnunetv2 2.8.1 for 512x512 at 0.664 mm and 10x448x384 at 9.6x0.664x0.664 mm."""
    flat, volumes = PRESETS["nnunet2d-paper"], PRESETS["nnunet3d-paper"]
    assert (len(flat.features), flat.divisor) == (8, 128)
    assert volumes.kernels == ((1, 3, 3),) * 3 + ((3, 3, 3),) * 4
    assert volumes.strides == (
        (1, 1, 1),
        (1, 2, 2),
        (1, 2, 2),
        (1, 2, 2),
        (2, 2, 2),
        (1, 2, 2),
        (1, 2, 2),
    )
    assert volumes.accepts(10, 448, 384)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("nnunet2d-compact", 1.5e6, 2.3e6), ("locator-compact", 0.25e6, 0.4e6)],
)
def test_the_compact_presets_are_compact(name, least, most):
    assert least <= parameters_by_formula(PRESETS[name]) <= most


def test_training_gives_logits_of_every_level_finest_first():
    outputs = build(TINY).train()(torch.randn(2, 1, 16, 24))
    assert [tuple(level.shape) for level in outputs] == [(2, 4, 16, 24), (2, 4, 8, 12)]


def test_evaluation_gives_the_finest_logits_of_training():
    network, images = build(TINY), torch.randn(2, 1, 16, 24)
    finest = network.train()(images)[0]
    assert torch.equal(network.eval()(images), finest)


def test_without_deep_supervision_training_gives_one_tensor():
    network = build(NetworkSpec(features=(4, 8, 12), deep_supervision=False)).train()
    assert network(torch.randn(1, 1, 8, 8)).shape == (1, 4, 8, 8)


@pytest.mark.parametrize("deep_supervision", [True, False])
def test_every_parameter_is_in_one_group_and_learns(deep_supervision):
    network = build(NetworkSpec(features=(4, 8, 12, 16), deep_supervision=deep_supervision))
    groups = network.layer_groups()
    assert list(groups) == [
        "stem",
        "encoder_1",
        "encoder_2",
        "bottleneck",
        "decoder_1",
        "decoder_2",
        "decoder_3",
        "head",
    ]
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    outputs = network.train()(torch.randn(2, 1, 16, 16))
    levels = outputs if deep_supervision else [outputs]
    sum(level.square().mean() for level in levels).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_groups_follow_the_data_through_the_network():
    network = build(TINY)
    shapes = {name: tuple(group[0].shape) for name, group in network.layer_groups().items()}
    assert shapes["stem"] == (4, 1, 3, 3)
    assert shapes["bottleneck"] == (12, 8, 3, 3)
    assert shapes["decoder_1"] == (12, 8, 2, 2)
    assert shapes["decoder_2"] == (8, 4, 2, 2)


def test_convolutions_start_as_he_proposes():
    torch.manual_seed(0)
    weights = get_weights(build(NetworkSpec(features=(32, 64))))
    kernel = weights["unet.encoder.stages.1.0.convs.1.conv.weight"]
    expected = math.sqrt(2 / (1 + 0.01**2) / (64 * 9))
    assert kernel.std().item() == pytest.approx(expected, rel=0.02)
    assert weights["unet.encoder.stages.1.0.convs.1.conv.bias"].abs().max() == 0


def test_the_same_seed_gives_the_same_network():
    torch.manual_seed(5)
    first = get_weights(build(TINY))
    torch.manual_seed(5)
    second = get_weights(build(TINY))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_pass_through_safetensors_into_another_network():
    source, target, images = build(TINY).eval(), build(TINY).eval(), torch.randn(1, 1, 8, 8)
    assert not torch.equal(source(images), target(images))
    set_weights(target, load(save(on_cpu(get_weights(source)))))
    assert torch.equal(source(images), target(images))


def test_copies_on_the_cpu_do_not_follow_the_network():
    network = build(TINY).to(memory_format=torch.channels_last)
    copies = on_cpu(get_weights(network))
    assert all(tensor.is_contiguous() for tensor in copies.values())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(not torch.equal(copies[k], v) for k, v in get_weights(network).items())


def test_weights_of_another_network_are_refused():
    weights = get_weights(build(TINY))
    wider = build(NetworkSpec(features=(4, 8, 16), decoder_convs_per_stage=1))
    with pytest.raises(ModelError, match="has shape"):
        set_weights(wider, weights)
    first = next(iter(weights))
    with pytest.raises(ModelError, match=f"lack tensor '{first}'"):
        set_weights(build(TINY), {k: v for k, v in weights.items() if k != first})
    with pytest.raises(ModelError, match="unexpected tensor 'extra'"):
        set_weights(build(TINY), {**weights, "extra": torch.zeros(1)})
