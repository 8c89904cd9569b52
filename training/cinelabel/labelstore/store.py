"""The label store: immutable label files with a record each, and an index made from the records.

The order of a change: the lock; the row in a transaction; the label, then its record, each flushed
and renamed; the commit. Where things lie is said in `folders`, what happens after a kill in
`mending`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from cinelabel.core.errors import CineLabelError, ConflictError, InputError, OutputError
from cinelabel.core.files import sha256, write_text
from cinelabel.core.grid import Grid
from cinelabel.core.review import ReviewRecord
from cinelabel.labelstore import earlier, reviews, validation
from cinelabel.labelstore.folders import Draft, Folders, about, children, make_folder, place
from cinelabel.labelstore.index import CaseRow, DamagedIndexError, Index, opened
from cinelabel.labelstore.mending import Mender
from cinelabel.labelstore.records import (
    FINAL,
    CaseState,
    Event,
    Kind,
    LabelVersion,
    Lease,
    Origin,
    ReviewVersion,
    State,
    Submission,
    check_name,
    check_text,
    check_time,
    conflict,
    utc,
)
from cinelabel.labelstore.validation import Names
from cinelabel.studies import nifti

LONGEST_LEASE_MIN = 7 * 24 * 60

T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """A change under way: the index, the case as it was, and the files put in place so far."""

    index: Index
    case: CaseRow
    placed: list[Path] = field(default_factory=list)


def _now() -> datetime:
    return datetime.now(timezone.utc)


class LabelStore:
    """Readers' labels below a folder; several processes and threads may use one at once.

    Opening makes what is missing, settles what a killed program left, and makes a damaged or
    missing index anew. `problems` tells of it, a sentence each.

    Args:
        folder: the workspace.
        clock: tells the time, for leases.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime] = _now) -> None:
        self.folder = Path(folder)
        self._clock = clock
        self._folders = Folders(self.folder)
        self._mender = Mender(self._folders)
        self._folders.make()
        with self._folders.locked():
            self._mender.remove_stale()
            self._mender.repair()
            with opened(self._folders.index) as index:
                self._mender.settle(index)
        self._take_over_earlier()

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found wrong and how it was settled, in sentences."""
        return tuple(self._mender.problems)

    # Labels

    def submit(
        self,
        image_id: str,
        image_grid: Grid,
        file: Path,
        submission: Submission,
        names: Names | None = None,
        *,
        kind: Literal["submitted", "imported"] = "submitted",
    ) -> LabelVersion:
        """Keep a reader's label as the newest version.

        The same label handed in again under the same key, or by the same reader and client (an
        answer that was lost), is the version it was. The reader's own lease ends. Once an image has
        changed, a label of it is taken only from a client that was given the case since.

        Args:
            image_id: name of the image.
            image_grid: the grid the label must lie on.
            file: the label as handed in; only read.
            submission: who, when, from what.
            names: segment names in the order of their values, or by value; None if canonical.
            kind: whether a reader hands it in now, or it comes from elsewhere.

        Raises:
            InputError: LabelError or GridError where the file is refused.
            ConflictError: it did not start from the newest version, or from an older image.
            OutputError: it cannot be written; the older label stands.
        """
        _check_submission(image_id, submission)
        labels, grid, warnings = validation.read_label(file, names, image_grid)
        warnings += validation.check(labels, grid, image_grid)
        submitted = sha256(file)
        with (
            about(image_id),
            self._folders.draft(labels, image_grid) as draft,
            self._changing(image_id) as change,
        ):
            index, case = change.index, change.case
            repeated = _keyed(index, image_id, submission.key, submitted)
            repeated = repeated or _repeated(index, case, submission, draft.sha256)
            if repeated is not None:
                return self._version(repeated)
            base = _require_newest(index, case, submission)
            if kind == "submitted":
                _require_given_since_change(index, case, submission)
            lease = index.lease(image_id)
            if lease is not None and self._is_held_by_another(lease, submission):
                warnings += (f"{lease.who} holds this case until {lease.until}.",)
            origin = _origin(index, submission, base)
            event = Event(
                image=image_id,
                sequence=case.sequence + 1,
                kind=kind,
                who=submission.who,
                client_id=submission.client_id,
                time=submission.time,
                version=case.last + 1,
                sha256=draft.sha256,
                submitted_sha256=submitted,
                names=_in_order(names),
                base_version=base,
                model=origin.model,
                prediction=origin.prediction,
                predicted=origin.predicted,
                warnings=(*submission.warnings, *warnings),
                text=submission.comment,
                key=submission.key,
            )
            self._keep(change, event, draft)
            index.set_seen(image_id, event.who, event.client_id, case.last + 1)
            index.remove_lease(image_id, event.who, event.client_id)
        return self._version(event)

    def kept_before(self, image_id: str, key: str, file: Path) -> LabelVersion | None:
        """What a submission of this key became, also if the image has changed since.

        Raises:
            ConflictError: the key is that of another label.
        """
        submitted = sha256(file)
        event = self._read(lambda index: _keyed(index, image_id, key, submitted))
        return None if event is None else self._version(event)

    def newest(self, image_id: str) -> LabelVersion | None:
        """The label that counts, None where there is none."""
        return self._read(lambda index: self._find(index, image_id, index.case(image_id).newest))

    def version(self, image_id: str, number: int) -> LabelVersion | None:
        """A label by its version, None where there is none."""
        return self._read(lambda index: self._find(index, image_id, number))

    def history(self, image_id: str) -> list[Event]:
        """What happened to a case, oldest first."""
        return self._read(lambda index: index.events(image_id))

    def events(self) -> list[Event]:
        """What happened to all cases, by image, oldest first."""
        return self._read(lambda index: list(index.all_events()))

    def set_aside(self, image_id: str, reason: str, was_there: bool = True) -> None:
        """Keep the labels of an image that changed in its history only; the case is open again.

        What clients were shown counts no longer, so that nobody who still looks at the old image
        can submit a label of it; also where there was no label.

        Args:
            image_id: name of the image.
            reason: why, for the history.
            was_there: whether there was an image of that name; if not, and nothing ever happened
                to it, the history does not tell of it.
        """
        check_text(reason, "the reason", required=True)
        with self._changing(image_id) as change:
            change.index.remove_shown(image_id)
            change.index.remove_seen(image_id)
            if was_there or change.case.sequence:
                self._keep(change, self._event(change, "set_aside", "cinelabel", reason))
            if change.case.newest:
                self._mender.warn(f"{image_id}: its labels no longer count, {reason}.", image_id)

    def restore(self, image_id: str, events: Sequence[Event], files: Mapping[int, Path]) -> int:
        """Bring the history of a case in from another store, as it is.

        Args:
            image_id: name of the image.
            events: the whole history, oldest first.
            files: the label file of each version, bit for bit as it was kept.

        Returns:
            How many events were new; what the store has already must be the beginning of it.

        Raises:
            ConflictError: the store has another history of the case.
            InputError: a file is missing or is not the one that was kept, or events do not follow
                each other.
        """
        _check_history(image_id, events, files)
        with contextlib.ExitStack() as stack:
            stack.enter_context(about(image_id))
            drafts = {
                n: stack.enter_context(self._folders.copied(file)) for n, file in files.items()
            }
            change = stack.enter_context(self._changing(image_id))
            known = change.index.events(image_id)
            if known != list(events[: len(known)]):
                if list(events) == known[: len(events)]:
                    return 0
                raise ConflictError(
                    "has another history here",
                    where=image_id,
                    remedy="Import into another workspace, or hand the label in as a version",
                    version=change.case.newest,
                )
            for event in events[len(known) :]:
                self._keep(change, event, drafts.get(event.version or 0))
        return len(events) - len(known)

    def check(self) -> list[str]:
        """What is wrong with the files of labels, in sentences; reads all of them."""
        found = []
        for event in self.events():
            label = self._folders.label(event)
            record = self._folders.record(event)
            try:
                if Event.read(record.read_bytes(), record.name) != event:
                    found.append(f"{event.image}: the record {record.name} was changed.")
                if event.sha256 is not None and sha256(label) != event.sha256:
                    found.append(f"{event.image}: the label {label.name} was changed.")
            except (OSError, InputError) as error:
                found.append(f"{event.image}: {record.name} or its label cannot be read, {error}")
        return found

    # Predictions

    def save_prediction(
        self, image_id: str, file: Path, model: str | None, info: Mapping[str, Any]
    ) -> None:
        """Keep what a model predicted, in place of an earlier prediction.

        Args:
            image_id: name of the image.
            file: NIfTI with canonical values.
            model: version of the model.
            info: anything that JSON can hold.

        Raises:
            InputError: the file is no such label, or `info` is not JSON.
            OutputError: it cannot be written.
        """
        check_name(image_id, "image name")
        labels, grid, _ = validation.read_label(file)
        folder = self._folders.predictions / image_id
        with (
            about(image_id),
            self._folders.draft(labels, grid) as draft,
            self._changing(image_id) as change,
        ):
            record = _prediction_record(draft.sha256, model, info, utc(self._clock()))
            previous = change.index.prediction(image_id)
            change.index.set_prediction(image_id, record)
            place(draft.path, folder / f"{draft.sha256[:12]}.nii.gz")
            write_text(folder / f"{draft.sha256[:12]}.json", record)
            kept = {draft.sha256} | ({json.loads(previous)["sha256"]} if previous else set())
            for path in folder.iterdir():  # the last one stays for who is reading it
                if not any(path.name.startswith(sha[:12]) for sha in kept):
                    path.unlink(missing_ok=True)

    def prediction(self, image_id: str) -> LabelVersion | None:
        """What a model predicted last, None where nothing was kept."""
        record = self._read(lambda index: index.prediction(image_id))
        return None if record is None else self._predicted(image_id, record)

    def predictions(self) -> dict[str, LabelVersion]:
        """The predictions of all images."""
        found = self._read(lambda index: index.predictions())
        return {image: self._predicted(image, record) for image, record in found.items()}

    def predicted(self) -> set[str]:
        """Images that a prediction is kept of; much quicker than `predictions`."""
        return self._read(lambda index: index.predicted())

    # Who has seen what, and who holds what

    def saw(self, image_id: str, who: str, client_id: str, version: int) -> None:
        """Remember that a client was shown a version, 0 for none, and no prediction since."""
        check_name(image_id, "image name")
        _check_holder(who, client_id)
        shown = self._read(lambda index: index.shown(image_id, who, client_id))
        if shown is not None or self.seen(image_id, who, client_id) != version:
            with self._changing(image_id) as change:
                change.index.set_seen(image_id, who, client_id, version)
                change.index.remove_shown(image_id, who, client_id)

    def saw_everywhere(self, image_id: str, who: str, version: int) -> None:
        """Remember that a reader was shown a version, in each client that showed her another."""
        for client_id in self._read(lambda index: index.clients(image_id, who)):
            self.saw(image_id, who, client_id, version)

    def saw_prediction(
        self, image_id: str, who: str, client_id: str, model: str, labels: np.ndarray
    ) -> None:
        """Remember that a client was shown a prediction: what it submits next began as that.

        Args:
            model: version of the model.
            labels: (x, y, z), canonical, on the image's grid.
        """
        check_name(image_id, "image name")
        _check_holder(who, client_id)
        record = json.dumps({"model": model, "predicted": validation.slice_digests(labels)})
        if self._read(lambda index: index.shown(image_id, who, client_id)) != record:
            with self._changing(image_id) as change:
                change.index.set_shown(image_id, who, client_id, record)

    def seen(self, image_id: str, who: str, client_id: str) -> int | None:
        """The version a client was shown last, None if it was shown nothing."""
        return self._read(lambda index: index.seen(image_id, who, client_id))

    def lease(self, image_id: str, who: str, client_id: str, minutes: float = 60.0) -> Lease:
        """Hold a case for a reader; the holder's own lease is prolonged.

        Raises:
            InputError: `minutes` is not between 0 and a week.
            ConflictError: another reader or client holds it.
        """
        check_name(image_id, "image name")
        if not 0 < minutes <= LONGEST_LEASE_MIN:
            raise InputError(f"a lease of {minutes} minutes", remedy="Ask for 1 to 10080")
        _check_holder(who, client_id)
        with self._changing(image_id) as change:
            now = self._clock()
            last = change.index.lease(image_id)
            mine = last is not None and (last.who, last.client_id) == (who, client_id)
            running = last is not None and last.until > utc(now)
            if last is not None and running and not mine:
                raise _held(last, change.case.newest)
            since = last.since if last is not None and running else utc(now)
            lease = Lease(image_id, who, client_id, since, utc(now + timedelta(minutes=minutes)))
            change.index.set_lease(lease)
            if last is not None and not mine:
                reason = f"The lease of {last.who} ran out at {last.until}."
                event = self._event(change, "lease_taken_over", who, reason, client_id)
                self._keep(change, event)
        return lease

    def release(self, image_id: str, who: str, client_id: str) -> None:
        """End a reader's own lease; nothing happens where there is none."""
        with self._changing(image_id) as change:
            change.index.remove_lease(image_id, who, client_id)

    def leases(self) -> list[Lease]:
        """The leases that have not run out."""
        return self._read(lambda index: index.leases(utc(self._clock())))

    # States

    def skip(self, image_id: str, who: str, reason: str) -> None:
        """Take a case out of what is handed out; its labels stay.

        Raises:
            InputError: no reason is given.
            ConflictError: another reader holds the case.
        """
        self._change_state(image_id, "skipped", who, reason)

    def reopen(self, image_id: str, who: str, reason: str) -> None:
        """Hand a skipped or labelled case out again; its labels stay.

        Raises:
            InputError: no reason is given.
            ConflictError: another reader holds the case.
        """
        self._change_state(image_id, "reopened", who, reason)

    def states(self, image_ids: Iterable[str] | None = None) -> dict[str, CaseState]:
        """Where cases stand: those named, or all of which something is known."""
        wanted = None if image_ids is None else list(image_ids)
        found = self._read(lambda index: index.states(utc(self._clock()), wanted))
        if wanted is None:
            return found
        return {image: found.get(image) or CaseState(image) for image in wanted}

    def standing(self) -> dict[str, tuple[State, int]]:
        """State and newest version of every case that is known; much quicker than `states`."""
        return self._read(lambda index: index.standing())

    def counts(self) -> dict[str, int]:
        """How many cases are "labelled" and "skipped", and how many "versions" are kept."""
        return self._read(lambda index: index.counts())

    # Reviews

    def review(self, study: str) -> ReviewVersion | None:
        """The newest review of a study, None where there is none."""
        return next(reversed(self.review_history(study)), None)

    def review_history(self, study: str) -> list[ReviewVersion]:
        """Every review of a study, oldest first. Raises InputError if one is damaged."""
        return reviews.history(self._folders, study)

    def reviews(self) -> dict[str, ReviewVersion]:
        """The newest reviews of all studies."""
        found = {path.name: self.review(path.name) for path in children(self._folders.reviews)}
        return {study: review for study, review in found.items() if review is not None}

    def save_review(
        self, study: str, record: ReviewRecord, who: str, base_version: int | None = None
    ) -> ReviewVersion:
        """Keep a review as the newest version.

        Raises:
            InputError: the record is of another study, or `who` is missing.
            ConflictError: it did not start from the newest version (0 or None for none).
            OutputError: it cannot be written.
        """
        check_name(study, "study name")
        if record.study != study:
            raise InputError(f"the review is of the study {record.study}", where=study)
        return reviews.save(self._folders, record, who, base_version, utc(self._clock()))

    def restore_reviews(self, study: str, kept: Sequence[ReviewVersion]) -> int:
        """Bring the reviews of a study in from another store, as they are; how many were new.

        Raises:
            ConflictError: the store has other reviews of the study.
        """
        return reviews.restore(self._folders, study, kept)

    # How changes are made

    @contextlib.contextmanager
    def _changing(self, image_id: str) -> Iterator[Change]:
        """A change of one image in a transaction, after settling what was left half done.

        When the change fails, the files it put in place are removed again, unless its row is on
        disk after all.
        """
        check_name(image_id, "image name")
        change: Change | None = None
        with about(image_id), self._folders.locked():
            try:
                with contextlib.ExitStack() as stack:
                    index = self._open(stack)
                    if self._mender.settle_image(index, image_id):
                        index.commit()
                        index.begin()
                    change = Change(index, index.case(image_id))
                    yield change
                    index.commit()
            except BaseException as error:
                if change is not None and not self._may_have_happened(change, error):
                    for path in reversed(change.placed):
                        with contextlib.suppress(OSError):
                            path.unlink(missing_ok=True)
                if isinstance(error, DamagedIndexError):
                    self._mender.repair()
                    raise OutputError(
                        "the index of the labels was damaged and is mended now",
                        where=image_id,
                        remedy="Try again",
                    ) from error
                raise

    def _open(self, stack: contextlib.ExitStack) -> Index:
        """The index with a change begun; mended first where that is needed."""
        try:
            index = stack.enter_context(opened(self._folders.index))
        except DamagedIndexError:
            self._mender.repair()
            index = stack.enter_context(opened(self._folders.index))
        index.begin()
        return index

    def _may_have_happened(self, change: Change, error: BaseException) -> bool:
        """Whether a change was committed although an error ended it.

        Errors of the index mean that it was not. An interruption may come right after the commit;
        where that cannot be told the files stay, to be settled later.
        """
        if isinstance(error, (CineLabelError, DamagedIndexError)):
            return False
        try:
            with opened(self._folders.index) as index:
                return index.case(change.case.image).sequence > change.case.sequence
        except (OutputError, DamagedIndexError):
            return True

    def _read(self, question: Callable[[Index], T]) -> T:
        """Ask the index, making it anew if it turns out to be damaged."""
        try:
            with opened(self._folders.index) as index:
                return question(index)
        except DamagedIndexError:
            with self._folders.locked():
                self._mender.repair()
            with opened(self._folders.index) as index:
                return question(index)

    def _find(self, index: Index, image_id: str, number: int) -> LabelVersion | None:
        event = index.event(image_id, number) if 0 < number < 2**31 else None
        return None if event is None else self._version(event)

    def _version(self, event: Event) -> LabelVersion:
        return LabelVersion(
            image=event.image,
            version=event.version or 0,
            sha256=event.sha256 or "",
            path=self._folders.label(event),
            who=event.who,
            client_id=event.client_id,
            time=event.time,
            kind=event.kind,
            model=event.model,
            prediction=event.prediction,
            base_version=event.base_version,
            comment=event.text,
            warnings=event.warnings,
            names=event.names,
            predicted=event.predicted,
        )

    def _predicted(self, image_id: str, record: str) -> LabelVersion:
        told = json.loads(record)
        return LabelVersion(
            image=image_id,
            version=0,
            sha256=told["sha256"],
            path=self._folders.predictions / image_id / f"{told['sha256'][:12]}.nii.gz",
            who="",
            client_id="",
            time=told["time"],
            kind="predicted",
            model=told["model"],
            info=told["info"],
        )

    def _change_state(self, image_id: str, kind: Kind, who: str, reason: str) -> None:
        check_text(who, "the reader's name", required=True)
        check_text(reason, "the reason", required=True)
        with self._changing(image_id) as change:
            lease = change.index.lease(image_id)
            if lease is not None and lease.who != who and lease.until > utc(self._clock()):
                raise _held(lease, change.case.newest)
            self._keep(change, self._event(change, kind, who, reason))
            change.index.remove_lease(image_id, who)

    def _event(self, change: Change, kind: Kind, who: str, text: str, client_id: str = "") -> Event:
        """The next event, without a label, of the case that is being changed; not yet kept."""
        return Event(
            image=change.case.image,
            sequence=change.case.sequence + 1,
            kind=kind,
            who=who,
            client_id=client_id,
            time=utc(self._clock()),
            text=text,
        )

    def _is_held_by_another(self, lease: Lease, submission: Submission) -> bool:
        mine = (lease.who, lease.client_id) == (submission.who, submission.client_id)
        return not mine and lease.until > utc(self._clock())

    def _keep(self, change: Change, event: Event, draft: Draft | None = None) -> None:
        """Enter an event, then put its label and its record on disk; the caller commits."""
        change.index.add(event)
        label = self._folders.label(event)
        record = self._folders.record(event)
        make_folder(label.parent)
        if draft is not None:
            change.placed.append(label)
            place(draft.path, label)
        change.placed.append(record)
        write_text(record, event.model_dump_json(indent=2) + "\n")

    def _take_over_earlier(self) -> None:
        """Import the labels of a workspace of the earlier form; they stay where they are, too."""
        for label in earlier.labels(self.folder, self._read(lambda index: index.labelled_images())):
            try:
                _, grid = nifti.peek(label.image_file)
                submission = Submission(
                    image=label.image,
                    who=label.who,
                    client_id=label.client_id,
                    time=label.time,
                    base_version=0,
                    comment="taken over from the earlier form of the workspace",
                )
                names = validation.names_of(label.label_info)
                self.submit(label.image, grid, label.file, submission, names, kind="imported")
            except (InputError, ConflictError) as error:
                sentence = f"{label.image}: its earlier label is not taken over, {error}"
                self._mender.warn(sentence, label.image)


def _check_submission(image_id: str, submission: Submission) -> None:
    """Raise InputError unless every word of a submission can be kept."""
    check_name(image_id, "image name")
    if submission.image != image_id:
        raise InputError(f"the submission is for {submission.image[:80]!r}", where=image_id)
    if submission.tag != FINAL:
        raise InputError(
            f"labels with the tag {submission.tag[:80]!r} are not kept",
            where=image_id,
            remedy=f"Submit with the tag {FINAL}",
        )
    _check_holder(submission.who, submission.client_id)
    check_time(submission.time)
    check_text(submission.comment, "the comment")
    check_text(submission.model or "", "the model")
    check_text(submission.prediction or "", "the prediction")
    if submission.key is not None:
        check_name(submission.key, "key of a submission")
    for warning in submission.warnings:
        check_text(warning, "a warning")
    if submission.base_version is not None and submission.base_version < 0:
        raise InputError(f"there is no version {submission.base_version}", where=image_id)


def _origin(index: Index, submission: Submission, base: int) -> Origin:
    """What a label began as: as the client says, as it was shown, or as its base began."""
    image, said = submission.image, Origin(submission.model, submission.prediction)
    record = index.shown(image, submission.who, submission.client_id)
    if record is not None:
        shown = json.loads(record)
        if submission.model in (None, shown["model"]):
            return replace(said, model=shown["model"], predicted=tuple(shown["predicted"]))
    last = index.event(image, base)
    if said != Origin() or last is None:
        return said
    return Origin(last.model, last.prediction, last.predicted)


def _check_holder(who: str, client_id: str) -> None:
    check_text(who, "the reader's name", required=True)
    check_text(client_id, "the client's name")


def _check_history(image_id: str, events: Sequence[Event], files: Mapping[int, Path]) -> None:
    """Raise InputError unless the events are a history and each version has its file."""
    case = CaseRow(image_id)
    for event in events:
        if event.image != image_id or event.sequence <= case.sequence:
            raise InputError(f"event {event.sequence} is out of order", where=image_id)
        if event.version is not None:
            if event.version <= case.last:
                raise InputError(f"version {event.version} is out of order", where=image_id)
            file = files.get(event.version)
            if file is None or sha256(file) != event.sha256:
                raise InputError(
                    f"the file of version {event.version} is missing or was changed",
                    where=image_id,
                )
            validation.read_label(file)
        case = case.after(event)


def _keyed(index: Index, image_id: str, key: str | None, submitted: str) -> Event | None:
    """The label that was kept under a key. Raises ConflictError if that was another file."""
    events = index.events(image_id) if key is not None else []
    found = next((event for event in events if event.key == key), None)
    if found is not None and found.submitted_sha256 != submitted:
        raise ConflictError(
            f"another label was submitted under the key of this one, as version {found.version}",
            where=image_id,
            remedy="Give each submission a key of its own",
            version=found.version or 0,
            who=found.who,
            time=found.time,
        )
    return found


def _repeated(index: Index, case: CaseRow, submission: Submission, digest: str) -> Event | None:
    """The newest label if it is this submission, kept before, whose answer was lost."""
    newest = index.event(case.image, case.newest)
    if newest is None or newest.sha256 != digest:
        return None
    if (newest.who, newest.client_id) != (submission.who, submission.client_id):
        return None
    if submission.base_version is None:
        same = case.state == "labelled" and newest.text == submission.comment
    else:
        same = submission.base_version == newest.base_version
    return newest if same else None


def _require_newest(index: Index, case: CaseRow, submission: Submission) -> int:
    """The version a submission began from. Raises ConflictError unless it is the newest."""
    base = submission.base_version
    if base is None:
        base = index.seen(case.image, submission.who, submission.client_id) or 0
    if base != case.newest:
        last = index.event(case.image, case.newest) or case
        raise conflict(case.image, base, case.newest, last.who, last.time)
    return base


def _require_given_since_change(index: Index, case: CaseRow, submission: Submission) -> None:
    """Raise ConflictError if the image has changed, and its client may still show the old one."""
    if case.newest or not case.sequence:
        return
    changes = [event for event in index.events(case.image) if event.kind == "set_aside"]
    hand = submission.who, submission.client_id
    if not changes or index.seen(case.image, *hand) is not None:
        return
    lease, changed = index.lease(case.image), changes[-1].time
    if lease is None or (lease.who, lease.client_id) != hand or lease.since < changed:
        raise ConflictError(
            f"the image changed at {changed}, and you were not given the case since then",
            where=case.image,
            remedy="Take the case again, load its image, and draw on that",
            time=changed,
        )


def _held(lease: Lease, newest: int) -> ConflictError:
    return ConflictError(
        f"{lease.who} holds this case until {lease.until}",
        where=lease.image,
        remedy="Take another case, or wait",
        version=newest,
        who=lease.who,
        time=lease.since,
    )


def _in_order(names: Names | None) -> tuple[str, ...]:
    """Segment names in the order of their values."""
    if isinstance(names, Mapping):
        return tuple(f"{value}={name}" for value, name in sorted(names.items()))
    return tuple(names or ())


def _prediction_record(digest: str, model: str | None, info: Mapping[str, Any], time: str) -> str:
    try:
        return json.dumps(
            {"sha256": digest, "model": model, "time": time, "info": dict(info)}, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"what is told of the prediction is not JSON, {error}") from error
