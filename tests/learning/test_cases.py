"""Labelled cases as examples: what teaches, and that it is what readers' labels would teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.datasets import Case, cases
from cinelabel.learning.case_files import corrections_of
from cinelabel.learning.cases import join, known_slices, prepare_case, select
from cinelabel.learning.corrections import read_examples
from cinelabel.learning.tuned import Tuned
from cinelabel.models.store import ModelStore


@pytest.fixture(scope="module")
def member() -> Tuned:
    version = ModelStore().load("phantom-2")
    return Tuned(version, version.member("nnunet2d-compact-phantom"))


@pytest.fixture
def case(sets: dict[str, Path]) -> Case:
    return cases("acdc", sets["acdc"])[0]


def test_a_case_teaches_what_a_readers_label_of_it_would(
    case: Case, member: Tuned, tmp_path: Path
) -> None:
    prepared = prepare_case(case, member, patient=0, frame=0)
    expected = read_examples(corrections_of([case], tmp_path), member.shown, member.only, [])
    for name in ("images", "labels", "known"):
        np.testing.assert_array_equal(getattr(prepared.examples, name), getattr(expected, name))
    assert prepared.slices.tolist() == list(range(5))


def test_slices_and_structures_that_a_set_does_not_annotate_are_not_known(case: Case) -> None:
    partly = replace(case, structures=(LV, MYO), scored_slices={"LV": (1, 2), "MYO": (2,)})
    known = known_slices(partly, 4)
    assert known[:, 0].all()
    assert known[:, LV.value].tolist() == [False, True, True, False]
    assert known[:, MYO.value].tolist() == [False, False, True, False]
    assert not known[:, RV.value].any()


def test_only_annotated_slices_teach(case: Case, member: Tuned) -> None:
    partly = replace(case, structures=(LV,), scored_slices={"LV": (1, 3)})
    prepared = prepare_case(partly, member, patient=0, frame=0)
    assert prepared.slices.tolist() == [1, 3]
    assert len(prepared.examples) == 2


def test_examples_are_selected_and_joined_whole(case: Case, member: Tuned) -> None:
    examples = prepare_case(case, member, patient=4, frame=7).examples
    back = join([select(examples, np.array([k])) for k in (2, 0)])
    np.testing.assert_array_equal(back.images, examples.images[[2, 0]])
    assert back.patients.tolist() == [4, 4]
    assert back.frames is not None
    assert back.frames.tolist() == [7, 7]


def test_a_case_without_a_label_is_refused_by_name(case: Case, member: Tuned) -> None:
    with pytest.raises(InputError, match=case.name):
        prepare_case(replace(case, label=None), member, patient=0, frame=0)
