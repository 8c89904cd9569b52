"""Which image a reader gets next, and why: the strategies of `cinelabel.active` on a datastore."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

from cinelabel.active.strategies import STRATEGIES, Candidate, Choice
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.candidates import Candidates

DESCRIPTIONS = {
    "suggested": "Where the model is unsure and little like it is labelled, patients in turn",
    "first": "First frame without a label",
    "random": "Any frame without a label",
    "foreground": "Any frame, by its share of slices with a structure",
    "disagreement": "Where the model's answers differ most within the heart",
    "diversity": "What looks least like the labelled frames",
}
"""In the order in which clients show them; Slicer's module offers the first."""
UNSCORED = ("first", "random")
"""They hand out every image, and need to know nothing of it."""


class Choosing(Strategy):
    """A strategy by its name. The same seed draws in the same order."""

    def __init__(self, name: str, candidates: Candidates, seed: int) -> None:
        super().__init__(DESCRIPTIONS[name])
        self._name = name
        self._candidates = candidates
        self._generator = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The choice among `candidates` of the request, else among all images without a label.

        Returns:
            `id`; `slice` that it was chosen for (counted from 0, None for all); `reason`. None
            where nothing waits.
        """
        named = request.get("candidates")
        images = datastore.get_unlabeled_images() if named is None else named
        with self._lock:
            seed = self._generator.getrandbits(32)
        if self._name in UNSCORED:
            waiting = [Candidate(image, image) for image in images]
            return _answer(STRATEGIES[self._name](waiting, [], seed), ())
        pool = self._candidates.pool(images)
        return _answer(STRATEGIES[self._name](pool.waiting, pool.labelled, seed), pool.remarks)


def strategies(candidates: Candidates, seed: int) -> dict[str, Strategy]:
    """All of them by name."""
    return {name: Choosing(name, candidates, seed) for name in DESCRIPTIONS}


def _answer(choice: Choice | None, remarks: Sequence[str]) -> dict[str, Any] | None:
    if choice is None:
        return None
    reason = " ".join([choice.reason, *remarks])
    return {"id": choice.image, "slice": choice.slice, "reason": reason}
