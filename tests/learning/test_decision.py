"""Whether a challenger takes the champion's place: by hand-worked tables of Dice."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from cinelabel.core.errors import RunError
from cinelabel.learning.config import DecisionRules
from cinelabel.learning.decision import decide, lower_bound, mean_gain

RULES = DecisionRules(margin=0.01, phantom_margin=0.03, least_patients=3)
STEADY = {"LV": 0.9, "MYO": 0.9, "RV": 0.9}


def patients(*dice):
    """A patient for each triple of LV, MYO, RV."""
    return [dict(zip(("LV", "MYO", "RV"), each, strict=True)) for each in dice]


CHAMPION = patients((0.8, 0.7, 0.6), (0.9, 0.8, 0.7), (0.85, 0.75, 0.65), (0.8, 0.8, 0.8))


def changed(*by):
    """The champion's patients, their structures changed by triples, the last one repeated."""
    steps = list(by) + [by[-1]] * (len(CHAMPION) - len(by))
    return [
        {name: value + step for (name, value), step in zip(table.items(), triple, strict=True)}
        for table, triple in zip(CHAMPION, steps, strict=True)
    ]


def judged(challenger, phantom=STEADY, champion=CHAMPION, rules=RULES):
    return decide(champion, challenger, STEADY, phantom, rules)


def test_a_challenger_that_is_better_everywhere_is_published_and_says_by_how_much():
    decision = judged(changed((0.05, 0.04, 0.03)))
    assert decision.outcome == "publish"
    assert decision.reasons == (
        "It is better by 0.040 Dice on average of 4 patients held out (LV +0.050, MYO +0.040, "
        "RV +0.030), and no structure lost more than 0.01 at 95% confidence; on the phantom "
        "cohort it lost at most 0.03.",
    )


def test_one_structure_that_became_worse_rejects_whatever_the_others_gained():
    decision = judged(changed((0.1, 0.1, -0.02)))
    assert decision.outcome == "reject"
    assert decision.reasons == (
        "RV became worse by 0.020 Dice on average of 4 patients, more than 0.01.",
    )


def test_a_loss_within_the_margin_is_made_up_for_by_what_the_others_gained():
    assert judged(changed((0.1, 0.1, -0.009))).outcome == "publish"


def test_no_gain_on_average_rejects():
    assert judged(CHAMPION).reasons == (
        "It is not better on average: +0.000 Dice over 4 patients.",
    )
    assert judged(changed((-0.005, -0.005, 0.009))).outcome == "reject"


def test_patients_who_disagree_leave_it_to_a_person():
    decision = judged(changed((0.05, 0.05, -0.2), (0.05, 0.05, 0.1)))
    assert decision.differences["RV"].mean == pytest.approx(0.025)
    assert decision.outcome == "keep"
    (reason,) = decision.reasons
    assert reason.startswith(
        "RV changed by +0.025 Dice on average of 4 patients, but may have lost"
    )
    assert reason.endswith("more than 0.01: a person decides.")


def test_too_few_held_out_patients_leave_it_to_a_person():
    decision = judged(changed((0.2, 0.2, 0.2))[:2], champion=CHAMPION[:2])
    assert decision.outcome == "keep"
    assert decision.reasons == ("2 patients held out, and a decision needs 3: a person decides.",)
    assert judged([], champion=[]).outcome == "keep"


def test_what_was_forgotten_of_the_phantoms_rejects_also_without_patients():
    forgot = STEADY | {"MYO": 0.86}
    for champion, challenger in (([], []), (CHAMPION, changed((0.1, 0.1, 0.1)))):
        decision = judged(challenger, forgot, champion)
        assert decision.outcome == "reject"
        assert decision.reasons[0] == (
            "It lost 0.040 Dice of MYO on the phantom cohort, more than 0.03."
        )
    assert judged(changed((0.1, 0.1, 0.1)), STEADY | {"MYO": 0.875}).outcome == "publish"


def test_a_structure_that_hardly_any_held_out_patient_has_leaves_it_to_a_person():
    better = changed((0.1, 0.1, 0.1))
    without = [
        [{k: v for k, v in table.items() if k != "RV" or i == 0} for i, table in enumerate(tables)]
        for tables in (CHAMPION, better)
    ]
    decision = judged(without[1], champion=without[0])
    assert decision.outcome == "keep"
    assert decision.reasons == ("Of RV only 1 patient can tell: a person decides.",)


def test_tables_of_other_patients_are_not_compared():
    with pytest.raises(RunError, match="same patients"):
        judged(CHAMPION[:3])
    with pytest.raises(RunError, match="same patients"):
        judged([{"LV": 0.9}, *CHAMPION[1:]])


def test_the_lower_bound_is_the_quantile_over_all_resamples_of_the_patients():
    """Of three patients there are 27, so every one of them can be listed."""
    gains = np.array([-0.1, 0.02, 0.3])
    means = [np.mean(drawn) for drawn in itertools.product(gains, repeat=3)]
    exact = np.quantile(means, 0.05, method="inverted_cdf")
    assert lower_bound(gains, DecisionRules(resamples=200_000)) == pytest.approx(exact, abs=1e-9)
    assert lower_bound(gains[:1], RULES) is None


def test_every_patient_counts_alike_on_average_whatever_was_drawn_of_it():
    champion, challenger = patients((0.5, 0.5, 0.5)), patients((0.6, 0.6, 0.6))
    champion.append({"LV": 0.9})
    challenger.append({"LV": 0.7})
    assert mean_gain(champion, challenger) == pytest.approx((0.1 - 0.2) / 2)


def test_the_same_tables_give_the_same_decision_ready_for_json():
    found = [judged(changed((0.02, -0.01, 0.1), (0.03, 0.02, 0.0))).to_dict() for _ in range(2)]
    assert found[0] == found[1] == json.loads(json.dumps(found[0]))
    assert found[0]["rules"]["margin"] == 0.01
