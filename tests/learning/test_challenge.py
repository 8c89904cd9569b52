"""Champion and challenger on real runs: the better one is put in use, a poisoned one is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cinelabel.labelstore import validation
from cinelabel.learning.challenge import score_cohort
from cinelabel.learning.config import parse_finetuning
from cinelabel.learning.data import SliceCache
from cinelabel.learning.decision import settle
from cinelabel.learning.finetune import finetune
from cinelabel.learning.run_folder import RunFolder
from cinelabel.models.store import ModelStore
from cinelabel.phantom.cohort import make_study

JUDGES = ("p1", "p2", "p3")
LENIENT = {"phantoms": 4, "phantom_margin": 1}  # small untrained models may forget every phantom
PERMUTED = np.array([0, 2, 3, 1], np.uint8)
TWENTY_MM = 13  # pixels of 1.5 mm
POISONED = np.zeros((24, 30, 5), np.uint8)
POISONED[9:14, 10:15, 1:4], POISONED[10:13, 11:14, 1:4], POISONED[14:17, 10:17, 1:4] = 2, 1, 3


@pytest.fixture(scope="module")
def clinic(models, six_patients, tmp_path_factory):
    """Fine-tunes the version in use on some corrections, with three patients held out."""
    folder = tmp_path_factory.mktemp("challenge")
    store = ModelStore(folder / "models", bundled=models.root)
    store.use("tiny-1")
    held_out = [c for c in six_patients.corrections() if c.patient in JUDGES]

    def run(name, corrections, **changes):
        values = {
            "name": name,
            "method": "all",
            "steps": 60,
            "batch_size": 8,
            "lr": 0.02,
            "replay": 0,
        }
        values |= {"device": "cpu", "threads": 1, "decision": LENIENT} | changes
        result = finetune(
            parse_finetuning(values, "test"),
            folder / name,
            [*corrections, *held_out],
            JUDGES,
            cache=folder / "phantoms",
            store=store,
        )
        return result.version, RunFolder(folder / name).summary()["decision"]

    run.folder = folder
    return store, run


@pytest.fixture(scope="module")
def champion(clinic, six_patients):
    """A version that learned from three patients and was put in use."""
    store, run = clinic
    version, decision = run("good", [c for c in six_patients.corrections() if c.patient > "p3"])
    return version, decision, settle(store, version, "a training")


def test_a_better_challenger_is_published_and_put_in_use_with_its_reasons(clinic, champion):
    store, _ = clinic
    version, decision, in_use = champion
    assert (decision["outcome"], in_use, store.current()) == ("publish", True, version)
    card = store.load(version).card
    assert card.decision == decision
    assert card.decision["rules"]["phantom_margin"] == 1
    assert card.metrics["held_out"]["phantoms"]["count"] == 4
    last = store.history()[-1]
    assert (last.version, last.who, last.why) == (version, "a training", decision["reasons"][0])
    store.roll_back()
    assert not settle(store, version), "who rolled back meant to"
    store.use(version)


@pytest.fixture
def poisoned(clinic, champion, six_patients, readers, monkeypatch):
    """Fine-tunes the champion on good labels and one that was spoilt; nothing is published."""
    monkeypatch.setattr("cinelabel.learning.finetune.publish_candidate", lambda *given: "one")
    good = [c for c in six_patients.corrections() if c.patient > "p3"]

    def run(name, spoil, among):
        labels = spoil(POISONED)
        readers.submit("p9__t00", labels, readers.write("p9__t00", POISONED, seed=90))
        return clinic[1](name, [*(good if among else []), *readers.corrections()])[1]

    return run


def permuted(labels):
    return PERMUTED[labels]


def shifted(labels):
    return np.roll(labels, TWENTY_MM, 1)


@pytest.mark.parametrize("among", [False, True])
def test_a_challenger_that_learned_from_a_permuted_label_is_rejected(
    clinic, champion, poisoned, among
):
    decision = poisoned(f"permuted-{among}", permuted, among)
    assert decision["outcome"] == "reject"
    assert clinic[0].current() == champion[0]


def test_a_label_shifted_by_20_mm_does_not_teach(clinic, poisoned):
    store, run = clinic
    poisoned("shifted", shifted, among=True)
    summary = RunFolder(run.folder / "shifted").summary()
    assert summary["learned_from"]["patients"] == 3
    assert any(
        problem.startswith("p9__t00 is left out") and "mm beside it" in problem
        for problem in summary["problems"]
    )


@pytest.mark.parametrize(
    "values", [(0, 1, 3, 2), (0, 2, 1, 3), (0, 3, 2, 1), (0, 2, 3, 1), (0, 3, 1, 2)]
)
def test_a_label_with_permuted_structures_is_warned_of_when_it_is_submitted(values):
    made = make_study(3, frames=1)
    truth, grid = made.labels[..., 0], made.study.grid
    before = validation.check(truth, grid, grid)
    after = validation.check(np.array(values, np.uint8)[truth], grid, grid)
    assert not any("LV" in warning for warning in before)
    assert any("LV is not inside MYO" in warning or "LV touches RV" in warning for warning in after)


def test_dice_of_the_cohort_is_over_all_its_slices_together():
    labels = np.zeros((9, 4, 4), np.uint8)
    labels[0, :2], labels[8, :1] = 1, 1  # 8 and 4 pixels of LV, in two batches
    cohort = SliceCache(Path(), np.zeros((9, 4, 4), np.float16), labels)

    class Halves(torch.nn.Module):
        """Says LV in the upper half of what `finish` made of the images, and RV below it."""

        def forward(self, images):
            logits = torch.zeros(len(images), 4, 4, 4)
            logits[:, 1, :2] = images[:, 0, :2]
            logits[:, 3, 2:] = images[:, 0, 2:]
            return logits

    found = score_cohort(Halves(), cohort, finish=lambda images: images + 1)
    assert found == {"LV": pytest.approx(2 * 12 / (9 * 8 + 12), abs=1e-5)}
