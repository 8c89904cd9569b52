"""Segmentation by the server: a frame, ED and ES or all; never over a person's edits unasked."""

from __future__ import annotations

from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.states import Look, Scope, SegmentationState


class Segmentation(UseCase[SegmentationState]):
    """Asks for labels and brings them onto the frames."""

    def __init__(self, desk: Desk, editing: Editing) -> None:
        super().__init__(desk, SegmentationState())

    @told
    def run(self, scope: Scope, fast: bool = True) -> None: ...

    @told
    def cancel(self) -> None: ...

    @told
    def replace_edited(self) -> None:
        """Replace the edited frames that were withheld by the model's labels."""

    @told
    def keep_edited(self) -> None:
        """Forget the model's labels of the frames that were withheld."""

    @told
    def go_to(self, look: Look) -> None: ...

    @told
    def show_disagreement(self, on: bool) -> None: ...
