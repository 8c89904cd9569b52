"""What the use cases need of others, as protocols: the scene, its edits, the clock.

Arrays are (x, y, z) in the order of the source file. Frames and slices count from 0.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import numpy as np

from CineLabelLib.core.labels import Structure
from CineLabelLib.signals import Signal
from CineLabelLib.study import CineStudy


class Edits(Protocol):
    """Changes of the frame on screen that a person asks for by a button or a key.

    Each is one step of undo, raises CineLabelError with a sentence when it cannot be done, and
    makes the scene emit `edited` when it changed a voxel. `structure` None is all of them. A
    neighbour is never eaten while neighbours are locked: only background and the structure itself
    change, except by `copy_slice` and `copy_frame`, which replace what they name, and by
    `close_muscle`, which takes RV that touches LV.
    """

    def lock(self, locked: bool) -> None:
        """Lock the neighbours of what is painted or grown, or let them give way."""
        ...

    def scale_brush(self, larger: bool) -> float:
        """Make the brush one step larger or smaller; gives its new diameter in mm."""
        ...

    def close_muscle(self, slice: int | None = None) -> None:
        """Put muscle between cavities that touch, and into holes between cavity and muscle."""
        ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...

    def can_undo(self) -> bool: ...

    def can_redo(self) -> bool: ...

    def forget(self) -> None:
        """Empty the history; done whenever another frame or study is shown."""
        ...

    def copy_slice(self, from_slice: int, to_slice: int, replace: bool = False) -> None:
        """Give a slice the labels of another slice of the frame.

        Raises:
            AlreadyLabelled: (of `shortaxis`) it has other labels; ask the reader, then `replace`.
        """
        ...

    def copy_frame(self, from_frame: int, slice: int | None = None, replace: bool = False) -> None:
        """Give the frame, or one slice of it, the slices that are labelled in another frame.

        Raises:
            AlreadyLabelled: (of `shortaxis`) as `copy_slice`; `slices` says which.
        """
        ...

    def clear_slice(self, slice: int) -> None: ...

    def fill_between(self, structure: Structure | None = None) -> None:
        """Fill empty slices between labelled ones."""
        ...

    def smooth(self, structure: Structure | None = None) -> None: ...

    def keep_largest(self, structure: Structure | None = None) -> None:
        """Remove islands: keep the largest connected part of a structure."""
        ...

    def grow(self, structure: Structure, by_mm: float) -> None:
        """Grow a structure in plane into the background, or shrink it where `by_mm` < 0."""
        ...


class Scene(Protocol):
    """A study on screen with labels a frame; `mrml.scene.MrmlScene` is the one in Slicer.

    Signals are emitted on the main thread, after the change. Every frame has labels, empty ones
    where nobody made any; scrolling never makes a label.
    """

    frame_changed: Signal  # (frame)
    slice_changed: Signal  # (slice)
    edited: Signal  # (frame) a person changed the labels of this frame, undo and redo included
    closing: Signal  # () the scene is about to be emptied; its labels can still be read
    notes: tuple[str, ...]  # what a reader must know of how the study is shown, in sentences
    edits: Edits

    def show(self, study: CineStudy) -> None:
        """Show a study with empty labels in place of the one before; no `closing` for that one."""
        ...

    def clear(self) -> None:
        """Take the study away; `closing` is not emitted."""
        ...

    def frame(self) -> int: ...

    def go_to(self, frame: int) -> None: ...

    def slice(self) -> int: ...

    def go_to_slice(self, index: int) -> None: ...

    def play(self, on: bool, frames_a_second: float = 20) -> None: ...

    def playing(self) -> bool: ...

    def labels(self, frame: int, strict: bool = True) -> np.ndarray:
        """A copy of a frame's labels, (x, y, z) uint8.

        Args:
            strict: refuse segments that are none of LV, MYO, RV; otherwise leave them out, which
                is for autosaving alone: what is known must not be lost for what is not.

        Raises:
            LabelError: a segment is none of LV, MYO, RV.
        """
        ...

    def set_labels(self, frame: int, labels: np.ndarray) -> None:
        """Put labels (x, y, z) uint8 onto a frame; no edit of a person: `edited` is not emitted.

        The history of undo is forgotten when it is the frame on screen.
        """
        ...

    def show_disagreement(self, frame: int, values: np.ndarray | None) -> None:
        """Lay (x, y, z) float32, 0 to 1, over a frame; None takes it away."""
        ...

    def show_beside(self, frame: int, labels: np.ndarray | None, title: str = "") -> None:
        """Show another's labels (x, y, z) uint8 as outlines, not to be edited; None hides them."""
        ...

    def show_opacity(self, opacity: float) -> None:
        """How strongly the labels cover the image, 0 to 1."""
        ...


class Clock(Protocol):
    """The time, injected so that tests need not wait."""

    def now(self) -> datetime:
        """The time of day, with a time zone."""
        ...

    def seconds(self) -> float:
        """Seconds that only ever grow, from any beginning."""
        ...
