"""The breath-holds of a study: what is known about each slice, and the reader's decisions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from CineLabelLib import thumbnails
from CineLabelLib.answers import Case, OutOfDate, ServerError, StudyReview
from CineLabelLib.core.errors import CineLabelError, InputError
from CineLabelLib.core.review import Action, Decision, MotionGrade, ReviewRecord, SliceReview
from CineLabelLib.desk import taken_back
from CineLabelLib.desk.base import Desk, Lane, UseCase, told
from CineLabelLib.desk.reading import Brought
from CineLabelLib.desk.states import ReviewState, SliceRow
from CineLabelLib.records import LocalRecords
from CineLabelLib.study import CineStudy

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a study before the reader decides.

    Attributes:
        record: decisions and findings of this machine and the server, the later ones.
        version: of the server's record, 0 for none.
        sent: whether the server has all of it.
        looks: what the images themselves show, a slice each.
        notes: sentences on the whole study.
        gone: decisions that were taken back here, by `taken_back.name`.
    """

    record: ReviewRecord
    version: int
    sent: bool
    looks: tuple[thumbnails.SliceLook, ...]
    notes: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()


class Review(UseCase[ReviewState]):
    """A row a slice, the worst first."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, ReviewState())
        self._record: ReviewRecord | None = None
        self._looks: tuple[thumbnails.SliceLook, ...] = ()
        self._records: LocalRecords | None = None
        self._version = 0
        self._sent, self._sending, self._learned = True, False, False
        self._gone: frozenset[str] = frozenset()
        desk.study_changed.connect(self._study_changed)
        desk.server_back.connect(self._send)

    def opened(self, brought: Brought) -> None:
        """A study is on screen: learn what is known of its breath-holds."""
        self._records, client = brought.records, self.desk.at_home()
        study, records = brought.study, brought.records
        self._record = ReviewRecord(study.name, slices=_all_slices((), study.n_slices))
        self._show()
        self._set(sentence="Looking at the slices.")

        def known(found: Known) -> None:
            early, self._learned = self._record, True
            self._gone |= found.gone
            self._record = found.record if early is None else merge(found.record, early)
            self._version, self._sent, self._looks = found.version, found.sent, found.looks
            self._set(notes=found.notes, sentence="")
            self._show()
            if early is not None and any(_decisions(early)):
                self._save(self._record)
            self._send()

        def failed(error: CineLabelError) -> None:
            early, self._learned = self._record, True
            self._set(sentence=str(error))
            self.desk.tell(error)
            if early is not None and any(_decisions(early)):
                self._save(early)

        self.desk.ask(lambda task: _learn(study, records, client, task), known, failed)

    @told
    def decide(self, index: int, action: Action | None, reason: str = "") -> None:
        """Decide about a slice; None takes the decision back. Saved at once."""
        record = self._reviewed()
        if not 0 <= index < len(record.slices):
            raise InputError(f"there is no slice {index}")
        slices, decision = list(record.slices), self._decision(action, reason)
        self._take_back(index, slices[index].decision, decision)
        slices[index] = replace(slices[index], decision=decision)
        self._save(replace(record, slices=tuple(slices)))

    @told
    def decide_study(self, action: Action | None, reason: str = "") -> None:
        """Decide about the study as a whole; None takes the decision back."""
        record, decision = self._reviewed(), self._decision(action, reason)
        self._take_back(None, record.decision, decision)
        self._save(replace(record, decision=decision))

    @told
    def go_to(self, index: int) -> None:
        """Show a slice."""
        self.desk.opened()
        self.desk.scene.go_to_slice(index)

    @told
    def go_to_next(self) -> None:
        """Go to the worst slice without a decision."""
        self._reviewed()
        rows = {row.index: row for row in self.state.rows}
        left = [index for index in self.state.worst_first if rows[index].decision is None]
        if not left:
            raise InputError("every breath-hold has a decision")
        self.desk.scene.go_to_slice(left[0])

    # How it is done

    def _decision(self, action: Action | None, reason: str) -> Decision | None:
        if action is None:
            return None
        if action is not Action.ACCEPT and not reason.strip():
            remedy = "Say why the breath-hold is to be repeated or excluded"
            raise InputError("no reason is given", remedy=remedy)
        now = self.desk.clock.now().isoformat(timespec="seconds")
        return Decision(action, reason.strip(), self.desk.reader, now)

    def _take_back(self, index: int | None, before: Decision | None, now: Decision | None) -> None:
        if before is not None and now is None:
            self._gone |= {taken_back.name(index, before)}

    def _reviewed(self) -> ReviewRecord:
        self.desk.opened()
        if self._record is None:
            raise InputError("no study is open", remedy="Open one first")
        return self._record

    def _save(self, record: ReviewRecord) -> None:
        """Keep decisions here, and then on the server that has the study.

        Those made before it is known what was decided earlier wait for that, to be kept with it.
        """
        if not self._learned:
            self._record = record
            self._show()
            self._set(saved=False)
            return
        self._record, self._sent, records = record, self.desk.home is None, self._records
        self._show()
        assert records is not None
        gone = self._gone

        def keep(task: Task[Any]) -> int:
            taken_back.keep(records.folder, gone)
            return records.save_review(record)

        def kept(_: int) -> None:
            self._set(saved=self._sent, sentence="")
            self._send()

        def failed(error: CineLabelError) -> None:
            self._set(sentence=str(error))
            self.desk.tell(error)
            self._send()

        self._set(saved=False)
        self.desk.ask(keep, kept, failed, lane=Lane.FILES)

    def _send(self) -> None:
        """Save on the server what it has not; one request at a time."""
        record, client, version = self._record, self.desk.at_home(), self._version
        if record is None or client is None or self._sent or self._sending:
            return
        self._sending, gone = True, self._gone

        def kept(found: tuple[ReviewRecord, int]) -> None:
            self._sending = False
            sent, self._version = found
            self._sent = self._record is record
            if self._sent and sent is not record:
                self._record = sent
                self._show()
                self.desk.told.emit("Somebody decided meanwhile: the later decisions count.")
            self._set(saved=self._sent, sentence="")
            self._send()

        def failed(error: CineLabelError) -> None:
            self._sending = False
            self._set(sentence=f"The decisions are kept here, not on the server yet: {error}")

        self.desk.ask(
            lambda task: _save_there(client.following(task), record, version, gone),
            kept,
            failed,
            lane=Lane.WATCH,
        )

    def _show(self) -> None:
        record = self._record
        if record is None:
            return
        looks = {look.index: look for look in self._looks}
        rows = tuple(_row(found, looks.get(found.index)) for found in record.slices)
        worst = tuple(row.index for row in sorted(rows, key=lambda row: -row.badness))
        self._set(
            rows=rows,
            worst_first=worst,
            grade=record.grade,
            decision=record.decision,
            model=record.model,
        )

    def _study_changed(self) -> None:
        self._record, self._records, self._looks = None, None, ()
        self._version, self._sent, self._sending = 0, True, False
        self._learned, self._gone = False, frozenset()
        self._state = ReviewState()
        self._set()


def merge(
    theirs: ReviewRecord,
    mine: ReviewRecord,
    since: str | None = None,
    gone: frozenset[str] = frozenset(),
) -> ReviewRecord:
    """The findings of `theirs` with the later decision of both, a slice and for the study.

    since: decisions of mine that are not later than this time (ISO 8601) are known there already.
    gone: decisions of `theirs` that were taken back here, by `taken_back.name`.
    """

    def choose(index: int | None, their: Decision | None, my: Decision | None) -> Decision | None:
        if their is not None and taken_back.name(index, their) in gone:
            their = None
        if my is None or (since is not None and _time(my.time) <= _time(since)):
            return their
        return my if their is None or _time(my.time) > _time(their.time) else their

    known = {found.index: found for found in theirs.slices}
    slices = dict(known)
    for found in mine.slices:
        their = known.get(found.index, replace(found, decision=None))
        decision = choose(found.index, their.decision, found.decision)
        slices[found.index] = replace(their, decision=decision)
    ordered = tuple(slices[index] for index in sorted(slices))
    return replace(theirs, slices=ordered, decision=choose(None, theirs.decision, mine.decision))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _learn(
    study: CineStudy, records: LocalRecords, client: Client | None, task: Task[Any]
) -> Known:
    """What this machine, the server and the images know of the breath-holds; in a thread."""
    notes: list[str] = []
    record, version, sent, grade = ReviewRecord(study.name), 0, True, None
    looks, gone = thumbnails.look(study), taken_back.read(records.folder)
    try:
        here = records.latest_review()
    except CineLabelError as error:
        here = None
        notes.append(str(error))
    there, cases = _ask(client.following(task), study.name, notes) if client else (None, ())
    if there is None:
        record, sent = here or record, here is None
    else:
        record, version = _read(there), there.version
        if here is not None:
            merged = merge(record, here, there.time, gone)
            sent = _decisions(merged) == _decisions(record)
            record = merged
    for quality in (case.quality for case in cases if case.quality is not None):
        notes += quality.coverage or ()
        grade = quality.grade or grade
    if record.grade is None and grade in set(MotionGrade):
        notes.append(f"The server grades the motion {grade} of 3.")
    record = replace(record, slices=_all_slices(record.slices, study.n_slices))
    return Known(record, version, sent, looks, tuple(dict.fromkeys(notes)), gone)


def _ask(
    client: Client, study: str, notes: list[str]
) -> tuple[StudyReview | None, tuple[Case, ...]]:
    """The server's review and cases of a study; what this machine knows does without them."""
    try:
        return client.review(study), client.cases(study=study)
    except ServerError as error:
        notes.append(str(error))
        return None, ()


def _save_there(
    client: Client, record: ReviewRecord, version: int, gone: frozenset[str]
) -> tuple[ReviewRecord, int]:
    """Save on the server, together with what others decided meanwhile; in a thread."""
    try:
        return record, client.save_review(record, version).version
    except OutOfDate:
        there = client.review(record.study)
        if there is None:
            raise
        both = merge(_read(there), record, gone=gone)
        both = replace(both, slices=_all_slices(both.slices, len(record.slices)))
        return both, client.save_review(both, there.version).version


def _read(there: StudyReview) -> ReviewRecord:
    return ReviewRecord.from_json(json.dumps(there.record), where=f"the review of {there.study}")


def _decisions(record: ReviewRecord) -> list[Any]:
    slices = [(s.index, s.decision) for s in record.slices if s.decision is not None]
    return [record.decision, *slices]


def _all_slices(slices: Sequence[SliceReview], n_slices: int) -> tuple[SliceReview, ...]:
    """One review a slice of the stack, empty where nothing is known."""
    known = {found.index: found for found in slices}
    return tuple(known.get(index, SliceReview(index)) for index in range(n_slices))


def _row(found: SliceReview, look: thumbnails.SliceLook | None) -> SliceRow:
    """What the record and the images say of a slice."""
    shift = found.shift_mm or (None if look is None else look.shift_mm)
    findings = (*found.coverage, *found.contrast, *(() if look is None else look.findings))
    badness = max(found.artefact_score or 0.0, 0.0 if look is None else look.badness)
    return SliceRow(
        index=found.index,
        badness=badness,
        artefact_score=found.artefact_score,
        shift_mm=shift,
        findings=tuple(dict.fromkeys(findings)),
        decision=found.decision,
        thumbnail=None if look is None else look.thumbnail,
    )
