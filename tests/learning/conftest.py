"""A training so small that it takes a second: squares of one to three, seen through noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from cinelabel.learning.config import TrainConfig, parse
from cinelabel.learning.data import SliceCache
from cinelabel.learning.reporting import Reporter
from rich.console import Console

SIZE = 16


def write_cache(folder: Path, count: int, seed: int, classes: int = 4) -> Path:
    """Slices with one square a structure at a random place, as bright as its value."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, SIZE, SIZE), np.uint8)
    for label in labels:
        for value in range(1, classes):
            row, column = rng.integers(0, SIZE - 5, 2)
            label[row : row + 5, column : column + 5] = value
    images = labels + rng.normal(0.0, 0.2, labels.shape)
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images.astype(np.float16))
    np.save(folder / "labels.npy", labels)
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> tuple[SliceCache, SliceCache]:
    folder = tmp_path_factory.mktemp("caches")
    return (
        SliceCache.open(write_cache(folder / "training", 24, 1), 4),
        SliceCache.open(write_cache(folder / "validation", 6, 2), 4),
    )


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    def make(**changes: object) -> TrainConfig:
        values: dict[str, object] = {
            "name": "tiny",
            "network": {"features": [4, 8, 12]},
            "seed": 3,
            "data": {"count": 24, "validation_count": 6, "size": SIZE},
            "augmentation": None,
            "optimiser": {"lr": 0.01},
            "steps": 12,
            "batch_size": 4,
            "precision": "32-true",
            "device": "cpu",
            "ema": 0.9,
            "validate_every": 6,
            "checkpoint_every": 5,
            "log_every": 4,
            "workers": 1,
            "threads": 1,
        }
        return parse(values | changes, "test")

    return make


@pytest.fixture
def written() -> StringIO:
    """What a reporter made by `reporter` has printed."""
    return StringIO()


@pytest.fixture
def reporter(written: StringIO) -> Reporter:
    return Reporter(Console(file=written, width=200))


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
