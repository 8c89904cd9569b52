"""The process of one job: `python -m cinelabel.serving.work JOB_FOLDER MODULE:FUNCTION`.

`jobs.JobRunner` starts it with a pipe as its input, which nobody else holds. The process splits in
two before anything heavy is imported. The keeper, leader of a process group, waits; the worker runs
the job. When the pipe closes, however the server ended, the keeper kills the group: the worker,
what the worker started, itself. A worker whose keeper is killed is killed by the kernel (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cinelabel.core.errors import CineLabelError, OutputError
from cinelabel.core.files import write_json

REQUEST = "request.json"
PROGRESS = "progress.json"
RESULT = "result.json"
CONTINUES = "continues"
"""In a request: the job in whose folder this one goes on."""
NICENESS = 10
OUT_OF_MEMORY_SCORE = 500
"""Added to the worker's score of 0 to 1000, so that Linux ends a job and not the server."""
PROGRESS_EVERY_S = 0.5
STOPPED = 143
"""Exit code of a worker that stopped because it was asked to, as of one that SIGTERM ends."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Kind:
    """What a job of one kind runs.

    Attributes:
        function: "module:function", called as function(request, context) in the worker; what it
            returns, None or a dict that is ready for JSON, is the job's result.
        resumable: called again after a crash, it goes on instead of beginning anew.
    """

    function: str
    resumable: bool = False


KINDS = {
    "batch": Kind("cinelabel.serving.batch:run", resumable=True),
    "scores": Kind("cinelabel.serving.scores:run", resumable=True),
    "train": Kind("cinelabel.serving.train:run", resumable=True),
}
"""The kinds that a server offers. A request names one of them and can name nothing else."""


class Cancelled(Exception):
    """The job was asked to stop."""


class Context:
    """What a running job knows of itself, and how it tells how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cancelled = False
        self._stage: str | None = None
        self._since = (0.0, 0)
        self._told = 0.0

    @property
    def workspace(self) -> Path:
        """The workspace whose folder `jobs` the job lies in."""
        return self.folder.parent.parent

    def progress(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """Tell how far the job is; written at most twice a second, at stages' ends always.

        Args:
            stage: what is being done; rate and time left are counted from its first call.
            done, total: how much of the stage.
            figures: anything else that is ready for JSON.

        Raises:
            Cancelled: the job was asked to stop.
        """
        if self.cancelled:
            raise Cancelled
        now = time.monotonic()
        new_stage = stage != self._stage
        if new_stage:
            self._stage, self._since = stage, (now, done)
        if new_stage or done >= total or now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            self._write(stage, done, total, now, figures)

    def _write(
        self, stage: str, done: int, total: int, now: float, figures: dict[str, Any]
    ) -> None:
        began, before = self._since
        rate = (done - before) / (now - began) if done > before and now > began else None
        record = {
            "stage": stage,
            "done": done,
            "total": total,
            "rate": None if rate is None else round(rate, 4),
            "seconds_left": None if rate is None else round((total - done) / rate, 1),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "figures": figures,
        }
        try:
            write_json(self.folder / PROGRESS, record)
        except OutputError as error:  # how far it is matters less than getting there
            print(error, file=sys.stderr)


def main() -> None:
    """Run the job that the command line names, watched by a keeper."""
    folder, function = Path(sys.argv[1]), sys.argv[2]
    context = Context(folder)

    def stop(*_: object) -> None:
        context.cancelled = True

    signal.signal(signal.SIGTERM, stop)  # before there are two processes: none misses the signal
    _be_modest()
    _leave_a_keeper(context)
    code = _work(function, context)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread that was forgotten holds nothing up


def _work(function: str, context: Context) -> int:
    """Run the job, write its result or the sentence of its failure, return the exit code."""
    faulthandler.enable()
    try:
        request = json.loads((context.folder / REQUEST).read_text(encoding="utf-8"))["request"]
        module, name = function.split(":")
        run: Callable[[Any, Context], Any] = getattr(importlib.import_module(module), name)
        write_json(context.folder / RESULT, {"done": run(request, context) or {}})
    except BaseException as error:
        if not isinstance(error, Cancelled):
            traceback.print_exc()
        if context.cancelled:  # then whatever was raised came of stopping
            return STOPPED
        ours = isinstance(error, CineLabelError)
        sentence = str(error) if ours else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OutputError):
            write_json(context.folder / RESULT, {"failed": sentence})
        return 1
    return 0


def _be_modest() -> None:
    """Let the server go first when there is little processor time, and last when memory ends."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):  # only Linux has the file
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))


def _leave_a_keeper(context: Context) -> None:
    """Return in a new process, the worker; the old one stays behind as its keeper.

    The keeper passes SIGTERM on to the worker, writes the worker's exit code to its own standard
    output and ends the process group, so nothing that the worker started outlives it. The
    worker's output goes where the errors go, and it has no input.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, a worker's end would go unnoticed
    signal.signal(signal.SIGHUP, _kill_group)
    _signal_when_parent_ends(signal.SIGHUP)
    if select.select([0], [], [], 0)[0]:  # closed: the server ended before the kernel was asked
        os._exit(STOPPED)
    keeper = os.getpid()
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        _signal_when_parent_ends(signal.SIGKILL)
        if os.getppid() != keeper:  # it ended before the kernel was asked
            os._exit(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return
    signal.signal(signal.SIGTERM, lambda *_: _pass_on(worker))
    if context.cancelled:
        _pass_on(worker)
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    _, status = os.waitpid(worker, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        os.write(1, str(code).encode())
    _kill_group()


def _pass_on(worker: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGTERM)


def _end_with_the_pipe() -> None:
    """Kill the group when nobody holds the other end of the input any more."""
    while os.read(0, 1):
        pass
    _kill_group()


def _kill_group(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


def _signal_when_parent_ends(number: int) -> None:
    """Ask Linux for a signal when the parent ends; elsewhere the pipe alone tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


if __name__ == "__main__":
    from cinelabel.serving import work  # the module that kinds import: one Cancelled, not two

    work.main()
