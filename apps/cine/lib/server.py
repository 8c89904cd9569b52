"""MONAI Label's ASGI application with errors as JSON sentences, and an end with its parent."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from cinelabel.cli.server_process import EXIT_WITH_STDIN
from cinelabel.core.errors import CineLabelError, InputError
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelException,
)

__all__ = ["app"]


def _sentence(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, status_code=status)


async def _monailabel_error(_: Request, error: Exception) -> JSONResponse:
    missing = isinstance(error, (ImageNotFoundException, LabelNotFoundException))
    return _sentence(404 if missing else 400, getattr(error, "msg", str(error)))


async def _cinelabel_error(_: Request, error: Exception) -> JSONResponse:
    return _sentence(400 if isinstance(error, InputError) else 500, str(error))


async def _json_error(_: Request, error: Exception) -> JSONResponse:
    return _sentence(400, f"The parameters are not JSON: {error}.")


def _explain_errors(application: FastAPI) -> None:
    application.add_exception_handler(MONAILabelException, _monailabel_error)
    application.add_exception_handler(CineLabelError, _cinelabel_error)
    application.add_exception_handler(json.JSONDecodeError, _json_error)


def _close_to_web_pages(application: FastAPI) -> None:
    """MONAI Label lets pages of any origin use the server; Slicer needs no such permission."""
    kept = [layer for layer in application.user_middleware if layer.cls is not CORSMiddleware]
    application.user_middleware = kept


def _end_with_stdin() -> None:
    """Wait until whoever started the server closes its end of the pipe, or dies, then stop."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


_explain_errors(app)
_close_to_web_pages(app)
if os.environ.get(EXIT_WITH_STDIN):
    threading.Thread(target=_end_with_stdin, daemon=True).start()
