"""The keys of the reader's desk."""

from __future__ import annotations

import re

import pytest
from CineLabelLib import shortcuts
from CineLabelLib.shortcuts import SHORTCUTS, Shortcut


def test_no_key_of_the_desk_is_taken_by_the_segment_editor_by_slicer_or_twice():
    assert shortcuts.collisions() == ()


@pytest.mark.parametrize("key", ["Z", "q", "3", "Shift+3", "Space", "A", "Enter", "+", "Ctrl+y"])
def test_a_key_of_the_segment_editor_is_found_out(key):
    (sentence,) = shortcuts.collisions([Shortcut("play", key, "")])
    assert sentence == f"{key} of play is the segment editor's."


@pytest.mark.parametrize("key", ["G", "Ctrl+S", "Left", "shift+left", "{"])
def test_a_key_of_slicer_is_found_out(key):
    assert shortcuts.collisions([Shortcut("play", key, "")]) == (f"{key} of play is Slicer's.",)


def test_a_key_that_is_given_twice_is_found_out_in_any_spelling():
    twice = [Shortcut("play", "Ctrl+Shift+K", ""), Shortcut("stop", "shift+ctrl+k", "")]
    assert len(shortcuts.collisions(twice)) == 2


def test_users_find_the_brush_size_on_the_brackets():
    assert shortcuts.key_of("brush_smaller") == "["
    assert shortcuts.key_of("brush_larger") == "]"


@pytest.mark.parametrize("each", SHORTCUTS, ids=lambda each: each.action)
def test_an_action_has_one_key_and_a_sentence(each):
    assert [other.action for other in SHORTCUTS].count(each.action) == 1
    assert re.fullmatch(r"[a-z_]+", each.action)
    assert re.fullmatch(r"[A-Z][^.]*\.", each.sentence)


@pytest.mark.parametrize("action", ["accept", "repeat", "exclude", "go_to_ed", "go_to_es"])
def test_decisions_and_phases_are_one_key_away(action):
    assert len(shortcuts.key_of(action)) == 1
