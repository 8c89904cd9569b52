"""/training/: the course of a training for our own clients: curve, figures, decision."""

from __future__ import annotations

from typing import Any

from cinelabel.serving.jobs import Job
from cinelabel.serving.train import drawn, home_of
from cinelabel.serving.work import CONTINUES
from fastapi import APIRouter
from fastapi.responses import FileResponse

from lib import jobs
from lib.http.errors import Refused
from lib.http.guard import Admin, Reader
from lib.services import Parts, Services
from lib.train import course

router = APIRouter(prefix="/training", tags=["Train"])


@router.get("/", summary="The course of the last training")
def last(parts: Parts, _: Reader) -> dict[str, Any]:
    trainings = [job for job in parts.jobs.jobs() if job.kind == "train"]
    if not trainings:
        raise Refused(404, "There was no training yet.")
    return course(parts.jobs, trainings[-1])


@router.get("/{job_id}", summary="The course of a training")
def one(parts: Parts, _: Reader, job_id: str) -> dict[str, Any]:
    return course(parts.jobs, _training(parts, job_id))


@router.get(
    "/{job_id}/figures/{name}", summary="A figure of a training", response_class=FileResponse
)
def figure(parts: Parts, _: Reader, job_id: str, name: str) -> FileResponse:
    job = _training(parts, job_id)
    found = drawn(home_of(job.request, parts.jobs.folder / job.id)).get(name)
    if found is None:
        raise Refused(404, "The training has no such figure.")
    return FileResponse(found, media_type="image/png", headers={"Cache-Control": "no-cache"})


@router.post("/{job_id}/resume", summary="Go on with a training that was ended, as a new job")
def resume(parts: Parts, caller: Admin, job_id: str) -> dict[str, Any]:
    job = _training(parts, job_id)
    if job.state not in ("cancelled", "failed"):
        raise Refused(409, f"The training is {job.state}: there is nothing to go on with.")
    first = home_of(job.request, parts.jobs.folder / job.id).name
    request = {**job.request, CONTINUES: first}
    return jobs.start(parts.jobs, "train", request, caller.who())


def _training(parts: Services, job_id: str) -> Job:
    """Raises UnknownJob, and Refused for a job of another kind."""
    job = parts.jobs.job(job_id)
    if job.kind != "train":
        raise Refused(404, "There is no such training.")
    return job
