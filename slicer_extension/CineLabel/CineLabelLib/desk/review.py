"""The breath-holds of a study: what is known about each slice, and the reader's decisions."""

from __future__ import annotations

from CineLabelLib.core.review import Action
from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.states import ReviewState


class Review(UseCase[ReviewState]):
    """A row a slice, the worst first."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, ReviewState())

    @told
    def decide(self, index: int, action: Action | None, reason: str = "") -> None:
        """Decide about a slice; None takes the decision back. Saved at once."""

    @told
    def decide_study(self, action: Action | None, reason: str = "") -> None: ...

    @told
    def go_to(self, index: int) -> None: ...

    @told
    def go_to_next(self) -> None:
        """Go to the worst slice without a decision."""
