"""A store with one small published version, and what is needed to publish more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from cinelabel.models.store import Draft, ModelStore
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.weights import get_weights

SEGMENTER = NetworkSpec(features=(4, 8, 12), decoder_convs_per_stage=1)
LOCATOR = NetworkSpec(features=(4, 8), classes=2, deep_supervision=False)


def make_drafts() -> list[Draft]:
    torch.manual_seed(0)
    return [
        Draft("seg", "segmenter", SEGMENTER, get_weights(build(SEGMENTER)), {"spacing_mm": 1.5}),
        Draft("loc", "locator", LOCATOR, get_weights(build(LOCATOR)), {"spacing_mm": 4.0}),
    ]


@pytest.fixture
def drafts() -> list[Draft]:
    return make_drafts()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's folder with version `a-1`; tests take copies."""
    root = tmp_path_factory.mktemp("published")
    ModelStore(root, bundled=root / "none").publish(
        "a-1", make_drafts(), provenance={"seed": 0}, metrics={"toy": {"dice": 0.5}}
    )
    return root


@pytest.fixture
def store(tmp_path: Path, published: Path) -> ModelStore:
    """A store with versions `a-1` (its own) and `phantom-2` (bundled)."""
    shutil.copytree(published / "a-1", tmp_path / "store" / "a-1")
    copied = tmp_path / "bundled" / "phantom-2"
    shutil.copytree(published / "a-1", copied)
    card = copied / "card.json"
    card.write_text(card.read_text().replace('"version": "a-1"', '"version": "phantom-2"'))
    return ModelStore(tmp_path / "store", bundled=tmp_path / "bundled")
