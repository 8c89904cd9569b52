"""Submitting labels: checked first, kept on disk until the server has them, never sent twice."""

from __future__ import annotations

from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.states import Finding, SubmittingState


class Submitting(UseCase[SubmittingState]):
    """Sends edited frames to the server, now or later."""

    def __init__(self, desk: Desk, editing: Editing) -> None:
        super().__init__(desk, SubmittingState())

    def check(self, frames: tuple[int, ...]) -> tuple[Finding, ...]:
        """What is wrong or doubtful about the labels of frames; nothing leaves."""
        return ()

    @told
    def submit_frame(self, comment: str = "") -> None:
        """Submit the frame on screen."""

    @told
    def submit_edited(self, comment: str = "") -> None:
        """Submit all frames that a person edited and that are not submitted yet."""

    @told
    def keep_mine(self) -> None:
        """Leave the refused submission in the outbox."""

    @told
    def open_theirs(self) -> None:
        """Show the label that came first beside mine."""

    @told
    def submit_over(self) -> None:
        """Submit mine over theirs, which was seen."""

    @told
    def hide_theirs(self) -> None: ...

    @told
    def send_waiting(self) -> None:
        """Try the outbox now, in order."""

    @told
    def skip(self, reason: str) -> None:
        """Take the image on screen out of what the server hands out."""

    @told
    def reopen(self, reason: str) -> None: ...
