"""Long work in child processes: queued and kept on disk, one job at a time in a workspace.

A job is a folder `<jobs>/<id>/`: `request.json`, `state.json`, `progress.json`, `log.txt` (all that
its process prints), `result.json`. Several servers may use one folder. The one whose job runs holds
a lock on `.running`, and so do all processes of the job: while it is held the job lives, and when
it is free, a job that its state calls running has died. No process is looked up by its number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from cinelabel.core.errors import BusyError, CineLabelError, InputError, OutputError
from cinelabel.core.files import IDENTIFIER, output_error, write_json, write_text
from cinelabel.models.folders import PARTIAL, whole_folder
from cinelabel.serving.work import CONTINUES, KINDS, PROGRESS, REQUEST, RESULT, STOPPED, Kind

logger = logging.getLogger(__name__)

STATE = "state.json"
LOG = "log.txt"
CANCEL = "cancel"
"""A file in a running job's folder: whoever wants it to end; read by the server that runs it."""
LOCK_PATIENCE_S = 10.0
TAIL_BYTES = 2**18

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")


class QueueFull(CineLabelError):
    """As many jobs wait as may."""


class UnknownJob(InputError):
    """There is no job of that name."""


@dataclass(frozen=True)
class Limits:
    """Numbers that a runner keeps to.

    Attributes:
        waiting: jobs that may wait.
        kept: jobs of a kind that stay when they have ended; older ones are removed.
        restarts: how often a job whose process died with its server is started again.
        cancel_s: seconds that a cancelled job has to end by itself before it is killed.
        stop_s: the same when the server stops.
        poll_s: seconds between two looks at a running job; ten times that at the folder.
    """

    waiting: int = 16
    kept: int = 20
    restarts: int = 2
    cancel_s: float = 5.0
    stop_s: float = 2.0
    poll_s: float = 0.1


@dataclass(frozen=True)
class Job:
    """What is known of a job; times are ISO 8601 in UTC.

    Attributes:
        id: name of its folder.
        kind, request, who: what was asked for, and by whom.
        created, started, ended: times; `started` of the last start.
        state: "interrupted": its server was stopped, and the next one to start goes on with it.
        crashes: how often its process died with its server.
        pid: of its keeper, for people to look at; a number may belong to another process by now.
        exit_code: of its process; negative: the signal that ended it.
        error: one sentence, of a job that failed, was cancelled or was interrupted.
        progress: as `work.Context.progress` wrote it last.
        result: what the kind returned.
    """

    id: str
    kind: str
    request: Any
    who: str
    created: str
    state: State = "queued"
    started: str | None = None
    ended: str | None = None
    crashes: int = 0
    pid: int | None = None
    exit_code: int | None = None
    error: str | None = None
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


_REQUEST_FIELDS = ("kind", "request", "who", "created")
_STATE_FIELDS = ("state", "started", "ended", "crashes", "pid", "exit_code", "error")
_PARTS = (*_REQUEST_FIELDS, *_STATE_FIELDS)


class JobRunner:
    """Starts jobs one after another, from a thread of its own; every method may be called from any.

    A full disk while a state is written loses nothing: a job that ended keeps the lock, and is
    told of from memory, until its state could be written.
    """

    def __init__(
        self, folder: Path, limits: Limits | None = None, kinds: Mapping[str, Kind] | None = None
    ) -> None:
        """Use a folder; nothing is read, written or started yet.

        kinds: what may be asked for by name, `work.KINDS` unless others are given.
        """
        self.folder = folder.resolve()
        self.limits = limits or Limits()
        self._kinds = KINDS if kinds is None else kinds
        self._ended: dict[str, Job] = {}
        self._unsaved: Job | None = None
        self._running: str | None = None
        self._cancelled: dict[str, str] = {}
        self._warned = ""
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, kind: str, request: Any, who: str) -> Job:
        """Queue a job; `request` is ready for JSON and checked by the kind itself.

        Raises:
            InputError: there is no such kind, or the request is not ready for JSON.
            QueueFull: too many jobs wait.
            OutputError: the folder cannot be written.
        """
        if os.name != "posix":
            raise InputError("jobs run where there are process groups", remedy="Use Linux or macOS")
        if kind not in self._kinds:
            known = ", ".join(sorted(self._kinds))
            raise InputError(f"there are no jobs of the kind {kind!r}", remedy=f"Known: {known}")
        now = _now()
        name = f"{now[:19].replace(':', '')}-{kind}-{secrets.token_hex(4)}"
        job = Job(name, kind, request, who, now)
        with self._locked():
            waiting = sum(other.state == "queued" for other in self.jobs())
            if waiting >= self.limits.waiting:
                raise QueueFull(
                    f"{waiting} jobs wait already", remedy="Wait for one to end, or cancel one"
                )
            with whole_folder(self.folder / name) as folder:
                try:
                    write_json(folder / REQUEST, _part(job, _REQUEST_FIELDS))
                except (TypeError, ValueError) as error:
                    raise InputError(f"the request is not ready for JSON: {error}") from error
                write_json(folder / STATE, _part(job, _STATE_FIELDS))
        self._run_thread()
        return job

    def jobs(self) -> list[Job]:
        """All jobs, in the order in which they were asked for."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(
                f"cannot be read, {(error.strerror or str(error)).lower()}", where=self.folder
            ) from error
        found = (self._read(name) for name in names if not name.startswith("."))
        return sorted(filter(None, found), key=lambda job: (job.created, job.id))

    def job(self, job_id: str) -> Job:
        """One job as it is now. Raises UnknownJob."""
        found = self._read(job_id) if _is_name(job_id) else None
        if found is None:
            raise UnknownJob("there is no such job")
        return found

    def log(self, job_id: str, tail: int = 200) -> str:
        """The last lines that a job printed, of at most 256 KiB. Raises UnknownJob."""
        path = self.folder / self.job(job_id).id / LOG
        try:
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
                text = stream.read(TAIL_BYTES).decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "".join(text.splitlines(keepends=True)[-tail:]) if tail > 0 else ""

    def cancel(self, job_id: str, who: str = "") -> Job:
        """End a job, or take it out of the queue; one that has ended stays as it is.

        A running job is asked to stop and killed when it does not; the state says "running" until
        its processes are gone.

        Raises:
            UnknownJob: there is no such job.
            OutputError: the folder cannot be written, and another server runs the job.
        """
        with self._locked():
            job = self.job(job_id)
            if job.state in ("queued", "interrupted"):
                job = replace(job, state="cancelled", ended=_now(), error=_cancelled_by(who))
                self._write(job)
            elif job.state == "running":
                self._cancelled[job.id] = who
                try:
                    write_text(self.folder / job.id / CANCEL, who)
                except OutputError:
                    if self._running != job.id:
                        raise
        return job

    def resume(self) -> None:
        """Start to work on the queue, and on what earlier servers left; call it at the start.

        A job that was interrupted is queued again. One whose server died, also later and elsewhere,
        is taken up as soon as the last of its processes is gone: queued again if its kind can go on
        and it has not been tried too often, else failed. Old jobs are removed.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self.folder.is_dir():
            with self._locked():
                for job in self.jobs():
                    if job.state == "interrupted":
                        self._write(replace(job, state="queued", ended=None))
            self._remove_old()
        self._run_thread()

    def close(self) -> None:
        """Stop within about `limits.stop_s`; the job that runs is interrupted, or failed."""
        self._closing.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(self.limits.stop_s + 1.0)

    def _run_thread(self) -> None:
        """The processes end with the thread that starts them, so one thread starts them all."""
        self._wake.set()
        with self._starting:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                if self._run_next():
                    continue
            except CineLabelError as error:  # a full disk, most likely: it is tried again
                self._warn(str(error))
            except Exception as error:
                logger.debug("The queue of jobs goes on after an error", exc_info=True)
                self._warn(f"The queue of jobs goes on after {type(error).__name__}: {error}.")
            self._wake.wait(10 * self.limits.poll_s)

    def _run_next(self) -> bool:
        """Run the job that waits longest to its end; False when there is none to run now."""
        if not any(job.state in ("queued", "running") for job in self.jobs()):
            return False
        with _heavy_lock(self.folder) as lock:
            if lock is None:
                return False
            with self._locked():
                for job in self.jobs():
                    if job.state == "running":
                        self._take_up(job)
                waiting = [job for job in self.jobs() if job.state == "queued"]
                if not waiting:
                    return False
                job = replace(waiting[0], state="running", started=_now(), ended=None)
                job = replace(job, error=None, pid=None, exit_code=None)
                self._write(job)
            self._running = job.id
            try:
                self._settle(self._run(job, lock))
            finally:
                self._running = None
        return True

    def _run(self, job: Job, lock: int) -> Job:
        """Run a job's process to its end, and return the job as it is then."""
        folder = self.folder / job.id
        kind = self._kinds.get(job.kind)
        if kind is None:
            return replace(job, state="failed", ended=_now(), error="There is no such kind of job.")
        line = [sys.executable, "-m", "cinelabel.serving.work", str(folder), kind.function]
        try:
            with (folder / LOG).open("ab") as log:
                process = subprocess.Popen(
                    line,
                    stdin=subprocess.PIPE,  # closed when this process dies, however it dies
                    stdout=subprocess.PIPE,  # the keeper writes an exit code, nothing else
                    stderr=log,  # the file itself: nothing has to be drained, nothing gets lost
                    cwd=folder,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except OSError as error:
            why = f"Its process could not be started: {(error.strerror or str(error)).lower()}."
            return replace(job, state="failed", ended=_now(), error=why)
        with process:
            job = replace(job, pid=process.pid)
            with contextlib.suppress(OutputError):
                self._write(job)
            self._watch(job, process)
            said = process.stdout.read() if process.stdout else b""
        if not said:  # the keeper was killed before it could end what it kept
            _kill_group(process)
        return self._outcome(job, int(said) if said else process.returncode)

    def _watch(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        """Return when a process has ended; end it when it was cancelled or the server stops."""
        killed_at = None
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.limits.poll_s)
                return
            if self._closing.is_set() and killed_at is None:
                process.terminate()
                killed_at = time.monotonic() + self.limits.stop_s
            elif killed_at is None and self._canceller(job) is not None:
                process.terminate()
                killed_at = time.monotonic() + self.limits.cancel_s
            elif killed_at is not None and time.monotonic() >= killed_at:
                _kill_group(process)

    def _outcome(self, job: Job, code: int) -> Job:
        """The job after its process ended with a code."""
        progress = _read_json(self.folder / job.id / PROGRESS) or None
        job = replace(job, ended=_now(), exit_code=code, progress=progress)
        found = self._finished(job)
        if found is not None:
            return found
        if self._closing.is_set() or code in (STOPPED, -signal.SIGTERM):
            job = replace(job, error="It was stopped with its server.")
            return replace(job, state="interrupted" if self._may_go_on(job) else "failed")
        return replace(job, state="failed", error=self._why(job.id, code))

    def _finished(self, job: Job) -> Job | None:
        """A job by what its process left: done, failed or cancelled; None if that says nothing."""
        result = _read_json(self.folder / job.id / RESULT)
        if "done" in result:
            return replace(job, state="done", result=result["done"])
        who = self._canceller(job)
        if who is not None:
            return replace(job, state="cancelled", error=_cancelled_by(who))
        if "failed" in result:
            return replace(job, state="failed", error=str(result["failed"]))
        return None

    def _take_up(self, job: Job) -> None:
        """Judge a job whose processes are gone while its state says that it runs."""
        job = replace(job, ended=_now())
        found = self._finished(job)
        if found is None:
            job = replace(job, crashes=job.crashes + 1, error="Its server ended before it did.")
            again = replace(job, state="queued", ended=None)
            found = again if self._may_go_on(job) else replace(job, state="failed")
            logger.warning("Job %s: its server ended before it did; now %s", job.id, found.state)
        self._write(found)

    def _may_go_on(self, job: Job) -> bool:
        kind = self._kinds.get(job.kind)
        return kind is not None and kind.resumable and job.crashes <= self.limits.restarts

    def _settle(self, job: Job) -> None:
        """Write how a job ended; while that is impossible, tell it from memory and try again."""
        self._unsaved = job
        while True:
            try:
                self._write(job)
                break
            except OutputError as error:
                self._warn(str(error))
                if self._closing.wait(10 * self.limits.poll_s):
                    return  # the next server judges by what the process left
        self._unsaved = None
        self._cancelled.pop(job.id, None)
        self._remove_old()

    def _remove_old(self) -> None:
        """Remove the oldest jobs of each kind that have ended, but none that another continues."""
        with self._locked():
            jobs = self.jobs()
            kept = {job.request.get(CONTINUES) for job in jobs if isinstance(job.request, dict)}
            for kind in {job.kind for job in jobs}:
                ended = [job for job in jobs if job.kind == kind and job.has_ended]
                kept.update(job.id for job in ended[max(0, len(ended) - self.limits.kept) :])
            for job in jobs:
                if job.has_ended and job.id not in kept:
                    with contextlib.suppress(OSError):
                        os.rename(self.folder / job.id, self.folder / f"{PARTIAL}{job.id}")
                    self._ended.pop(job.id, None)
            removed = list(self.folder.glob(f"{PARTIAL}*"))  # also what an earlier server began
        for folder in removed:
            shutil.rmtree(folder, ignore_errors=True)

    def _warn(self, sentence: str) -> None:
        """Log a warning, but not the same one every second."""
        if sentence != self._warned:
            logger.warning("%s", sentence)
            self._warned = sentence

    def _canceller(self, job: Job) -> str | None:
        """Who wants a job to end; None if nobody does."""
        try:
            return (self.folder / job.id / CANCEL).read_text(encoding="utf-8")
        except OSError:
            return self._cancelled.get(job.id)

    def _why(self, job_id: str, code: int) -> str:
        """One sentence on a process that left no result."""
        if code < 0:
            memory = " Perhaps memory ran out." if -code == signal.SIGKILL else ""
            return f"Its process was ended by {_signal_name(-code)}.{memory}"
        lines = [line for line in self.log(job_id).splitlines() if line.strip()]
        last = f": {lines[-1].strip()[:300]}" if lines else "."
        return f"Its process ended with code {code}{last}"

    def _read(self, name: str) -> Job | None:
        """A job from its folder; None if there is none, and one that failed if it is damaged."""
        unsaved = self._unsaved
        if unsaved is not None and unsaved.id == name:
            return unsaved
        if name in self._ended:
            return self._ended[name]
        folder = self.folder / name
        if not (folder / STATE).is_file():
            return None
        try:
            parts = {**_read_json(folder / REQUEST), **_read_json(folder / STATE)}
            job = Job(id=name, **parts, progress=_read_json(folder / PROGRESS) or None)
            if len(parts) < len(_PARTS) or job.state not in get_args(State):
                raise TypeError
        except TypeError:
            if not (folder / STATE).exists():  # it was removed meanwhile
                return None
            error = f"{folder}: its files are damaged."
            return Job(name, "", None, "", "", state="failed", error=error)
        if job.state == "done":
            job = replace(job, result=_read_json(folder / RESULT).get("done"))
        if job.has_ended:
            self._ended[name] = job
        return job

    def _write(self, job: Job) -> None:
        write_json(self.folder / job.id / STATE, _part(job, _STATE_FIELDS))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other servers and threads from changing states; held for moments only."""
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=LOCK_PATIENCE_S)
            lock.acquire()
        except Timeout as error:
            raise BusyError("another server keeps the jobs locked", where=self.folder) from error
        except OSError as error:
            raise output_error(error, self.folder) from error
        try:
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def _heavy_lock(folder: Path) -> Iterator[int | None]:
    """The lock of the one job that may run, as an open file; None while somebody has it.

    Processes that inherit the file hold the lock too, until the last of them ends.
    """
    import fcntl  # not on Windows

    path = folder / ".running"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise output_error(error, path) from error
    try:
        free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError as error:  # a network file system without locks
            raise output_error(error, path) from error
        yield descriptor if free else None
    finally:
        os.close(descriptor)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cancelled_by(who: str) -> str:
    return f"Cancelled by {who}." if who else "Cancelled."


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _is_name(text: str) -> bool:
    return bool(IDENTIFIER.fullmatch(text)) and not text.startswith(".")


def _part(job: Job, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(job, name) for name in names}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is none or it is no JSON."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
