"""The server's log: a JSON object a line, without the names of studies.

A logger of the house gives further fields by `extra={"fields": {...}}`. Names of studies may be
names of patients, so paths below the studies and the workspace are replaced by a short hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cinelabel.serving.settings import ServerSettings

FILE_BYTES = 10 * 1024**2
FILES_KEPT = 9
OURS = ("cinelabel", "lib", "main", "uvicorn")
"""Loggers at the chosen level; those of MONAI Label and other packages tell warnings only."""


class Redaction:
    """Replaces paths below some folders by `<studies>/<hash>`, but for some of their parts.

    A path ends at a quote, a colon or the end of its line, since names may hold blanks.
    """

    def __init__(self, folders: Sequence[Path], but: Sequence[str] = ()) -> None:
        names = sorted({str(folder) for folder in folders}, key=len, reverse=True)
        alternatives = "|".join(re.escape(name) for name in names)
        spared = rf"(?!(?:{'|'.join(map(re.escape, but))})[/\\])" if but else ""
        pattern = rf"(?:{alternatives})[/\\]{spared}([^:'\"\n]+)"
        self._pattern = re.compile(pattern) if names else None

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(_hashed, text)


def _hashed(match: re.Match[str]) -> str:
    return f"<studies>/{hashlib.sha256(match[1].encode()).hexdigest()[:8]}"


class JsonLines(logging.Formatter):
    """One JSON object a record: time (UTC), level, logger, message, its fields, the traceback."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self._redact(record.getMessage()),
            **{
                name: self._redact(value) if isinstance(value, str) else value
                for name, value in getattr(record, "fields", {}).items()
            },
        }
        if record.exc_info:
            entry["traceback"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)


class Plain(logging.Formatter):
    """What a person reads in the server's output: time, level, message, traceback."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_time(record)} {record.levelname} {record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return self._redact(text)


def log_config(settings: ServerSettings) -> dict[str, Any]:
    """A configuration for `logging.config.dictConfig`: everything into the log, errors printed."""
    folders = [settings.workspace, *([settings.studies] if settings.studies else [])]
    redact = Redaction(folders, but=("jobs", "logs"))
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": JsonLines, "redact": redact},
            "plain": {"()": Plain, "redact": redact},
        },
        "handlers": {
            "log": {
                "class": "logging.handlers.RotatingFileHandler",
                "filename": str(settings.log),
                "maxBytes": FILE_BYTES,
                "backupCount": FILES_KEPT,
                "encoding": "utf-8",
                "formatter": "json",
            },
            "errors": {
                "class": "logging.StreamHandler",
                "level": "ERROR",
                "formatter": "plain",
            },
        },
        "root": {"level": "WARNING", "handlers": ["log", "errors"]},
        "loggers": {name: {"level": settings.log_level} for name in OURS},
    }


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
