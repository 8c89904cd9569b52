"""Fusion of sets for pre-training: the numbers of Table 1, who is taken, how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cinelabel import datasets
from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, STRUCTURES
from cinelabel.datasets.case import Case
from cinelabel.datasets.fusion import ALL_LABELLED, TABLE_1, Balance, Fusion, fuse


def made_up(name: str, patients: list[str], images: int = 2, **facts: object) -> list[Case]:
    phases = ("ED", "ES") if images == 2 else ("single",)
    values = {"structures": STRUCTURES, "label": Path("label"), **facts}
    entry = datasets.dataset(name)
    return [
        Case(name, patient, phase, Path("image"), label_map=entry.label_map, **values)
        for patient in patients
        for phase in phases
    ]


def whole_sets() -> dict[str, list[Case]]:
    published = {source.set: datasets.dataset(source.set).published.names for source in TABLE_1}
    return {
        "acdc": made_up("acdc", list(published["acdc"])),
        "mnms": made_up("mnms", [f"A{n}" for n in range(320)])
        + made_up("mnms", [f"U{n}" for n in range(25)], label=None),
        "mnms2": made_up("mnms2", list(published["mnms2"])),
        "myops": made_up("myops", list(published["myops"])[:25], 1)
        + made_up("myops", list(published["myops"])[25:], 1, label=None),
        "mscmrseg": made_up("mscmrseg", list(published["mscmrseg"]), 1),
    }


@pytest.fixture
def sets(monkeypatch):
    """Sets whose cases are made up; their roots are their names."""
    found = whole_sets()
    monkeypatch.setattr(datasets, "cases", lambda name, root: found[name])
    return found


ROOTS = {source.set: Path(source.set) for source in TABLE_1}


def test_the_table_is_that_of_the_paper_with_1678_labelled_stacks():
    assert {s.set: (s.patients, s.images) for s in TABLE_1} == {
        "acdc": (100, 2),
        "mnms": (344, 2),
        "mnms2": (360, 2),
        "myops": (25, 1),
        "mscmrseg": (45, 1),
    }
    assert sum(s.patients * s.images for s in TABLE_1) == 1678
    assert all(s.set in datasets.REGISTRY for s in TABLE_1)


def test_whole_sets_give_the_stacks_of_the_table_as_far_as_they_exist(sets):
    fused = fuse(ROOTS)
    assert Counter(case.set for case in fused.cases) == {
        "acdc": 200,
        "mnms": 640,
        "mnms2": 720,
        "myops": 25,
        "mscmrseg": 45,
    }
    assert "patient101" not in {case.patient for case in fused.cases}
    assert all(case.label is not None for case in fused.cases)
    assert fused.missing == ()
    assert Counter(case.set for case in fuse(ROOTS, ALL_LABELLED).cases)["acdc"] == 300


def test_a_set_is_drawn_by_its_size_or_lifted_and_shares_sum_to_one(sets):
    pooled = fuse(ROOTS)
    assert pooled.weights["acdc"] == pytest.approx(200 / 1630)
    assert pooled.probabilities() == pytest.approx([1 / 1630] * 1630)
    assert fuse(ROOTS, balance=Balance.EQUAL).weights["myops"] == pytest.approx(0.2)
    rooted = fuse(ROOTS, balance=Balance.ROOT).weights
    assert rooted["acdc"] / rooted["myops"] == pytest.approx(8**0.5)
    assert sum(rooted.values()) == pytest.approx(1)


def test_draws_follow_the_weights_and_the_seed(sets):
    fused = fuse(ROOTS, balance=Balance.EQUAL)
    drawn = fused.draw(np.random.default_rng(4), 5000)
    counts = Counter(case.set for case in drawn)
    assert all(abs(counts[name] / 5000 - 0.2) < 0.03 for name in ROOTS)
    assert len({case.name for case in drawn if case.set == "myops"}) == 25
    assert drawn == fused.draw(np.random.default_rng(4), 5000)


def test_half_a_set_or_a_set_less_is_refused_unless_it_is_asked_for(sets):
    sets["mnms2"] = sets["mnms2"][:360]
    with pytest.raises(InputError, match="mnms2: 360 of 720 labelled stacks"):
        fuse(ROOTS)
    some = {"acdc": Path("acdc"), "mnms2": Path("mnms2")}
    with pytest.raises(InputError, match="mnms: no folder was given"):
        fuse(some)
    fused = fuse(some, partial=True)
    assert len(fused.missing) == 4
    assert fused.weights == pytest.approx({"acdc": 200 / 560, "mnms2": 360 / 560})


def test_sets_outside_the_table_and_folders_without_labels_are_refused(sets):
    with pytest.raises(InputError, match="cmrxmotion has no place"):
        fuse({"cmrxmotion": Path("x")}, partial=True)
    sets["myops"] = made_up("myops", ["201"], 1, label=None)
    with pytest.raises(InputError, match="no labelled case of myops"):
        fuse({"myops": Path("myops")}, partial=True)
    with pytest.raises(InputError, match="no set was given"):
        fuse({}, partial=True)


def test_cines_and_cases_without_every_structure_are_not_taken():
    cine = made_up("mnms", ["A1"])[0]
    assert TABLE_1[1].select([cine]) == [cine]
    assert not TABLE_1[1].select(
        [
            Case("mnms", "A1", "cine", cine.image, cine.label, cine.label_map, None, STRUCTURES),
            Case("mnms", "A1", "ED", cine.image, cine.label, cine.label_map, 0, (LV, MYO)),
        ]
    )


def test_stacks_of_one_set_share_its_weight():
    cases = (*made_up("acdc", ["patient001"]), *made_up("myops", ["101"], 1))
    assert Fusion(cases, {"acdc": 0.5, "myops": 0.5}).probabilities() == [0.25, 0.25, 0.5]
