"""POST /activelearning/{strategy}: which image to label next, held for whoever asked."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Annotated, Any

import fastapi
from cinelabel.core.errors import ConflictError
from cinelabel.labelstore import CaseState, Lease
from fastapi import APIRouter, Request

from lib.http.errors import Refused
from lib.http.guard import Caller, Reader, let_fetch
from lib.routes.common import Body, ClientId
from lib.services import Parts, Services

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"])

TRIES = 8
"""How often another case is drawn when somebody takes the one that was drawn."""


class Wanted(Body):
    """Who asks for the next image."""

    client_id: ClientId = ""


@router.post("/{strategy}", summary="The next image to label, held for the client; {} if none")
def next_sample(
    request: Request,
    parts: Parts,
    caller: Reader,
    strategy: str,
    params: Annotated[Wanted | None, fastapi.Body()] = None,
) -> dict[str, Any]:
    client_id = params.client_id if params else ""
    who = caller.who(client_id)
    for _ in range(TRIES):
        wanted = {"strategy": strategy, "candidates": _free(parts, who, client_id)}
        found = parts.app.next_sample(wanted)
        if not found:
            return {}
        with contextlib.suppress(ConflictError):
            lease = _take(parts, caller, found["id"], client_id)
            let_fetch(request, caller, found["id"])
            return _answer(parts, caller, found, lease)
    raise Refused(503, "Others take cases at the same moment: ask again.", "busy")


def _free(parts: Services, who: str, client_id: str) -> list[str]:
    """Images that nobody has labelled or skipped, and that nobody else holds."""
    states, nothing = parts.labels.states(), CaseState("")
    free = []
    for case in parts.catalogue.cases():
        now = states.get(case.image_id, nothing)
        mine = now.lease is None or (now.lease.who, now.lease.client_id) == (who, client_id)
        if now.state == "open" and mine:
            free.append(case.image_id)
    return free


def _take(parts: Services, caller: Caller, image: str, client_id: str) -> Lease | None:
    """Hold a case, and let go what the client held; those who only read hold nothing.

    Raises:
        ConflictError: somebody else holds it.
    """
    if caller.role == "reader":
        return None
    who = caller.who(client_id)
    lease = parts.labels.lease(image, who, client_id)
    for other in parts.labels.leases():
        if (other.who, other.client_id) == (who, client_id) and other.image != image:
            parts.labels.release(other.image, who, client_id)
    newest = parts.labels.states([image])[image].version
    parts.labels.saw(image, who, client_id, newest)
    return lease


def _answer(
    parts: Services, caller: Caller, found: dict[str, Any], lease: Lease | None
) -> dict[str, Any]:
    told = {**found, **parts.datastore.get_image_info(found["id"])}
    if caller.name is not None:  # only programs of this machine can open a path of this machine
        told.pop("path", None)
    return {**told, "lease": asdict(lease) if lease else None}
