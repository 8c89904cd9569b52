"""Which image a reader gets next, and why: the strategies of `cinelabel.active` on a datastore."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

from cinelabel.active.strategies import Candidate, Choice, first
from cinelabel.active.strategies import random as random_image
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class First(Strategy):
    """The first image without a submitted label, in the order of studies and frames."""

    def __init__(self) -> None:
        super().__init__("First frame without a label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, str] | None:
        return _answer(first(_candidates(request, datastore), []))


class Random(Strategy):
    """Any image without a submitted label; the same seed draws in the same order."""

    def __init__(self, seed: int) -> None:
        super().__init__("Any frame without a label")
        self._generator = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, str] | None:
        with self._lock:
            seed = self._generator.getrandbits(32)
        return _answer(random_image(_candidates(request, datastore), [], seed))


def _candidates(request: dict[str, Any], datastore: Datastore) -> Sequence[Candidate]:
    """The images to choose from: those that the request names, else all without a label."""
    named = request.get("candidates")
    images = datastore.get_unlabeled_images() if named is None else named
    return [Candidate(image, image) for image in images]


def _answer(choice: Choice | None) -> dict[str, str] | None:
    return None if choice is None else {"id": choice.image, "reason": choice.reason}
