"""Images and labels: /datastore/ as the stock client uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse

from lib.http.errors import Refused
from lib.http.guard import Annotator, Reader
from lib.services import Parts
from lib.uploads import read_params, received

router = APIRouter(prefix="/datastore", tags=["Datastore"])

Tag = Literal["final", "original"]


@router.get("/", summary="How many images and labels there are, or all of them")
def datastore(
    parts: Parts, _: Reader, output: Literal["stats", "all", "train"] = "stats"
) -> dict[str, Any]:
    if output == "train":
        raise Refused(400, "Labels are exported by 'cinelabel labels export', not over HTTP.")
    store = parts.datastore
    return dict(store.json() if output == "all" else store.status())


@router.get("/image", summary="An image")
@router.head("/image", summary="Whether there is an image")
def image(parts: Parts, _: Reader, image: str) -> FileResponse:
    return _file(parts.datastore.get_image_uri(image), "image")


@router.get("/image/info", summary="What is known of an image")
def image_info(parts: Parts, _: Reader, image: str) -> dict[str, Any]:
    return dict(parts.datastore.get_image_info(image))


@router.get("/label", summary="The newest label of an image")
@router.head("/label", summary="Whether there is a label")
def label(parts: Parts, _: Reader, label: str, tag: Tag = "final") -> FileResponse:
    return _file(parts.datastore.get_label_uri(label, tag), "label")


@router.get("/label/info", summary="What is known of a label")
def label_info(parts: Parts, _: Reader, label: str, tag: Tag = "final") -> dict[str, Any]:
    return dict(parts.datastore.get_label_info(label, tag))


@router.put("/label", summary="Submit a label")
def submit(
    parts: Parts,
    caller: Annotator,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: Literal["final", ""] = "final",
) -> dict[str, Any]:
    fields = read_params(params)
    parts.datastore.get_image_uri(image)
    with received(parts.uploads, [label], "label") as (path,):
        name = parts.datastore.save_label(image, str(path), "final", fields)
    return {"image": image, "label": name}


def _file(uri: str, what: str) -> FileResponse:
    path = Path(uri)
    if not path.is_file():
        raise Refused(404, f"There is no such {what}.")
    return FileResponse(path, filename=path.name)
