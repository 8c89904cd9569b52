"""Summaries of scores: statistics by hand, groups, and intervals over patients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from cinelabel.evaluation.metrics import Score
from cinelabel.evaluation.summary import (
    NOT_STATED,
    Bootstrap,
    Statistics,
    patient_interval,
    summarise,
)
from scipy import stats


def score(case: str, dice: float | None, structure: str = "LV", **rest) -> Score:
    empty = "prediction" if dice is None else None
    return Score(case, structure, dice, None, None, empty, 100.0, distances=False, **rest)


def test_statistics_are_mean_sample_deviation_and_median():
    statistics = Statistics.of([0.5, None, 0.7, 0.9, 0.8])
    assert statistics.mean == pytest.approx(0.725)
    assert statistics.sd == pytest.approx(
        math.sqrt((0.225**2 + 0.025**2 + 0.175**2 + 0.075**2) / 3)
    )
    assert statistics.median == pytest.approx(0.75)
    assert (statistics.n, statistics.patients) == (4, 4)
    assert Statistics.of([0.5]).sd is None
    assert Statistics.of([None]) is None


def test_the_interval_is_scipys_of_the_patients_means_where_each_has_as_many_cases():
    values = np.random.default_rng(3).uniform(0.6, 1.0, (9, 2))
    numbers = Bootstrap(resamples=4000, seed=7)
    own = patient_interval(values.ravel(), [f"p{i}" for i in range(9) for _ in range(2)], numbers)
    expected = stats.bootstrap(
        (values.mean(axis=1),),
        np.mean,
        n_resamples=4000,
        method="percentile",
        random_state=np.random.default_rng(7),
    ).confidence_interval
    assert own == pytest.approx((expected.low, expected.high))


def test_the_interval_is_that_of_all_ways_to_draw_three_patients():
    # Patient a has three cases, b and c have one; a draw pools the cases of whoever is drawn.
    cases = {"a": [0.9, 0.8, 0.7], "b": [0.5], "c": [0.2]}
    values = [value for found in cases.values() for value in found]
    patients = [name for name, found in cases.items() for _ in found]
    means = [
        np.mean([value for name in drawn for value in cases[name]])
        for drawn in itertools.product(cases, repeat=3)
    ]
    # At 80 % the ends lie inside steps of the 27 equally likely means, not between two of them.
    expected = np.quantile(means, (0.1, 0.9), method="inverted_cdf")
    found = patient_interval(np.array(values), patients, Bootstrap(0.8, 50_000, 1))
    assert found == pytest.approx(tuple(expected))


def test_cases_of_one_patient_do_not_narrow_the_interval():
    by_patient = [0.5, 0.7, 0.9]
    once = patient_interval(np.array(by_patient), ["a", "b", "c"], Bootstrap())
    tenfold = patient_interval(
        np.repeat(by_patient, 10), [*("abc"[i // 10] for i in range(30))], Bootstrap()
    )
    assert tenfold == pytest.approx(once)


def test_the_same_seed_gives_the_same_interval_and_one_patient_gives_none():
    values, patients = np.random.default_rng(0).random(20), [str(i // 2) for i in range(20)]
    first = patient_interval(values, patients, Bootstrap(seed=1))
    assert first == patient_interval(values, patients, Bootstrap(seed=1))
    assert first != patient_interval(values, patients, Bootstrap(seed=2))
    assert patient_interval(values, ["only"] * 20, Bootstrap()) is None


def test_patients_of_whom_nothing_is_left_do_not_count():
    statistics = Statistics.of([0.8, 0.6, None], ["a", "a", "b"])
    assert (statistics.n, statistics.patients, statistics.interval) == (2, 1, None)


def test_summaries_are_of_all_cases_and_then_of_each_group_and_method():
    scores = [
        score(case, value, method=method, patient=case[0], groups={"grade": grade} if grade else {})
        for method, gain in (("old", 0.0), ("new", 0.1))
        for case, value, grade in (
            ("c_ED", 0.5 + gain, ""),
            ("b_ED", 0.6 + gain, "10 worse"),
            ("a_ED", 0.8 + gain, "2 bad"),
            ("a_ES", 0.7 + gain, "2 bad"),
        )
    ]
    found = {(s.group, s.method): s for s in summarise(scores, ["grade"])}
    assert list(found) == [
        (group, method)
        for group in (None, "2 bad", "10 worse", NOT_STATED)
        for method in ("old", "new")
    ]
    assert found[None, "old"].dice.mean == pytest.approx(0.65)
    assert found[None, "new"].dice.mean == pytest.approx(0.75)
    assert found["2 bad", "new"].dice.mean == pytest.approx(0.85)
    assert found["2 bad", "new"].dice.patients == 1
    assert found[None, "new"].dice.patients == 3
    assert {s.by for s in found.values()} == {None, "grade"}


def test_without_distances_there_is_no_penalised_distance():
    (summary,) = summarise([score("a", 0.8), score("b", None)])
    assert summary.penalised_hd95_mm is None
    assert summary.penalised_dice.mean == pytest.approx(0.4)
    assert summary.penalised_dice.patients == 2


def test_structures_come_in_their_order_however_they_were_scored():
    scores = [score("a", 0.8, "RV"), score("a", 0.8, "LV"), score("a", 0.8, "MYO")]
    assert [summary.structure for summary in summarise(scores)] == ["LV", "MYO", "RV"]
