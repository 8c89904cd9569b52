"""/batch/infer as MONAI Label's clients use it: segment many cases in a job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cinelabel.serving.batch import BatchRequest
from fastapi import APIRouter, Body

from lib import jobs
from lib.http.guard import Admin, Reader
from lib.services import Parts

router = APIRouter(prefix="/batch", tags=["Infer"])

CASES = {"all": "all", "labeled": "labelled", "unlabeled": "open"}


@router.get("/infer", summary="The last batch, all of them, or the one under way")
def status(parts: Parts, _: Reader, all: bool = False, check_if_running: bool = False) -> Any:
    return jobs.status(parts.jobs, "batch", all, check_if_running)


@router.post("/infer/{model}", summary="Segment cases and keep the labels as predictions")
def start(
    parts: Parts,
    caller: Admin,
    model: str,
    images: Literal["all", "labeled", "unlabeled"] = "all",
    params: Annotated[dict[str, Any] | None, Body()] = None,
    run_sync: bool = False,
) -> dict[str, Any]:
    jobs.require_model(model, run_sync)
    settings = parts.settings
    request = {
        "cases": CASES[images],
        "model": settings.model,
        "device": settings.device,
        "fast": settings.fast,
        **jobs.ours(params),
    }
    BatchRequest.read(request)
    return jobs.start(parts.jobs, "batch", request, caller.who())


@router.delete("/infer", summary="End the batch")
def stop(parts: Parts, caller: Admin) -> dict[str, Any] | None:
    return jobs.stop(parts.jobs, "batch", caller.who())
