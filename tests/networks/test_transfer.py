"""An encoder's weights go over to another network, with an account of every tensor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cinelabel.core.errors import ModelError
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.weights import get_weights, is_encoder, load_encoder, on_cpu
from safetensors.torch import save_file

SPEC = NetworkSpec(features=(4, 8, 12))


def encoder_of(network: torch.nn.Module) -> set[str]:
    groups = network.layer_groups()
    members = {id(p) for name, group in groups.items() if is_encoder(name) for p in group}
    return {name for name, p in network.named_parameters() if id(p) in members}


def test_the_encoder_is_stem_stages_and_bottleneck():
    names = encoder_of(build(SPEC))
    assert names == {name for name, _ in build(SPEC).named_parameters() if "encoder" in name}


def test_an_encoder_from_a_file_is_taken_and_the_rest_stays(tmp_path):
    source, target = build(SPEC), build(SPEC)
    before = {name: t.clone() for name, t in get_weights(target).items()}
    save_file(on_cpu(get_weights(source)), tmp_path / "w.safetensors")
    report = load_encoder(target, tmp_path / "w.safetensors")
    encoder, offered = encoder_of(target), get_weights(source)
    assert set(report.taken) == encoder
    assert set(report.left) == set(offered) - encoder
    assert set(report.left.values()) == {"not of the encoder"}
    assert report.kept == ()
    for name, tensor in get_weights(target).items():
        assert torch.equal(tensor, offered[name] if name in encoder else before[name])


def test_the_report_says_why_a_tensor_was_left_and_which_keep_their_values():
    target = build(SPEC)
    offered = {**get_weights(build(replace(SPEC, in_channels=2))), "extra": torch.zeros(1)}
    missing = "unet.encoder.stages.1.0.convs.0.conv.bias"
    del offered[missing]
    report = load_encoder(target, offered)
    first = "unet.encoder.stages.0.0.convs.0.conv.weight"
    assert report.left[first] == "shape (4, 2, 3, 3) instead of (4, 1, 3, 3)"
    assert report.left["extra"] == "this network has no such tensor"
    assert set(report.kept) == {first, missing}
    assert set(report.taken) == encoder_of(target) - {first, missing}
    text = str(report)
    assert f"{len(report.taken)} tensors taken" in text
    assert "instead of (4, 1, 3, 3): " + first in text


def test_a_plain_encoder_fills_a_deformable_one_whose_offsets_stay_zero():
    plain, deformable = build(SPEC), build(replace(SPEC, deformable_bottleneck=True))
    report = load_encoder(deformable, get_weights(plain))
    assert all("sampling" in name for name in report.kept)
    assert len(report.kept) == 4
    weights = get_weights(deformable)
    assert all(weights[name].abs().max() == 0 for name in report.kept)


def test_weights_of_which_nothing_fits_are_refused(tmp_path):
    with pytest.raises(ModelError, match="none of these weights fits the encoder"):
        load_encoder(build(SPEC), {"extra": torch.zeros(1)})
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not a file of weights"):
        load_encoder(build(SPEC), tmp_path / "w.safetensors")
