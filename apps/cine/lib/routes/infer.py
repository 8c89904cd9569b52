"""POST /infer/{model}: segment an image of the store, of a session, or one that comes along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from requests_toolbelt import MultipartEncoder

from lib.http.errors import Refused
from lib.http.guard import Reader
from lib.services import Parts
from lib.uploads import read_params, received

router = APIRouter(prefix="/infer", tags=["Infer"])

Output = Literal["image", "json", "all"]


@router.post("/{model}", summary="Segment an image", response_class=Response)
def infer(
    parts: Parts,
    _: Reader,
    tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: Output | None = None,
) -> Response:
    request = {**read_params(params), "model": model, "image": image}
    with received(parts.uploads, [file] if file else [], "image") as paths:
        if paths:
            request["image"] = str(paths[0])
        elif session_id:
            session = parts.sessions.get(session_id)
            if session is None:
                raise Refused(404, "There is no such session.")
            request["image"] = str(parts.sessions.image(session))
        else:
            parts.datastore.get_image_uri(image)
        result = parts.app.infer(request)
    return _answer(result, output, tasks)


def _answer(result: dict[str, Any], output: str | None, tasks: BackgroundTasks) -> Response:
    label = Path(result["file"])
    tasks.add_task(label.unlink, missing_ok=True)
    if output == "json":
        return JSONResponse(result["params"], background=tasks)
    if output == "image":
        return FileResponse(label, filename="label.nii.gz", background=tasks)
    fields = {
        "params": (None, json.dumps(result["params"]), "application/json"),
        "image": ("label.nii.gz", label.read_bytes(), "application/gzip"),
    }
    message = MultipartEncoder(fields=fields)
    return Response(message.to_string(), media_type=message.content_type, background=tasks)
