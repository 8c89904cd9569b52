"""Received files on disk while a request needs them, under names of our own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cinelabel.core.files import output_error
from fastapi import UploadFile

from lib.http.errors import Refused

_SUFFIX = re.compile(r"(\.seg)?\.[A-Za-z0-9]{1,10}(\.gz)?$")


STALE_S = 3600.0


def remove_left_behind(folder: Path) -> None:
    """Remove what a killed server was receiving; files younger than an hour may be another's."""
    for place in folder.glob("*"):
        with contextlib.suppress(OSError):
            if place.stat().st_mtime < time.time() - STALE_S:
                shutil.rmtree(place)


@contextlib.contextmanager
def received(folder: Path, files: Sequence[UploadFile], stem: str = "file") -> Iterator[list[Path]]:
    """The content of received files, removed at the end.

    The names are `<stem><suffix>`, numbered if there are several: of the client's name only the
    suffix is kept.

    Raises:
        OutputError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder))
    except OSError as error:
        raise output_error(error, folder) from error
    try:
        paths = []
        for number, file in enumerate(files):
            suffix = _SUFFIX.search(file.filename or "")
            name = f"{stem}{number if len(files) > 1 else ''}{suffix.group() if suffix else ''}"
            paths.append(place / name)
            try:
                with paths[-1].open("wb") as stream:
                    shutil.copyfileobj(file.file, stream, 1 << 20)
            except OSError as error:
                raise output_error(error, Path(name)) from error
        yield paths
    finally:
        shutil.rmtree(place, ignore_errors=True)


def read_params(text: str) -> dict[str, Any]:
    """The JSON object in a form field, empty for an empty text.

    Raises:
        Refused: 400, it is no JSON object, or one with NaN or with text that is no Unicode.
    """
    try:
        value = json.loads(text, parse_constant=_no_number) if text.strip() else {}
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The parameters are not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Refused(400, "The parameters are not a JSON object with fields.")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")
