"""Which frames a person edited, saving and autosaving them, and taking a frame back."""

from __future__ import annotations

from CineLabelLib.core.labels import Structure
from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.states import EditingState


class Editing(UseCase[EditingState]):
    """Follows a person's edits and keeps them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, EditingState())

    @told
    def undo(self) -> None: ...

    @told
    def redo(self) -> None: ...

    @told
    def copy_from_slice(self, offset: int) -> None:
        """Replace the slice on screen by its neighbour, -1 or +1."""

    @told
    def copy_from_frame(self, offset: int, whole: bool = False) -> None:
        """Replace the slice on screen, or the whole frame, by that of the frame before or after."""

    @told
    def clear_slice(self) -> None: ...

    @told
    def fill_between(self, structure: Structure | None = None) -> None: ...

    @told
    def smooth(self, structure: Structure | None = None) -> None: ...

    @told
    def keep_largest(self, structure: Structure | None = None) -> None: ...

    @told
    def grow(self, structure: Structure, by_mm: float) -> None: ...

    @told
    def restore_frame(self) -> None:
        """Give the frame on screen the labels it had before a person edited it."""

    @told
    def save(self) -> None:
        """Keep the labels beside the study, as a new version."""
