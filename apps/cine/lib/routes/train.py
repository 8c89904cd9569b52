"""/train/ as MONAI Label's clients use it: fine-tune the model on submitted labels, in a job."""

from __future__ import annotations

from typing import Annotated, Any

from cinelabel.serving.train import read_request
from fastapi import APIRouter, Body

from lib import jobs
from lib.http.guard import Admin, Caller, Reader
from lib.services import Parts, Services

router = APIRouter(prefix="/train", tags=["Train"])


@router.get("/", summary="The last training, all of them, or the one under way")
def status(parts: Parts, _: Reader, all: bool = False, check_if_running: bool = False) -> Any:
    return jobs.status(parts.jobs, "train", all, check_if_running)


@router.post("/", summary="Train all models, of which there is one", include_in_schema=False)
def start_all(
    parts: Parts,
    caller: Admin,
    params: Annotated[dict[str, Any] | None, Body()] = None,
    run_sync: bool = False,
) -> dict[str, Any]:
    jobs.require_model("cine", run_sync)
    own = (params or {}).get("cine")
    task = _start(parts, caller, own if isinstance(own, dict) else {}, behind=True)
    return {"cine": {"result": task, "detail": None}}


@router.post("/{model}", summary="Train the model")
def start(
    parts: Parts,
    caller: Admin,
    model: str,
    params: Annotated[dict[str, Any] | None, Body()] = None,
    run_sync: bool = False,
    enqueue: bool = False,
) -> dict[str, Any]:
    jobs.require_model(model, run_sync)
    return _start(parts, caller, params, enqueue)


@router.delete("/", summary="End the training")
def stop(parts: Parts, caller: Admin) -> dict[str, Any] | None:
    return jobs.stop(parts.jobs, "train", caller.who())


def _start(
    parts: Services, caller: Caller, params: dict[str, Any] | None, behind: bool
) -> dict[str, Any]:
    settings = parts.settings
    request = {
        "model": "cine",
        "version": settings.model,
        "device": settings.device,
        **jobs.ours(params),
    }
    read_request(request)
    return jobs.start(parts.jobs, "train", request, caller.who(), behind)
