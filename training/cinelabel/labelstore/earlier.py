"""Labels of a workspace whose labels MONAI Label kept by itself, one file an image."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cinelabel.labelstore.records import NAME_LENGTH, utc

STORE = "store"
INDEX = "datastore_v2.json"
SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class EarlierLabel:
    """A submitted label and what was recorded about it."""

    image: str
    file: Path
    image_file: Path
    who: str
    client_id: str
    time: str
    label_info: object


def labels(workspace: Path, known: Collection[str]) -> Iterator[EarlierLabel]:
    """The submitted labels of images that are not among the known ones, by name."""
    store = workspace / STORE
    files = sorted((store / "labels" / "final").glob(f"*{SUFFIX}"))
    names = [file.name[: -len(SUFFIX)] for file in files]
    infos = _infos(store / INDEX) if set(names) - set(known) else {}
    for image, file in zip(names, files, strict=True):
        if image in known or len(image) > NAME_LENGTH:
            continue
        info = infos.get(image, {})
        stamp = info.get("ts")
        moment = stamp if isinstance(stamp, (int, float)) else file.stat().st_mtime
        yield EarlierLabel(
            image=image,
            file=file,
            image_file=store / file.name,
            who=str(info.get("user") or "unknown"),
            client_id=str(info.get("client_id") or ""),
            time=utc(datetime.fromtimestamp(moment, timezone.utc)),
            label_info=info.get("label_info"),
        )


def _infos(index: Path) -> dict[str, dict[str, Any]]:
    """What was recorded about the submitted labels; nothing where that is lost."""
    try:
        objects = json.loads(index.read_text(encoding="utf-8"))["objects"]
        return {
            image: entry["labels"]["final"]["info"]
            for image, entry in objects.items()
            if "final" in entry.get("labels", {})
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
