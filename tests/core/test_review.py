from __future__ import annotations

import json

import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.review import Action, Decision, MotionGrade, ReviewRecord, SliceReview

DECISION = Decision(Action.REPEAT, "breathing in slice 3", "reader-1", "2024-05-01T10:30:00+02:00")
RECORD = ReviewRecord(
    study="patient-7",
    grade=MotionGrade.INTERMEDIATE,
    probabilities=(0.2, 0.7, 0.1),
    slices=(
        SliceReview(0, artefact_score=0.1, shift_mm=(0.5, -1.25)),
        SliceReview(3, coverage=("apex not covered",), contrast=("low",), decision=DECISION),
    ),
    decision=DECISION,
    model="phantom-1",
)


def raw(**changes):
    record = {**json.loads(RECORD.to_json()), **changes}
    return json.dumps({k: v for k, v in record.items() if v is not ...})


def test_a_record_comes_back_from_json_as_it_was():
    assert ReviewRecord.from_json(RECORD.to_json()) == RECORD


def test_a_record_with_nothing_assessed_comes_back():
    record = ReviewRecord("s")
    assert ReviewRecord.from_json(record.to_json()) == record


def test_the_json_form_says_its_version_and_plain_values():
    found = RECORD.as_dict()
    assert found["schema_version"] == 1
    assert found["grade"] == 2
    assert found["decision"]["action"] == "repeat"
    assert found["slices"][0]["shift_mm"] == [0.5, -1.25]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study": ...}, "'study' is missing"),
        ({"study": "a/b"}, "study name"),
        ({"schema_version": 2}, "schema version 2"),
        ({"schema_version": ...}, "'schema_version' is missing"),
        ({"colour": 1}, "'colour' is not known"),
        ({"grade": 4}, "4"),
        ({"probabilities": [0.5, 0.6, 0.1]}, "sum to 1"),
        ({"probabilities": [0.5, 0.5]}, "three"),
        ({"slices": [{"index": 1}, {"index": 0}]}, "in order"),
        ({"slices": [{"index": 1.5}]}, "not a whole number"),
        ({"slices": [{"index": 0, "artefact_score": 1.5}]}, "between 0 and 1"),
        ({"slices": [{"index": 0, "shift_mm": [1]}]}, "two numbers"),
        ({"slices": [{"index": 0, "coverage": "apex"}]}, "not a list"),
        ({"slices": [{}]}, "'index' is missing"),
        ({"slices": [[]]}, "not an object"),
        ({"decision": {"action": "accept", "reason": "", "reader": "x"}}, "'time' is missing"),
        (
            {"decision": {"action": "burn", "reason": "", "reader": "x", "time": DECISION.time}},
            "burn",
        ),
        (
            {"decision": {"action": "accept", "reason": "", "reader": "x", "time": "2024-05-01"}},
            "time zone",
        ),
        (
            {"decision": {"action": "accept", "reason": "", "reader": " ", "time": DECISION.time}},
            "no reader",
        ),
    ],
)
def test_a_record_that_does_not_hold_is_refused_by_file_and_reason(changes, words):
    with pytest.raises(InputError, match=words) as error:
        ReviewRecord.from_json(raw(**changes), where="review.json")
    assert "review.json" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(InputError, match="review.json"):
        ReviewRecord.from_json(text, where="review.json")


def test_times_in_utc_may_end_in_z():
    assert Decision(Action.ACCEPT, "", "x", "2024-05-01T10:30:00Z").time.endswith("Z")


@pytest.mark.parametrize(
    ("grade", "study", "own", "expected"),
    [
        (None, None, None, None),
        (2, None, None, None),
        (3, None, None, "graded non-diagnostic"),
        (3, "accept", None, None),
        (3, None, "accept", None),
        (1, "exclude", "accept", None),
        (1, "exclude", None, "excluded"),
        (1, None, "exclude", "excluded"),
        (None, "repeat", None, "to be repeated"),
        (3, "accept", "repeat", "to be repeated"),
    ],
)
def test_a_slice_is_unfit_by_decision_or_else_by_grade(grade, study, own, expected):
    def decide(action):
        return Decision(Action(action), "", "x", DECISION.time) if action else None

    record = ReviewRecord(
        "s",
        grade=MotionGrade(grade) if grade else None,
        slices=(SliceReview(4, decision=decide(own)),),
        decision=decide(study),
    )
    assert record.unfit(4) == expected


def test_a_decision_about_one_slice_says_nothing_of_the_others():
    exclude = Decision(Action.EXCLUDE, "", "x", DECISION.time)
    record = ReviewRecord("s", slices=(SliceReview(4, decision=exclude),))
    assert record.unfit(4) == "excluded"
    assert record.unfit(3) is None
    assert record.unfit() is None
