"""Decisions about breath-holds that were taken back here, kept so that no merge revives them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from CineLabelLib.core.files import write_json
from CineLabelLib.core.review import Decision
from CineLabelLib.locks import lock

_FILE = "taken-back.json"


def name(index: int | None, decision: Decision) -> str:
    """What one decision about a slice, or about the study (None), is known by."""
    about = "study" if index is None else f"slice {index}"
    return f"{about}: {decision.action.value} by {decision.reader} of {decision.time}"


def read(folder: Path) -> frozenset[str]:
    """The names that are kept in a study's folder; none where they cannot be read."""
    try:
        kept = json.loads((folder / _FILE).read_text(encoding="utf-8"))["decisions"]
        return frozenset(map(str, kept))
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def keep(folder: Path, names: Collection[str]) -> None:
    """Keep names beside those that are there. Raises OutputError, BusyError."""
    if names:
        with lock(folder / ".lock"):
            write_json(folder / _FILE, {"decisions": sorted(read(folder).union(names))})
