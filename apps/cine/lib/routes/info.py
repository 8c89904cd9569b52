"""GET /info/: what the app can do, in MONAI Label's form."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from lib.http.guard import Reader
from lib.services import Parts

router = APIRouter(prefix="/info", tags=["App"])


@router.get("/", summary="What the server offers: models, strategies, trainers, progress")
def info(parts: Parts, _: Reader) -> dict[str, Any]:
    return dict(parts.app.info())
