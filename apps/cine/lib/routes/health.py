"""Whether the server lives, whether it can work, and its numbers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from lib.http.guard import Reader
from lib.http.metrics import Metrics
from lib.services import Parts

router = APIRouter(tags=["Health"])


@router.get("/health/live", summary="The process answers, whatever its threads do")
async def live() -> dict[str, str]:
    return {"status": "live"}


@router.get("/health/ready", summary="Cases can be read and labels written; 503 with why not")
def ready(parts: Parts) -> JSONResponse:
    problems = parts.problems()
    answer: dict[str, Any] = {"status": "failing" if problems else "ready", "problems": problems}
    return JSONResponse(answer, status_code=503 if problems else 200)


@router.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
def metrics(request: Request, _: Reader) -> Response:
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE_LATEST)
