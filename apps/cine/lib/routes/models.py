"""/models/: the versions there are, what was decided about them, and which one is in use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cinelabel.core.errors import ModelError
from cinelabel.models.store import ModelStore
from fastapi import APIRouter

from lib.http.errors import Refused, without_paths
from lib.http.guard import Admin, Reader
from lib.routes.common import Body, ClientId, Text
from lib.services import Parts, Services

router = APIRouter(prefix="/models", tags=["Models"])


class Wish(Body):
    """Why a version is to be in use, for the history."""

    why: Text = ""
    client_id: ClientId = ""


class Choice(Wish):
    """The same for a version that was named; `force`: even if it was rejected."""

    force: bool = False


@router.get("/", summary="All versions, the one in use, and what was in use before")
def models(parts: Parts, _: Reader) -> dict[str, Any]:
    return _answer(parts, ModelStore())


@router.post("/rollback", summary="Put the version in use that was before the present one")
def rollback(parts: Parts, caller: Admin, wish: Wish | None = None) -> dict[str, Any]:
    wish = wish or Wish()
    store = _changeable(parts)
    if store.before() is None:
        raise Refused(409, "No other version was in use before.")
    store.roll_back(caller.who(wish.client_id), wish.why)
    return _answer(parts, store)


@router.post("/{version}/use", summary="Put a version in use; a candidate is promoted by that")
def use(parts: Parts, caller: Admin, version: str, wish: Choice | None = None) -> dict[str, Any]:
    wish = wish or Choice()
    store = _changeable(parts)
    if version not in store.versions():
        raise Refused(404, "There is no such model version.")
    decision = store.load(version).card.decision
    if decision is not None and decision["outcome"] == "reject" and not wish.force:
        raise Refused(409, "It was rejected. Send force: true to use it anyway.")
    store.use(version, caller.who(wish.client_id), wish.why)
    return _answer(parts, store)


def _changeable(parts: Services) -> ModelStore:
    """The store, if what is in use there is what this server serves. Raises Refused."""
    if parts.settings.model is not None:
        raise Refused(409, "This server was started with one version: start it without --model.")
    return ModelStore()


def _answer(parts: Services, store: ModelStore) -> dict[str, Any]:
    return {
        "current": store.current(),
        "served": parts.settings.model or store.current(),
        "before": store.before(),
        "versions": [_told(store, name) for name in store.versions()],
        "history": [asdict(use) for use in store.history()],
    }


def _told(store: ModelStore, name: str) -> dict[str, Any]:
    """A version as its card has it; `problem` where the card cannot be used."""
    try:
        card = store.load(name).card
    except ModelError as error:
        return {"version": name, "problem": without_paths(str(error))}
    held_out = card.metrics.get("held_out") or {}
    return {
        "version": name,
        "problem": None,
        "bundled": store.is_bundled(name),
        "created": card.created,
        "parent": card.parent,
        "members": [member.name for member in card.members],
        "fast": card.fast,
        "decision": card.decision,
        **{side: held_out.get(side) for side in ("before", "after", "phantoms")},
    }
