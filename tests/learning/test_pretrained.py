"""Runs start from weights of other runs, of files and of members, and say what they took."""

from __future__ import annotations

import json

import pytest
import torch
from cinelabel.core.errors import ModelError, RunError
from cinelabel.learning.config import PretrainedConfig
from cinelabel.learning.pretrained import find_weights, load_pretrained, require_unseen
from cinelabel.learning.run_folder import RunFolder
from cinelabel.learning.supervised import train
from cinelabel.models.store import ModelStore
from cinelabel.networks import build
from cinelabel.networks.specs import NetworkSpec
from cinelabel.networks.weights import get_weights, on_cpu
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer

PLAIN = NetworkSpec(features=(4, 8, 12))
TWIN = NetworkSpec(features=(4, 8, 12), deformable_bottleneck=True)


@pytest.fixture
def plain(tmp_path):
    """A plain network and the file of its weights."""
    torch.manual_seed(1)
    network = build(PLAIN)
    save_file(on_cpu(get_weights(network)), tmp_path / "plain.safetensors")
    return network, tmp_path / "plain.safetensors"


def start(network, source: object, parts: str = "all"):
    return load_pretrained(network, PretrainedConfig(weights=str(source), parts=parts))


def test_a_deformable_network_starts_as_its_plain_twin(plain):
    network, file = plain
    twin = build(TWIN)
    told = start(twin, file)
    images = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(images), network.eval()(images))
    taken = len(get_weights(network))
    assert told["transfer"].startswith(f"{taken} tensors taken, 0 left")
    assert "convs.0.conv.sampling.weight" in told["transfer"]


def test_a_deformable_network_starts_from_a_member_of_the_store():
    member = "nnunet2d-compact-phantom"
    twin = build("nnunet2d-deformable-compact").eval()
    start(twin, f"model:phantom-2/{member}")
    images = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ModelStore().load("phantom-2").network(member)(images)
        torch.testing.assert_close(twin(images), expected, atol=1e-4, rtol=1e-4)


def test_the_encoder_alone_is_taken_where_the_head_differs(plain):
    network, file = plain
    other = build(NetworkSpec(features=(4, 8, 12), classes=2))
    told = start(other, file, "encoder")
    theirs, own = network.layer_groups(), other.layer_groups()
    for name in ("stem", "encoder_1", "bottleneck"):
        assert all(map(torch.equal, own[name], theirs[name]))
    assert not torch.equal(own["decoder_1"][0], theirs["decoder_1"][0])
    assert "not of the encoder" in told["transfer"]


def test_a_swin_unet_starts_from_imagenet_and_a_u_net_does_not(tmp_path):
    spec = NetworkSpec(
        family="swin_unet",
        features=(8, 16, 32, 64),
        size=64,
        depths=(1, 1, 1, 1),
        heads=(1, 1, 2, 4),
        window=2,
    )
    swin = SwinTransformer(
        img_size=64, embed_dim=8, depths=spec.depths, num_heads=spec.heads, window_size=2
    )
    offered = swin.state_dict()
    save_file(offered, tmp_path / "swin.safetensors")
    network = build(spec)
    told = start(network, tmp_path / "swin.safetensors", "imagenet")
    name = "layers.0.blocks.0.mlp.fc1.weight"
    assert torch.equal(get_weights(network)[f"encoder.{name}"], offered[name])
    assert told["parts"] == "imagenet"
    with pytest.raises(RunError, match="only a Swin-UNet"):
        start(build(PLAIN), tmp_path / "swin.safetensors", "imagenet")


def test_weights_of_another_network_are_refused_naming_file_and_tensor(plain):
    _, file = plain
    with pytest.raises(
        ModelError, match=r"plain.safetensors: tensor '.*' of the weights has shape"
    ):
        start(build(NetworkSpec(features=(4, 8, 16))), file)
    with pytest.raises(ModelError, match=r"lack tensor .* take the encoder alone"):
        start(build(NetworkSpec(features=(4, 8, 12, 16))), file)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("model:phantom-2", "not model:VERSION/MEMBER"),
        ("model:phantom-2/nobody", "no member 'nobody'"),
        ("nowhere", "no weights to start from"),
        (".", "the run is not finished"),
    ],
)
def test_weights_that_are_not_there_are_named(source, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((RunError, ModelError), match=problem):
        find_weights(source)


def test_a_fine_tuning_starts_from_a_run_and_goes_on_without_it(
    tmp_path, make_config, caches, reporter, written
):
    first, second = tmp_path / "first", tmp_path / "second"
    train(make_config(name="first"), first, reporter=reporter, caches=caches)
    before = RunFolder(first).weights()
    config = make_config(
        pretrained={"weights": str(first)}, optimiser={"lr": 1e-9}, schedule={"name": "poly"}
    )

    class Crash(Exception):
        pass

    calls = []

    def crash(images, labels, generator):
        calls.append(1)
        if len(calls) == 9:
            raise Crash
        return images, labels

    with pytest.raises(Crash):
        train(config, second, reporter=reporter, caches=caches, augment=crash)
    (first / "weights.safetensors").unlink()
    train(config, second, reporter=reporter, caches=caches)
    after = RunFolder(second).weights()
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    told = json.loads((second / "summary.json").read_text())["pretrained"]
    assert (told["weights"], told["parts"]) == (str(first), "all")
    assert f"{len(before)} tensors taken, 0 left" in told["transfer"]
    assert f"starting from {first}: {len(before)} tensors taken" in written.getvalue()


def test_a_run_that_has_learned_from_a_held_out_case_is_no_start(tmp_path):
    known = {"training": ["acdc/patient001_ED"], "held_out": ["acdc/patient002_ED"]}
    RunFolder(tmp_path / "first").keep_cases(known)
    for source in (str(tmp_path / "first"), "model:phantom-2/a", str(tmp_path / "file")):
        require_unseen(source, ["acdc/patient002_ED"])
    with pytest.raises(RunError, match="first: the run has learned from acdc/patient001_ED"):
        require_unseen(str(tmp_path / "first"), ["acdc/patient001_ED"])
