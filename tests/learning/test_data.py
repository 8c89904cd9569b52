"""Batches depend on seed and step alone; what does not hold together is refused."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
from cinelabel.core.errors import InputError, RunError
from cinelabel.datasets import cases
from cinelabel.datasets.folds import Folds, make_folds, write_folds
from cinelabel.learning.config import DataConfig
from cinelabel.learning.data import (
    BatchSource,
    SliceCache,
    cache_name,
    open_caches,
    open_data,
    prefetched,
)
from cinelabel.phantom.settings import PhantomSettings

SIZE = 16


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


# Public sets


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def make_sets(make_config, sets):
    """A run on the tiny sets; changes are those of `data`."""

    def make(**changes):
        data = {"source": "sets", "roots": sets, "size": SIZE, "spacing_mm": None, "partial": True}
        top = {key: changes.pop(key) for key in ("augmentation", "network") if key in changes}
        return make_config(data=data | changes, **top)

    return make


def patients(labels) -> list[int]:
    """Number of the patient of each slice, by its pixels of RV; 0 for none."""
    slices = labels.reshape(-1, *labels.shape[-2:])
    return [int((truth == 3).sum()) // 2 for truth in slices]


def drawn(data, steps: int = 40) -> set[int]:
    return set().union(*(patients(data.training(step)[1]) for step in range(steps)))


def held(data) -> set[int]:
    return set().union(*(patients(labels) for _, labels in data.validation))


def test_a_batch_of_sets_is_a_function_of_seed_step_and_rank(make_sets, store):
    config = make_sets(augmentation={})
    source = open_data(config, store).training
    images, labels = source(7)
    assert (images.shape, images.dtype) == ((4, SIZE, SIZE), np.float32)
    assert (labels.shape, labels.dtype) == ((4, SIZE, SIZE), np.uint8)
    assert same(source(7), open_data(config, store).training(7))
    other_seed = config.model_copy(update={"seed": 4})
    for other in (
        source(8),
        open_data(other_seed, store).training(7),
        open_data(config, store, rank=1).training(7),
    ):
        assert not same(source(7), other)


@pytest.mark.parametrize("depth", [0, 4])
def test_patients_of_the_fold_are_held_out_and_no_others(make_sets, sets, store, tmp_path, depth):
    found = [case for name, root in sets.items() for case in cases(name, root)]
    folds = make_folds(found, 3)
    write_folds(tmp_path / "folds.json", folds)
    network = {} if not depth else {"network": "nnunet3d-compact"}
    everyone = set()
    for fold in range(3):
        data = open_data(
            make_sets(folds=tmp_path / "folds.json", fold=fold, depth=depth, **network), store
        )
        named = {
            int(name.split("/")[1][-1 if name[0] == "a" else 1]) for name in folds.patients[fold]
        }
        for patient in data.training.cases:
            assert patient.case.group not in folds.patients[fold]
        assert held(data) - {0} == named
        assert drawn(data) - {0} == set(range(1, 7)) - named
        everyone |= named
    assert everyone == set(range(1, 7))


def test_without_folds_some_patients_are_held_out_the_same_for_every_seed(make_sets, store):
    first = open_data(make_sets(), store)
    other = open_data(make_sets().model_copy(update={"seed": 9}), store)
    assert held(first) == held(other)
    assert len(held(first) - {0}) == 1
    assert not (held(first) - {0}) & drawn(first)


def test_folds_of_other_patients_are_refused(make_sets, sets, store, tmp_path):
    write_folds(tmp_path / "folds.json", make_folds(cases("acdc", sets["acdc"]), 2))
    with pytest.raises(InputError, match="in none of its folds"):
        open_data(make_sets(folds=tmp_path / "folds.json", fold=0), store)


@pytest.mark.parametrize(("balance", "share"), [("pooled", 8 / 12), ("equal", 1 / 2)])
def test_sets_are_drawn_as_often_as_the_balance_says(
    make_sets, sets, store, tmp_path, balance, share
):
    folds = Folds((("mnms/M6N6O6",), ("mnms/M5N5O5", *(f"acdc/patient00{k}" for k in "1234"))), 1)
    write_folds(tmp_path / "folds.json", folds)
    config = make_sets(folds=tmp_path / "folds.json", fold=0, balance=balance, foreground=1.0)
    source = open_data(config, store).training
    found = [number for step in range(100) for number in patients(source(step)[1])]
    acdc = np.mean([number < 5 for number in found])
    assert abs(acdc - share) < 4 * np.sqrt(share * (1 - share) / len(found))


def test_foreground_is_in_the_share_of_slices_that_is_asked_for(make_sets, store):
    for asked, expected in ((1.0, 1.0), (0.5, 0.5 + 0.5 * 0.6), (0.0, 0.6)):  # in 3 slices of 5
        source = open_data(make_sets(foreground=asked), store).training
        seen = np.mean([labels.any((1, 2)).mean() for _, labels in map(source, range(30))])
        assert abs(seen - expected) <= 4 * np.sqrt(expected * (1 - expected) / 120)


def test_half_of_a_set_is_refused_unless_it_is_allowed(make_sets, store):
    with pytest.raises(InputError, match="acdc: 8 of 300 labelled stacks.*'partial: true'"):
        open_data(make_sets(partial=False), store)
    with pytest.raises(InputError, match="mnms: 4 of 640 labelled.*mnms2: no folder was given"):
        open_data(make_sets(partial=False, table="paper"), store)


def test_a_root_of_images_without_labels_is_refused(make_sets, sets, store, tmp_path):
    copy = shutil.copytree(sets["acdc"], tmp_path / "acdc")
    for path in copy.rglob("*_gt.nii.gz"):
        path.unlink()
    with pytest.raises(InputError, match="no labelled case of acdc"):
        open_data(make_sets(roots={"acdc": copy}), store)


def test_stacks_of_cases_with_fewer_slices_repeat_those_at_the_ends(make_sets, store):
    network = {"network": "nnunet3d-compact", "depth": 8}
    data = open_data(make_sets(**network), store)
    images, labels = data.training(0)
    assert images.shape == labels.shape == (4, 8, SIZE, SIZE)
    assert np.array_equal(images[:, 0], images[:, 1])  # 5 slices: one more before, two after
    assert np.array_equal(images[:, 5], images[:, 7])
    assert not np.array_equal(images[:, 1], images[:, 2])
    (_, truth), *more = data.validation
    assert len(truth) == 2  # ED and ES of one patient, a stack each
    assert not more


def test_a_stack_drawn_for_its_foreground_holds_some(make_sets, store):
    cut = make_sets(network="nnunet3d-compact", depth=2, foreground=1.0)
    labels = np.concatenate([open_data(cut, store).training(step)[1] for step in range(20)])
    assert labels.any((1, 2, 3)).all()
    assert not labels.any((2, 3)).all()  # also the slice before the heart, or behind it


def test_windows_in_the_image_are_anywhere_unless_drawn_for_a_structure(make_sets, store):
    everywhere = open_data(make_sets(window="image", foreground=0.0), store).training
    corners = {
        everywhere.windows.draw(everywhere.cases[0], np.random.default_rng(k)).corner
        for k in range(2000)
    }
    assert corners == {(row, column) for row in range(9) for column in range(15)}
    chosen = open_data(make_sets(window="image", foreground=1.0), store).training
    for step in range(20):
        assert chosen(step)[1].any((1, 2)).all()
    fourth = next(case for case in chosen.cases if case.case.patient == "patient004")
    for k in range(20):  # its structures lie in rows 9 to 15 and columns 12 to 16
        row, column = chosen.windows.draw(fourth, np.random.default_rng(k)).corner
        assert 9 <= row + 8 <= 15
        assert 12 <= column + 8 <= 16


def test_a_window_wider_than_the_image_has_zeros_round_it(make_sets, store):
    images, labels = open_data(make_sets(window="image", size=32), store).training(0)
    assert not images[:, :4].any()  # 24 rows of 32
    assert not images[:, 28:].any()
    assert np.allclose(images[:, 4:28, 1:31].mean((1, 2)), 0.0, atol=1e-5)
    assert np.allclose(images[:, 4:28, 1:31].std((1, 2)), 1.0, atol=1e-4)
    assert not labels[:, :4].any()


def test_validation_is_the_same_every_time_spread_evenly_and_limited(make_sets, store):
    data = open_data(make_sets(augmentation={}, validation_count=4), store)
    first, again = list(data.validation), list(data.validation)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    labels = np.concatenate([labels for _, labels in first])
    assert labels.any((1, 2)).tolist() == [False, True, True, False]  # of 2 x 5: 0, 3, 6 and 9
    everything = open_data(make_sets(validation_count=100), store).validation
    assert [len(images) for images, _ in everything] == [4, 4, 2]
    assert len(everything) == 3


def test_transformers_learn_from_the_range_0_to_1_and_locators_from_the_heart(make_sets, store):
    config = make_sets(intensity="min-max", augmentation={}, task="locator", foreground=1.0)
    images, labels = open_data(config, store).training(0)
    assert np.allclose((images.min((1, 2)), images.max((1, 2))), ([[0] * 4, [1] * 4]))
    assert np.unique(labels).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"normalised_over": "volume", "augmentation": {}}, "normalises each slice by itself"),
        ({"normalised_over": "volume", "intensity": "min-max"}, "range of a whole volume"),
        ({"network": {"features": [4, 8, 12], "classes": 2}}, "2 classes, the data 4"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make_sets, store, changes, problem):
    with pytest.raises(RunError, match=problem):
        open_data(make_sets(**changes), store)
