"""Training on the server: its course, champion and challenger, and who may decide."""

from __future__ import annotations

from CineLabelLib.desk.base import Desk, UseCase, told
from CineLabelLib.desk.states import TrainingState


class Training(UseCase[TrainingState]):
    """Starts, follows and ends trainings, and puts model versions in use."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, TrainingState())

    @told
    def refresh(self) -> None:
        """Ask for the course and the versions."""

    @told
    def start(self) -> None: ...

    @told
    def stop(self) -> None: ...

    @told
    def resume(self) -> None: ...

    @told
    def use(self, version: str, why: str) -> None: ...

    @told
    def roll_back(self, why: str) -> None: ...

    @told
    def fetch_figure(self, name: str) -> None:
        """Bring a figure of the training into `state.figures`."""
