"""The label store: immutable label files with a record each, and an index made from the records.

    <folder>/labels/<image>/v0001-<sha12>.nii.gz    a label; never changed, never overwritten
                            v0001-<sha12>.json      its audit entry
                            e00002-skipped.json     an event without a label
    <folder>/reviews/<study>/v0001.json             a review
    <folder>/predictions/<image>/<sha12>.nii.gz     what a model predicted, with its .json
    <folder>/labels.sqlite                          the index
    <folder>/labels.lock                            held by whoever changes something
    <folder>/labels.tmp/                            files being written
    <folder>/labels.unfinished/                     what was left half done, put aside

The order of a change: the lock; the row in a transaction; the label, its record (each flushed and
renamed); the commit. What a killed program leaves is settled before the next change of the image
and when a store is opened: a record whose label is whole is entered (the submission had happened);
anything else without a row was never confirmed to anybody and is put aside.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from cinelabel.core.errors import CineLabelError, ConflictError, InputError, OutputError
from cinelabel.core.files import flush_to_disk, output_error, sha256, write_json, write_text
from cinelabel.core.grid import Grid
from cinelabel.core.review import ReviewRecord
from cinelabel.labelstore import earlier, validation
from cinelabel.labelstore.index import CaseRow, DamagedIndexError, Index, create, opened
from cinelabel.labelstore.records import (
    FINAL,
    CaseState,
    Event,
    Kind,
    LabelVersion,
    Lease,
    ReviewVersion,
    Submission,
    check_name,
    check_text,
    check_time,
    utc,
)
from cinelabel.labelstore.validation import Names
from cinelabel.studies import nifti
from cinelabel.studies.study import Study

logger = logging.getLogger(__name__)

INDEX = "labels.sqlite"
LOCK_TIMEOUT_S = 30.0
LOCK_POLL_S = 0.005
STALE_S = 3600.0  # a temporary file older than this belongs to nobody
RECORD_NAME = re.compile(r"(v\d{4,}-[0-9a-f]{12}|e\d{5,}-[a-z_]+)\.json")
TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{8}-")
LABEL_NAME = re.compile(r"v\d{4,}-[0-9a-f]{12}\.nii\.gz")

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A label file that is on disk under a temporary name."""

    path: Path
    sha256: str


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
        self._problems: list[str] = []
        self._index = self.folder / INDEX
        self._labels = self.folder / "labels"
        self._reviews = self.folder / "reviews"
        self._predictions = self.folder / "predictions"
        self._temporary = self.folder / "labels.tmp"
        self._unfinished = self.folder / "labels.unfinished"
        for path in (self._labels, self._reviews, self._predictions, self._temporary):
            _make_folder(path)
        with self._locked():
            self._remove_stale()
            self._repair()
            with opened(self._index) as index:
                self._settle(index)
        self._take_over_earlier()

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found wrong and how it was settled, in sentences."""
        return tuple(self._problems)

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

        The same label handed in again by the same reader and client (an answer that was lost) is
        the version it was. The reader's own lease ends.

        Args:
            image_id: name of the image.
            image_grid: the grid the label must lie on.
            file: the label as handed in; only read.
            submission: who, when, from what.
            names: segment names in the order of their values, or by value; None if canonical.
            kind: whether a reader hands it in now, or it comes from elsewhere.

        Raises:
            InputError: LabelError or GridError where the file is refused.
            ConflictError: it did not start from the newest version.
            OutputError: it cannot be written; the older label stands.
        """
        _check_submission(image_id, submission)
        labels, grid, warnings = validation.read_label(file, names, image_grid)
        warnings += validation.check(labels, grid, image_grid)
        submitted = sha256(file)
        with (
            _about(image_id),
            self._draft(labels, image_grid) as draft,
            self._changing(image_id) as change,
        ):
            index, case = change.index, change.case
            base = submission.base_version
            if base is None:
                base = index.seen(image_id, submission.who, submission.client_id) or 0
            if base != case.newest:
                newest = index.event(image_id, case.newest)
                if newest is not None and _is_repetition(newest, submission, base, draft.sha256):
                    return self._version(newest)
                last = newest or case
                raise _conflict(image_id, base, case.newest, last.who, last.time)
            lease = index.lease(image_id)
            if lease is not None and self._is_held_by_another(lease, submission):
                warnings += (f"{lease.who} holds this case until {lease.until}.",)
            event = self._event(change, kind, submission.who, submission.comment)
            event = event.model_copy(
                update={
                    "client_id": submission.client_id,
                    "time": submission.time,
                    "version": case.last + 1,
                    "sha256": draft.sha256,
                    "submitted_sha256": submitted,
                    "names": _in_order(names),
                    "base_version": base,
                    "model": submission.model,
                    "prediction": submission.prediction,
                    "warnings": (*submission.warnings, *warnings),
                }
            )
            self._keep(change, event, draft)
            index.set_seen(image_id, event.who, event.client_id, case.last + 1)
            index.remove_lease(image_id, event.who, event.client_id)
        return self._version(event)

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

    def set_aside(self, image_id: str, reason: str) -> None:
        """Keep the labels of an image that changed in its history only; the case is open again.

        Nothing happens where there is no label that counts.
        """
        check_text(reason, "the reason", required=True)
        with self._changing(image_id) as change:
            if change.case.newest:
                self._keep(change, self._event(change, "set_aside", "cinelabel", reason))
                self._warn(f"{image_id}: its labels no longer count, {reason}.")

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
            stack.enter_context(_about(image_id))
            drafts = {n: stack.enter_context(self._copied(file)) for n, file in files.items()}
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
            label = self._label_path(event)
            record = label.with_name(f"{event.stem}.json")
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
        folder = self._predictions / image_id
        with (
            _about(image_id),
            self._draft(labels, grid) as draft,
            self._changing(image_id) as change,
        ):
            record = _prediction_record(draft.sha256, model, info, utc(self._clock()))
            previous = change.index.prediction(image_id)
            change.index.set_prediction(image_id, record)
            _place(draft.path, folder / f"{draft.sha256[:12]}.nii.gz")
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

    # Who has seen what, and who holds what

    def saw(self, image_id: str, who: str, client_id: str, version: int) -> None:
        """Remember that a client was shown a version, 0 for none."""
        check_name(image_id, "image name")
        _check_holder(who, client_id)
        if self.seen(image_id, who, client_id) != version:
            with self._changing(image_id) as change:
                change.index.set_seen(image_id, who, client_id, version)

    def seen(self, image_id: str, who: str, client_id: str) -> int | None:
        """The version a client was shown last, None if it was shown nothing."""
        return self._read(lambda index: index.seen(image_id, who, client_id))

    def lease(self, image_id: str, who: str, client_id: str, minutes: float = 60.0) -> Lease:
        """Hold a case for a reader; the holder's own lease is prolonged.

        Raises:
            ConflictError: another reader or client holds it.
        """
        check_name(image_id, "image name")
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
                event = self._event(change, "lease_taken_over", who, reason)
                self._keep(change, event.model_copy(update={"client_id": client_id}))
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

    def counts(self) -> dict[str, int]:
        """How many cases are "labelled" and "skipped", and how many "versions" are kept."""
        return self._read(lambda index: index.counts())

    # Reviews

    def review(self, study: str) -> ReviewVersion | None:
        """The newest review of a study, None where there is none."""
        return next(reversed(self.review_history(study)), None)

    def review_history(self, study: str) -> list[ReviewVersion]:
        """Every review of a study, oldest first. Raises InputError if one is damaged."""
        check_name(study, "study name")
        found = [_read_review(path) for path in (self._reviews / study).glob("v*.json")]
        return sorted(found, key=lambda review: review.version)

    def save_review(
        self, study: str, record: ReviewRecord, who: str, base_version: int | None = None
    ) -> ReviewVersion:
        """Keep a review as the newest version.

        Raises:
            InputError: the record is of another study, or `who` is missing.
            ConflictError: it did not start from the newest version (0 for none).
            OutputError: it cannot be written.
        """
        check_name(study, "study name")
        check_text(who, "the reader's name", required=True)
        if record.study != study:
            raise InputError(f"the review is of the study {record.study}", where=study)
        with self._locked():
            newest = self.review(study)
            version = newest.version if newest else 0
            if newest is not None and (base_version or 0) != version:
                raise _conflict(study, base_version or 0, version, newest.who, newest.time)
            kept = ReviewVersion(study, version + 1, who, utc(self._clock()), version, record)
            self._keep_review(kept)
        return kept

    def reviews(self) -> dict[str, ReviewVersion]:
        """The newest reviews of all studies."""
        found = {path.name: self.review(path.name) for path in _folders(self._reviews)}
        return {study: review for study, review in found.items() if review is not None}

    def restore_reviews(self, study: str, reviews: Sequence[ReviewVersion]) -> int:
        """Bring the reviews of a study in from another store, as they are; how many were new.

        Raises:
            ConflictError: the store has other reviews of the study.
        """
        with self._locked():
            known = self.review_history(study)
            if known != list(reviews[: len(known)]):
                raise ConflictError("has other reviews here", where=study, version=len(known))
            for review in reviews[len(known) :]:
                self._keep_review(review)
        return len(reviews) - len(known)

    # How changes are made

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes the store meanwhile, in this process or another.

        Raises:
            OutputError: somebody else has been changing it for too long.
        """
        lock = FileLock(self.folder / "labels.lock", LOCK_TIMEOUT_S, poll_interval=LOCK_POLL_S)
        try:
            with lock:
                yield
        except Timeout as error:
            raise OutputError(
                "another program has been changing the labels for too long",
                where=self.folder.name,
                remedy="End the one that hangs and try again",
            ) from error

    @contextlib.contextmanager
    def _changing(self, image_id: str) -> Iterator[Change]:
        """A change of one image in a transaction, after settling what was left half done.

        When the change fails, the files it put in place are removed again, unless its row is on
        disk after all.
        """
        check_name(image_id, "image name")
        change: Change | None = None
        with _about(image_id), self._locked():
            try:
                with contextlib.ExitStack() as stack:
                    index = self._open(stack)
                    if self._settle_image(index, image_id):
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
                    self._repair()
                    raise OutputError(
                        "the index of the labels was damaged and is mended now",
                        where=image_id,
                        remedy="Try again",
                    ) from error
                raise

    def _open(self, stack: contextlib.ExitStack) -> Index:
        """The index with a change begun; mended first where that is needed."""
        try:
            index = stack.enter_context(opened(self._index))
        except DamagedIndexError:
            self._repair()
            index = stack.enter_context(opened(self._index))
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
            with opened(self._index) as index:
                return index.case(change.case.image).sequence > change.case.sequence
        except (OutputError, DamagedIndexError):
            return True

    def _read(self, question: Callable[[Index], T]) -> T:
        """Ask the index, making it anew if it turns out to be damaged."""
        try:
            with opened(self._index) as index:
                return question(index)
        except DamagedIndexError:
            with self._locked():
                self._repair()
            with opened(self._index) as index:
                return question(index)

    def _find(self, index: Index, image_id: str, number: int) -> LabelVersion | None:
        event = index.event(image_id, number)
        return None if event is None else self._version(event)

    def _version(self, event: Event) -> LabelVersion:
        return LabelVersion(
            image=event.image,
            version=event.version or 0,
            sha256=event.sha256 or "",
            path=self._label_path(event),
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
        )

    def _predicted(self, image_id: str, record: str) -> LabelVersion:
        told = json.loads(record)
        return LabelVersion(
            image=image_id,
            version=0,
            sha256=told["sha256"],
            path=self._predictions / image_id / f"{told['sha256'][:12]}.nii.gz",
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

    def _event(self, change: Change, kind: Kind, who: str, text: str) -> Event:
        """The next event of the case that is being changed, not yet kept."""
        return Event.model_construct(
            image=change.case.image,
            sequence=change.case.sequence + 1,
            kind=kind,
            who=who,
            time=utc(self._clock()),
            text=text,
        )

    def _is_held_by_another(self, lease: Lease, submission: Submission) -> bool:
        mine = (lease.who, lease.client_id) == (submission.who, submission.client_id)
        return not mine and lease.until > utc(self._clock())

    def _label_path(self, event: Event) -> Path:
        return self._labels / event.image / f"{event.stem}.nii.gz"

    @contextlib.contextmanager
    def _draft(self, labels: np.ndarray, grid: Grid) -> Iterator[Draft]:
        """Labels on disk under a temporary name, which is gone at the end unless it was renamed."""
        path = self._temporary / f"{secrets.token_hex(8)}.nii.gz"
        frames = np.broadcast_to(np.float32(0), (*grid.shape, 1))
        try:
            nifti.write_label(path, labels, Study("label", frames, grid, is_cine=False))
            yield Draft(path, sha256(path))
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _copied(self, file: Path) -> Iterator[Draft]:
        """A copy of a file under a temporary name, gone at the end unless it was renamed."""
        path = self._temporary / f"{secrets.token_hex(8)}.nii.gz"
        try:
            shutil.copyfile(file, path)
            flush_to_disk(path)
            yield Draft(path, sha256(path))
        except OSError as error:
            raise output_error(error, path) from error
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _keep(self, change: Change, event: Event, draft: Draft | None = None) -> None:
        """Enter an event, then put its label and its record on disk; the caller commits."""
        event = Event.model_validate(event.model_dump())
        change.index.add(event)
        label = self._label_path(event)
        record = label.with_name(f"{event.stem}.json")
        _make_folder(label.parent)
        if draft is not None:
            change.placed.append(label)
            _place(draft.path, label)
        change.placed.append(record)
        write_text(record, event.model_dump_json(indent=2) + "\n")

    # How the store is mended

    def _remove_stale(self) -> None:
        """Remove temporary files that a killed program left."""
        oldest = time.time() - STALE_S
        for path in self._temporary.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _repair(self) -> None:
        """Make the index anew from the records unless it is sound; the damaged one is kept."""
        try:
            with opened(self._index) as index:
                index.require_sound()
                return
        except DamagedIndexError as error:
            reason = str(error)
        had_labels = any(self._labels.iterdir())
        try:
            self._put_index_aside(reason)
            fresh = self._temporary / f"{secrets.token_hex(8)}.sqlite"
            create(fresh)
            with opened(fresh) as index:
                index.begin()
                for folder in _folders(self._labels):
                    self._settle_image(index, folder.name)
                self._find_predictions(index)
                index.commit()
            os.replace(fresh, self._index)
            flush_to_disk(self.folder)
        except OSError as error:
            raise output_error(error, self._index) from error
        if had_labels:
            self._warn("The index of the labels was made anew from their records.")

    def _put_index_aside(self, reason: str) -> None:
        """Rename a damaged index, and first its journal, which must not meet the new one."""
        mark = f"{self._clock():%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
        aside = f"labels.damaged-{mark}.sqlite"
        for suffix in ("-journal", ""):
            path = self.folder / f"{INDEX}{suffix}"
            if path.exists():
                os.replace(path, self.folder / f"{aside}{suffix}")
                if not suffix:
                    self._warn(f"The index of the labels was damaged ({reason}); see {aside}.")

    def _settle(self, index: Index) -> None:
        """Settle every image whose files and rows differ."""
        rows = index.all_stems()
        index.begin()
        for folder in _folders(self._labels):
            names, stems = set(os.listdir(folder)), rows.pop(folder.name, set())
            expected = {f"{stem}.json" for stem in stems}
            expected |= {f"{stem}.nii.gz" for stem in stems if stem.startswith("v")}
            if names - expected:
                self._settle_image(index, folder.name)
            for missing in sorted(expected - names):
                self._warn(f"{folder.name}: {missing} is missing, bring it from a backup.")
        for image in rows:
            self._warn(f"{image}: the folder of its labels is missing, bring it from a backup.")
        index.commit()

    def _settle_image(self, index: Index, image_id: str) -> bool:
        """Enter records without a row, put aside what else has none; whether any was entered."""
        folder = self._labels / image_id
        if not folder.is_dir():
            return False
        known = index.stems(image_id)
        unknown = {name for name in os.listdir(folder) if name.split(".")[0] not in known}
        records = [name for name in unknown if RECORD_NAME.fullmatch(name)]
        entered = False
        for event in self._readable(folder, records):
            if self._fits(index.case(image_id), event):
                index.add(event)
                known.add(event.stem)
                entered = True
        for name in sorted(unknown):
            if name.split(".")[0] in known:
                continue
            if TEMPORARY_NAME.match(name):
                (folder / name).unlink(missing_ok=True)
            elif RECORD_NAME.fullmatch(name) or LABEL_NAME.fullmatch(name):
                self._put_aside(folder / name)
        return entered

    def _readable(self, folder: Path, names: Sequence[str]) -> list[Event]:
        """The events of the records that can be read and carry their own name, in order."""
        events = []
        for name in names:
            try:
                event = Event.read((folder / name).read_bytes(), f"{folder.name}/{name}")
            except (InputError, OSError):
                continue
            if (event.image, f"{event.stem}.json") == (folder.name, name):
                events.append(event)
        return sorted(events, key=lambda event: event.sequence)

    def _fits(self, case: CaseRow, event: Event) -> bool:
        """Whether an event goes on from a case, and its label is whole."""
        if event.sequence <= case.sequence or (event.version or case.last + 1) <= case.last:
            return False
        if event.version is None:
            return True
        label = self._label_path(event)
        return label.is_file() and sha256(label) == event.sha256

    def _put_aside(self, path: Path) -> None:
        target = self._unfinished / path.parent.name / path.name
        if target.exists():
            target = target.with_name(f"{secrets.token_hex(4)}-{path.name}")
        _make_folder(target.parent)
        _place(path, target)
        self._warn(f"{path.parent.name}: {path.name} was left half done and is put aside.")

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
                self._warn(f"{label.image}: its earlier label is not taken over, {error}")

    def _find_predictions(self, index: Index) -> None:
        """Enter the newest prediction of every image."""
        for record in sorted(self._predictions.glob("*/*.json")):
            try:
                text = record.read_text(encoding="utf-8")
                told = json.loads(text)
                known = index.prediction(record.parent.name)
                if record.with_suffix(".nii.gz").is_file() and (
                    known is None or json.loads(known)["time"] < told["time"]
                ):
                    index.set_prediction(record.parent.name, text)
            except (OSError, ValueError, KeyError, TypeError):
                self._warn(f"{record.parent.name}: the record of a prediction is damaged.")

    def _keep_review(self, review: ReviewVersion) -> None:
        folder = self._reviews / review.study
        _make_folder(folder)
        write_json(folder / f"v{review.version:04d}.json", review.as_dict())

    def _warn(self, sentence: str) -> None:
        logger.warning("%s", sentence)
        self._problems.append(sentence)


@contextlib.contextmanager
def _about(image_id: str) -> Iterator[None]:
    """Name the image, not a path of this machine, where something cannot be written."""
    try:
        yield
    except OutputError as error:
        raise OutputError(error.problem, where=image_id, remedy=error.remedy) from error


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def _make_folder(path: Path) -> None:
    """Make a folder that is still there after a power cut. Raises OutputError."""
    if path.is_dir():
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        flush_to_disk(path.parent)
    except OSError as error:
        raise output_error(error, path) from error


def _place(source: Path, target: Path) -> None:
    """Rename a flushed file to its name, for good. Raises OutputError."""
    try:
        _make_folder(target.parent)
        os.replace(source, target)
        flush_to_disk(target.parent)
    except OSError as error:
        raise output_error(error, target) from error


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
    for warning in submission.warnings:
        check_text(warning, "a warning")
    if submission.base_version is not None and submission.base_version < 0:
        raise InputError(f"there is no version {submission.base_version}", where=image_id)


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


def _is_repetition(event: Event, submission: Submission, base: int, digest: str) -> bool:
    """Whether a submission is one that was kept and whose answer was lost."""
    same_hand = (event.who, event.client_id) == (submission.who, submission.client_id)
    return same_hand and event.sha256 == digest and event.base_version == base


def _conflict(name: str, base: int, newest: int, who: str, time: str) -> ConflictError:
    began = f"yours began from version {base}" if base else "yours began from none"
    there = f"version {newest} by {who} of {time} is there"
    if not newest:
        there = "its image has changed and earlier labels no longer count"
    return ConflictError(
        f"{there}, {began}",
        where=name,
        remedy="Load the newest state, bring your changes into it and submit again",
        version=newest,
        who=who,
        time=time,
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


def _read_review(path: Path) -> ReviewVersion:
    """A review from its file. Raises InputError if it is damaged."""
    where = f"{path.parent.name}/{path.name}"
    try:
        return ReviewVersion.read(json.loads(path.read_text(encoding="utf-8")), where)
    except (OSError, ValueError) as error:
        raise InputError("is damaged", where=where, remedy="Bring it from a backup") from error
