"""Choosing the next slice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from cinelabel.active.strategies import (
    STRATEGIES,
    Candidate,
    disagreement,
    diversity,
    first,
    foreground,
    novelty,
    random,
    ranks,
    suggested,
    usefulness,
)

UNSCORED = [Candidate(name, name) for name in ("c", "a", "b", "d")]


def scored(image: str, slice: int, patient: str = "", **known: object) -> Candidate:
    """A slice with a heart of 10 cm2 that all agree on, unless said otherwise."""
    values = {"foreground": True, "heart_mm2": 1000.0, "features": np.zeros(2), **known}
    return Candidate(image, patient or image, slice, **values)


@pytest.fixture
def cohort() -> list[Candidate]:
    """Three patients of two frames of five slices, each with features and disputes of its own."""
    numbers = np.random.default_rng(1)
    return [
        scored(
            f"{patient}_{phase}",
            z,
            patient,
            position=z / 4,
            disputed_mm2=float(numbers.uniform(0, 900)),
            features=numbers.standard_normal(4),
        )
        for patient in "pqr"
        for phase in ("ED", "ES")
        for z in range(5)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_chosen_when_nothing_waits(name: str, cohort: list[Candidate]) -> None:
    assert STRATEGIES[name]([], cohort, 0) is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_choice_is_one_that_waits_with_a_reason_in_a_sentence(
    name: str, cohort: list[Candidate]
) -> None:
    waiting, labelled = cohort[5:], cohort[:5]
    for seed in range(5):
        choice = STRATEGIES[name](waiting, labelled, seed)
        assert (choice.image, choice.slice) in {(c.image, c.slice) for c in waiting}
        assert choice.reason[0].isupper()
        assert choice.reason.endswith(".")


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_chooses_the_same(name: str, cohort: list[Candidate]) -> None:
    assert STRATEGIES[name](cohort, [], 3) == STRATEGIES[name](cohort, [], 3)


@pytest.mark.parametrize("name", ["suggested", "foreground", "disagreement", "diversity"])
def test_without_scores_a_patient_of_whom_least_is_labelled_comes_first(name: str) -> None:
    waiting = [Candidate("p_2", "p"), Candidate("q_1", "q"), Candidate("q_2", "q")]
    choice = STRATEGIES[name](waiting, [Candidate("p_1", "p")], 0)
    assert (choice.image, choice.slice) == ("q_1", None)
    assert "No slice with a heart is scored among 3 images" in choice.reason


@pytest.mark.parametrize("name", ["suggested", "disagreement", "diversity"])
def test_what_is_scored_goes_before_what_is_not(name: str) -> None:
    waiting = [Candidate("p", "p"), scored("q", 3)]
    assert STRATEGIES[name](waiting, [], 0).image == "q"


@pytest.mark.parametrize("name", ["suggested", "disagreement", "diversity"])
def test_slices_where_no_answer_has_a_heart_are_not_worth_a_look(name: str) -> None:
    outside = scored("p", 0, heart_mm2=0.0, features=np.full(2, 99.0))
    choice = STRATEGIES[name]([outside, scored("p", 1), scored("q", 1)], [scored("r", 1)], 0)
    assert choice.slice == 1


def test_first_takes_the_given_order() -> None:
    choice = first(UNSCORED, [])
    assert choice.image == "c"
    assert choice.reason == "It is the first of 4 images without labels."
    assert first(UNSCORED[3:], []).reason == "It is the first of 1 image without labels."


def test_random_takes_every_image_about_equally_often_however_many_slices_it_has() -> None:
    waiting = [*UNSCORED[1:], *(scored("x", z) for z in range(7))]
    drawn = Counter(random(waiting, [], seed).image for seed in range(4000))
    assert set(drawn) == {"a", "b", "d", "x"}
    assert all(870 < count < 1130 for count in drawn.values())


def test_random_depends_on_the_seed_and_not_on_the_order() -> None:
    one = [random(UNSCORED, [], seed).image for seed in range(20)]
    two = [random(UNSCORED[::-1], [], seed).image for seed in range(20)]
    assert one == two
    assert len(set(one)) > 1


def test_foreground_draws_images_by_the_share_of_slices_with_a_structure() -> None:
    waiting = [scored("full", z) for z in range(4)]
    waiting += [scored("sparse", z, foreground=z == 7) for z in range(8)]
    choices = [foreground(waiting, [], seed) for seed in range(4500)]
    drawn = Counter(choice.image for choice in choices)
    assert 3850 < drawn["full"] < 4150  # shares 1 and 1/8: 4000 of 4500, spread 21
    assert {c.slice for c in choices if c.image == "sparse"} == {7}
    assert "1 of 8 here, from 2 images" in next(c for c in choices if c.image == "sparse").reason


def test_disagreement_takes_the_slice_with_the_largest_disputed_area() -> None:
    waiting = [scored("p", 1, disputed_mm2=300.0), scored("q", 4, disputed_mm2=410.0)]
    choice = disagreement(waiting, [])
    assert (choice.image, choice.slice) == ("q", 4)
    assert choice.reason == (
        "In slice 4 two answers of the model differ on 4.1 of 10.0 cm2 of heart, "
        "most of 2 slices in 2 images."
    )


def test_a_few_pixels_that_nobody_agrees_on_do_not_outweigh_a_disputed_heart() -> None:
    tip = scored("p", 0, heart_mm2=20.0, disputed_mm2=20.0)
    assert disagreement([tip, scored("q", 4, disputed_mm2=200.0)], []).image == "q"


def test_diversity_is_the_greedy_k_center_of_a_second_implementation() -> None:
    points = np.random.default_rng(0).standard_normal((40, 3)) * [1.0, 5.0, 0.2]
    waiting = [scored(f"i{n}", 0, features=point) for n, point in enumerate(points)]
    scaled = points / points.std(0)
    chosen = [int(np.argmin(np.linalg.norm(scaled - scaled.mean(0), axis=1)))]
    for _ in range(9):
        to_chosen = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=2)
        chosen.append(int(to_chosen.min(1).argmax()))
    labelled: list[Candidate] = []
    for expected in chosen:
        assert diversity(waiting, labelled).image == f"i{expected}"
        labelled.append(next(c for c in waiting if c.image == f"i{expected}"))
        waiting.remove(labelled[-1])


def test_novelty_is_a_root_mean_square_in_units_of_each_features_spread() -> None:
    own = [scored("p", 0, features=np.array([0.0, 10.0, 7.0]))]
    known = [scored("q", 0, features=np.array([2.0, 30.0, 7.0]))]
    # spreads 1, 10 and 0: two spreads apart in both features that vary
    assert novelty(own, known) == pytest.approx([2.0])


def test_novelty_is_the_same_for_more_labelled_slices_than_are_taken_at_a_time() -> None:
    points = np.random.default_rng(0).standard_normal((320, 3))
    slices = [scored(f"i{n}", 0, features=point) for n, point in enumerate(points)]
    scaled = points / points.std(0) / np.sqrt(3)
    between = np.linalg.norm(scaled[:20, None] - scaled[20:], axis=2)
    assert novelty(slices[:20], slices[20:]) == pytest.approx(between.min(1))


def test_slices_without_features_are_all_as_new() -> None:
    bare = [replace(scored("p", 0), features=None), scored("q", 0)]
    assert novelty(bare, [scored("r", 0)]).tolist() == [0.0, 0.0]
    assert suggested(bare, []) is not None


def test_ranks_are_the_share_of_the_others_below() -> None:
    assert ranks(np.array([3.0, 1.0, 2.0, 1.0])).tolist() == [1.0, 0.0, 2 / 3, 0.0]
    assert ranks(np.array([5.0])).tolist() == [0.0]


def test_usefulness_by_hand() -> None:
    waiting = [
        scored("p2", 0, "p", position=0.0, disputed_mm2=600.0, features=np.array([9.0, 9.0])),
        scored("q1", 2, "q", position=0.5, disputed_mm2=300.0, features=np.array([4.0, 4.0])),
        scored("q1", 4, "q", position=1.0, disputed_mm2=0.0, features=np.array([1.0, 1.0])),
    ]
    labelled = [scored("p1", 0, "p", position=0.0), scored("p1", 1, "p", position=0.5)]
    # ranks 1, 1/2, 0 in both; 2 labelled of p; thirds 1, 1, 0 against an even share of 1 (2/3 < 1)
    expected = [1 / (3 * 2), 0.5 / (1 * 2), 0.0]
    assert usefulness(waiting, labelled)[0] == pytest.approx(expected)
    assert suggested(waiting, labelled).image == "q1"


def test_the_default_goes_round_the_patients_and_along_the_heart(cohort: list[Candidate]) -> None:
    waiting, labelled = list(cohort), []
    for _ in range(9):
        choice = suggested(waiting, labelled)
        labelled += [c for c in waiting if (c.image, c.slice) == (choice.image, choice.slice)]
        waiting.remove(labelled[-1])
    assert Counter(c.patient for c in labelled) == {"p": 3, "q": 3, "r": 3}
    assert set(Counter(c.third for c in labelled)) == {0, 1, 2}


def test_the_reason_of_the_default_tells_its_numbers(cohort: list[Candidate]) -> None:
    begin = suggested(cohort, []).reason
    assert "more typical than" in begin
    assert "labelled are 0 of its patient and, of 0 in all, 0 in its third" in begin
    later = suggested(cohort[5:], cohort[:5]).reason
    assert "of the 24 others that wait, and it looks less like the labelled ones than" in later
