"""Long work in child processes: what waits, runs and has ended, its output, and ending it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from lib.http.errors import without_paths
from lib.http.guard import Admin, Reader
from lib.jobs import told
from lib.services import Parts

router = APIRouter(prefix="/jobs", tags=["Jobs"])


@router.get("/", summary="All jobs, the newest first")
def jobs(
    parts: Parts, _: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[dict[str, Any]]:
    return [told(job) for job in reversed(parts.jobs.jobs()[-limit:])]


@router.get("/{job_id}", summary="A job")
def job(parts: Parts, _: Reader, job_id: str) -> dict[str, Any]:
    return told(parts.jobs.job(job_id))


@router.get("/{job_id}/log", summary="What a job printed last", response_class=PlainTextResponse)
def log(
    parts: Parts, _: Admin, job_id: str, tail: Annotated[int, Query(ge=1, le=10000)] = 200
) -> str:
    return without_paths(parts.jobs.log(job_id, tail))


@router.delete("/{job_id}", summary="End a job, or take it out of the queue")
def cancel(parts: Parts, caller: Admin, job_id: str) -> dict[str, Any]:
    return told(parts.jobs.cancel(job_id, caller.who()))
