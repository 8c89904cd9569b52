"""The review of a study: motion grade, findings, the reader's decision; versioned."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cinelabel.core.review import ReviewRecord
from cinelabel.labelstore import ReviewVersion
from fastapi import APIRouter
from pydantic import Field

from lib.http.errors import Refused, of_server
from lib.http.guard import Annotator, Reader
from lib.routes.common import Body, ClientId
from lib.services import Parts, Services

router = APIRouter(prefix="/studies", tags=["Reviews"])


class Review(Body):
    """A review record, and the version that it started from (0: none)."""

    record: dict[str, Any]
    base_version: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    client_id: ClientId = ""


@router.get("/{study}/review", summary="The newest review of a study")
def review(parts: Parts, _: Reader, study: str) -> dict[str, Any]:
    _require_study(parts, study)
    with of_server():
        found = parts.labels.review(study)
    if found is None:
        raise Refused(404, "The study has no review yet.")
    return _answer(found)


@router.put("/{study}/review", summary="Keep a review as the newest version")
def save_review(parts: Parts, caller: Annotator, study: str, wanted: Review) -> dict[str, Any]:
    _require_study(parts, study)
    record = ReviewRecord.from_json(json.dumps(wanted.record))
    who = caller.who(wanted.client_id)
    with of_server():
        parts.labels.review(study)
    return _answer(parts.labels.save_review(study, record, who, wanted.base_version))


def _require_study(parts: Services, study: str) -> None:
    if not any(case.study == study for case in parts.catalogue.cases()):
        raise Refused(404, "There is no such study.")


def _answer(review: ReviewVersion) -> dict[str, Any]:
    return {
        "study": review.study,
        "version": review.version,
        "who": review.who,
        "time": review.time,
        "base_version": review.base_version,
        "record": review.record.as_dict(),
    }
