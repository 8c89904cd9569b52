"""Short-axis cine stacks of a DICOMweb server as folders of DICOM files, kept like the server's.

What a stack is, the headers say, by the rules of the room `dicom`: only what has enough slices and
phases is downloaded. A stack lies in `<stack>/<stack>/`, twice so that each is a study of its own
also where an examination has several; its name is made of hashes and tells nothing of the patient.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from cinelabel.core.errors import CineLabelError, InputError
from cinelabel.core.files import atomic_write, output_error, write_json
from cinelabel.dicom.headers import Instance, place_image, quiet
from cinelabel.dicom.series import RULES, Group, affine_lps, group_series, order_phases
from cinelabel.studies.pacs import (
    ANONYMOUS,
    LIMITS,
    Credentials,
    FoundSeries,
    Limits,
    Pacs,
    PacsError,
)

logger = logging.getLogger(__name__)

MR = {"Modality": "MR"}
STATE = ".mirror.json"
INCOMING = ".incoming"  # stacks of which images are still missing
LOCK = ".lock"
SCHEMA_VERSION = 1
ROUNDS_MISSING = 2  # so often in a row must a study be absent until its folder goes
FAILURES = 3  # so many in a row, and the rest waits for the next round

SAVE_EVERY_S = 5.0
PRIVATE = 0o700  # the images name their patients

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Report:
    """What a round found.

    Attributes:
        stacks: names of the stacks that lie in the folder now.
        added, removed: names of those that came, or changed, and went in this round.
        waiting: studies that are given time to become whole.
        left_out: series that are no short-axis cine, with the reason.
        problems: what went wrong; the next round tries it again.
    """

    stacks: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    waiting: int = 0
    left_out: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass
class _Study:
    """What is known of a study of the server: kept on disk from round to round."""

    counts: dict[str, int | None]
    since: float
    done: bool = False
    missing: int = 0
    failures: int = 0
    stacks: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Mirror:
    """The cine stacks of a DICOMweb server in a folder.

    Args:
        url: root of its DICOMweb services.
        folder: made if absent; one folder a stack.
        credentials: for its log-in.
        limits: of time and size.
        settle_s: seconds a study must stay as it is before it is taken: it may still be sent.
        filters: which series are looked at.

    Raises:
        InputError: the address is none.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        credentials: Credentials = ANONYMOUS,
        limits: Limits = LIMITS,
        settle_s: float = 20.0,
        filters: Mapping[str, str] = MR,
    ) -> None:
        self.folder = folder
        self._pacs = Pacs(url, credentials, limits)
        self._limits = limits
        self._settle_s = settle_s
        self._filters = filters
        self._report = Report()

    @property
    def report(self) -> Report:
        """That of the last round."""
        return self._report

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong in the last round, in sentences."""
        return self._report.problems

    def watch(self, interval_s: float, stop: threading.Event) -> None:
        """Rounds until `stop` is set; for a thread of its own. No failure ends it."""
        while not stop.is_set():
            before = self.problems
            try:
                report = self.sync(stop=stop)
            except Exception as error:  # what no one thought of must not end the thread either
                logger.exception("the DICOMweb server could not be mirrored")
                problem = f"The DICOMweb server could not be mirrored ({type(error).__name__})."
                report = self._report = replace(self._report, problems=(problem,))
            for problem in report.problems:
                if problem not in before:
                    logger.warning("%s", problem)
            if report.added or report.removed:
                logger.info("%d stacks came, %d went", len(report.added), len(report.removed))
            stop.wait(min(interval_s, self._settle_s) if report.waiting else interval_s)

    def sync(self, progress: Progress | None = None, stop: threading.Event | None = None) -> Report:
        """One round: make the folder hold the stacks that the server holds.

        Failures become problems of the report; what was downloaded of a stack is kept for the
        next round. If another process is at it, nothing is done.

        Args:
            progress: called with images done, images in all, and the stack's name.
            stop: ends the round early when set.
        """
        try:
            self.folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK, timeout=0):
                self._round(progress, stop or threading.Event())
        except Timeout:
            self._report = Report(stacks=self._stacks())
        except CineLabelError as error:
            self._report = Report(stacks=self._stacks(), problems=(str(error),))
        except OSError as error:
            problem = str(output_error(error, self.folder))
            self._report = Report(stacks=self._stacks(), problems=(problem,))
        return self._report

    def _round(self, progress: Progress | None, stop: threading.Event) -> None:
        known, before = self._read_state(), self._stacks()
        found: dict[str, list[FoundSeries]] = {}
        for series in self._pacs.search(self._filters):
            found.setdefault(series.study_uid, []).append(series)
        self._note(known, found)
        now = time.time()
        open_studies = [
            uid
            for uid, study in sorted(known.items(), key=lambda item: item[1].failures)
            if not study.missing and not self._is_done(study, before)
        ]
        ripe = [uid for uid in open_studies if now - known[uid].since >= self._settle_s]
        waiting = len(open_studies) - len(ripe)
        added: list[str] = []
        problems: list[str] = []
        failed, saved = 0, time.monotonic()
        for uid in ripe:
            if stop.is_set() or failed == FAILURES:
                break
            try:
                added += self._take(uid, known[uid], found[uid], progress, stop)
                failed, known[uid].done, known[uid].failures = 0, True, 0
            except CineLabelError as error:
                problems.append(str(error))
                failed, known[uid].failures = failed + 1, known[uid].failures + 1
            if time.monotonic() - saved > SAVE_EVERY_S:
                self._tell(known, before, added, waiting, problems)
                saved = time.monotonic()
        whole = not (problems or waiting or stop.is_set())
        self._drop_what_is_gone(known, also_unknown=whole)
        self._tell(known, before, added, waiting, problems)

    def _is_done(self, study: _Study, stacks: Sequence[str]) -> bool:
        """Whether a study needs no look: unchanged as far as the server counts, stacks here."""
        counted = None not in study.counts.values()
        return study.done and counted and set(study.stacks) <= set(stacks)

    def _tell(
        self,
        known: Mapping[str, _Study],
        before: Sequence[str],
        added: Sequence[str],
        waiting: int,
        problems: Sequence[str],
    ) -> None:
        """Keep what is known, and report how far the round is."""
        self._write_state(known)
        stacks = self._stacks()
        self._report = Report(
            stacks=stacks,
            added=tuple(added),
            removed=tuple(name for name in before if name not in stacks),
            waiting=waiting,
            left_out=tuple(line for study in known.values() for line in study.left_out),
            problems=tuple(problems),
        )

    def _note(self, known: dict[str, _Study], found: Mapping[str, list[FoundSeries]]) -> None:
        """Bring what is known up to what the search told."""
        for uid, series in found.items():
            counts = {item.series_uid: item.instances for item in series}
            if uid not in known:
                known[uid] = _Study(counts, time.time())
            elif counts != known[uid].counts:
                known[uid].counts, known[uid].since, known[uid].done = counts, time.time(), False
            known[uid].missing = 0
        for uid in known.keys() - found.keys():
            known[uid].missing += 1

    def _take(
        self,
        uid: str,
        study: _Study,
        series: Sequence[FoundSeries],
        progress: Progress | None,
        stop: threading.Event,
    ) -> list[str]:
        """Download the stacks of a study that are not there yet; the names of those."""
        images, left_out = self._images(uid, series)
        stacks: dict[str, Group] = {}
        for group in group_series(images):
            reason = _why_no_cine(group)
            if reason is None:
                stacks[_free_name(_stack_name(uid, group), stacks)] = group
            else:
                left_out.append(f"{_hash(uid)} series {group.summary()}: {reason}")
        study.left_out = sorted(set(left_out))
        fetched = [
            name for name, group in stacks.items() if self._download(name, group, progress, stop)
        ]
        for name in set(study.stacks) - stacks.keys():
            shutil.rmtree(self.folder / name, ignore_errors=True)
        study.stacks = list(stacks)
        return fetched

    def _images(self, uid: str, series: Sequence[FoundSeries]) -> tuple[list[Instance], list[str]]:
        """The images of a study by their headers, and a sentence on what cannot be one."""
        images: list[Instance] = []
        left_out: list[str] = []
        for item in series:
            name = f"{_hash(uid)} series {item.number}"
            for header in self._pacs.headers(uid, item.series_uid):
                if "Rows" not in header or "Columns" not in header:
                    continue  # no image
                sop_uid = str(header.get("SOPInstanceUID", ""))
                try:
                    quiet()
                    placed = place_image(header, Path(_file_name(sop_uid)), sop_uid)
                except (ValueError, TypeError, AttributeError):
                    left_out.append(f"{name}: has headers that cannot be read")
                    continue
                if isinstance(placed, Instance):
                    images.append(placed)
                else:
                    left_out.append(f"{name}: {placed.reason}")
        return images, left_out

    def _download(
        self, name: str, group: Group, progress: Progress | None, stop: threading.Event
    ) -> bool:
        """Make a stack's folder whole, unless it is; whether anything had to be done."""
        images = [image for phases in group.slices for image in phases]
        wanted = {image.path.name for image in images}
        target, incoming = self.folder / name / name, self.folder / INCOMING / name / name
        if target.is_dir() and {path.name for path in target.iterdir()} == wanted:
            return False
        incoming.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + self._limits.stack_s
        for number, image in enumerate(images):
            if progress is not None:
                progress(number, len(images), name)
            file = incoming / image.path
            if file.is_file():
                continue
            if (target / image.path).is_file():
                shutil.copy2(target / image.path, file)
                continue
            if stop.is_set() or time.monotonic() > end:
                done = f"{number} of {len(images)} images"
                raise PacsError(f"{done} are here, the next round goes on", where=f"stack {name}")
            content = self._pacs.fetch(image.study_uid, image.series_uid, image.sop_uid)
            with atomic_write(file) as temporary:
                temporary.write_bytes(content)
        for path in incoming.iterdir():
            if path.name not in wanted:
                path.unlink()
        self._publish(name)
        return True

    def _publish(self, name: str) -> None:
        """Put a whole stack in its place; a former one leaves just before."""
        target, former = self.folder / name, self.folder / INCOMING / f"{name}.former"
        shutil.rmtree(former, ignore_errors=True)
        if target.exists():
            os.replace(target, former)
        os.replace(self.folder / INCOMING / name, target)
        shutil.rmtree(former, ignore_errors=True)

    def _drop_what_is_gone(self, known: dict[str, _Study], also_unknown: bool) -> None:
        """Remove the folders of studies that the server has not told of for some rounds.

        After a round without trouble also those that no study has, as after a change of server.
        """
        gone: set[str] = set()
        for uid in [uid for uid, study in known.items() if study.missing >= ROUNDS_MISSING]:
            gone.update(known.pop(uid).stacks)
            for path in (self.folder / INCOMING).glob(f"{_hash(uid)}-*"):
                shutil.rmtree(path, ignore_errors=True)
        if also_unknown:
            gone.update(set(self._stacks()).difference(*(s.stacks for s in known.values())))
        for name in gone:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _stacks(self) -> tuple[str, ...]:
        """Names of the stacks in the folder."""
        with contextlib.suppress(OSError):
            visible = (path for path in self.folder.iterdir() if not path.name.startswith("."))
            return tuple(sorted(path.name for path in visible if path.is_dir()))
        return ()

    def _read_state(self) -> dict[str, _Study]:
        """What was known last; nothing if that is lost, or was of another server."""
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            if (state["schema_version"], state["url"]) == (SCHEMA_VERSION, self._pacs.url):
                return {uid: _Study(**study) for uid, study in state["studies"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("%s is damaged; the DICOMweb server is asked again", self.folder / STATE)
        return {}

    def _write_state(self, known: Mapping[str, _Study]) -> None:
        state = {uid: asdict(study) for uid, study in known.items()}
        write_json(
            self.folder / STATE,
            {"schema_version": SCHEMA_VERSION, "url": self._pacs.url, "studies": state},
        )


def _why_no_cine(group: Group) -> str | None:
    """Why images are no short-axis cine stack, or None if they are one."""
    if group.first.phase_map:
        return "is a phase map"
    if len(group.slices) < RULES.stack_slices:
        return f"a short-axis stack has at least {RULES.stack_slices} slices"
    if group.phases == 1:
        return "is no cine, each slice has one phase"
    try:
        order_phases(group, Path("."))
        affine_lps(group, Path("."))
    except InputError as error:
        return error.problem
    return None


def _stack_name(study_uid: str, group: Group) -> str:
    """A name that stays while the study grows: hashes of UIDs, and the series' number."""
    number = "s" if group.first.series_number is None else group.first.series_number
    return f"{_hash(study_uid)}-{number}-{_hash(group.first.series_uid)[:4]}"


def _free_name(name: str, taken: Iterable[str]) -> str:
    """The name, or with a number if a series holds several stacks."""
    same = sum(other == name or other.startswith(f"{name}.") for other in taken)
    return f"{name}.{same + 1}" if same else name


def _file_name(sop_uid: str) -> str:
    return f"{hashlib.sha256(sop_uid.encode()).hexdigest()[:32]}.dcm"


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:10]
