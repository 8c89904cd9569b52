"""POST /infer/{model}: segment an image of the store, of a session, or one that comes along.

The endpoint is asynchronous, to learn when its client goes away; the work runs in threads that no
other endpoint needs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from cinelabel import studies
from cinelabel.core.errors import CineLabelError, ConflictError
from cinelabel.core.pseudonyms import pseudonym
from cinelabel.studies.catalogue import Case
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from requests_toolbelt import MultipartEncoder

from lib.http.errors import Refused, answer, of_server
from lib.http.guard import Caller, Reader
from lib.infer import (
    NO_SEG,
    Result,
    Source,
    Wanted,
    dicom_seg_file,
    facts,
    label_file,
    read_brought,
    read_wanted,
    uncertainty_file,
)
from lib.progress import Tracker
from lib.queue import CancelledError, QueueFullError
from lib.services import Parts, Services
from lib.uploads import read_params, received

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/infer", tags=["Infer"])

Output = Literal["image", "json", "all", "dicom_seg"]
MODEL = "cine"
GZIP = "application/gzip"


@router.post("/{model}", summary="Segment an image", response_class=Response)
async def infer(
    http: Request,
    parts: Parts,
    caller: Reader,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: Output | None = None,
) -> Response:
    if model != MODEL:
        raise Refused(400, f"There is no model '{model[:40]}'; the model is '{MODEL}'.")
    if label is not None:
        raise Refused(400, "The model takes an image alone, no label or scribbles.")
    given = read_params(params)
    wanted = read_wanted(given, parts.segmentation.fast)
    if file is not None and session_id:
        raise Refused(400, "Send a file or name a session, not both.")
    source = None
    if file is None:
        source = await anyio.to_thread.run_sync(_find, parts, image, session_id, wanted)
    _require_possible(wanted, source, caller, output)

    def work(tracker: Tracker) -> Response:
        with received(parts.uploads, [file] if file else [], "image") as paths:
            found = source or Source(partial(read_brought, paths[0]))
            before = None
            if wanted.save_label and found.case is not None:
                before = parts.catalogue.image_state(found.case.image_id)
            result = parts.segmentation.run(found, wanted, tracker)
        told = facts(result, tracker)
        needed = wanted.save_label or output in (None, "all", "image")
        label = label_file(result) if needed else b""
        if found.case is not None and before is not None:
            _save(parts, found.case, before, label, told)
        _mark_phases(parts, result)
        if output != "json" and caller.role != "reader":
            _remember(parts, result, caller, given.get("client_id") or "")
        if output == "dicom_seg":
            seg = dicom_seg_file(result, caller.who())
            return _file(seg, f"label-{tracker.id}.dcm", "application/dicom")
        return _answer(result, tracker.id, told, label, output)

    try:
        with parts.segmentation.admit(wanted.request_id, caller.who()) as tracker:
            return await _watched(http, parts.segmentation.threads, tracker, work)
    except QueueFullError as error:
        return answer(503, str(error), "busy", {"Retry-After": str(error.retry_after_s)})
    except CancelledError as error:
        return answer(409, str(error), "cancelled")


def _find(parts: Services, image: str, session_id: str, wanted: Wanted) -> Source:
    """What is to be segmented of a session or of the store. Raises 404 for an unknown one."""
    if session_id:
        session = parts.sessions.get(session_id)
        if session is None:
            raise Refused(404, "There is no such session.")
        parts.sessions.touch(session)
        return Source(partial(read_brought, parts.sessions.image(session)))
    if not image:
        raise Refused(400, "Name an image or a session, or send a file.")
    case = parts.catalogue.find(image)
    if case is None:
        raise Refused(404, "There is no such image.")
    if wanted.scope == "study":
        read = partial(parts.catalogue.load_study, image)
    else:
        read = partial(studies.load, parts.catalogue.image_path(image))
    return Source(of_server()(read), case)


def _require_possible(
    wanted: Wanted, source: Source | None, caller: Caller, output: Output | None
) -> None:
    """Refuse what could not be answered, before it waits."""
    case = source.case if source else None
    if wanted.save_label and case is None:
        raise Refused(400, "Only the label of an image of the server can be saved.")
    if wanted.save_label and caller.role == "reader":
        raise Refused(403, "Saving a label needs a token of the role annotator.")
    if output == "dicom_seg" and (case is None or case.kind != "dicom" or wanted.scope != "frame"):
        raise Refused(400, f"{NO_SEG}.")


async def _watched(
    http: Request,
    threads: anyio.CapacityLimiter,
    tracker: Tracker,
    work: Callable[[Tracker], Response],
) -> Response:
    """The outcome of the work, which is cancelled when the client goes away."""

    async def cancel_when_gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass
        tracker.ticket.cancel()

    watch = asyncio.create_task(cancel_when_gone())
    try:
        return await anyio.to_thread.run_sync(
            work, tracker, limiter=threads, abandon_on_cancel=True
        )
    except asyncio.CancelledError:
        tracker.ticket.cancel()  # the thread ends at the next phase
        raise
    finally:
        watch.cancel()


def _save(
    parts: Services, case: Case, before: dict[str, int], label: bytes, told: dict[str, Any]
) -> None:
    """Keep a label as its image's prediction. Raises ConflictError if the image has changed."""
    info = {
        key: told[key]
        for key in ("fast", "device", "members", "reason", "disagreement", "coverage")
    }
    with tempfile.TemporaryDirectory(prefix="cinelabel-") as folder:
        path = Path(folder, "label.nii.gz")
        path.write_bytes(label)
        with parts.catalogue.holding(case.image_id):
            if parts.catalogue.image_state(case.image_id) != before:
                raise ConflictError(
                    "the image changed while it was segmented",
                    where=case.image_id,
                    remedy="Segment it again",
                )
            parts.labels.save_prediction(
                case.image_id, path, told["model"], {"image": before, **info}
            )


def _remember(parts: Services, result: Result, caller: Caller, client_id: str) -> None:
    """Note which prediction a client was shown of a frame, as stock clients do not say later."""
    case, found = result.source.case, result.segmentation
    if case is None or result.wanted.scope != "frame":
        return
    who, labels = caller.who(client_id), found.labels[..., 0]
    try:
        parts.labels.saw_prediction(case.image_id, who, client_id, found.model, labels)
    except CineLabelError as error:  # the label is there all the same
        case_name = pseudonym(case.image_id)
        logger.warning("Not noted what was shown of case %s: %s", case_name, error.problem)


def _mark_phases(parts: Services, result: Result) -> None:
    """Tell the catalogue where ED and ES are, once a whole study was segmented."""
    case, found = result.source.case, result.segmentation
    if case and result.wanted.scope == "study" and found.ed is not None and found.es is not None:
        parts.catalogue.mark_phases(case.image_id, found.ed, found.es)


def _answer(
    result: Result, name: str, told: dict[str, Any], label: bytes, output: Output | None
) -> Response:
    if output == "json":
        return JSONResponse(told)
    if output == "image":
        return _file(label, f"label-{name}.nii.gz", GZIP)
    fields: dict[str, Any] = {
        "params": (None, json.dumps(told, allow_nan=False), "application/json"),
        "image": (f"label-{name}.nii.gz", label, GZIP),
    }
    uncertainty = uncertainty_file(result)
    if uncertainty is not None:  # after the label: clients may take the first file alone
        fields["uncertainty"] = (f"uncertainty-{name}.nii.gz", uncertainty, GZIP)
    message = MultipartEncoder(fields=fields)
    return Response(message.to_string(), media_type=message.content_type)


def _file(content: bytes, name: str, media_type: str) -> Response:
    return Response(
        content,
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
