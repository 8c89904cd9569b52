"""The reader's session: the use cases of the desk around one study and one server, put together.

The panel makes one, connects to the signals and calls `tick` every 50 ms; nothing here blocks.
What a reader can get wrong is not raised but told through `problem`, one sentence each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from CineLabelLib.desk.base import Desk
from CineLabelLib.desk.connection import Connection
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.measuring import Measuring
from CineLabelLib.desk.opening import Opening
from CineLabelLib.desk.ports import Clock, Scene
from CineLabelLib.desk.review import Review
from CineLabelLib.desk.segmentation import Segmentation
from CineLabelLib.desk.submission import Submitting
from CineLabelLib.desk.training import Training
from CineLabelLib.signals import Signal

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Workers

CLOSING_S = 10.0
"""How long closing waits for what is being saved; requests are given up at once."""


class Session:
    """One reader at one desk.

    Each use case has a `state` (see `desk/states.py`) and a signal `changed` (state).

    Args:
        scene: where the study is shown.
        workers: the threads that requests and files go through.
        client_factory: makes a client from address and token.
        folder: of the outbox, autosaved edits and records of local studies.
        clock: the time.
        reader: who works here; the server's tokens name her otherwise.

    Attributes:
        problem: (sentence) something did not go as asked.
        told: (sentence) something went well that is not seen elsewhere.
    """

    def __init__(
        self,
        scene: Scene,
        workers: Workers,
        client_factory: Callable[[str, str | None], Client],
        folder: Path,
        clock: Clock,
        reader: str,
    ) -> None:
        self.desk = Desk(scene, workers, folder, clock, reader)
        self.problem: Signal = self.desk.problem
        self.told: Signal = self.desk.told
        self.connection = Connection(self.desk, client_factory)
        self.editing = Editing(self.desk)
        self.opening = Opening(self.desk, self.editing)
        self.review = Review(self.desk)
        self.segmentation = Segmentation(self.desk, self.editing, self.opening.mark_phases)
        self.measuring = Measuring(self.desk, self.editing)
        self.submitting = Submitting(self.desk, self.editing, self.opening.note)
        self.training = Training(self.desk)
        self.opening.brought.connect(self.submitting.opened)
        self.opening.brought.connect(self.review.opened)

    def tick(self) -> None:
        """Deliver what the threads brought and do what is due; every 50 ms, on the main thread."""
        self.desk.workers.drain()
        for part in (
            self.connection,
            self.opening,
            self.editing,
            self.review,
            self.segmentation,
            self.measuring,
            self.submitting,
            self.training,
        ):
            part.tick()

    def close(self) -> None:
        """Save unsaved edits where they are found again, let the case go, end the threads."""
        self.desk.workers.watch.give_up()  # but not what closing itself has to say
        self.opening.close_study()
        self.desk.workers.close(CLOSING_S)
