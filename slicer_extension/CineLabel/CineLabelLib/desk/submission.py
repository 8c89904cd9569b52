"""Submitting labels: checked first, kept on disk until the server has them, never sent twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from CineLabelLib.answers import LabelFile
from CineLabelLib.core.errors import CineLabelError, InputError, LabelError
from CineLabelLib.core.labels import STRUCTURES
from CineLabelLib.desk import checks, sending
from CineLabelLib.desk.base import Desk, Every, Lane, T, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.reading import Brought, read_label
from CineLabelLib.desk.sending import Sent
from CineLabelLib.desk.states import Conflict, Finding, Origin, SubmittingState
from CineLabelLib.outbox import Entry, Outbox, Submission

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.study import CineStudy
    from CineLabelLib.work import Task

RETRY_S = 30.0
LOOK_S = 5.0
"""How long a conflict may stay on screen that another program has settled."""
NAMES = tuple(structure.name for structure in STRUCTURES)


class Submitting(UseCase[SubmittingState]):
    """Sends edited frames to the server, now or later."""

    def __init__(self, desk: Desk, editing: Editing, note: Callable[[str], None]) -> None:
        super().__init__(desk, SubmittingState())
        self._editing, self._note = editing, note
        self._lines: dict[str, list[str]] = {}  # submissions that the labels on screen came of
        self._outbox = Outbox(desk.folder / "outbox")
        self._task: Task[Sent] | None = None
        self._again = False
        self._retry, self._watch = Every(desk.clock, RETRY_S), Every(desk.clock, LOOK_S)
        desk.server_back.connect(self._send)
        desk.study_changed.connect(self._study_changed)
        self._look()

    def opened(self, brought: Brought) -> None:
        """A study is on screen: submissions begin from the versions that were brought with it."""
        self.desk.bases, home = dict(brought.versions), self.desk.home

        def tell(entries: list[Entry]) -> None:
            note = sending.note_of(entries, brought.study, "" if home is None else home.address)
            if note:
                self._note(note)

        self._look(tell)

    def check(self, frames: Iterable[int]) -> tuple[Finding, ...]:
        """What is wrong or doubtful about the labels of frames; nothing leaves."""
        study, found = self.desk.opened(), []
        for frame in frames:
            try:
                found += checks.check_frame(study, frame, self._editing.labels(frame))
            except LabelError as error:
                found.append(Finding(frame, f"Frame {frame}: {error}", True))
        return tuple(found)

    @told
    def submit_frame(self, comment: str = "") -> None:
        """Submit the frame on screen."""
        self.desk.opened()
        self._submit([self.desk.scene.frame()], comment)

    @told
    def submit_edited(self, comment: str = "") -> None:
        """Submit all frames that a person edited and that are not submitted yet."""
        frames = sorted(self._editing.state.unsubmitted)
        if self.desk.opened() and not frames:
            raise InputError(
                "no frame was edited since the last submission",
                remedy="To submit what the model made, look at the frame and submit that one",
            )
        self._submit(frames, comment)

    @told
    def keep_mine(self) -> None:
        """Leave the refused submission in the outbox, and theirs on the server."""
        self.hide_theirs()
        self._set(conflict=None, sentence="Yours stays in the outbox, theirs on the server.")

    @told
    def open_theirs(self) -> None:
        """Show the label that came first beside mine."""
        conflict, study, client = self._conflict(), self.desk.opened(), self.desk.connected()
        _require_home(conflict.image, conflict.address, study, self.desk.home)
        if client.address != conflict.address:
            remedy = f"Connect to {conflict.address}"
            raise InputError("is of another server", where=conflict.image, remedy=remedy)

        def work(task: Task[Any]) -> tuple[LabelFile, np.ndarray]:
            file = client.following(task).label(conflict.image)
            return file, read_label(file.content, study, conflict.image)

        def show(found: tuple[LabelFile, np.ndarray]) -> None:
            if self.state.conflict != conflict:
                return
            file, labels = found
            title = f"{conflict.who or 'Theirs'}, version {file.version}"
            self.desk.scene.go_to(conflict.frame)
            self.desk.scene.show_beside(conflict.frame, labels, title)
            self._set(conflict=replace(conflict, version=file.version, seen=True, shown=True))

        self.desk.ask(work, show)

    @told
    def hide_theirs(self) -> None:
        """Take the label that came first off the screen."""
        conflict = self.state.conflict
        if conflict is not None and conflict.shown:
            self.desk.scene.show_beside(conflict.frame, None)
            self._set(conflict=replace(conflict, shown=False))

    @told
    def submit_over(self) -> None:
        """Submit mine over theirs, which was seen."""
        conflict = self._conflict()
        if not conflict.seen:
            raise InputError("nobody looked at theirs yet", remedy="Open theirs beside yours first")
        outbox, key = self._outbox, uuid.uuid4().hex

        def work(task: Task[Any]) -> str:
            entry = next((e for e in outbox.entries() if e.id == conflict.entry), None)
            if entry is None:
                raise InputError("is not in the outbox any more", where=conflict.image)
            mine = replace(entry.submission, base_version=conflict.version, key=key)
            outbox.put(mine)
            outbox.remove(entry.id)
            return entry.submission.key

        def kept(refused: str) -> None:
            line = self._lines.get(conflict.image, [])
            if refused in line:  # theirs was seen, and what is on screen came after it
                line.append(key)
                self.desk.bases[conflict.image] = conflict.version
            self._send()

        self.hide_theirs()
        self._set(conflict=None)
        self._file(work, kept)

    @told
    def open_mine(self, entry: str) -> None:
        """Put the labels of a submission that waits or was refused onto its frame, as edits."""
        study, home, outbox = self.desk.opened(), self.desk.home, self._outbox

        def work(task: Task[Any]) -> tuple[Submission, np.ndarray]:
            found = next((e.submission for e in outbox.entries() if e.id == entry), None)
            if found is None:
                raise InputError("is not in the outbox any more", where=entry)
            _require_home(found.image, found.address, study, home)
            return found, read_label(found.label, study, found.image)

        def put(found: tuple[Submission, np.ndarray]) -> None:
            self._lines[found[0].image] = [found[0].key]
            self._editing.put(found[0].frame, found[1], Origin.PERSON, found[0].model)
            self.desk.scene.go_to(found[0].frame)

        self.desk.ask(work, put, lane=Lane.FILES)

    @told
    def try_again(self, entry: str) -> None:
        """Send a refused submission once more, to be told again who came first."""
        self.desk.connected()

        def pending(_: None) -> None:
            self._look()
            self._send()

        self._file(lambda task: self._outbox.again(entry), pending)

    @told
    def withdraw(self, entry: str) -> None:
        """Remove a submission of one's own from the outbox for good."""
        self._file(lambda task: self._outbox.remove(entry), lambda _: self._look())

    @told
    def send_waiting(self) -> None:
        """Try the outbox now, in order."""
        self.desk.connected()
        self._send()

    @told
    def skip(self, reason: str) -> None:
        """Take the image on screen out of what the server hands out."""
        self._mark(reason, "skip", lambda client, image, why: client.skip(image, why))

    @told
    def reopen(self, reason: str) -> None:
        """Hand the image on screen out again."""
        self._mark(reason, "reopen", lambda client, image, why: client.reopen(image, why))

    def tick(self) -> None:
        """Try again what waits for the server; see whether others settled a conflict."""
        waits = any(not waiting.refused for waiting in self.state.waiting)
        if waits and self._task is None and self.desk.client is not None and self._retry.due():
            self._send()
        undecided = self.state.conflict is not None and not self.desk.workers.files.busy
        if undecided and self._watch.due():
            self._look(failed=lambda error: None)  # the next look may succeed

    # How it is done

    def _submit(self, frames: list[int], comment: str) -> None:
        """Check frames, keep them in the outbox, and send that."""
        study, home = self.desk.opened(), self.desk.home
        if home is None:
            raise InputError(
                "is of this machine and not known to the server",
                where=study.name,
                remedy="Put it into the server's folder of studies, and open it from there",
            )
        findings = self.check(frames)
        self._set(findings=findings)
        wrong = [finding.sentence for finding in findings if finding.is_error]
        if wrong:
            self._set(sentence=wrong[0])
            raise LabelError(f"nothing was submitted: {' '.join(wrong)}")
        drawn = [(f, self._editing.labels(f).copy(), self._editing.count(f)) for f in frames]
        bases, models = dict(self.desk.bases), {f: self._editing.model(f) for f in frames}
        outbox, made_at, reader = self._outbox, self._now(), self.desk.reader
        lines = {image: line[-1] for image, line in self._lines.items()}
        keys = {frame: uuid.uuid4().hex for frame in frames}
        self._set(busy=True, sentence="Checking and keeping.")

        def work(task: Task[Any]) -> None:
            made = []
            for frame, labels, _ in drawn:
                image = study.images[frame]
                content, digest = checks.encode(study, frame, labels)
                made.append(
                    Submission(
                        address=home.address,
                        image=image,
                        study=study.name,
                        frame=frame,
                        label=content,
                        sha256=digest,
                        label_info=NAMES,
                        base_version=bases.get(image),
                        model=models[frame],
                        comment=comment.strip(),
                        image_digest=study.digests[frame],
                        reader=reader,
                        made_at=made_at,
                        key=keys[frame],
                        follows=lines.get(image),
                    )
                )
            sending.put_all(outbox, made)

        def kept(_: None) -> None:
            if self.desk.study is study:
                for frame, _labels, count in drawn:
                    self._editing.submitted(frame, count)
                    self._lines.setdefault(study.images[frame], []).append(keys[frame])
            self._send()

        self._file(work, kept)

    def _file(self, work: Callable[[Task[Any]], T], done: Callable[[T], None]) -> None:
        def failed(error: CineLabelError) -> None:
            self._set(busy=False, sentence=str(error))
            self.desk.tell(error)

        self.desk.ask(work, done, failed, lane=Lane.FILES, of_study=False)

    def _send(self) -> None:
        """Send the outbox in its thread, once more if something came in meanwhile."""
        client, outbox = self.desk.client, self._outbox
        if client is None:
            self._set(busy=False, sentence="It is in the outbox, and sent once you connect.")
            self._look()
            return
        if self._task is not None:
            self._again = True
            return
        self._again = False
        self._set(busy=True)

        def ended(then: Callable[[Any], None]) -> Callable[[Any], None]:
            def deliver(value: Any) -> None:
                self._task = None
                self._retry.restart()
                self._set(busy=False)
                then(value)
                if self._again:
                    self._send()

            return deliver

        self._task = self.desk.ask(
            lambda task: sending.send(client, outbox, task),
            ended(self._sent),
            ended(self._not_sent),
            of_study=False,
            progress=lambda fraction, text: self._set(sentence=text),
        )

    def _sent(self, sent: Sent) -> None:
        sentence = sending.sentence_of(sent)
        for entry, kept in sent.kept:
            made, base = entry.submission, self.desk.bases.get(entry.submission.image)
            if made.key in self._lines.get(made.image, ()) and made.base_version == base:
                self.desk.bases[made.image] = kept.version
        conflict = sending.conflict_of(sent.refused)
        if conflict is not None:
            self.hide_theirs()
        news = {entry.submission.image: kept.version for entry, kept in sent.kept}
        self._set(
            sent=MappingProxyType({**self.state.sent, **news}),
            conflict=conflict or self.state.conflict,
            waiting=sending.waiting_of(sent.entries),
            sentence=sentence or self.state.sentence,
        )
        self._close_if_settled()
        for damage in sent.damaged:
            self.desk.problem.emit(damage)
        if sentence:
            wrong = sent.refused or sent.stopped
            (self.desk.problem if wrong else self.desk.told).emit(sentence)

    def _not_sent(self, error: CineLabelError) -> None:
        self._set(sentence=str(error))
        self.desk.tell(error)
        self._look()

    def _look(
        self,
        tell: Callable[[list[Entry]], None] = lambda entries: None,
        failed: Callable[[CineLabelError], None] | None = None,
    ) -> None:
        """Show what is in the outbox, and tell it."""
        outbox = self._outbox
        if not outbox.folder.is_dir():
            return

        def found(entries: list[Entry]) -> None:
            self._set(waiting=sending.waiting_of(entries))
            if self.state.conflict is conflict:  # a newer one may be refused since
                self._close_if_settled()
            if self.desk.study is study:
                tell(entries)

        study, conflict = self.desk.study, self.state.conflict
        self.desk.ask(lambda task: outbox.entries(), found, failed, lane=Lane.FILES, of_study=False)

    def _close_if_settled(self) -> None:
        """Close the conflict whose entry nobody has to decide about any more."""
        conflict = self.state.conflict
        refused = {waiting.entry for waiting in self.state.waiting if waiting.refused}
        if conflict is not None and conflict.entry not in refused:
            settled = f"{conflict.image} waits for no decision any more."
            sentence = self.state.sentence.replace(conflict.sentence, settled)
            self.hide_theirs()
            self._set(conflict=None, sentence=sentence)

    def _mark(self, reason: str, what: str, mark: Callable[[Client, str, str], object]) -> None:
        study, client = self.desk.opened(), self.desk.connected()
        if not reason.strip():
            raise InputError("no reason is given", remedy=f"Say why you {what} the case")
        if self.desk.home is None or self.desk.home.address != client.address:
            raise InputError("is not a case of this server", where=study.name)
        image = study.images[self.desk.scene.frame()]
        done = "skipped" if what == "skip" else "handed out again"
        self.desk.ask(
            lambda task: mark(client.following(task), image, reason.strip()),
            lambda _: self.desk.told.emit(f"{image} is {done}."),
            lane=Lane.WATCH,
            of_study=False,
        )

    def _conflict(self) -> Conflict:
        if self.state.conflict is None:
            raise InputError("no submission was refused for another label")
        return self.state.conflict

    def _now(self) -> str:
        return self.desk.clock.now().astimezone(timezone.utc).isoformat(timespec="seconds")

    def _study_changed(self) -> None:
        self.desk.bases = {}
        self._lines = {}
        conflict = self.state.conflict and replace(self.state.conflict, shown=False)
        self._set(findings=(), conflict=conflict, sent=MappingProxyType({}))


def _require_home(image: str, address: str, study: CineStudy, home: Client | None) -> None:
    """Raise InputError unless the image of this server is in the study on screen."""
    if home is None or image not in study.images:
        raise InputError("is not open", where=image, remedy="Open its case first")
    if address != home.address:
        problem = f"waits for {address}, and the open case is of {home.address}"
        raise InputError(problem, where=image)
