"""Ensembles as they are published: untrained networks of slices, stacks, one size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cinelabel.core.errors import ModelError
from cinelabel.models.store import Draft, ModelStore
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.weights import get_weights
from cinelabel.segmentation import HeartBox, Segmenter
from cinelabel.segmentation.locator import Located
from cinelabel.segmentation.passes import views
from cinelabel.transforms.preparation import Preparation
from cinelabel.transforms.preprocess import pad_slices

SPECS = {
    "deformable": NetworkSpec(features=(4, 8, 12), deformable_bottleneck=True),
    "stack": NetworkSpec(
        family="nnunet3d",
        features=(4, 8, 12),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    ),
    "swin": NetworkSpec(
        family="swin_unet",
        features=(8, 16, 32, 64),
        size=64,
        depths=(1, 1, 1, 1),
        heads=(1, 2, 4, 8),
        window=2,
    ),
}
PREPARATIONS = {
    "deformable": Preparation(2.0, 64),
    "stack": Preparation(2.0, 64, normalised_over="volume", depth=5),
    "swin": Preparation(None, 64, intensity="min-max"),
}
WEIGHTS = {"deformable": 1.0, "stack": 2.0, "swin": 0.5}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ensemble")
    torch.manual_seed(3)
    drafts = [
        Draft(
            name,
            "segmenter",
            SPECS[name],
            get_weights(build(SPECS[name])),
            PREPARATIONS[name].to_dict(),
            WEIGHTS[name],
        )
        for name in SPECS
    ]
    spec = NetworkSpec(features=(4, 8), classes=2, deep_supervision=False)
    where = Preparation(4.0, 32).to_dict()
    drafts.append(Draft("where", "locator", spec, get_weights(build(spec)), where))
    ModelStore(root).publish("three-1", drafts, provenance={}, metrics={}, fast="swin", half=False)
    return root


@pytest.fixture
def store(published: Path, tmp_path: Path) -> ModelStore:
    """A copy of the store, to be damaged."""
    shutil.copytree(published / "three-1", tmp_path / "three-1")
    return ModelStore(tmp_path)


@pytest.fixture
def at_heart(monkeypatch: pytest.MonkeyPatch, drawn) -> HeartBox:
    """Where the drawn heart is, in place of what an untrained locator would say."""
    heart = HeartBox((118.0, 92.0), (90.0, 70.0), (1, 4), 1.0)
    monkeypatch.setattr(Segmenter, "locate", lambda self, study, mirror=True: Located(heart, None))
    monkeypatch.setattr("cinelabel.segmentation.predictor.RECENTRE_MM", 1e6)
    return heart


def by_torch(version, name: str, volume: np.ndarray, grid, heart: HeartBox) -> np.ndarray:
    """A member's probabilities on the grid, mirrored, by the torch network in float32."""
    spec, preparation, network = SPECS[name], PREPARATIONS[name], version.network(name)
    crop = preparation.crop(grid, heart.centre, heart.extent_mm, spec.size)
    images = preparation.prepare(volume, crop)
    padded, where = pad_slices(images, 2)
    batch = torch.from_numpy(images[:, None] if spec.dimensions == 2 else padded[None, None])
    passes = []
    for view in views(spec.dimensions, True, False):
        with torch.inference_mode():
            seen = torch.softmax(network(torch.flip(batch, view.flips)), 1)
        passes.append(torch.flip(seen, view.flips))
    maps = torch.stack(passes).mean(0).numpy()
    if spec.dimensions == 3:
        maps = np.moveaxis(maps[0], 1, 0)[where]
    return crop.restore_probabilities(maps)


def test_a_published_ensemble_is_the_weighted_average_of_its_networks_in_torch(
    published: Path, drawn, at_heart: HeartBox
) -> None:
    study, _ = drawn.study(frames=1)
    segmenter = Segmenter.load("three-1", device="cpu", store=ModelStore(published))
    result = segmenter.segment(study, keep_members=True)
    version = segmenter.version
    total = np.zeros((4, *study.grid.shape))
    for name in SPECS:
        own = by_torch(version, name, study.frame(0), study.grid, at_heart)
        total += WEIGHTS[name] * own
        assert np.mean(result.member_labels[name][..., 0] == own.argmax(0)) > 0.99
    assert np.mean(result.average_labels[..., 0] == total.argmax(0)) > 0.99
    assert list(result.member_costs) == list(SPECS)
    assert result.agreement.dice.shape == (1, 3, 3, 3)


def test_the_card_of_an_ensemble_keeps_weights_and_the_fast_member(published: Path) -> None:
    card = ModelStore(published).load("three-1").card
    assert {m.name: m.weight for m in card.members} == {**WEIGHTS, "where": 1.0}
    assert card.fast == "swin"
    for name, preparation in PREPARATIONS.items():
        member = next(m for m in card.members if m.name == name)
        assert member.spec == SPECS[name]
        assert Preparation.from_dict(member.preprocessing) == preparation


def test_a_damaged_file_stops_only_those_who_need_it(
    store: ModelStore, drawn, at_heart: HeartBox
) -> None:
    path = store.root / "three-1" / "deformable.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    study, _ = drawn.study(frames=1)
    segmenter = Segmenter.load("three-1", device="cpu", store=store)
    assert segmenter.segment(study, fast=True).members == ("swin",)
    with pytest.raises(ModelError, match="deformable.bin: a file of the model is damaged"):
        segmenter.segment(study)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"family": "vnet"}, "unknown network family 'vnet'. Known families"),
        ({"classes": 3}, "member 'stack' cannot be used, its network has 3 classes .* 4 and 1"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_a_sentence(
    store: ModelStore, network: dict[str, object], said: str
) -> None:
    path = store.root / "three-1" / "card.json"
    card = json.loads(path.read_text())
    member = next(m for m in card["members"] if m["name"] == "stack")
    member["network"].update(network)
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=said):
        Segmenter.load("three-1", device="cpu", store=store)


def test_a_locator_without_a_pixel_size_is_refused(store: ModelStore) -> None:
    path = store.root / "three-1" / "card.json"
    card = json.loads(path.read_text())
    member = next(m for m in card["members"] if m["name"] == "where")
    member["preprocessing"]["spacing_mm"] = None
    path.write_text(json.dumps(card))
    with pytest.raises(ModelError, match="'where' cannot be used, a locator looks at single"):
        Segmenter.load("three-1", device="cpu", store=store)
