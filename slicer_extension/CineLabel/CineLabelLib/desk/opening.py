"""Opening studies: of the server, the next by strategy, a file, a folder; their phases."""

from __future__ import annotations

from pathlib import Path

from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.states import OpeningState


class Opening(UseCase[OpeningState]):
    """Brings a study on screen, and what was known and unsaved about it."""

    def __init__(self, desk: Desk, editing: Editing) -> None:
        super().__init__(desk, OpeningState())

    @told
    def list_cases(self, state: str | None = None) -> None:
        """Ask for the server's cases (open, labelled, skipped; None is all) into `state.cases`."""

    @told
    def open_case(self, image: str) -> None:
        """Open the study of an image of the server and go to its frame."""

    @told
    def next_case(self, strategy: str = "") -> None:
        """Open what the server gives next; by the strategy offered first if none is named."""

    @told
    def open_file(self, path: Path) -> None:
        """Open a 3D or 4D NIfTI file of this machine."""

    @told
    def open_folder(self, path: Path) -> None:
        """Open a folder with a DICOM cine."""

    @told
    def cancel(self) -> None:
        """Give up what is being opened."""

    @told
    def close_study(self) -> None: ...

    @told
    def restore_unsaved(self) -> None:
        """Put the unsaved edits of an earlier time onto their frames."""

    @told
    def leave_unsaved(self) -> None:
        """Do not offer them again; they stay on disk."""

    @told
    def step(self, by: int) -> None:
        """Go some frames on or back; the cycle closes."""

    @told
    def go_to_ed(self) -> None: ...

    @told
    def go_to_es(self) -> None: ...

    @told
    def mark_ed(self) -> None:
        """The frame on screen is end-diastole."""

    @told
    def mark_es(self) -> None: ...
