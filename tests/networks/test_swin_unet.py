"""Swin-UNet: the order of expanded patches, its size, its end, and weights from ImageNet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from cinelabel.core.errors import ModelError
from cinelabel.networks import PRESETS, NetworkSpec, build
from cinelabel.networks.imagenet import load_imagenet
from cinelabel.networks.swin_unet import ChannelNorm, PatchExpanding, drop_paths
from cinelabel.networks.weights import get_weights
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from torch import nn

SPEC = NetworkSpec(
    family="swin_unet",
    features=(8, 16, 32, 64),
    size=64,
    depths=(2, 2, 2, 2),
    heads=(1, 2, 4, 8),
    window=4,
    drop_path=0.7,
)


def imagenet(window: int = 4) -> SwinTransformer:
    """A stand-in for a network trained on ImageNet: colours, classes, a deeper third stage."""
    return SwinTransformer(
        img_size=64,
        num_classes=10,
        embed_dim=8,
        depths=(2, 2, 3, 2),
        num_heads=SPEC.heads,
        window_size=window,
    )


def test_the_body_has_as_many_parameters_as_published():
    with torch.device("meta"):
        network = build("swin_unet-paper")
        ours = [network.to_pixels, network.smooth]
    count = sum(p.numel() for p in network.parameters())
    count -= sum(p.numel() for part in ours for p in part.parameters())
    colours, nine_classes = 2 * 4 * 4 * 96, 9 * 96  # Cao et al. see three channels, nine classes
    assert round((count + colours + nine_classes) / 1e6, 2) == 27.17


def test_feature_maps_halve_and_double_as_in_the_paper():
    sizes = {}
    with torch.device("meta"):
        network = build("swin_unet-paper").eval()
        for name, module in (("b", network.encoder.norm), ("d", network.norm)):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: sizes.update({name: tuple(output.shape)})
            )
        assert network(torch.empty(1, 1, 224, 224)).shape == (1, 4, 224, 224)
    assert sizes == {"b": (1, 7, 7, 768), "d": (1, 56, 56, 96)}


def test_expanding_puts_the_parts_of_a_token_at_their_place():
    expanding = PatchExpanding(4, 1, scale=2)
    expanding.norm = nn.Identity()
    with torch.no_grad():
        expanding.expand.weight.copy_(torch.eye(4))
    tokens = torch.tensor([[[[1.0, 2, 3, 4], [5, 6, 7, 8]]]])
    assert expanding(tokens)[0, :, :, 0].tolist() == [[1, 2, 5, 6], [3, 4, 7, 8]]


def test_the_end_is_two_convolutions_with_layer_norm_and_leaky_relu():
    first, norm, activation, last = build(SPEC).smooth
    assert (first.kernel_size, last.kernel_size) == ((3, 3), (3, 3))
    assert (isinstance(norm, ChannelNorm), activation.negative_slope) == (True, 0.01)
    images = torch.randn(2, 16, 3, 5)
    expected = (images - images.mean(1, keepdim=True)) / (
        images.var(1, keepdim=True, unbiased=False) + norm.eps
    ).sqrt()
    torch.testing.assert_close(norm(images), expected)
    assert build(replace(SPEC, head_kernel=1)).smooth[-1].kernel_size == (1, 1)


def test_the_chance_to_skip_a_block_grows_with_depth_and_the_decoder_mirrors_it():
    rates = drop_paths(SPEC)
    assert sum(rates, []) == pytest.approx([0.1 * k for k in range(8)])
    network = build(SPEC)
    for level, stage in enumerate(network.encoder.layers):
        mirrored = [] if level == 3 else [network.decoder[2 - level].swin]
        for blocks in (stage.blocks, *(part.blocks for part in mirrored)):
            found = [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks]
            assert found == pytest.approx(rates[level])


@pytest.fixture
def taken(tmp_path):
    """A network after it took over the stand-in's weights: network, offered weights, report."""
    offered = imagenet().state_dict()
    save_file(offered, tmp_path / "swin.safetensors")
    network = build(SPEC)
    return network, offered, load_imagenet(network, tmp_path / "swin.safetensors")


def test_imagenet_weights_fill_the_whole_encoder_and_are_mirrored(taken):
    network, offered, report = taken
    weights = get_weights(network)
    assert report.kept == ()
    for level in range(4):
        name = f"layers.{level}.blocks.1.mlp.fc1.weight"
        assert torch.equal(weights[f"encoder.{name}"], offered[name])
        if level < 3:
            mirror = f"decoder.{2 - level}.swin.blocks.1.mlp.fc1.weight"
            assert torch.equal(weights[mirror], offered[name])
    mirrored = {name for name in report.taken if name.startswith("decoder.")}
    assert mirrored == {name for name in weights if ".swin." in name}


def test_colours_are_summed_over_for_images_of_one_channel(taken):
    network, offered, _ = taken
    expected = offered["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(network.encoder.patch_embed.proj.weight.detach(), expected)


def test_deeper_blocks_and_the_classifier_are_left_with_a_reason(taken):
    _, offered, report = taken
    expected = {name for name in offered if name.startswith(("layers.2.blocks.2.", "head."))}
    assert set(report.left) == expected
    assert set(report.left.values()) == {"this network has no such tensor"}


def test_names_of_the_original_swin_transformer_are_understood(tmp_path):
    offered = imagenet().state_dict()
    original = {"head.weight": torch.ones(10, 64), "layers.0.blocks.1.attn_mask": torch.ones(1)}
    for name, tensor in offered.items():
        if ".downsample." in name:  # at the end of the stage before
            level = int(name.split(".")[1])
            name = name.replace(f"layers.{level}", f"layers.{level - 1}")
        original[name] = tensor
    torch.save({"model": original}, tmp_path / "swin.pth")
    network = build(SPEC)
    assert load_imagenet(network, tmp_path / "swin.pth").kept == ()
    merging = network.encoder.layers[1].downsample.reduction.weight
    assert torch.equal(merging, offered["layers.1.downsample.reduction.weight"])


def test_position_biases_of_another_window_are_interpolated(tmp_path):
    save_file(imagenet(window=8).state_dict(), tmp_path / "swin.safetensors")
    network = build(SPEC)
    report = load_imagenet(network, tmp_path / "swin.safetensors")
    assert report.kept == ()
    assert "encoder.layers.0.blocks.0.attn.relative_position_bias_table" in report.taken


def test_a_name_of_timm_is_asked_for_and_nothing_else(monkeypatch):
    asked = []

    def create_model(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return imagenet()

    monkeypatch.setattr(timm, "create_model", create_model)
    network = build(SPEC)
    assert asked == []
    load_imagenet(network, "swin_tiny_patch4_window7_224.ms_in1k")
    assert asked == [("swin_tiny_patch4_window7_224.ms_in1k", True)]


def test_what_cannot_be_read_or_does_not_fit_is_refused(tmp_path):
    (tmp_path / "swin.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not a file of weights"):
        load_imagenet(build(SPEC), tmp_path / "swin.pth")
    with pytest.raises(ModelError, match="timm gives no weights"):
        load_imagenet(build(SPEC), "no_such_swin")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="none of these weights fits"):
        load_imagenet(build(SPEC), tmp_path / "a.safetensors")


def test_the_paper_preset_takes_the_shape_of_the_tiny_swin_of_timm():
    with torch.device("meta"):
        tiny = timm.create_model("swin_tiny_patch4_window7_224").state_dict()
        own = build(PRESETS["swin_unet-paper"]).encoder.state_dict()
    differing = {name for name in own if own[name].shape != tiny[name].shape}
    assert differing == {"patch_embed.proj.weight"}
