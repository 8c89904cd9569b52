"""Jobs for clients: as they are, and as the tasks that MONAI Label's clients know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cinelabel.serving.jobs import Job, JobRunner

from lib.http.errors import Refused, without_paths

STATUS: Mapping[str, str] = {
    "queued": "RUNNING",  # MONAI Label's Slicer module stops looking at anything else
    "running": "RUNNING",
    "done": "DONE",
    "failed": "ERROR",
    "cancelled": "STOPPED",
    "interrupted": "ERROR",
}
SENT_BESIDES = (
    "client_id",
    "device",
    "gpus",
    "label_tag",
    "logging",
    "max_batch_size",
    "max_workers",
    "model",
    "multi_gpu",
    "save_label",
)
"""Parameters that MONAI Label's clients send, and that change nothing."""
DETAILS = 20
"""Lines of a job's output that a task shows."""


def told(job: Job) -> dict[str, Any]:
    """A job for clients, without paths of this machine."""
    cleaned: dict[str, Any] = _cleaned(job.as_dict())
    return cleaned


def task(runner: JobRunner, job: Job) -> dict[str, Any]:
    """A job as one of MONAI Label's tasks; its times are of this machine's clock."""
    lines = [without_paths(line) for line in runner.log(job.id, DETAILS).splitlines()]
    return {
        "id": job.id,
        "status": STATUS[job.state],
        "request": _cleaned(job.request),
        "start_ts": _local(job.started or job.created),
        "end_ts": _local(job.ended),
        "details": lines or [job.state],  # the Slicer module reads the last one unasked
        "error": _cleaned(job.error),
    }


def start(
    runner: JobRunner, kind: str, request: Mapping[str, Any], who: str, behind: bool = False
) -> dict[str, Any]:
    """Start a job; a second one of its kind only if it may wait `behind` the first.

    Raises:
        Refused: 429, one is under way.
        QueueFull: too many jobs wait.
    """
    if not behind and any(not job.has_ended for job in _of(runner, kind)):
        raise Refused(429, f"A job '{kind}' is under way already; end it first, or queue this one.")
    return task(runner, runner.start(kind, dict(request), who))


def status(runner: JobRunner, kind: str, everything: bool, check_if_running: bool) -> Any:
    """The last task, all tasks, or the one under way.

    Raises:
        Refused: 404, there is none.
    """
    found = _of(runner, kind)
    if check_if_running:
        found = [job for job in found if not job.has_ended][:1]
    if not found:
        raise Refused(404, f"There is no job '{kind}'{' under way' if check_if_running else ''}.")
    if everything and not check_if_running:
        return [task(runner, job) for job in found]
    return task(runner, found[-1])


def stop(runner: JobRunner, kind: str, who: str) -> dict[str, Any] | None:
    """End what waits and runs of a kind; the first of them as it is now, None without any."""
    left = [job for job in _of(runner, kind) if not job.has_ended]
    stopped = [task(runner, runner.cancel(job.id, who)) for job in reversed(left)]
    return stopped[-1] if stopped else None


def ours(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters of a request without those that change nothing."""
    return {name: value for name, value in (params or {}).items() if name not in SENT_BESIDES}


def require_model(model: str, run_sync: bool) -> None:
    """Refuse an unknown model, and waiting for the end of a job in a request."""
    if model != "cine":
        raise Refused(400, f"There is no model '{model[:40]}'; the model is 'cine'.")
    if run_sync:
        raise Refused(400, "Jobs run in the background: leave out run_sync and ask for the status.")


def _of(runner: JobRunner, kind: str) -> list[Job]:
    return [job for job in runner.jobs() if job.kind == kind]


def _cleaned(value: Any) -> Any:
    """What is ready for JSON, with every path in its texts cut to its last part."""
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return value


def _local(time: str | None) -> str | None:
    """An ISO 8601 time as MONAI Label writes times."""
    if not time:
        return None
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
