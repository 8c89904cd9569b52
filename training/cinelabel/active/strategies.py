"""Which study a reader should label next; each choice comes with its reason in a sentence.

Plain functions over identifiers. `ids` is every study in the order of the store, `labelled` those
that a reader has finished.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The next study and why."""

    id: str
    reason: str


def first(ids: Sequence[str], labelled: Collection[str]) -> Choice | None:
    """The first study in the given order without a label; None when all are labelled."""
    waiting = unlabelled(ids, labelled)
    if not waiting:
        return None
    return Choice(waiting[0], f"It is the first of {_studies(len(waiting))} without labels.")


def random_unlabelled(
    ids: Sequence[str], labelled: Collection[str], seed: int | None
) -> Choice | None:
    """A study drawn evenly from those without a label; None when all are labelled.

    The draw depends on `seed` and on which studies are waiting, not on their order; None as the
    seed draws anew each time.
    """
    waiting = sorted(unlabelled(ids, labelled))
    if not waiting:
        return None
    generator = random.Random(seed)
    return Choice(
        generator.choice(waiting),
        f"It was drawn at random from {_studies(len(waiting))} without labels.",
    )


def unlabelled(ids: Sequence[str], labelled: Collection[str]) -> list[str]:
    """The studies without a label, in the given order, each once."""
    done = set(labelled)
    return [name for name in dict.fromkeys(ids) if name not in done]


def _studies(count: int) -> str:
    return "1 study" if count == 1 else f"{count} studies"
