"""The cases of a folder of studies, one a frame, kept up to date while they are served.

The studies are only read. A source is taken when it is whole: unchanged for a while, no unfinished
copy beside it, readable to its end, and the same after reading as before. Its frames are then
images in the workspace, and those are served: no request waits for the disk of the studies.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from cinelabel import studies
from cinelabel.core.errors import BusyError, CineLabelError, ConflictError, InputError
from cinelabel.core.files import atomic_write, check_identifier, output_error
from cinelabel.studies.cases import (
    INDEX,
    Case,
    Entry,
    ServedStudy,
    read_device,
    read_index,
    write_index,
)
from cinelabel.studies.frames import Written, same_image, write_frames
from cinelabel.studies.marks import Marks
from cinelabel.studies.naming import NAME_LENGTH, Known, kept_name, study_name
from cinelabel.studies.sources import (
    NIFTI_SUFFIXES,
    FileState,
    Scanner,
    Source,
    current_fingerprint,
    file_state,
    is_nifti,
)
from cinelabel.studies.study import LARGEST_BYTES, Study

__all__ = ["Case", "Catalogue", "Reading", "ServedStudy"]

logger = logging.getLogger(__name__)

IMAGES = "store"
INCOMING = "incoming"
ABSENT = "absent"
ADDED = "added"
LOCK = ".studies.lock"
LOCK_PATIENCE_S = 60.0
ADDING_PATIENCE_S = 5.0
ADDING_AT_ONCE = 4
"""How many images may wait to be added; each of them keeps a thread of the server."""
SETTLE_S = 5.0
FOLDER_SETTLES = 4.0
"""A DICOM folder must be quiet this many times as long as a file: its files come one by one."""
SAVE_EVERY_S = 1.0
OF_ADDED = "//added/"
"""How the keys of images in the workspace begin; a path below a folder never begins so."""

OnChange = Callable[[str, str, bool], object]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Reading:
    """How far the source is that is being read.

    Attributes:
        study: what it will be called.
        done, total: frames written and in all; total is 0 while the source is still being read.
        rate: frames a second.
        seconds_left: for this study; None while nothing is written yet.
        sources_left: further sources that wait their turn.
    """

    study: str
    done: int
    total: int
    rate: float
    seconds_left: float | None
    sources_left: int


@dataclass(frozen=True)
class _Snapshot:
    """What is served at a moment; replaced as a whole, so that nobody needs a lock to read it."""

    studies: tuple[ServedStudy, ...] = ()
    cases: tuple[Case, ...] = ()
    by_id: Mapping[str, Case] = field(default_factory=dict)
    made_of: Mapping[str, str] = field(default_factory=dict)  # fingerprints by study
    problems: tuple[str, ...] = ()


@dataclass
class _Look:
    """How a source looked in the last scans: since when (monotonic s) and how often the same."""

    files: tuple[FileState, ...]
    fingerprint: str
    since: float
    scans: int = 1
    tried: bool = False


class _Stopped(Exception):
    """`close` was called while a source was read."""


class Catalogue:
    """The cases of a folder, served from a workspace; several processes may have one workspace.

    Making one reads the index of the last time, so what was known is served at once; `refresh`
    and `watch` bring it up to date. `cases`, `find` and the other questions never wait for a scan.

    Args:
        folder: the studies; never written to.
        workspace: folder for the images and the index; made if absent.
        on_change: called with an image's name, a reason, and whether there was an image, before
            the image gets other content, or content where none was, so that labels under that
            name are set aside. If it raises, the study stays as it is and is tried again.
        settle_s: how long a file must be unchanged before it is read; a DICOM folder four times.

    Raises:
        InputError: the workspace lies inside the folder.
        OutputError: the workspace is of another folder, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        workspace: Path,
        on_change: OnChange | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.folder, self.path = folder.resolve(), workspace.resolve()
        _require_apart(self.folder, self.path)
        self._on_change: OnChange = on_change or (lambda image_id, reason, was_there: None)
        self._settle_s = settle_s
        self._scanner = Scanner(self.folder)
        self._looks: dict[str, _Look] = {}
        self._missing: dict[str, _Look] = {}
        self._entries: dict[str, Entry] = {}  # never changed in place, so that any thread may read
        self._unsaved = False
        self._stamp: tuple[int, int] | None = None
        self._marks = Marks(self.path)
        self._marks_stamp: tuple[int, int] | None = None
        self._scanning = threading.Lock()  # held by `refresh`: one thread at a time
        self._work = threading.RLock()  # held while sources are taken, for about a second
        self._adding = threading.BoundedSemaphore(ADDING_AT_ONCE)
        self._moment = threading.Condition()  # held for moments: what is published, what is held
        self._held: Counter[str] = Counter()
        self._hidden: frozenset[str] = frozenset()  # studies whose images are being replaced
        self._snapshot = _Snapshot()
        self._trouble: tuple[str, ...] = ()
        self._waiting: tuple[str, ...] = ()
        self._reading: Reading | None = None
        self._device = read_device(self.path)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        for made in (self.images, self.path / ADDED):
            try:
                made.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise output_error(error, made) from error
        _bring_back(self.path / ABSENT, self.images)
        self._read_index()
        self._publish()

    # What is served: answered at once, from one snapshot.

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.path / IMAGES

    def image_path(self, image_id: str) -> Path:
        """The file of an image. Raises InputError for what cannot be a name."""
        return self.images / f"{check_identifier(image_id, 'image name')}.nii.gz"

    def image_state(self, image_id: str) -> dict[str, int]:
        """What changes when an image does, as it is kept with a prediction.

        Raises InputError if there is no such file.
        """
        try:
            found = self.image_path(image_id).stat()
        except OSError as error:
            raise InputError("the image is gone", where=image_id) from error
        return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}

    def cases(self) -> Sequence[Case]:
        """Every case that is served, in the order of studies and frames."""
        return self._snapshot.cases

    def find(self, image_id: str) -> Case | None:
        """The case of an image, None for a name that is not served."""
        return self._snapshot.by_id.get(image_id)

    @property
    def studies(self) -> Sequence[ServedStudy]:
        """Every study that is served, in the order of their paths."""
        return self._snapshot.studies

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence on each source that cannot be read; paths are relative to the folder."""
        return self._trouble + self._snapshot.problems

    @property
    def waiting(self) -> tuple[str, ...]:
        """A sentence on each source that is not whole yet."""
        return self._waiting

    @property
    def reading(self) -> Reading | None:
        """How far the source is that is being read, None while there is none."""
        return self._reading

    # What the studies' disk is needed for.

    def load_study(self, image_id: str) -> Study:
        """The whole study that an image is a frame of, from its source.

        Raises:
            InputError: there is no such image, or the source cannot be read.
            ConflictError: the source is no longer what the image was made of.
        """
        case, made_of = self._known(image_id)
        if current_fingerprint(case.source) == made_of:
            study = studies.load(case.source, series=case.series)
            if current_fingerprint(case.source) == made_of:
                return replace(study, name=case.study)
        raise ConflictError(
            "the study is being changed or was removed on disk",
            where=case.study,
            remedy="Try again in a minute, or segment single frames",
        )

    def mark_phases(self, image_id: str, ed: int, es: int) -> None:
        """Mark end-diastole and end-systole of an image's study as a segmentation found them.

        What the source names stays, and a study that changes loses its marks.

        Raises:
            InputError: there is no such image.
            BusyError: another program has been writing marks for too long.
            OutputError: the marks cannot be written.
        """
        case, made_of = self._known(image_id)
        self._marks.set(case.study, made_of, ed, es)
        self._publish()

    @contextlib.contextmanager
    def holding(self, image_id: str) -> Iterator[Case]:
        """The case of an image, which keeps its content within the block.

        For whoever writes a label: it is of the image that was there when the block began. Raises
        InputError if there is no such image.
        """
        with self._moment:
            case, _ = self._known(image_id)
            self._held[case.study] += 1
        try:
            yield case
        finally:
            with self._moment:
                self._held[case.study] -= 1
                self._moment.notify_all()

    def add_image(self, image_id: str, file: Path) -> Sequence[Case]:
        """Keep a NIfTI file in the workspace and serve it: 3D under its name, 4D a case a frame.

        Raises:
            InputError: the name cannot be one, or the file cannot be read.
            ConflictError: there is an image or a study of that name.
            BusyError: studies are being read, or others add images.
            OutputError: the workspace cannot be written.
        """
        check_identifier(image_id, "image name")
        if len(image_id) > NAME_LENGTH or image_id.startswith("."):
            raise InputError(
                "cannot be the name of an image",
                where=image_id[:NAME_LENGTH],
                remedy=f"Use at most {NAME_LENGTH} characters, and no '.' at the beginning",
            )
        if not is_nifti(file.name):
            raise InputError("is no NIfTI file", where=image_id, remedy="Send .nii or .nii.gz")
        from cinelabel.studies import nifti

        try:
            nifti.require_size(file, LARGEST_BYTES)
        except InputError as error:  # the client knows the file by the name it gave
            raise InputError(error.problem, where=image_id, remedy=error.remedy) from error
        suffix = ".nii.gz" if file.name.lower().endswith(".gz") else ".nii"
        target = self.path / ADDED / f"{image_id}{suffix}"
        key = f"{OF_ADDED}{target.name}"
        with self._adding_one(), self._alone(ADDING_PATIENCE_S):
            self._require_new(image_id)
            try:
                with atomic_write(target) as temporary:
                    shutil.copyfile(file, temporary)
                self._take(_added_source(target))
                self._require_served(key, image_id)
            except BaseException:
                self._entries = {k: entry for k, entry in self._entries.items() if k != key}
                target.unlink(missing_ok=True)
                raise
            self._save()
            return tuple(self._entries[key].studies[0].cases())

    def refresh(self, progress: Progress | None = None) -> None:
        """Scan once, take what is whole, and stop serving what is gone.

        What cannot be read becomes a sentence in `problems`, what is not whole yet one in
        `waiting`. Images and labels of a study that is gone are kept.

        Args:
            progress: called with sources taken, sources to take, and the key of the next.

        Raises:
            InputError: the folder of studies is not there or cannot be listed.
            OutputError: the workspace cannot be written.
        """
        with self._scanning:
            scan = self._scanner.scan()
            self._require_same_disk(bool(scan.sources))
            self._trouble = tuple(
                f"{self._relative(path)}: cannot be listed, {why}." for path, why in scan.unreadable
            )
            with self._work:
                self._read_index()
            sources = {s.key: s for s in (*scan.sources, *_added_sources(self.path / ADDED))}
            ready = self._look_at(sources)
            self._take_all(ready, progress)
            self._note_gone(sources, [path for path, _ in scan.unreadable])

    def watch(self, interval_s: float = 10.0) -> None:
        """Refresh in a thread until `close`; what goes wrong becomes a sentence in `problems`."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, args=(interval_s,), name="catalogue", daemon=True
            )
            self._thread.start()

    def close(self, timeout_s: float = 4.0) -> None:
        """End the thread of `watch`, within a study if need be."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _watch(self, interval_s: float) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                self.refresh()
            except CineLabelError as error:
                self._trouble = (self._relative(str(error)),)
            except Exception as error:  # the thread must live on: a later scan may go well
                logger.exception("the studies could not be scanned")
                self._trouble = (f"The studies could not be scanned ({type(error).__name__}).",)
            pause = min(interval_s, self._settle_s) if self._waiting else interval_s

    # Which sources are whole, and which are gone.

    def _require_same_disk(self, has_sources: bool) -> None:
        """Raise InputError if the folder is empty because a share is no longer mounted there."""
        device = self.folder.stat().st_dev
        if has_sources:
            self._unsaved |= self._device != device
            self._device = device
        elif self._device not in (None, device):
            raise InputError(
                "is empty and lies on another disk than before",
                where=self.folder,
                remedy="Mount the share again; until then all is served as it was",
            )

    def _look_at(self, sources: Mapping[str, Source]) -> list[Source]:
        """The sources that are to be taken; sentences on those that must wait."""
        now, stored = time.monotonic(), set(os.listdir(self.images))
        looks: dict[str, _Look] = {}
        ready, waiting = [], []
        for key, source in sources.items():
            look = self._looks.get(key)
            if look is None or look.files != source.files:
                look = _Look(source.files, source.fingerprint, now)
            else:
                look.scans += 1
            looks[key] = look
            if self._is_current(key, look, stored):
                continue
            reason = self._why_wait(source, look, now)
            if reason is None:
                ready.append(source)
            else:
                waiting.append(f"{self._shown(key)}: {reason}.")
        self._looks, self._waiting = looks, tuple(waiting)
        return ready

    def _is_current(self, key: str, look: _Look, stored: set[str]) -> bool:
        """Whether an entry was made of the source as it is, and all its images are there."""
        entry = self._entries.get(key)
        if entry is None or not self._is_of(key, look):
            return False
        if entry.problems and not look.tried:  # once more in a new process, then not again
            return False
        return all(f"{image_id}.nii.gz" in stored for image_id in entry.image_ids())

    def _is_of(self, key: str, look: _Look) -> bool:
        return self._entries[key].fingerprint == look.fingerprint

    def _why_wait(self, source: Source, look: _Look, now: float) -> str | None:
        """Why a source cannot be taken yet, None if it can."""
        if source.unfinished is not None:
            return f"waits for {source.unfinished}, which is still being copied"
        is_file = len(source.files) == 1 and source.files[0].name == source.path.name
        quiet_s = self._settle_s * (1 if is_file else FOLDER_SETTLES)
        if look.scans < 2 or now - look.since < quiet_s:
            return f"waits until nothing has been written to it for {quiet_s:g} s"
        return None

    def _note_gone(self, sources: Mapping[str, Source], unreadable: Sequence[str]) -> None:
        """Serve no longer what is missing for a while, and again what has returned."""
        now = time.monotonic()
        missing, changed = {}, {}
        for key, entry in self._entries.items():
            if key in sources:
                if entry.gone and key in self._looks and self._is_of(key, self._looks[key]):
                    changed[key] = replace(entry, gone=False)
                continue
            look = self._missing.get(key) or _Look((), "", now, 0)
            look.scans += 1
            missing[key] = look
            old = look.scans >= 2 and now - look.since >= self._settle_s
            if not entry.gone and old and not self._is_kept(key, sources, unreadable):
                changed[key] = replace(entry, gone=True)
        self._missing = missing
        if changed or self._unsaved:
            with self._alone(), self._saving():
                self._enter({k: entry for k, entry in changed.items() if k in self._entries})

    def _is_kept(self, key: str, sources: Mapping[str, Source], unreadable: Sequence[str]) -> bool:
        """Whether a missing source may be there still: its folder cannot be listed now, or it
        became part of a source, or several, of which nothing has been served yet."""
        path = str(self.folder / key)
        if any(path.startswith(f"{folder}{os.sep}") for folder in unreadable):
            return True
        above = {str(parent) for parent in PurePosixPath(key).parents}
        return any(
            (other in above or other.startswith(f"{key}/")) and not self._serves(other)
            for other in sources
        )

    def _serves(self, key: str) -> bool:
        entry = self._entries.get(key)
        return entry is not None and bool(entry.studies)

    # Taking a source: read, named, compared, moved into place.

    def _take_all(self, ready: Sequence[Source], progress: Progress | None) -> None:
        """Take sources one after the other; what was taken is served within about a second."""
        left = list(ready)
        try:
            while left and not self._stop.is_set():
                with self._alone(), self._saving():
                    until = time.monotonic() + SAVE_EVERY_S
                    stored = set(os.listdir(self.images))
                    while left and time.monotonic() < until:
                        source = left.pop(0)
                        if progress is not None:
                            progress(len(ready) - len(left) - 1, len(ready), source.key)
                        look = self._looks.get(source.key)
                        if look is not None and not self._is_current(source.key, look, stored):
                            self._take(source, len(left))
        except _Stopped:
            return
        finally:
            self._reading = None
        if progress is not None:
            progress(len(ready), len(ready), "")

    def _take(self, source: Source, sources_left: int = 0) -> None:
        """Read a source and move its images into place, unless it changed meanwhile.

        If that fails it must rest again, so that the next scan begins with another source.
        """
        look, before = self._looks.pop(source.key, None), self._entries.get(source.key)
        incoming = self.path / INCOMING
        found = list(self._read(source, incoming, sources_left))
        problems = [self._relative(item) for item in found if isinstance(item, str)]
        written = [item for item in found if isinstance(item, Written)]
        if current_fingerprint(source.path) != source.fingerprint:
            self._waiting += (f"{self._shown(source.key)}: waits, it changed while it was read.",)
            return
        served: list[ServedStudy] = []
        for item in written:
            study = self._named(item, source, len(found) > 1, {s.name for s in served})
            same_source = before is not None and before.fingerprint == source.fingerprint
            self._move_in(item, study, same_source)
            served.append(study)
        if problems and before is not None and not before.gone:
            # what was served of it stays, as it was read last
            made = {image_id for study in served for image_id in study.image_ids()}
            served += [s for s in before.studies if made.isdisjoint(s.image_ids())]
        self._enter({source.key: Entry(source.fingerprint, tuple(served), tuple(problems))})
        self._hidden -= {study.name for study in served}
        if look is not None:
            look.tried = True
            self._looks[source.key] = look

    def _read(self, source: Source, incoming: Path, sources_left: int) -> Iterator[Written | str]:
        """Studies of a source as images in `incoming`, sentences on what cannot be read."""
        name, start = study_name(source.path, self._root_of(source)), time.monotonic()
        self._reading = Reading(name, 0, 0, 0.0, None, sources_left)

        def progress(done: int, total: int) -> None:
            nonlocal start
            if self._stop.is_set():
                raise _Stopped
            if done == 0:
                start = time.monotonic()
            rate = done / max(time.monotonic() - start, 1e-3)
            seconds = (total - done) / rate if done else None
            self._reading = Reading(name, done, total, rate, seconds, sources_left)

        try:
            yield from write_frames(source.path, incoming, progress)
        except (CineLabelError, _Stopped):
            raise
        except Exception as error:  # one strange file must not keep the others from being served
            logger.exception("a source could not be read")
            yield f"{source.path}: cannot be read ({type(error).__name__})."

    def _named(
        self, item: Written, source: Source, several: bool, taken: Collection[str]
    ) -> ServedStudy:
        """A study under the name it had, else one after its path that is free.

        The name of a missing study is free for the same images alone, so that labels stay with
        what they are of.
        """
        wanted = study_name(source.path, self._root_of(source))
        if several and item.series is not None:
            wanted = f"{wanted}-{item.series}"
        study, known = _served(item, wanted, source), Known(self._entries, self._missing)
        kept = kept_name(study, source.key, known, taken)
        if kept is not None:
            self._forget(kept[1])
            return replace(study, name=kept[0])
        for number in itertools.count(2):
            holders = known.holders(study)
            gone = all(key in self._missing for key, _ in holders)
            if study.name.casefold() not in {name.casefold() for name in taken} and (
                not holders or (gone and self._has_images(study, item))
            ):
                self._forget(holders)
                return study
            study = replace(study, name=f"{wanted}-{number}")
        raise AssertionError("numbers do not end")

    def _has_images(self, study: ServedStudy, item: Written) -> bool:
        """Whether the images kept under a study's name are its own."""
        return all(map(same_image, item.images, map(self.image_path, study.image_ids())))

    def _move_in(self, item: Written, study: ServedStudy, same_source: bool) -> None:
        """Put new images in place of old ones; labels of those that differ are set aside first.

        Meanwhile the study is not served. If it fails, it is served as before, or, if some images
        were replaced already, again when it has been taken.
        """
        pairs = zip(study.image_ids(), item.images, strict=True)
        moves = [(i, new, self.image_path(i)) for i, new in pairs]
        moves = [move for move in moves if not same_image(move[1], move[2])]
        if not moves:
            return
        self._hidden |= {study.name}
        self._publish()
        with self._moment:
            self._moment.wait_for(lambda: not self._held[study.name])
        try:
            for image_id, _, target in moves:
                if target.exists():
                    self._on_change(image_id, "its image changed on disk", True)
                elif not same_source:
                    self._on_change(image_id, "its image is new, or was lost", False)
        except BaseException:
            self._hidden -= {study.name}
            self._publish()
            raise
        for _, new, target in moves:
            try:
                os.replace(new, target)
            except OSError as error:
                raise output_error(error, target) from error

    def _require_new(self, image_id: str) -> None:
        """Raise ConflictError if a study or an image has the name, or had it once; case is none."""
        wanted = image_id.casefold()
        for entry in self._entries.values():
            names = {study.name for study in entry.studies}
            if wanted in {name.casefold() for name in names.union(entry.image_ids())}:
                raise _exists(image_id)
        files = {f"{wanted}{suffix}" for suffix in NIFTI_SUFFIXES}
        if any(name.casefold() in files for name in os.listdir(self.path / ADDED)):
            raise _exists(image_id)

    def _require_served(self, key: str, image_id: str) -> None:
        """Raise unless an added image has become a study of its name."""
        entry = self._entries.get(key, Entry(""))
        if not entry.studies:
            problem = entry.problems[0].split(": ", 1)[-1] if entry.problems else "it changed."
            raise InputError(f"cannot be added, it {problem}", where=image_id)
        if entry.studies[0].name != image_id:
            raise _exists(image_id)

    # What is kept and published.

    @contextlib.contextmanager
    def _adding_one(self) -> Iterator[None]:
        """One of the few that may wait to add an image. Raises BusyError."""
        if not self._adding.acquire(blocking=False):
            raise BusyError("others are adding images", remedy="Try again in a minute")
        try:
            yield
        finally:
            self._adding.release()

    @contextlib.contextmanager
    def _alone(self, patience_s: float = LOCK_PATIENCE_S) -> Iterator[None]:
        """Alone among threads and processes that change this workspace, knowing what they did."""
        from filelock import FileLock, Timeout

        with self._working(patience_s):
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=patience_s)
            except Timeout as error:
                raise BusyError(
                    "another server is reading studies into this workspace",
                    where=self.path.name,
                    remedy="Try again in a minute",
                ) from error
            except OSError as error:
                raise output_error(error, self.path) from error
            try:
                self._read_index()
                yield
            finally:
                shutil.rmtree(self.path / INCOMING, ignore_errors=True)
                lock.release()

    @contextlib.contextmanager
    def _working(self, patience_s: float) -> Iterator[None]:
        """Alone among the threads of this process. Raises BusyError."""
        if not self._work.acquire(timeout=patience_s):
            raise BusyError("studies are being read", remedy="Try again in a minute")
        try:
            yield
        finally:
            self._work.release()

    def _read_index(self) -> None:
        """Take over what another process has written since; nothing if there is no index."""
        stamp, marks = _stamp(self.path / INDEX), _stamp(self._marks.path)
        is_new = stamp is not None and stamp != self._stamp
        if is_new:
            self._entries = read_index(self.path, self.folder)
            self._stamp, self._unsaved = stamp, False
        if is_new or marks != self._marks_stamp:
            self._marks_stamp = marks
            self._publish()

    def _enter(self, entries: Mapping[str, Entry]) -> None:
        self._entries = {**self._entries, **entries}
        self._unsaved = True

    def _forget(self, studies: Iterable[tuple[str, ServedStudy]]) -> None:
        """Let sources no longer have studies that others have become; they are read anew if
        they return."""
        for key, study in studies:
            left = tuple(s for s in self._entries[key].studies if s.name != study.name)
            self._enter({key: replace(self._entries[key], studies=left, fingerprint="")})

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """What was entered within the block is written and served, also if the block fails."""
        try:
            yield
        finally:
            if self._unsaved:
                self._save()

    def _save(self) -> None:
        """Write the index, then serve what it holds."""
        write_index(self.path, self.folder, self._entries, self._device)
        self._stamp, self._unsaved = _stamp(self.path / INDEX), False
        self._publish()

    def _publish(self) -> None:
        """Serve what the entries hold, but for studies whose images are being replaced."""
        with self._moment:
            entries, marks = self._entries, self._marks.read()
            keys = sorted(entries, key=lambda key: (key.startswith(OF_ADDED), key))
            present = [entries[key] for key in keys if not entries[key].gone]
            served = [
                (marks.on(study, entry.fingerprint), entry.fingerprint)
                for entry in present
                for study in entry.studies
                if study.name not in self._hidden
            ]
            cases = tuple(case for study, _ in served for case in study.cases())
            self._snapshot = _Snapshot(
                studies=tuple(study for study, _ in served),
                cases=cases,
                by_id={case.image_id: case for case in cases},
                made_of={study.name: fingerprint for study, fingerprint in served},
                problems=tuple(problem for entry in present for problem in entry.problems),
            )

    def _known(self, image_id: str) -> tuple[Case, str]:
        """The case of an image and what its study was made of. Raises InputError."""
        snapshot = self._snapshot
        case = snapshot.by_id.get(image_id)
        if case is None:
            raise InputError("there is no such image", where=image_id)
        return case, snapshot.made_of[case.study]

    def _root_of(self, source: Source) -> Path:
        return self.path / ADDED if source.key.startswith(OF_ADDED) else self.folder

    def _shown(self, key: str) -> str:
        """A key as people know it."""
        return self.folder.name if key == "." else key.removeprefix("//")

    def _relative(self, sentence: str) -> str:
        """A sentence without the absolute path of the studies or the workspace."""
        for root in (self.folder, self.path):
            sentence = sentence.replace(f"{root}{os.sep}", "").replace(str(root), root.name)
        return sentence


def _served(item: Written, name: str, source: Source) -> ServedStudy:
    study = item.study
    return ServedStudy(
        name=name,
        source=source.path,
        series=item.series,
        kind=study.kind,
        n_frames=study.n_frames,
        ed=study.ed,
        es=study.es,
        series_uid=study.series_uid,
        spacing_mm=study.grid.spacing,
        shape=study.grid.shape,
        notes=study.notes,
        single=source.key.startswith(OF_ADDED) and not study.is_cine,
    )


def _added_sources(folder: Path) -> list[Source]:
    """The images that clients added."""
    found = sorted(path for path in folder.iterdir() if is_nifti(path.name))
    return [_added_source(path) for path in found if not path.name.startswith(".")]


def _added_source(path: Path) -> Source:
    return Source(f"{OF_ADDED}{path.name}", path, (file_state(path.name, path.stat()),))


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes when another process replaces a file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _exists(image_id: str) -> ConflictError:
    return ConflictError(
        "there is an image or a study of this name",
        where=image_id,
        remedy="Choose another name; images are never replaced",
    )


def _require_apart(folder: Path, workspace: Path) -> None:
    if workspace == folder or folder in workspace.parents:
        raise InputError(
            "the workspace lies inside the folder of studies, which is never written to",
            where=workspace,
            remedy="Choose another --workspace",
        )


def _bring_back(absent: Path, images: Path) -> None:
    """Images that an earlier version put away when their study was missing."""
    if absent.is_dir():
        for path in absent.glob("*.nii.gz"):
            if not (images / path.name).exists():
                os.replace(path, images / path.name)
