"""Fine-tuning on readers' labels: it learns, repeats itself, survives kills, makes a candidate."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from cinelabel.core.errors import ModelError, RunError
from cinelabel.learning.config import FinetuneConfig, parse_finetuning
from cinelabel.learning.corrections import UNTOLD, Examples
from cinelabel.learning.data import SliceCache
from cinelabel.learning.finetune import finetune
from cinelabel.learning.losses import (
    deep_supervision_loss,
    dice_cross_entropy,
    marginal_logits,
)
from cinelabel.learning.methods import AllLayers
from cinelabel.learning.publication import candidate_name, publish_candidate
from cinelabel.learning.rivals import METHODS, AutoLR
from cinelabel.learning.run_folder import RunFolder
from cinelabel.learning.tuned import (
    VALIDATION,
    MixedBatches,
    Tuned,
    judging_patients,
)
from cinelabel.models.store import Draft, Kept, ModelStore
from cinelabel.networks import NetworkSpec, build
from cinelabel.networks.weights import get_weights
from cinelabel.transforms.preparation import Preparation

TINY = {
    "method": "all",
    "model": "tiny-1",
    "steps": 6,
    "batch_size": 4,
    "replay_count": 8,
    "lr": 0.01,
    "precision": "32-true",
    "device": "cpu",
    "checkpoint_every": 2,
    "workers": 1,
    "threads": 1,
}


class Crash(Exception):
    """Stands for a kill: nothing is saved on the way out."""


class Tuning:
    """Fine-tunes `tiny-1`, by default with patients p1 and p2 held out.

    The tiny models are bundled ones, beneath an empty folder for candidates.
    """

    def __init__(self, folder, models, corrections, phantoms):
        self.folder, self.corrections, self.phantoms = folder, corrections, phantoms
        self.store = ModelStore(folder / "models", bundled=models.root)

    def __call__(
        self, run="run", held_out=("p1", "p2"), report=None, stop=None, corrections=None, **changes
    ):
        return finetune(
            parse_finetuning(TINY | {"name": "test-run"} | changes, "test"),
            self.folder / run,
            self.corrections if corrections is None else corrections,
            held_out,
            cache=self.phantoms,
            store=self.store,
            report=report,
            stop=stop,
        )


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture
def tune(models, six_patients, tmp_path, phantoms, monkeypatch):
    """Fine-tuning that publishes nothing, which takes longest."""
    monkeypatch.setattr("cinelabel.learning.finetune.publish_candidate", lambda *given: "one")
    return Tuning(tmp_path, models, six_patients.corrections(), phantoms)


@pytest.fixture(scope="module")
def published(models, six_patients, tmp_path_factory, phantoms):
    """A run that was published: its fine-tuning, its result, and what it told on its way."""
    folder = tmp_path_factory.mktemp("published")
    tuning, told = Tuning(folder, models, six_patients.corrections(), phantoms), []
    result = tuning(steps=60, batch_size=8, lr=0.02, replay=0.25, report=told.append)
    return tuning, result, told


def weights_of(folder):
    return RunFolder(folder).weights()


def equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_held_out_patients_are_segmented_better_after_it(published):
    _, result, _ = published
    assert result.before is not None
    assert result.after is not None
    assert set(result.after) == {"LV", "MYO", "RV"}
    assert min(result.after.values()) > 0.5 > max(result.before.values())


def test_the_result_tells_what_would_become_of_the_candidate_and_why(published):
    _, result, _ = published
    assert result.outcome == "reject"
    assert "on the phantom cohort, more than 0.03" in " ".join(result.reasons)


def test_the_candidate_replaces_the_fast_member_and_keeps_the_others_file_by_file(published):
    tuning, result, _ = published
    store = tuning.store
    parent, made = store.load("tiny-1"), store.load(result.version)
    assert result.version == "tiny-1-tuned-1"
    assert made.card.parent == "tiny-1"
    assert made.card.fast == "second"
    assert not (store.root / "current").exists()
    made.verify()
    for before, after in zip(parent.card.members, made.card.members, strict=True):
        assert (before == after) == (before.name != "second")
        same = [checksum(parent.path / f) == checksum(made.path / f) for f in before.sha256]
        assert all(same) if before.name != "second" else not any(same[:1])
    tuned = weights_of(result.run)
    assert all(
        torch.equal(tensor.half().float(), tuned[name].half().float())
        for name, tensor in made.network("second").named_parameters()
        if name in tuned
    )


def test_the_card_tells_counts_and_scores_and_no_name_of_a_patient(published):
    tuning, result, _ = published
    made = tuning.store.load(result.version).card
    (step,) = made.provenance["finetuning"]
    assert step["members"] == ["second"]
    assert step["from"] == "tiny-1"
    assert step["result"]["learned_from"] == {"patients": 4, "frames": 8, "slices": 40}
    assert step["result"]["held_out"] == {"patients": 2, "frames": 4}
    assert step["config"]["lr"] == 0.02
    for side in ("before", "after"):
        scores = made.metrics["held_out"][side]
        assert len(scores["patients"]) == 2
        for name, mean in scores["dice"].items():
            assert mean == pytest.approx(np.mean([p[name] for p in scores["patients"]]), abs=1e-5)
    assert made.metrics["validation"] == {"first": {"dice": {"LV": 0.5}}}
    assert not any(f"p{number}" in json.dumps(made.model_dump(mode="json")) for number in range(7))


def test_without_held_out_patients_there_are_no_scores(tune, tmp_path):
    result = tune(held_out=(), steps=1)
    assert result.before is None
    assert result.after is None
    assert RunFolder(tmp_path / "run").summary()["held_out"] is None


def test_a_candidate_of_a_candidate_keeps_the_history(published):
    tuning, first, _ = published
    second = tuning("run-2", steps=1, name="second-run", model=first.version, members=["first"])
    made = tuning.store.load(second.version).card
    assert second.version == "tiny-1-tuned-2"
    assert made.parent == "tiny-1-tuned-1"
    assert [step["members"] for step in made.provenance["finetuning"]] == [["second"], ["first"]]
    assert candidate_name(tuning.store, second.version) == "tiny-1-tuned-3"


def test_the_same_seed_gives_the_same_weights(tune, tmp_path):
    tune("a", name="a")
    tune("b", name="b")
    tune("c", name="c", seed=2)
    assert equal(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    assert not equal(weights_of(tmp_path / "a"), weights_of(tmp_path / "c"))


def test_a_killed_run_goes_on_to_the_very_weights_of_an_undisturbed_one(tune, tmp_path):
    def at_step_5(state):
        if state.stage == "learning" and state.done == 5:
            raise Crash

    tune("straight", name="straight")
    with pytest.raises(Crash):
        tune("killed", report=at_step_5)
    seen = []
    tune("killed", report=lambda state: seen.append(state))
    assert [state.done for state in seen if state.stage == "learning"] == [5, 6]
    assert equal(weights_of(tmp_path / "killed"), weights_of(tmp_path / "straight"))
    with (tmp_path / "killed" / "metrics.csv").open() as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == list("123456")


def test_what_a_method_takes_back_is_not_in_the_averaged_weights(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(AutoLR, "ROUND", 3)
    monkeypatch.setattr(AutoLR, "QUALITY", 2.0)
    tune("taken back", name="taken-back", method="autolr", steps=6, ema=0.9)
    untouched = dict(get_weights(tune.store.load("tiny-1").network("second")))
    assert equal(weights_of(tmp_path / "taken back"), untouched)
    monkeypatch.setattr(AutoLR, "QUALITY", -2.0)
    tune("kept", name="kept", method="autolr", steps=6, ema=0.9)
    assert not equal(weights_of(tmp_path / "kept"), untouched)


def test_a_round_that_a_kill_interrupts_is_taken_back_all_the_same(tune, tmp_path, monkeypatch):
    def at_step_5(state):
        if state.stage == "learning" and state.done == 5:
            raise Crash

    monkeypatch.setattr(AutoLR, "ROUND", 3)
    changes = {"method": "autolr", "steps": 8, "ema": 0.9}
    tune("straight", name="straight", **changes)
    with pytest.raises(Crash):
        tune("killed", report=at_step_5, **changes)
    tune("killed", **changes)
    assert equal(weights_of(tmp_path / "killed"), weights_of(tmp_path / "straight"))


def test_a_run_killed_after_it_published_finishes_with_that_version(published):
    tuning, result, _ = published
    before = tuning.store.versions()
    (result.run / "summary.json").unlink()
    again = tuning(steps=60, batch_size=8, lr=0.02, replay=0.25)
    assert again == result
    assert tuning.store.versions() == before


def test_a_run_that_ends_while_another_has_published_takes_the_next_name(published):
    tuning, result, _ = published
    parent, before = tuning.store.load("tiny-1"), tuning.store.versions()
    weights = weights_of(result.run)
    name = publish_candidate(tuning.store, parent, {"second": weights}, {"run": "another"}, {})
    assert name not in before
    assert tuning.store.load(name).card.parent == "tiny-1"


def test_a_run_of_the_same_name_elsewhere_gets_a_candidate_of_its_own(published):
    tuning, first, _ = published
    second = tuning("another", steps=1, seed=2)
    assert second.version != first.version
    (step,) = tuning.store.load(second.version).card.provenance["finetuning"]
    assert (step["run"], step["config"]["seed"]) == ("test-run", 2)


def test_a_run_begun_without_an_id_goes_on_and_gets_a_new_candidate(published):
    tuning, result, _ = published
    before = tuning.store.versions()
    (result.run / "summary.json").rename(result.run / "kept.json")
    plan = result.run / "finetuning.json"
    kept = plan.read_text()
    plan.write_text(json.dumps({k: v for k, v in json.loads(kept).items() if k != "id"}))
    again = tuning(steps=60, batch_size=8, lr=0.02, replay=0.25)
    assert again.version not in before
    assert again.after == result.after
    plan.write_text(kept)
    (result.run / "kept.json").rename(result.run / "summary.json")


def test_damaged_cards_of_other_candidates_stop_no_run_from_publishing(published, caplog):
    tuning, result, _ = published
    card = tuning.store.root / result.version / "card.json"
    kept = card.read_text()
    card.write_text(kept[:100])
    name = publish_candidate(
        tuning.store,
        tuning.store.load("tiny-1"),
        {"second": weights_of(result.run)},
        {"run": "another", "id": "another"},
        {},
    )
    card.write_text(kept)
    assert tuning.store.load(name).card.parent == "tiny-1"
    assert f"{result.version} may be of this run and is passed over" in caplog.text


def test_a_finished_run_gives_its_result_again_for_the_labels_it_was_begun_with(tune, tmp_path):
    first = tune()
    told = []
    assert tune(report=told.append) == first
    elsewhere = [replace(c, image_file=tmp_path / c.image_file.name) for c in tune.corrections]
    assert tune(corrections=elsewhere, report=told.append) == first
    assert told == []


def test_a_finished_run_of_another_configuration_is_refused_naming_the_key(tune):
    tune()
    with pytest.raises(RunError, match=r"begun with lr = 0\.01, not 0\.02"):
        tune(lr=0.02)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: found[:-1], "p6__t01 is gone"),
        (lambda found: [*found, replace(found[-1], image="p7__t00", patient="p7")], "p7.* is new"),
        (lambda found: [replace(found[0], sha256="0" * 64), *found[1:]], "p1__t00 is changed"),
        (lambda found: [*found[:-1], replace(found[-1], version=2)], "p6__t01 is changed"),
        (lambda found: [*found[:-1], replace(found[-1], unusable=(1,))], "p6__t01 is changed"),
    ],
)
def test_a_finished_run_is_refused_for_other_labels_naming_one(tune, change, told):
    tune()
    with pytest.raises(RunError, match=f"finished and was begun with other labels: {told}.*name"):
        tune(corrections=change(tune.corrections))


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_and_no_version(tune, tmp_path):
    seen = []
    result = tune(report=lambda state: seen.append(state.stage), stop=lambda: "learning" in seen)
    assert (result.step, result.version) == (1, None)
    assert RunFolder(tmp_path / "run").latest_checkpoint().step == 1
    assert not RunFolder(tmp_path / "run").finished
    assert tune().step == 6


def test_a_checkpoint_of_an_earlier_version_is_refused_in_a_sentence(tune, tmp_path):
    tune(stop=lambda: True)
    (file,) = (tmp_path / "run").rglob("optimiser.pt")
    state = torch.load(file, weights_only=True)
    torch.save(state | {"optimiser": state["optimiser"]["method"]}, file)
    with pytest.raises(RunError, match="is of an earlier version"):
        tune()


def test_a_run_goes_on_with_the_labels_it_was_begun_with(tune, tmp_path):
    tune(stop=lambda: True)
    assert tune(corrections=tune.corrections[:2], held_out=()).step == 6
    counts = RunFolder(tmp_path / "run").summary()["learned_from"]
    assert counts == {"patients": 4, "frames": 8, "slices": 40}


def test_a_run_folder_of_another_configuration_is_refused_naming_the_key(tune):
    tune(stop=lambda: True)
    with pytest.raises(RunError, match=r"begun with lr = 0\.01, not 0\.02"):
        tune(lr=0.02)


def test_a_run_ends_when_its_minutes_are_over(tune):
    result = tune(steps=5000, minutes=0.001)
    assert 1 <= result.step < 5000


def test_rates_of_every_layer_group_are_logged_at_every_step(tune, tmp_path):
    tune()
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    groups = [
        name
        for name, group in tune.store.load("tiny-1").network("second").layer_groups().items()
        if group
    ]
    assert list(rows[0]) == ["step", "loss", "seconds", *(f"rate_{name}" for name in groups)]
    assert {row[f"rate_{name}"] for row in rows for name in groups} == {"0.01"}


def test_a_run_ends_well_without_figures_where_they_cannot_be_drawn(tune, tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figures").write_text("in the way")
    assert tune(steps=1).version == "one"
    assert RunFolder(tmp_path / "run").finished
    assert "figures of the learning rates are missing" in caplog.text


def test_progress_tells_stage_loss_rates_and_time_left(published):
    _, _, told = published
    stages = list(dict.fromkeys(state.stage for state in told if "phantom" not in state.stage))
    assert stages == ["checking labels", "reading labels", "scoring", "learning", "publishing"]
    last = [state for state in told if state.stage == "learning"][-1]
    assert (last.done, last.total, last.seconds_left) == (60, 60, 0.0)
    assert last.loss > 0
    assert set(last.rates.values()) == {0.02}
    assert set(last.dice) == {"LV", "MYO", "RV"}


def test_a_batch_mixes_readers_slices_with_phantoms_by_their_share():
    known = np.ones((3, 4), bool)
    readers = Examples(
        np.full((3, 8, 8), 5, np.float32), np.ones((3, 8, 8), np.uint8), known, np.array([0, 0, 1])
    )
    phantoms = SliceCache(None, np.zeros((9, 8, 8), np.float16), np.zeros((9, 8, 8), np.uint8))
    config = FinetuneConfig(name="x", batch_size=10, replay=0.3)
    batches = MixedBatches(readers, phantoms, config)
    batch = batches(4)
    assert batch.images[:, 0, 0].tolist() == [5] * 7 + [0] * 3
    assert batch.labels[:, 0, 0].tolist() == [1] * 7 + [0] * 3


def test_patients_are_drawn_alike_however_many_slices_they_have():
    images = np.array([0] * 90 + [1] * 10, np.float32)[:, None, None]
    readers = Examples(
        images,
        np.zeros((100, 1, 1), np.uint8),
        np.ones((100, 4), bool),
        np.array([0] * 90 + [1] * 10),
    )
    batches = MixedBatches(readers, None, FinetuneConfig(name="x", batch_size=16))
    drawn = np.concatenate([batches(step).images.ravel() for step in range(100)])
    assert abs(drawn.mean() - 0.5) < 0.05


def test_batches_are_repeatable_and_the_judging_one_differs():
    images = np.arange(50, dtype=np.float32)[:, None, None]
    readers = Examples(
        images, np.zeros((50, 1, 1), np.uint8), np.ones((50, 4), bool), np.arange(50)
    )
    batches = MixedBatches(readers, None, FinetuneConfig(name="x"))
    assert np.array_equal(batches(3).images, batches(3).images)
    assert not np.array_equal(batches(3).images, batches(3, VALIDATION).images)
    assert not np.array_equal(batches(3).images, batches(4).images)


def test_logits_without_unknown_structures_stay_in_effect_as_they_are():
    logits = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50).view(2, 5, 5) % 4
    same = marginal_logits(logits, torch.ones(2, 4, dtype=torch.bool))
    assert float(dice_cross_entropy(same, labels)) == pytest.approx(
        float(dice_cross_entropy(logits, labels)), rel=1e-6
    )


def test_a_structure_that_nobody_drew_may_be_there_or_not():
    """Background pixels count the same whether called background or RV, and RV has no gradient."""
    labels = torch.tensor([[[0, 1, 2, 0]]])
    known = torch.tensor([[True, True, True, False]])

    def loss(background, rv):
        logits = torch.tensor([[background, 1.0, 2.0, rv]]).view(1, 4, 1, 1).repeat(1, 1, 1, 4)
        return float(dice_cross_entropy(marginal_logits(logits, known), labels))

    assert loss(3.0, -5.0) == pytest.approx(loss(-5.0, 3.0), rel=1e-6)
    every = torch.ones_like(known)
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]]).view(1, 4, 1, 1).repeat(1, 1, 1, 4)
    told = dice_cross_entropy(marginal_logits(logits, every), labels)
    assert float(told) > loss(0.0, 3.0)


def test_the_probabilities_of_marginal_logits_are_the_sums_worked_out_by_hand():
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    found = marginal_logits(shares.log().view(1, 4, 1), torch.tensor([[True, True, False, False]]))
    assert found.softmax(1).flatten().tolist() == pytest.approx([0.8, 0.2, 0, 0], abs=1e-6)


def test_members_that_see_otherwise_are_refused(models, tune):
    version = models.load("tiny-1")
    with pytest.raises(RunError, match="'where' cannot be fine-tuned: it does not segment"):
        tune(members=["where"])
    card = version.member("second")
    stacks = card.model_copy(update={"preprocessing": {**card.preprocessing, "depth": 4}})
    with pytest.raises(RunError, match="does not tell of how many slices"):
        Tuned(version, stacks)


def test_an_unknown_member_is_an_error_that_names_the_known_ones(tune):
    with pytest.raises(ModelError, match="no member 'third'.*Known: first, second, where"):
        tune(members=["third"])


def test_a_loss_that_is_not_a_number_ends_the_run_and_changes_nothing(models):
    network = build(models.load("tiny-1").member("second").spec)
    method = AllLayers(network, FinetuneConfig(name="x"))
    before = {name: p.clone() for name, p in network.named_parameters()}
    with pytest.raises(RunError, match="not a number"):
        method.step(lambda forward: forward(torch.full((1, 1, 16, 16), torch.nan))[0].sum())
    assert equal(before, dict(network.named_parameters()))


def test_every_method_that_can_be_asked_for_is_there():
    field = FinetuneConfig.model_fields["method"]
    assert set(METHODS) == set(field.annotation.__args__)


def test_logits_of_a_slice_that_tells_nothing_do_not_count():
    """Two slices, at full size and halved along the stack; the second tells nothing."""
    logits = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(1, 2, 3, 3, dtype=torch.long)
    labels[:, 0] = torch.arange(9).view(3, 3) % 4
    known = torch.tensor([[[True] * 4, [True, False, False, False]]])

    def loss(of):
        levels = [marginal_logits(level, known) for level in (of, of[:, :, ::2])]
        return float(deep_supervision_loss(levels, labels))

    other = logits.clone()
    other[:, :, 1] += 5 * torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(2))
    assert loss(other) == pytest.approx(loss(logits), rel=1e-6)
    other[:, :, 0] += 1 - logits[:, :, 0]
    assert loss(other) != pytest.approx(loss(logits), rel=1e-3)


def test_slices_that_tell_nothing_stay_known_as_such_when_a_stack_is_turned_over():
    labels = np.ones((1, 3, 8, 8), np.uint8)
    labels[:, 0] = UNTOLD
    known = np.array([[True, True, True, False]])
    readers = Examples(np.zeros((1, 3, 8, 8), np.float16), labels, known, np.array([0]))
    config = FinetuneConfig(name="x", batch_size=2, replay=0)

    def turned(images, labels, generator):
        return images[:, ::-1], labels[:, ::-1]

    batch = MixedBatches(readers, None, config, turned)(0)
    assert batch.known[0].tolist() == [[True, True, True, False]] * 2 + [[True] + [False] * 3]
    assert batch.labels[0, :, 0, 0].tolist() == [1, 1, 0]


def of_patients(*frames):
    """Examples, one a frame, of patients 0, 1 .. with so many frames; images are their numbers."""
    patients = np.repeat(np.arange(len(frames)), frames)
    images = patients[:, None, None].astype(np.float16)
    known = np.ones((len(patients), 4), bool)
    numbers = np.arange(len(patients))
    return Examples(images, np.zeros_like(images, np.uint8), known, patients, numbers)


def brighter(images, labels, generator):
    return images + 0.5, labels


def test_patients_who_judge_the_rates_are_in_no_training_batch_and_no_others_judge():
    config = FinetuneConfig(name="x", method="metalr", replay=0)
    examples = of_patients(*[2] * 10)
    judges = judging_patients(examples, config)
    assert len(judges) == 2
    batches = MixedBatches(examples, None, config, brighter, judges=judges)
    steps = range(30)
    judged = np.concatenate([batches(step, VALIDATION).images.ravel() for step in steps])
    taught = np.concatenate([batches(step).images.ravel() for step in steps])
    assert set(judged) == judges  # and not augmented
    assert {int(value) for value in taught} == set(range(10)) - judges


@pytest.mark.parametrize(
    ("frames", "method"), [([2] * 9, "metalr"), ([40], "metalr"), ([2] * 10, "all")]
)
def test_nobody_judges_the_rates_of_few_frames_or_of_another_method(frames, method):
    config = FinetuneConfig(name="x", method=method)
    assert judging_patients(of_patients(*frames), config) == frozenset()


IN_3D = {"family": "nnunet3d", "kernels": [[1, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]]}
ODD_MEMBERS = {
    "stacks": ({"features": [4, 6], **IN_3D}, {"depth": 4}),
    "image": ({"features": [4, 6]}, {"window": "image", "normalised_over": "volume"}),
    "own-pixels": ({"features": [4, 6]}, {"spacing_mm": None, "intensity": "min-max"}),
}


@pytest.fixture(scope="module")
def odd_models(models, tmp_path_factory):
    """A store with `odd-1`, untrained: members that see in every other way than `tiny-1` does."""
    torch.manual_seed(0)
    drafts = []
    for name, (features, seen) in ODD_MEMBERS.items():
        spec = NetworkSpec.from_dict({"classes": 4, **features})
        sees = Preparation(**{"spacing_mm": 2.0, "size": 16, **seen}).to_dict()
        drafts.append(Draft(name, "segmenter", spec, get_weights(build(spec)), sees))
    store = ModelStore(tmp_path_factory.mktemp("odd"))
    tiny = models.load("tiny-1")
    drafts.append(Kept(tiny, tiny.member("where")))
    store.publish("odd-1", drafts, provenance={"runs": {}}, metrics={})
    return store


def test_members_of_every_kind_are_tuned_one_after_another_and_judged_together(
    odd_models, six_patients, tmp_path, phantoms
):
    tuning, told = Tuning(tmp_path, odd_models, six_patients.corrections(), phantoms), []
    changes = {"model": "odd-1", "members": list(ODD_MEMBERS), "steps": 2, "method": "metalr"}
    with pytest.raises(Crash):
        tuning(**changes, report=crash_in_the_second_member)
    first = (tmp_path / "run" / "stacks" / "weights.safetensors").stat().st_mtime_ns
    result = tuning(**changes, report=told.append)
    assert (tmp_path / "run" / "stacks" / "weights.safetensors").stat().st_mtime_ns == first
    made, parent = tuning.store.load(result.version), odd_models.load("odd-1")
    same = [a == b for a, b in zip(parent.card.members, made.card.members, strict=True)]
    assert same == [False, False, False, True]
    learning = [(state.member, state.done) for state in told if state.stage == "learning"]
    assert learning == [("image", 3), ("image", 4), ("own-pixels", 5), ("own-pixels", 6)]
    held_out = made.card.metrics["held_out"]
    assert len(held_out["after"]["patients"]) == 2
    assert set(held_out["phantoms"]["after"]) >= {"LV (stacks)", "LV (image)", "LV (own-pixels)"}
    figures = sorted(path.name for path in (tmp_path / "run" / "image" / "figures").iterdir())
    assert figures == ["rates-final.png", "rates.png"]


def crash_in_the_second_member(state):
    if state.stage == "learning" and state.member == "image" and state.done == 4:
        raise Crash
