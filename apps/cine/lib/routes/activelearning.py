"""POST /activelearning/{strategy}: which image to label next."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body

from lib.http.guard import Reader
from lib.services import Parts

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"])


@router.post("/{strategy}", summary="The next image to label")
def next_sample(
    parts: Parts,
    caller: Reader,
    strategy: str,
    params: Annotated[dict[str, Any] | None, Body()] = None,
) -> dict[str, Any]:
    found = parts.app.next_sample({**(params or {}), "strategy": strategy})
    return {**found, **parts.datastore.get_image_info(found["id"])} if found else {}
