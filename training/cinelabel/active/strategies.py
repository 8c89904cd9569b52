"""Which image a reader should label next; each choice comes with its reason in a sentence.

Plain functions over identifiers. `ids` is every image in the order of the store, `labelled` those
that a reader has finished.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The next image and why."""

    id: str
    reason: str


def first(ids: Sequence[str], labelled: Collection[str]) -> Choice | None:
    """The first image in the given order without a label; None when all are labelled."""
    waiting = unlabelled(ids, labelled)
    if not waiting:
        return None
    return Choice(waiting[0], f"It is the first of {_images(len(waiting))} without labels.")


def random_unlabelled(
    ids: Sequence[str], labelled: Collection[str], seed: int | None
) -> Choice | None:
    """An image drawn evenly from those without a label; None when all are labelled.

    The draw depends on `seed` and on which images are waiting, not on their order; None as the
    seed draws anew each time.
    """
    waiting = sorted(unlabelled(ids, labelled))
    if not waiting:
        return None
    generator = random.Random(seed)
    return Choice(
        generator.choice(waiting),
        f"It was drawn at random from {_images(len(waiting))} without labels.",
    )


def unlabelled(ids: Sequence[str], labelled: Collection[str]) -> list[str]:
    """The images without a label, in the given order, each once."""
    done = set(labelled)
    return [name for name in dict.fromkeys(ids) if name not in done]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
