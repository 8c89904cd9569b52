"""Training examples: functions of seed, worker and index; caches that go on, never mixed up."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import InputError, RunError
from cinelabel.phantom import dataset
from cinelabel.phantom.dataset import (
    BLOCK,
    FAILING,
    PHASES,
    VISIT,
    PhantomSlices,
    build_cache,
    make_example,
)
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.transforms.preprocess import normalise

COARSE = {"size": 40, "spacing_mm": 5.0}
STILL = PhantomSettings(motion_share=0.0)
CACHE = {"task": "segmenter", "count": 6, "seed": 2, "prepare": np.sqrt, **COARSE}


def same(left, right) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def first(slices: PhantomSlices, count: int, worker: int = 0) -> list[dataset.Example]:
    return list(islice(slices.stream(worker), count))


@pytest.fixture
def subjects(monkeypatch) -> list[object]:
    """Every subject that is drawn, in order."""
    drawn: list[object] = []
    sample = dataset.sample_subject

    def noted(*arguments):
        drawn.append(sample(*arguments))
        return drawn[-1]

    monkeypatch.setattr(dataset, "sample_subject", noted)
    return drawn


def test_an_example_depends_on_seed_and_index_only():
    once, again = (make_example("segmenter", 5, 11, 40, 5.0) for _ in range(2))
    assert same(once, again)
    for seed, index in ((5, 10), (5, 12), (6, 11)):
        assert not np.array_equal(once[0], make_example("segmenter", seed, index, 40, 5.0)[0])


def test_an_example_is_a_magnitude_with_labels_of_the_structures():
    image, labels = make_example("segmenter", 1, 0, 40, 5.0)
    assert (image.dtype, image.shape) == (np.float32, (40, 40))
    assert (labels.dtype, labels.shape) == (np.uint8, (40, 40))
    assert image.min() >= 0
    assert np.isfinite(image).all()
    examples = first(PhantomSlices(settings=STILL, **COARSE), 24)
    assert {int(v) for example in examples for v in np.unique(example.labels)} == {0, 1, 2, 3}


def test_locator_examples_have_two_classes():
    examples = first(PhantomSlices("locator", settings=STILL, size=48, spacing_mm=8.0), 20)
    assert {int(v) for example in examples for v in np.unique(example.labels)} == {0, 1}


def test_a_visit_of_one_subject_gives_several_examples(subjects):
    recipe = dataset._Recipe("segmenter", 1, 40, 5.0, STILL)
    images = [example.image for example in dataset._made(recipe, range(2 * VISIT))]
    assert len(subjects) == 2
    assert subjects[0].heart != subjects[1].heart
    assert not any(np.array_equal(a, b) for a, b in zip(images, images[1:], strict=False))


def test_examples_are_the_same_alone_and_in_a_run_of_examples():
    recipe = dataset._Recipe("segmenter", 4, 40, 5.0, PhantomSettings())
    run = list(dataset._made(recipe, range(2, 2 + VISIT)))
    for index, example in enumerate(run, start=2):
        assert same(example[:2], make_example("segmenter", 4, index, 40, 5.0))


def test_a_stream_holds_every_example_of_its_visits_once_in_another_order(monkeypatch):
    monkeypatch.setattr(dataset, "BLOCK", 2)
    slices = PhantomSlices(settings=STILL, **COARSE)
    found = [example.image.tobytes() for example in first(slices, 2 * VISIT)]
    natural = [make_example("segmenter", 1, i, 40, 5.0, STILL)[0] for i in range(2 * VISIT)]
    assert sorted(found) == sorted(image.tobytes() for image in natural)
    assert found != [image.tobytes() for image in natural]


def test_neighbours_in_a_stream_are_of_one_subject_as_rarely_as_chance_has_it():
    order = np.random.default_rng([1, 0, 0, dataset.SALT, 1]).permutation(BLOCK * VISIT) // VISIT
    assert np.mean(order[1:] == order[:-1]) < 0.15


def test_a_stream_depends_on_seed_and_worker_only():
    slices = PhantomSlices(settings=STILL, **COARSE)
    once = first(slices, 3, worker=1)
    assert all(same(a, b) for a, b in zip(once, first(slices, 3, worker=1), strict=True))
    for other in (first(slices, 3), first(replace(slices, seed=2), 3, worker=1)):
        assert not any(same(a, b) for a, b in zip(once, other, strict=True))


def test_a_stream_goes_on_where_it_stopped_across_blocks(monkeypatch):
    monkeypatch.setattr(dataset, "BLOCK", 1)
    slices = PhantomSlices(settings=STILL, **COARSE)
    whole = first(slices, VISIT + 3)
    for start in (1, VISIT - 1, VISIT + 1):
        rest = first(replace(slices, start=start), VISIT + 3 - start)
        assert all(same(a, b) for a, b in zip(rest, whole[start:], strict=True))


def test_stacks_and_clips_have_their_axis_in_front():
    stack = first(PhantomSlices(mode="stacks", depth=3, settings=STILL, **COARSE), 1)[0]
    assert stack.image.shape == stack.labels.shape == (3, 40, 40)
    assert stack.grade.shape == stack.severity_mm.shape == (3,)
    clip = first(PhantomSlices(mode="clips", frames=4, settings=STILL, **COARSE), 1)[0]
    assert clip.image.shape == clip.labels.shape == (4, 40, 40)
    assert clip.grade.shape == clip.severity_mm.shape == ()


def test_the_two_stacks_of_a_visit_show_other_phases_of_the_same_slices():
    recipe = dataset._Recipe("segmenter", 3, 40, 5.0, STILL, "stacks", depth=4)
    one, other = dataset._made(recipe, range(PHASES))
    assert not np.array_equal(one.image, other.image)
    correlation = np.corrcoef(one.image.ravel(), other.image.ravel())[0, 1]
    assert correlation > 0.7


def test_without_motion_every_slice_is_still_and_with_nothing_else_none_is():
    still = first(PhantomSlices(settings=STILL, **COARSE), 8)
    assert all(example.severity_mm == 0 and example.grade == 1 for example in still)
    moving = first(PhantomSlices(settings=PhantomSettings(motion_share=1.0), **COARSE), 8)
    assert all(example.severity_mm > 0 for example in moving)
    assert sum(FAILING.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"random_contrast_share": 1.0},
        {"motion_share": 1.0},
        {"closing_cavities": False},
        {"organs": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_of_the_phantom_reaches_the_examples(change):
    whole = first(PhantomSlices(settings=STILL, **COARSE), 12)
    changed = first(PhantomSlices(settings=replace(STILL, **change), **COARSE), 12)
    assert any(not same(a[:2], b[:2]) for a, b in zip(whole, changed, strict=True))


def test_the_heights_drawn_reach_beyond_apex_and_base_and_dwell_on_the_transition():
    heart = dataset.sample_subject(np.random.default_rng(0)).heart
    rng = np.random.default_rng(1)
    task = dataset.TASKS["segmenter"]
    heights = np.array([dataset._sample_height(task, heart, rng) for _ in range(2000)])
    below, above = (heights < -heart.wall_apex).mean(), (heights > heart.length_ed + 6).mean()
    passing = (np.abs(heights - heart.length(1.0)) < 5) | (np.abs(heights - heart.length_ed) < 6)
    assert below == pytest.approx(task.beyond_apex, abs=0.02)
    assert 0.03 < above < 0.12
    assert passing.mean() > 0.14


def test_what_is_prepared_reaches_the_stream():
    slices = PhantomSlices(settings=STILL, prepare=np.negative, **COARSE)
    assert first(slices, 1)[0].image.max() <= 0


def test_a_torch_loader_gives_batches_of_both_workers_in_turn():
    data = pytest.importorskip("torch.utils.data")
    slices = PhantomSlices(settings=STILL, **COARSE)
    loader = data.DataLoader(
        slices, batch_size=2, num_workers=2, multiprocessing_context="spawn", prefetch_factor=1
    )
    batches = [batch.image.numpy() for batch in islice(loader, 2)]
    for worker, batch in enumerate(batches):
        expected = [example.image for example in first(slices, 2, worker)]
        assert np.array_equal(batch, np.stack(expected))


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"task": "classifier"}, RunError, "unknown task 'classifier'"),
        ({"mode": "films"}, RunError, "unknown mode 'films'"),
        ({"depth": 0}, InputError, "at least 1"),
        ({"start": -1}, InputError, "start at least 0"),
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(change, error, problem):
    with pytest.raises(error, match=problem):
        PhantomSlices(**change)


def test_an_interrupted_cache_goes_on_and_equals_an_uninterrupted_one(tmp_path: Path):
    whole = build_cache(tmp_path / "whole", **CACHE)
    images = np.load(whole / "images.npy").copy()
    manifest = whole / "manifest.json"
    cut = json.loads(manifest.read_text())
    cut["chunks_done"] = []
    manifest.write_text(json.dumps(cut))
    np.lib.format.open_memmap(whole / "images.npy", "r+")[:] = 0
    build_cache(whole, **CACHE)
    assert np.array_equal(np.load(whole / "images.npy"), images)
    assert images.any()


def test_a_cache_holds_the_examples_in_their_order_and_tells_how_far_it_is(tmp_path: Path):
    calls = []
    folder = build_cache(tmp_path, **CACHE, progress=lambda *call: calls.append(call))
    assert calls == [(6, 6, "phantom slices (segmenter)")]
    image, labels = make_example("segmenter", 2, 5, 40, 5.0)
    assert np.array_equal(np.load(folder / "images.npy")[5], np.sqrt(image).astype(np.float16))
    assert np.array_equal(np.load(folder / "labels.npy")[5], labels)


def test_a_cache_of_stacks_holds_those_of_the_stream_and_goes_on_in_the_same_visits(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(dataset, "CHUNK", 6)
    calls = []
    stacks = CACHE | {"count": 5, "depth": 3, "prepare": normalise}
    build_cache(tmp_path, **stacks, progress=lambda *call: calls.append(call))
    images, labels = (np.load(tmp_path / f"{name}.npy") for name in ("images", "labels"))
    assert images.shape == labels.shape == (5, 3, 40, 40)
    assert [made for made, _, _ in calls] == [2, 4, 5]
    stream = PhantomSlices(mode="stacks", seed=2, depth=3, prepare=normalise, **COARSE)
    made = {
        (example.image.astype(np.float16).tobytes(), example.labels.tobytes())
        for example in islice(stream.stream(0), 32)
    }
    kept = {(image.tobytes(), truth.tobytes()) for image, truth in zip(images, labels, strict=True)}
    assert len(kept) == 5
    assert kept <= made
    assert json.loads((tmp_path / "manifest.json").read_text())["depth"] == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 3}, "seed"),
        ({"settings": STILL}, "settings"),
        ({"size": 48}, "size"),
        ({"depth": 4}, "depth"),
    ],
)
def test_a_cache_of_other_parameters_is_not_reused(tmp_path: Path, change, named):
    wanted = {"version": dataset.VERSION, "seed": 2, "size": 40, "task": "segmenter", "count": 6}
    wanted |= {"spacing_mm": 5.0, "settings": dataset.asdict(PhantomSettings())}
    wanted |= {"defaults": dataset.asdict(dataset.TASKS["segmenter"]), "chunks_done": [0]}
    (tmp_path / "manifest.json").write_text(json.dumps(wanted))
    assert build_cache(tmp_path, **CACHE) == tmp_path
    with pytest.raises(RunError, match=f"made with {named} = "):
        build_cache(tmp_path, **(CACHE | change))


def test_a_cache_of_an_older_phantom_is_not_reused(tmp_path: Path):
    (tmp_path / "manifest.json").write_text(json.dumps({"seed": 2, "chunks_done": [0]}))
    with pytest.raises(RunError, match="version"):
        build_cache(tmp_path, **CACHE)


def test_slices_of_a_stack_tell_their_true_shift_trace_and_missing_ends():
    settings = PhantomSettings(motion_share=1.0)
    stream = PhantomSlices(mode="stacks", size=96, spacing_mm=2.0, depth=4, settings=settings)
    found = [example for example, _ in zip(stream, range(6), strict=False)]
    for example in found:
        assert example.shift_mm.shape == (4, 2)
        assert example.trace_mm.shape == (4, 64, 3)
        assert example.missing.tolist() == [True, True]  # four slices do not cover a heart
        assert np.ptp(example.trace_mm[..., 2]) > 0.1
    assert 0.3 < np.std([example.shift_mm for example in found]) < 3.0


def test_the_true_shift_of_a_stack_is_where_the_heart_lies_in_it():
    """Labels of the same slices without their shifts lie on each other to a pixel."""
    settings = PhantomSettings(motion_share=0.0)
    stream = PhantomSlices(mode="stacks", size=96, spacing_mm=1.5, depth=6, settings=settings)
    errors = {1.0: [], -1.0: []}
    for example, _ in zip(stream, range(12), strict=False):
        middles = [np.argwhere(label > 0).mean(0) * 1.5 for label in example.labels[2:4]]
        for sign, found in errors.items():
            moved = [m - sign * s for m, s in zip(middles, example.shift_mm[2:4], strict=True)]
            found.append(np.linalg.norm(moved[0] - moved[1]))
    assert np.mean(errors[1.0]) < np.mean(errors[-1.0])
