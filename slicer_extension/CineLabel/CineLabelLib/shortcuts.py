"""The keys of the reader's desk, and which keys are others': the segment editor's and Slicer's.

Two shortcuts on one key silence both in Qt, so nothing here may be on a key of `SEGMENT_EDITOR`,
and on one of `SLICER` only where `TAKEN_OVER` says so. Keys are written as QKeySequence reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shortcut:
    """A key, what it does by name, and in a sentence for the reader."""

    action: str
    key: str
    sentence: str


SHORTCUTS = (
    Shortcut("frame_before", "J", "Show the frame before."),
    Shortcut("play", "K", "Play the frames, or stop."),
    Shortcut("frame_after", "L", "Show the frame after."),
    Shortcut("go_to_ed", "D", "Show end-diastole."),
    Shortcut("go_to_es", "S", "Show end-systole."),
    Shortcut("set_ed", "Shift+D", "This frame is end-diastole."),
    Shortcut("set_es", "Shift+S", "This frame is end-systole."),
    Shortcut("worst_slice", "N", "Go to the worst slice without a decision."),
    Shortcut("next_look", "Shift+N", "Go to the next slice worth a look."),
    Shortcut("accept", "O", "Accept this breath-hold: okay."),
    Shortcut("repeat", "H", "Ask for this breath-hold again: hold."),
    Shortcut("exclude", "E", "Exclude this breath-hold."),
    Shortcut("brush_smaller", "[", "Make the brush smaller."),
    Shortcut("brush_larger", "]", "Make the brush larger."),
    Shortcut("lock", "Shift+L", "Lock the neighbours of what is painted, or let them give way."),
    Shortcut("copy_slice_before", "C", "Copy the labels of the slice before."),
    Shortcut("copy_slice_after", "Shift+C", "Copy the labels of the slice after."),
    Shortcut("copy_frame_before", "M", "Copy this slice's labels from the frame before."),
    Shortcut("copy_frame_after", "Shift+M", "Copy this slice's labels from the frame after."),
    Shortcut("fill_between", "Shift+F", "Fill empty slices between labelled ones."),
    Shortcut("smooth", "U", "Smooth the outlines."),
    Shortcut("keep_largest", "Shift+U", "Keep the largest part of each structure in each slice."),
    Shortcut("clear_slice", "Shift+E", "Clear this slice's labels."),
    Shortcut("restore_frame", "Shift+R", "Give this frame the labels it had before you edited it."),
    Shortcut("segment_frame", "P", "Segment this frame: predict."),
)

SEGMENT_EDITOR = (
    *"1234567890",
    *(f"Shift+{digit}" for digit in "1234567890"),
    *("Esc", "Space", "Z", "Ctrl+Z", "Y", "Ctrl+Y", "Ctrl+Shift+Z", "Q", "W"),
    *("/", "*", ",", ".", ">", "<", "I"),
    *("A", "X", "Return", "Enter", "+", "-"),
)
"""Keys of qMRMLSegmentEditorWidget; the last line is of its effects paint, erase and draw."""

SLICER = (
    *("V", "R", "G", "T", "B", "F", "Left", "Right", "Up", "Down", "[", "]", "{", "}"),
    *("Shift+Left", "Shift+Right", "Shift+Up", "Shift+Down"),
    *("Home", "End", "PgUp", "PgDown", "Ins", "Shift+Home", "Shift+End", "Shift+PgDown"),
    *(f"Ctrl+{key}" for key in "FOSWHBGVCXA0123456`"),
    *("Tab", "Shift+Tab", "Del", "Backspace"),
)
"""Keys of the application, its slice and 3D views, and of text fields."""

TAKEN_OVER = ("[", "]")
"""Slice views change the background volume by them, of which a study has one."""


def collisions(shortcuts: Iterable[Shortcut] = SHORTCUTS) -> tuple[str, ...]:
    """A sentence for each key that is somebody else's already, or is given twice."""
    shortcuts = tuple(shortcuts)
    counts = Counter(_plain(each.key) for each in shortcuts)
    editor, slicer = set(map(_plain, SEGMENT_EDITOR)), set(map(_plain, SLICER))
    found = []
    for each in shortcuts:
        key = _plain(each.key)
        if counts[key] > 1:
            found.append(f"{each.key} of {each.action} is given twice.")
        if key in editor:
            found.append(f"{each.key} of {each.action} is the segment editor's.")
        if key in slicer and each.key not in TAKEN_OVER:
            found.append(f"{each.key} of {each.action} is Slicer's.")
    return tuple(found)


def key_of(action: str) -> str:
    """The key of an action. Raises KeyError where it has none."""
    return {each.action: each.key for each in SHORTCUTS}[action]


def _plain(key: str) -> str:
    """A key in one spelling: small letters, modifiers in order, one name for Return and Enter."""
    *modifiers, last = key.lower().split("+") if key not in ("+", "Shift++") else [key]
    return "+".join([*sorted(modifiers), {"enter": "return"}.get(last, last)])
