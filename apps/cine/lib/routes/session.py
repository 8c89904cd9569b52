"""Images that a client brings along: /session/ as the stock client uses it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile
from fastapi.responses import FileResponse

from lib.http.errors import Refused
from lib.http.guard import Reader
from lib.services import Parts
from lib.sessions import Session
from lib.uploads import received

router = APIRouter(prefix="/session", tags=["Session"])


@router.put("/", summary="Bring an image along")
def create(
    parts: Parts,
    _: Reader,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> dict[str, Any]:
    if uncompress:
        raise Refused(400, "Archives are not unpacked: send the image itself.")
    with received(parts.uploads, files) as paths:
        names = [file.filename or "" for file in files]
        session = parts.sessions.add(list(zip(names, paths, strict=True)), expiry)
    return {"session_id": session.name, "session_info": _answer(session)}


@router.get("/{session_id}", summary="A session, or its image", response_model=None)
def get(
    parts: Parts, _: Reader, session_id: str, update_ts: bool = False, image: bool = False
) -> dict[str, Any] | FileResponse:
    session = _find(parts, session_id)
    if update_ts:
        parts.sessions.touch(session)
    if not image:
        return _answer(session)
    path = parts.sessions.image(session)
    if not path.is_file():
        raise Refused(400, "The image of this session is a folder of DICOM files.")
    return FileResponse(path, filename=path.name)


@router.delete("/{session_id}", summary="Remove a session")
def remove(parts: Parts, _: Reader, session_id: str) -> dict[str, Any]:
    session = _find(parts, session_id)
    parts.sessions.remove(session)
    return _answer(session)


def _find(parts: Parts, session_id: str) -> Session:
    session = parts.sessions.get(session_id)
    if session is None:
        raise Refused(404, "There is no such session.")
    return session


def _answer(session: Session) -> dict[str, Any]:
    return {**asdict(session), "meta": {}}
