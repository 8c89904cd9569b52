"""Every failure as JSON: one sentence, one word for its cause, and never a path of this machine."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cinelabel.core.errors import (
    BusyError,
    CineLabelError,
    ConflictError,
    GridError,
    InputError,
    LabelError,
    ModelError,
    OutputError,
)
from cinelabel.core.files import output_error
from cinelabel.serving.jobs import QueueFull, UnknownJob
from cinelabel.serving.settings import SETTINGS_KEY
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from pydantic import BaseModel
from starlette.exceptions import HTTPException

_QUOTED = re.compile(r"""(['"])(?:[A-Za-z]:)?[\\/](?:[^'"\n]*[\\/])?([^'"\\/\n]+)\1""")
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[\\/][^\s\\/:'\",;]+)*[\\/]([^\s\\/:'\",;]+)")

# Most particular kind first: status and cause of our own errors.
_OURS: tuple[tuple[type[CineLabelError], int, str], ...] = (
    (GridError, 400, "grid"),
    (LabelError, 400, "label"),
    (UnknownJob, 404, "unknown"),
    (InputError, 400, "input"),
    (ConflictError, 409, "conflict"),
    (QueueFull, 503, "busy"),
    (ModelError, 503, "model"),
    (BusyError, 503, "busy"),
    (OutputError, 507, "storage"),
    (CineLabelError, 500, "server"),
)
LENGTH = 1000
"""Characters of the longest sentence."""
_CAUSES = {
    400: "input",
    401: "token",
    403: "forbidden",
    404: "unknown",
    405: "method",
    409: "conflict",
    413: "size",
    422: "request",
    429: "busy",
    507: "storage",
}
# Routes of MONAI Label that are left out on purpose, by the start of their path.
_LEFT_OUT = {
    "/datastore": "Images and labels are never removed or changed in place through the server.",
    "/model": "Model versions are not added, removed or sent over HTTP: use 'cinelabel models'.",
    "/reload": "The app is not reloaded while it runs: restart the server.",
    "/logs": "Logs lie in the workspace of the server.",
    "/scoring": "Scoring methods are not part of this app.",
}


class Problem(BaseModel):
    """The body of every answer that is no success."""

    detail: str
    cause: str


class Refused(Exception):
    """A request that cannot be served as it is.

    Args:
        status: of the answer.
        sentence: what is wrong and what to do.
        cause: one word; follows from the status if not given.
        extra: further fields of the answer.
    """

    def __init__(
        self, status: int, sentence: str, cause: str | None = None, **extra: object
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.cause = cause or _CAUSES.get(status, "server")
        self.extra = extra


def without_paths(text: str) -> str:
    """A sentence with every absolute path cut to its last part.

    Paths with blanks are known by their quotes, or as paths below this server's folders.
    """
    for root in _roots():
        text = text.replace(root, "/" + Path(root).name.replace(" ", "_"))
    return _PATH.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))


@cache
def _roots() -> tuple[str, ...]:
    """The folders of this process that have blanks in their paths, the longest path first.

    Studies and settings, which lie in the workspace, are told by MONAI Label's own variables.
    """
    conf = json.loads(os.environ.get("MONAI_LABEL_APP_CONF", "{}"))
    studies, file = os.environ.get("MONAI_LABEL_STUDIES", ""), conf.get(SETTINGS_KEY, "")
    workspace = str(Path(file).parent) if file else ""
    found = {studies, workspace, tempfile.gettempdir(), str(Path.home())}
    roots = [root for root in found if os.path.isabs(root) and " " in root]
    return tuple(sorted(roots, key=len, reverse=True))


@contextmanager
def of_server() -> Iterator[None]:
    """What is read within is the server's own: if it is damaged or gone, that is 503, not 400.

    Raises:
        Refused: instead of InputError.
    """
    try:
        yield
    except InputError as error:
        if isinstance(error.where, Path):
            error.where = error.where.name
        raise Refused(503, str(error), "damaged") from error


def answer(
    status: int,
    sentence: str,
    cause: str | None = None,
    headers: dict[str, str] | None = None,
    **extra: object,
) -> JSONResponse:
    """The JSON answer of a failure."""
    text = without_paths(sentence).encode(errors="replace").decode()[:LENGTH]
    body = {"detail": text, "cause": cause or _CAUSES.get(status, "server")}
    return JSONResponse({**body, **extra}, status_code=status, headers=headers)


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return answer(error.status, error.sentence, error.cause, None, **error.extra)


def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CineLabelError)
    if isinstance(error.where, Path):
        error.where = error.where.name
    status, cause = next((s, c) for kind, s, c in _OURS if isinstance(error, kind))
    extra: dict[str, object] = {}
    if isinstance(error, ConflictError):
        extra = {"version": error.version, "who": error.who, "time": error.time}
    return answer(status, str(error), cause, None, **extra)


def _monailabel(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MONAILabelException)
    sentence = error.msg.rstrip(". ") + "."
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return answer(404, sentence)
    asked = error.error in (MONAILabelError.INVALID_INPUT, MONAILabelError.APP_INIT_ERROR)
    return answer(400 if asked else 500, sentence)


def _validation(_: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a request, as a sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    of = {"query": "query parameter", "path": "path", "body": "body", "header": "header"}
    kind = of.get(str(first["loc"][0]), "request")
    named = f"{kind} '{where}'" if where else kind
    return answer(422, f"The {named} is not right: {first['msg'].rstrip('.')}.")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    if error.status_code in (404, 405):
        path = request.url.path
        left_out = next((s for start, s in _LEFT_OUT.items() if path.startswith(start)), None)
        plain = {"Not Found": "There is no such address.", "Method Not Allowed": ""}
        sentence = (
            plain.get(error.detail, error.detail) or f"{request.method} is not possible here."
        )
        if left_out and error.detail in plain:
            sentence = f"{sentence} {left_out}"
        return answer(error.status_code, sentence, headers=headers)
    if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
        return _ours(request, output_error(error.__cause__, Path("upload")))
    sentence = error.detail if error.detail.endswith(".") else f"{error.detail}."
    return answer(error.status_code, sentence, headers=headers)


def _json(_: Request, error: Exception) -> JSONResponse:
    return answer(400, f"The parameters are not JSON: {error}.")


def explain_errors(application: FastAPI) -> None:
    """Answer every known kind of failure with a sentence."""
    handlers: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
        Refused: _refused,
        CineLabelError: _ours,
        MONAILabelException: _monailabel,
        RequestValidationError: _validation,
        HTTPException: _http,
        json.JSONDecodeError: _json,
    }
    for kind, handler in handlers.items():
        application.add_exception_handler(kind, handler)
