"""The queue before the device, how far a request is, and cancelling it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from lib.http.errors import Refused
from lib.http.guard import Reader
from lib.progress import Tracker
from lib.services import Parts, Services

router = APIRouter(tags=["Infer"])


@router.get("/queue/", summary="The segmentations that wait, and the one that runs")
def queue(parts: Parts, _: Reader) -> dict[str, Any]:
    task = parts.segmentation
    return {**task.queue.status(), "requests": [t.as_dict() for t in task.board.under_way()]}


@router.get("/progress/{request_id}", summary="How far a segmentation is")
def progress(parts: Parts, _: Reader, request_id: str) -> dict[str, Any]:
    return _find(parts, request_id).as_dict()


@router.delete("/progress/{request_id}", summary="Cancel a segmentation, at its next phase")
def cancel(parts: Parts, caller: Reader, request_id: str) -> dict[str, Any]:
    tracker = _find(parts, request_id)
    if tracker.who != caller.who() and caller.role != "admin":
        raise Refused(403, "Only who asked for it, or an admin, cancels a segmentation.")
    tracker.ticket.cancel()
    return tracker.as_dict()


def _find(parts: Services, request_id: str) -> Tracker:
    tracker = parts.segmentation.board.find(request_id)
    if tracker is None:
        raise Refused(404, "There is no such segmentation, or it ended long ago.")
    return tracker
