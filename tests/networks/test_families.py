"""What networks of every family promise: outputs, layer groups, weights by name, two forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cinelabel.models.export import compare, examples, export_openvino
from cinelabel.networks import PRESETS, NetworkSpec, build
from cinelabel.networks.specs import FAMILIES
from cinelabel.networks.weights import get_weights, on_cpu, set_weights
from safetensors.torch import load, save

SWIN = {"size": 64, "depths": (2, 1, 1, 1), "heads": (1, 2, 4, 8), "window": 4}
TINY = {
    "nnunet2d": NetworkSpec(features=(4, 8, 12), decoder_convs_per_stage=1),
    "nnunet2d-deformable": NetworkSpec(features=(4, 8, 12), deformable_bottleneck=True),
    "nnunet3d": NetworkSpec(
        family="nnunet3d",
        features=(4, 8, 12),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    ),
    "swin_unetr": NetworkSpec(family="swin_unetr", features=(12, 24, 48, 96), **SWIN),
    "swin_unet": NetworkSpec(family="swin_unet", features=(8, 16, 32, 64), **SWIN),
}

# As published: 46.3 M for nnU-Net's plan of 512x512, 25.1 M for Swin-UNETR of 48 features in two
# dimensions, 27.17 M for Swin-Unet; the U-Nets are counted on paper too, in test_nnunet.py.
MILLIONS = {
    "nnunet2d-paper": 46.3,
    "nnunet2d-deformable-paper": 46.6,
    "nnunet3d-paper": 43.1,
    "swin_unetr-paper": 25.1,
    "swin_unet-paper": 27.2,
    "nnunet2d-compact": 2.2,
    "nnunet2d-deformable-compact": 2.3,
    "nnunet3d-compact": 2.2,
    "swin_unetr-compact": 1.6,
    "swin_unet-compact": 3.0,
}


def sides(spec: NetworkSpec, multiple: int = 4) -> tuple[int, ...]:
    return (spec.size,) * 2 if spec.size else tuple(multiple * d for d in spec.divisors)


def images(spec: NetworkSpec, count: int = 2, multiple: int = 4) -> torch.Tensor:
    return torch.randn(count, spec.in_channels, *sides(spec, multiple))


def levels(output: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    return output if isinstance(output, list) else [output]


@pytest.fixture(params=TINY)
def spec(request) -> NetworkSpec:
    return TINY[request.param]


def test_every_family_is_tried_here():
    assert {spec.family for spec in TINY.values()} == set(FAMILIES)


def test_logits_have_a_channel_a_class_and_the_size_of_the_images(spec):
    network = build(spec).eval()
    with torch.inference_mode():
        assert network(images(spec)).shape == (2, spec.classes, *sides(spec))


def test_every_parameter_is_in_one_group_and_learns(spec):
    network = build(spec).train()
    groups = network.layer_groups()
    names = list(groups)
    inner = [name for name in names if name.startswith(("encoder_", "decoder_"))]
    assert (names[0], names[-1]) == ("stem", "head")
    assert names.index("bottleneck") == sum(n.startswith("encoder_") for n in inner) + 1
    assert all(groups.values())
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    sum(level.square().mean() for level in levels(network(images(spec)))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_same_seed_gives_the_same_network(spec):
    torch.manual_seed(5)
    first = get_weights(build(spec))
    torch.manual_seed(5)
    second = get_weights(build(spec))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_pass_through_safetensors_into_another_network(spec):
    source, target, batch = build(spec).eval(), build(spec).eval(), images(spec)
    with torch.inference_mode():
        assert not torch.equal(source(batch), target(batch))
        set_weights(target, load(save(on_cpu(get_weights(source)))))
        assert torch.equal(source(batch), target(batch))


def test_weights_are_numbers_that_can_be_averaged(spec):
    assert all(tensor.is_floating_point() for tensor in get_weights(build(spec)).values())


def test_the_openvino_form_agrees_with_torch(spec, tmp_path):
    torch.manual_seed(0)
    network = build(spec).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # nothing may hide behind a zero at the start
            parameter.add_(0.05 * torch.randn_like(parameter))
    export_openvino(network, spec, tmp_path / "net.xml", half=False)
    batches = (images(spec, 1, 4).numpy(), images(spec, 3, 6).numpy())
    found = compare(network, tmp_path / "net.xml", iter(batches))
    assert found.max_probability_difference < 1e-4
    assert found.label_agreement > 0.999


def test_the_examples_that_forms_are_compared_on_fit_the_network(spec):
    network = build(spec).eval()
    for batch in examples(spec, "segmenter", {"spacing_mm": 1.5, "size": 64}):
        assert batch.dtype == np.float32
        assert spec.accepts(*batch.shape[2:])
        with torch.inference_mode():
            assert network(torch.from_numpy(batch)).shape[2:] == batch.shape[2:]


@pytest.mark.parametrize("name", MILLIONS)
def test_presets_have_as_many_parameters_as_published(name):
    spec = PRESETS[name]
    with torch.device("cpu" if spec.family == "swin_unetr" else "meta"):  # meta: counted unfilled
        count = sum(parameter.numel() for parameter in build(spec).parameters())
    assert round(count / 1e6, 1) == MILLIONS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-paper")])
def test_paper_presets_export_and_agree(name, tmp_path):
    spec = PRESETS[name]
    network = build(spec).eval()
    export_openvino(network, spec, tmp_path / "net.xml", half=False)
    shape = (1, spec.in_channels, *sides(spec, 2))
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    assert compare(network, tmp_path / "net.xml", iter([noise])).max_probability_difference < 1e-4
