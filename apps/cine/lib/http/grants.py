"""Images that may be fetched without a token, as 3D Slicer's MONAI Label module does.

The module logs in, but downloads the image that it was given by a plain GET without its token. So
whoever was given an image may fetch that one for a few minutes from the same address.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.types import Scope

GRANT_S = 300.0
PATH = "/datastore/image"


class Grants:
    """Which image was given to whom at which address; several threads may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: dict[tuple[str, str], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def give(self, peer: str, image: str, name: str) -> None:
        """Let an address fetch an image in the name of a token."""
        now = self._clock()
        with self._lock:
            self._given = {key: kept for key, kept in self._given.items() if kept[1] > now}
            self._given[peer, image] = (name, now + GRANT_S)

    def find(self, scope: Scope, peer: str) -> str | None:
        """In whose name a request without a token may be answered, None if it may not."""
        if scope["method"] not in ("GET", "HEAD") or scope["path"] != PATH:
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        if query.keys() != {"image"} or len(query["image"]) != 1:  # nothing that reads otherwise
            return None
        with self._lock:
            name, end = self._given.get((peer, query["image"][0]), ("", 0.0))
        return name if end > self._clock() else None
