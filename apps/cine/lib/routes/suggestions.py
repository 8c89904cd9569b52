"""GET /cases/{image}/suggestions: which slices of a case are worth correcting."""

from __future__ import annotations

from typing import Any

from cinelabel.active.strategies import Candidate, disputed
from fastapi import APIRouter

from lib.http.guard import Reader
from lib.services import Parts

router = APIRouter(prefix="/cases", tags=["Cases"])

WORTH_MM2 = 100.0
"""Disputed area from which a slice is worth a reader's time."""


@router.get("/{image}/suggestions", summary="Slices that are worth correcting, worst first")
def suggestions(parts: Parts, _: Reader, image: str) -> dict[str, Any]:
    known = parts.candidates.known(parts.datastore.case(image))
    slices = known.scores.candidates(image) if known.scores is not None else []
    fit = [c for c in slices if known.review is None or known.review.unfit(c.slice) is None]
    worst = sorted(fit, key=lambda candidate: -candidate.disputed_mm2)
    told = [_told(candidate) for candidate in worst if candidate.disputed_mm2 >= WORTH_MM2]
    agreed = (
        "In no slice do the model's answers differ on 1 cm2."
        if not told and not known.remark
        else ""
    )
    return {
        "image": image,
        "model": known.model,
        "reason": known.remark or agreed,
        "slices": told,
    }


def _told(candidate: Candidate) -> dict[str, Any]:
    return {
        "slice": candidate.slice,
        "disputed_cm2": round(candidate.disputed_mm2 / 100, 1),
        "heart_cm2": round(candidate.heart_mm2 / 100, 1),
        "reason": f"{disputed(candidate)}.",
    }
