"""Images and labels: /datastore/ as the stock client uses it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from cinelabel.labelstore import LabelVersion
from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse
from pydantic import Field

from lib.http.errors import Refused
from lib.http.guard import Annotator, Caller, Reader
from lib.routes.common import Body, ClientId, Text, read_body
from lib.services import Parts, Services
from lib.uploads import read_params, received

router = APIRouter(prefix="/datastore", tags=["Datastore"])

Tag = Literal["final", "original"]
NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


class Adding(Body):
    """What comes with an image."""

    client_id: ClientId = ""


class Submitting(Body):
    """What comes with a label.

    Attributes:
        label_info: the segments in the order of their values; None if the values are canonical.
        base_version: the version it started from, 0 for none; None: what the client was shown.
        model, prediction: what it was corrected from.
        image_sha256: of the image file that it was drawn on, refused if that has changed.
        key: the client's own name of this submission: the same again is not kept twice.
    """

    client_id: ClientId = ""
    label_info: list[dict[str, Any]] | None = None
    base_version: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    model: Text | None = None
    prediction: Text | None = None
    comment: Text = ""
    image_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")] | None = None


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
def label(
    parts: Parts, caller: Reader, label: str, tag: Tag = "final", client_id: ClientId = ""
) -> FileResponse:
    found = parts.datastore.label(label, tag)
    if tag == "final":
        _note_shown(parts, caller, client_id, found)
    return _label_file(found)


@router.head("/label", summary="Whether there is a label")
def label_head(parts: Parts, _: Reader, label: str, tag: Tag = "final") -> FileResponse:
    return _label_file(parts.datastore.label(label, tag))


@router.get("/label/info", summary="What is known of a label")
def label_info(parts: Parts, _: Reader, label: str, tag: Tag = "final") -> dict[str, Any]:
    return dict(parts.datastore.get_label_info(label, tag))


@router.put("/", summary="Add an image", include_in_schema=False)
@router.put("/image", summary="Add an image; a 4D one becomes a case a frame")
def add_image(
    parts: Parts,
    _: Annotator,
    file: Annotated[UploadFile, File()],
    image: str | None = None,
    params: Annotated[str, Form()] = "{}",
) -> dict[str, Any]:
    read_body(Adding, read_params(params))
    name = image or NIFTI.sub("", (file.filename or "").replace("\\", "/").split("/")[-1])
    with received(parts.uploads, [file], "image") as (path,):
        cases = parts.catalogue.add_image(name, path)
    return {"image": cases[0].image_id, "images": [case.image_id for case in cases]}


@router.put("/label", summary="Submit a label")
def submit(
    parts: Parts,
    caller: Annotator,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: Literal["final", ""] = "final",
) -> dict[str, Any]:
    parts.datastore.case(image)
    wanted = read_body(Submitting, read_params(params))
    who = caller.who(wanted.client_id)
    with received(parts.uploads, [label], "label") as (path,):
        kept = parts.datastore.submit(image, path, wanted.model_dump(), who)
    if parts.pacs is not None:
        parts.pacs.submitted()
    return {"image": image, "label": image, **kept.as_dict()}


def _note_shown(parts: Services, caller: Caller, client_id: str, found: LabelVersion) -> None:
    """Remember who was sent a label, so that she may submit over it.

    Clients of MONAI Label do not say here who they are: with a token all clients of its name count,
    without tokens the one that holds the case.
    """
    image, version = found.image, found.version
    if client_id or caller.name is not None:
        parts.labels.saw(image, caller.who(client_id), client_id, version)
    if not client_id and caller.name is not None:
        parts.labels.saw_everywhere(image, caller.name, version)
    elif not client_id:
        for lease in (lease for lease in parts.labels.leases() if lease.image == image):
            parts.labels.saw(image, lease.who, lease.client_id, version)


def _label_file(found: LabelVersion) -> FileResponse:
    if not found.path.is_file():
        raise Refused(503, "The file of this label is gone: bring it from a backup.", "damaged")
    return FileResponse(found.path, filename=found.path.name)


def _file(uri: str, what: str) -> FileResponse:
    path = Path(uri)
    if not path.is_file():
        raise Refused(404, f"There is no such {what}.")
    return FileResponse(path, filename=path.name)
