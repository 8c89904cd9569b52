"""Where cases stand: lists, history, old versions, leases, skipping and reopening."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from cinelabel.labelstore import CaseState
from cinelabel.studies.catalogue import Case
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import Field

from lib.http.errors import Refused, without_paths
from lib.http.guard import Annotator, Reader
from lib.routes.common import Body, ClientId, Text
from lib.services import Parts, Services

router = APIRouter(prefix="/cases", tags=["Cases"])

State = Literal["open", "labelled", "skipped"]


class Reason(Body):
    """Why a case is skipped or reopened."""

    reason: Annotated[Text, Field(min_length=1)]
    client_id: ClientId = ""


class LeaseWanted(Body):
    """For how long a case is to be held."""

    client_id: ClientId = ""
    minutes: Annotated[float, Field(gt=0, le=1440)] = 60.0


@router.get("/", summary="Cases, a page at a time; those of one study with quality")
def cases(
    parts: Parts,
    _: Reader,
    state: State | None = None,
    study: str | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    states = parts.labels.states()
    found = [
        (case, now)
        for case in parts.catalogue.cases()
        if (study is None or case.study == study)
        and (now := states.get(case.image_id) or CaseState(case.image_id))
        and (state is None or now.state == state)
    ]
    shown = found[offset : offset + limit]
    grades = {name: parts.datastore.grade(name) for name in {case.study for case, _ in shown}}
    page = [describe(case, now, grades[case.study]) for case, now in shown]
    if study is not None:
        for told, (case, _now) in zip(page, shown, strict=True):
            told["quality"] = parts.datastore.quality(case, told["grade"])
            told["image_sha256"] = parts.datastore.image_sha256(case.image_id)
    return {"total": len(found), "offset": offset, "cases": page}


@router.get(
    "/left-out", summary="What is being read, waits or is left out, and what was wrong with labels"
)
def left_out(parts: Parts, _: Reader) -> dict[str, Any]:
    catalogue = parts.catalogue
    return {
        "reading": None if catalogue.reading is None else asdict(catalogue.reading),
        "waiting": [without_paths(sentence) for sentence in catalogue.waiting],
        "problems": [without_paths(sentence) for sentence in catalogue.problems],
        "labels": [without_paths(sentence) for sentence in parts.labels.problems],
    }


@router.get("/{image}/history", summary="What happened to a case, oldest first")
def history(parts: Parts, _: Reader, image: str) -> dict[str, Any]:
    parts.datastore.case(image)
    events = parts.labels.history(image)
    return {"image": image, "events": [event.model_dump(mode="json") for event in events]}


@router.get("/{image}/label", summary="A version of a label, the newest if none is named")
def label(
    parts: Parts,
    caller: Reader,
    image: str,
    version: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
    client_id: ClientId = "",
) -> FileResponse:
    parts.datastore.case(image)
    newest = parts.labels.newest(image)
    found = newest if version is None else parts.labels.version(image, version)
    if found is None:
        raise Refused(404, "There is no such label.")
    if not found.path.is_file():
        raise Refused(503, "The file of this label is gone: bring it from a backup.", "damaged")
    if newest is not None and found.version == newest.version:
        parts.labels.saw(image, caller.who(client_id), client_id, found.version)
    headers = {"X-Label-Version": str(found.version)}
    return FileResponse(found.path, filename=f"{image}-v{found.version}.nii.gz", headers=headers)


@router.post("/{image}/skip", summary="Take a case out of what is handed out")
def skip(parts: Parts, caller: Annotator, image: str, wanted: Reason) -> dict[str, Any]:
    case = parts.datastore.case(image)
    parts.labels.skip(image, caller.who(wanted.client_id), wanted.reason)
    return _now(parts, case)


@router.post("/{image}/reopen", summary="Hand a case out again; its labels stay")
def reopen(parts: Parts, caller: Annotator, image: str, wanted: Reason) -> dict[str, Any]:
    case = parts.datastore.case(image)
    parts.labels.reopen(image, caller.who(wanted.client_id), wanted.reason)
    return _now(parts, case)


@router.post("/{image}/lease", summary="Hold a case, or hold it longer")
def lease(parts: Parts, caller: Annotator, image: str, wanted: LeaseWanted) -> dict[str, Any]:
    case, client = parts.datastore.case(image), wanted.client_id
    parts.labels.lease(image, caller.who(client), client, wanted.minutes)
    return _now(parts, case)


@router.delete("/{image}/lease", summary="Let a case go")
def release(
    parts: Parts, caller: Annotator, image: str, client_id: ClientId = ""
) -> dict[str, Any]:
    case = parts.datastore.case(image)
    parts.labels.release(image, caller.who(client_id), client_id)
    return _now(parts, case)


def describe(case: Case, state: CaseState, grade: int | None) -> dict[str, Any]:
    """A case and where it stands, without where it lies on disk."""
    return {
        "image": case.image_id,
        "study": case.study,
        "frame": case.frame,
        "n_frames": case.n_frames,
        "phase": case.phase,
        "kind": case.kind,
        "grade": grade,
        "state": state.state,
        "version": state.version,
        "lease": asdict(state.lease) if state.lease else None,
        "who": state.who,
        "time": state.time,
        "reason": state.reason,
    }


def _now(parts: Services, case: Case) -> dict[str, Any]:
    state = parts.labels.states([case.image_id])[case.image_id]
    return describe(case, state, parts.datastore.grade(case.study))
