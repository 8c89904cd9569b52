"""One record a request, without names of patients; and the last resort for what nobody foresaw."""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from typing import Any
from urllib.parse import parse_qs

from cinelabel.core.pseudonyms import pseudonym
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.http.errors import answer, without_paths
from lib.http.metrics import Metrics

logger = logging.getLogger("cinelabel.requests")

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNMATCHED = "unmatched"


class RequestLog:
    """ASGI middleware, the outermost: request id, record, metrics, 500 with an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        identifier = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = identifier

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", identifier.encode())]
                message = {**message, "headers": [*headers, (b"cache-control", b"no-store")]}
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception as error:
            logger.error("A request failed unforeseen.", extra=_failure(scope, identifier, error))
            if status:
                raise
            sentence = f"The server failed; its log tells why, under request {identifier}."
            await answer(500, sentence, request=identifier)(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - start
            _write(scope, identifier, status, seconds)


def route_of(scope: Scope) -> str:
    """The template of the route that answered, such as /cases/{image}/history."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))


def image_of(scope: Scope) -> str | None:
    """The image that a request is about, by its path or query."""
    image = scope.get("path_params", {}).get("image")
    if image is None:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        image = next((query[key][0] for key in ("image", "label") if key in query), None)
    return None if image is None else str(image)


def _request_id(scope: Scope) -> str:
    """The identifier that a client gave, if it is one; a new one otherwise."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _write(scope: Scope, identifier: str, status: int, seconds: float) -> None:
    caller = scope["state"].get("caller")
    image, route = image_of(scope), route_of(scope)
    metrics: Metrics = scope["app"].state.metrics
    metrics.observe(scope["method"], route, status, seconds)
    fields = {
        "id": identifier,
        "who": getattr(caller, "name", None),
        "method": scope["method"],
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "case": pseudonym(image) if image else None,
    }
    logger.info("request", extra={"fields": fields})


def _failure(scope: Scope, identifier: str, error: Exception) -> dict[str, Any]:
    """Where an error came from, without the name of the image; the log hides names in paths."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{without_paths(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    text, image = str(error), image_of(scope)
    if image:
        text = text.replace(image, f"case {pseudonym(image)}")
    return {
        "fields": {"id": identifier, "error": f"{type(error).__name__}: {text}", "where": where}
    }
