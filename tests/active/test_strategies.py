"""Choosing the next study."""

from __future__ import annotations

from collections import Counter

from cinelabel.active.strategies import first, random_unlabelled, unlabelled

IDS = ["c", "a", "b", "d"]


def test_first_takes_the_given_order_and_skips_what_is_labelled():
    assert first(IDS, []).id == "c"
    assert first(IDS, ["c", "b"]).id == "a"


def test_nothing_is_chosen_when_everything_is_labelled():
    assert first(IDS, IDS) is None
    assert random_unlabelled(IDS, IDS, seed=0) is None
    assert random_unlabelled([], [], seed=0) is None


def test_random_takes_only_unlabelled_studies_and_each_about_equally_often():
    drawn = Counter(random_unlabelled(IDS, ["a"], seed=seed).id for seed in range(3000))
    assert set(drawn) == {"b", "c", "d"}
    assert all(880 < count < 1120 for count in drawn.values())


def test_random_depends_on_the_seed_and_not_on_the_order_of_the_studies():
    one = [random_unlabelled(IDS, [], seed=seed).id for seed in range(20)]
    two = [random_unlabelled(IDS[::-1], [], seed=seed).id for seed in range(20)]
    assert one == two
    assert len(set(one)) > 1


def test_every_choice_has_a_reason_in_a_sentence():
    assert first(IDS, []).reason == "It is the first of 4 images without labels."
    assert first(IDS, ["c", "a", "b"]).reason == "It is the first of 1 image without labels."
    assert "random" in random_unlabelled(IDS, [], seed=1).reason


def test_labels_of_unknown_studies_and_repeated_names_do_no_harm():
    assert unlabelled(["a", "b", "a"], ["x"]) == ["a", "b"]
