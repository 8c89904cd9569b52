"""Splits by patient."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.labels import CANONICAL
from cinelabel.datasets import Case, split_by_patient


def case(patient: str, phase: str, set_name: str = "acdc") -> Case:
    return Case(set_name, patient, phase, Path(f"{patient}_{phase}.nii.gz"), None, CANONICAL)


CASES = [case(f"p{n:02d}", phase) for n in range(11) for phase in ("ED", "ES")]


def test_no_patient_is_on_both_sides_and_every_case_is_held_out_once():
    splits = split_by_patient(CASES, 5, seed=1)
    assert len(splits) == 5
    for training, held_out in splits:
        assert not {c.group for c in training} & {c.group for c in held_out}
        assert len(training) + len(held_out) == len(CASES)
    assert sorted(c.name for _, held_out in splits for c in held_out) == sorted(
        c.name for c in CASES
    )


def test_folds_differ_by_at_most_one_patient():
    sizes = [len({c.group for c in held_out}) for _, held_out in split_by_patient(CASES, 4, 7)]
    assert sorted(sizes) == [2, 3, 3, 3]


def test_the_seed_decides_and_the_order_of_the_cases_does_not():
    def held_out(cases, seed):
        return [{c.group for c in fold} for _, fold in split_by_patient(cases, 3, seed)]

    shuffled = random.Random(0).sample(CASES, len(CASES))
    assert held_out(CASES, 3) == held_out(shuffled, 3)
    assert held_out(CASES, 3) != held_out(CASES, 4)


def test_patients_of_the_same_name_in_two_sets_are_two_patients():
    cases = [case("1", "ED", "a"), case("1", "ED", "b")]
    (_, first), (_, second) = split_by_patient(cases, 2, 0)
    assert len(first) == len(second) == 1


@pytest.mark.parametrize("folds", [1, 12])
def test_impossible_numbers_of_folds_are_refused(folds):
    with pytest.raises(InputError, match="11 patient"):
        split_by_patient(CASES, folds, 0)
