"""The DICOMweb server that is served: what came of it, and which labels it does not have yet."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from lib.http.errors import Refused
from lib.http.guard import Reader
from lib.services import Parts

router = APIRouter(tags=["DICOMweb"])


@router.get("/dicomweb/", summary="Stacks, problems, and labels that are still to be sent")
def status(parts: Parts, _: Reader) -> dict[str, Any]:
    if parts.pacs is None:
        raise Refused(404, "This server serves a folder of studies, no DICOMweb server.")
    return parts.pacs.status()
