"""Which image a reader gets next: the first without a label, or any of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class First(Strategy):
    """The first image without a submitted label, in the order of studies and frames."""

    def __init__(self) -> None:
        super().__init__("First frame without a label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, str] | None:
        waiting = datastore.get_unlabeled_images()
        return {"id": waiting[0]} if waiting else None


class Random(Strategy):
    """Any image without a submitted label; the same seed draws in the same order."""

    def __init__(self, seed: int) -> None:
        super().__init__("Any frame without a label")
        self._generator = np.random.default_rng(seed)
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, str] | None:
        waiting = datastore.get_unlabeled_images()
        if not waiting:
            return None
        with self._lock:
            return {"id": waiting[int(self._generator.integers(len(waiting)))]}
