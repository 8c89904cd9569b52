"""Batches depend on seed and step alone; caches that do not hold together are refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from cinelabel.core.errors import RunError
from cinelabel.learning.config import DataConfig
from cinelabel.learning.data import (
    BatchSource,
    SliceCache,
    cache_name,
    open_caches,
    prefetched,
)
from cinelabel.phantom.settings import PhantomSettings


def same(left, right) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def shift_randomly(images, labels, generator):
    return images + generator.normal(size=(len(images), 1, 1)).astype(np.float32), labels


def test_a_batch_is_a_function_of_seed_step_and_rank(caches):
    training, _ = caches
    source = BatchSource(training, 4, 1, shift_randomly)
    assert same(source(7), BatchSource(training, 4, 1, shift_randomly)(7))
    for other in (
        source(8),
        BatchSource(training, 4, 2, shift_randomly)(7),
        BatchSource(training, 4, 1, shift_randomly, rank=1)(7),
    ):
        assert not same(source(7), other)


def test_a_batch_holds_each_slice_once_as_it_is_in_the_cache(caches):
    training, _ = caches
    images, labels = BatchSource(training, len(training), 1)(0)
    assert (images.dtype, labels.dtype) == (np.float32, np.uint8)
    assert np.array_equal(images, training.images.astype(np.float32))
    assert np.array_equal(labels, training.labels)


def test_a_cache_smaller_than_a_batch_repeats_slices(caches):
    _, validation = caches
    images, _ = BatchSource(validation, 10, 1)(0)
    assert images.shape == (10, 16, 16)


def test_a_cache_of_stacks_gives_batches_of_stacks(tmp_path):
    images = np.random.default_rng(1).normal(size=(6, 3, 16, 16)).astype(np.float16)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", (images > 0).astype(np.uint8))
    drawn, labels = BatchSource(SliceCache.open(tmp_path, 2), 4, 1)(0)
    assert drawn.shape == labels.shape == (4, 3, 16, 16)


def test_every_slice_is_drawn_sooner_or_later(caches):
    training, _ = caches
    source = BatchSource(training, 4, 1)
    seen = {image.tobytes() for step in range(60) for image in source(step)[0]}
    assert len(seen) == len(training)


def test_batches_made_ahead_come_in_order():
    assert list(prefetched(lambda step: step * step, range(3, 9))) == [9, 16, 25, 36, 49, 64]
    assert list(prefetched(lambda step: step, range(0))) == []


def test_a_batch_is_made_while_the_one_before_is_used():
    made = threading.Event()

    def make(step: int) -> int:
        if step == 1:
            made.set()
        return step

    batches = prefetched(make, range(3))
    assert next(batches) == 0
    assert made.wait(timeout=10)
    batches.close()


def test_an_error_in_making_a_batch_reaches_the_loop_at_its_step():
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("bad slice")
        return step

    taken = []
    with pytest.raises(ValueError, match="bad slice"):
        taken.extend(step for step in prefetched(make, range(5)) if taken.append(step))
    assert taken == [0, 1]


def test_no_more_batches_are_made_once_the_loop_stops():
    made = []
    batches = prefetched(made.append, range(1000))
    next(batches)
    batches.close()
    assert len(made) < 10


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (np.zeros((2, 4, 4), np.float16), np.zeros((3, 4, 4), np.uint8), "do not match"),
        (np.zeros((4, 4), np.float16), np.zeros((4, 4), np.uint8), "do not match"),
        (np.zeros((0, 4, 4), np.float16), np.zeros((0, 4, 4), np.uint8), "do not match"),
        (np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint8), "float32 images"),
        (np.zeros((2, 4, 4), np.float16), np.full((2, 4, 4), 4, np.uint8), "label 4"),
        (np.zeros((2, 4, 4), np.float16), None, "cannot be read"),
    ],
)
def test_a_cache_that_does_not_hold_together_is_refused(tmp_path, images, labels, problem):
    np.save(tmp_path / "images.npy", images)
    if labels is not None:
        np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(RunError, match=problem):
        SliceCache.open(tmp_path, classes=4)


def test_caches_of_different_content_have_different_folders(make_config):
    data, everything = make_config().data, PhantomSettings()
    coarse = make_config(data={"spacing_mm": 3.0, "size": 16}).data
    stacks = DataConfig(depth=4, size=16)
    names = {
        cache_name(data, 5, 1, everything),
        cache_name(data, 6, 1, everything),
        cache_name(data, 5, 2, everything),
        cache_name(coarse, 5, 1, everything),
        cache_name(stacks, 5, 1, everything),
        cache_name(data, 5, 1, PhantomSettings(organs=False)),
        cache_name(data, 5, 1, PhantomSettings(motion_share=0.0)),
    }
    assert len(names) == 7
    assert cache_name(data, 5, 1, everything) == "phantom-segmenter-5x16px-1.5mm-seed1"


def test_the_held_out_slices_of_an_ablation_have_everything_on(make_config, tmp_path, monkeypatch):
    asked = []

    def build_cache(folder, **arguments):
        asked.append((folder.name, arguments["settings"]))
        folder.mkdir()
        shape = (arguments["count"], arguments["size"], arguments["size"])
        np.save(folder / "images.npy", np.zeros(shape, np.float16))
        np.save(folder / "labels.npy", np.zeros(shape, np.uint8))
        return folder

    monkeypatch.setattr("cinelabel.phantom.dataset.build_cache", build_cache)
    data = {"count": 3, "validation_count": 2, "size": 16, "phantom": {"organs": False}}
    open_caches(make_config(data=data), tmp_path, None)
    assert [settings for _, settings in asked] == [PhantomSettings(organs=False), PhantomSettings()]
    assert asked[0][0] != asked[1][0]
