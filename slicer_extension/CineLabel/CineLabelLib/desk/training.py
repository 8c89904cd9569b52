"""Training on the server: its course, champion and challenger, and who may decide."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from CineLabelLib.answers import Course, Models, NotAllowed
from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.desk.base import Desk, Every, Lane, UseCase, told
from CineLabelLib.desk.states import TrainingState
from CineLabelLib.work import pace

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task

POLL_S = 3.0
MAY = "only a token of the role admin may {}; ask who runs the server"


class Training(UseCase[TrainingState]):
    """Starts, follows and ends trainings, and puts model versions in use."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, TrainingState())
        self._poll = Every(desk.clock, POLL_S)
        self._asking = False
        desk.client_changed.connect(self._client_changed)

    @told
    def refresh(self) -> None:
        """Ask for the course and the versions."""
        self.desk.connected()
        self._refresh(self.desk.tell)

    @told
    def start(self) -> None:
        """Train the model on the labels that were submitted."""
        self._do("start a training", lambda client: client.start_training(), "Training is started.")

    @told
    def stop(self) -> None:
        """End the training; its checkpoint stays."""
        self._do("stop a training", lambda client: client.stop_training(), "Training is stopped.")

    @told
    def resume(self) -> None:
        """Go on with the last training, from its checkpoint."""
        course = self.state.course
        if course is None:
            raise InputError("there is no training to go on with")
        what = "go on with a training"
        self._do(what, lambda client: client.resume_training(course.job), "Training goes on.")

    @told
    def use(self, version: str, why: str, force: bool = False) -> None:
        """Put a version in use; one that was rejected with `force` alone."""
        if not why.strip():
            raise InputError("no reason is given", remedy=f"Say why {version} is to be in use")
        self._do(
            "put a version in use",
            lambda client: client.use(version, why.strip(), force),
            f"Version {version} is in use.",
        )

    @told
    def roll_back(self, why: str) -> None:
        """Put the version in use that was before."""
        if not why.strip():
            raise InputError("no reason is given", remedy="Say why the model is rolled back")
        sentence = "The version before is in use again."
        self._do("roll back", lambda client: client.roll_back(why.strip()), sentence)

    @told
    def fetch_figure(self, name: str) -> None:
        """Bring a figure of the training into `state.figures`."""
        client, course = self.desk.connected(), self.state.course
        if course is None or name not in course.figures:
            raise InputError(f"the training has no figure {name!r}")
        job = course.job

        def fetched(png: bytes) -> None:
            if self.state.course is not None and self.state.course.job == job:
                self._set(figures=MappingProxyType({**self.state.figures, name: png}))

        self._ask(lambda ours: ours.figure(job, name), fetched, self.desk.tell, client)

    def tick(self) -> None:
        """Follow a training that runs."""
        if self.state.running and not self._asking and self._poll.due():
            self._refresh(lambda error: self._set(sentence=str(error)))

    def _do(self, what: str, act: Callable[[Client], object], sentence: str) -> None:
        client = self.desk.connected()

        def done(_: object) -> None:
            self.desk.told.emit(sentence)
            self._refresh(self.desk.tell)

        def failed(error: CineLabelError) -> None:
            if isinstance(error, NotAllowed):
                error = InputError(MAY.format(what))
            self._set(sentence=str(error))
            self.desk.tell(error)

        self._ask(act, done, failed, client)

    def _refresh(self, failed: Callable[[CineLabelError], None]) -> None:
        client, self._asking = self.desk.connected(), True

        def told_of(found: tuple[Course | None, Models]) -> None:
            self._asking = False
            self._poll.restart()
            course, models = found
            before = self.state.course
            same = before is not None and course is not None and before.job == course.job
            self._set(
                course=course,
                models=models,
                running=course is not None and not course.has_ended,
                figures=self.state.figures if same else MappingProxyType({}),
                sentence=sentence_of(course),
            )

        def not_told(error: CineLabelError) -> None:
            self._asking = False
            self._poll.restart()
            failed(error)

        self._ask(lambda ours: (ours.training(), ours.models()), told_of, not_told, client)

    def _ask(
        self,
        ask: Callable[[Client], Any],
        done: Callable[[Any], None],
        failed: Callable[[CineLabelError], None],
        client: Client,
    ) -> None:
        """Ask a server; what it answers after another was connected is dropped."""

        def of_this_client(then: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda value: then(value) if self.desk.client is client else None

        def work(task: Task[Any]) -> Any:
            return ask(client.following(task))

        self.desk.ask(
            work, of_this_client(done), of_this_client(failed), lane=Lane.WATCH, of_study=False
        )

    def _client_changed(self) -> None:
        self._asking = False
        self._state = TrainingState(may=self.desk.role == "admin")
        self._set()
        if self.desk.client is not None:
            self._refresh(self.desk.tell)


def sentence_of(course: Course | None) -> str:
    """Where a training stands, in a sentence or two."""
    if course is None:
        return "There was no training yet."
    if not course.has_ended:
        step = f", step {course.step} of {course.steps}" if course.step and course.steps else ""
        how_fast = pace(course.rate if step else None, course.seconds_left)
        return f"Training is {course.state}: {course.stage or 'waiting'}{step}{how_fast}."
    if course.state != "done":
        why = f": {course.error.rstrip('.')}" if course.error else ""
        return f"The training was {course.state}{why}."
    if course.decision is None:
        return "The training has ended without a new version."
    decided = {"publish": "is in use", "keep": "waits for a person", "reject": "was rejected"}
    outcome = decided.get(course.decision.outcome, course.decision.outcome)
    return " ".join((f"Version {course.version} {outcome}.", *course.decision.reasons))
