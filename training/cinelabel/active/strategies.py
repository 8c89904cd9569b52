"""Which slice a reader should correct next; each choice comes with its reason in a sentence.

Plain functions `(waiting, labelled, seed) -> Choice | None` over slices and what is known of them,
so that a server and a simulation choose by the same code. `diversity` is the greedy k-center of
Sener & Savarese (ICLR 2018, algorithm 1), one step of it at a time.
"""

from __future__ import annotations

import random as generators
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

THIRDS = 3
TOGETHER = 256
"""Labelled slices to which distances are taken at a time, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A slice, waiting or labelled; or a whole image of which no scores are known.

    Attributes:
        image: name of the frame.
        patient: whose heart it is.
        slice: along the third axis, from 0; None for an image without scores, as all that follows.
        position: 0 for the first slice of the heart, 1 for the last.
        foreground: whether the model labels any structure there.
        heart_mm2: area that any of the model's answers (members, or mirrored passes) labels.
        disputed_mm2: area of it on which two answers differ, the mean over each two of them.
        features: float (n,), of the encoder; see `features.Encoder`.
    """

    image: str
    patient: str
    slice: int | None = None
    position: float = 0.0
    foreground: bool = False
    heart_mm2: float = 0.0
    disputed_mm2: float = 0.0
    features: np.ndarray | None = None

    @property
    def third(self) -> int:
        """0, 1 or 2 along the heart."""
        return min(int(self.position * THIRDS), THIRDS - 1)


@dataclass(frozen=True)
class Choice:
    """The next image, in it the slice that it was chosen for (None for the whole), and why."""

    image: str
    slice: int | None
    reason: str


Strategy = Callable[[Sequence[Candidate], Sequence[Candidate], "int | None"], "Choice | None"]


def first(
    waiting: Sequence[Candidate], labelled: Sequence[Candidate], seed: int | None = None
) -> Choice | None:
    """The first that waits; None when nothing does."""
    if not waiting:
        return None
    count = _images(waiting)
    return _choice(waiting[0], f"It is the first of {count} without labels.")


def random(
    waiting: Sequence[Candidate], labelled: Sequence[Candidate], seed: int | None = None
) -> Choice | None:
    """An image drawn evenly, and a slice of it; None when nothing waits.

    The draw depends on `seed` and on what is waiting, not on its order; None draws anew each time.
    """
    return _drawn(waiting, seed, f"It was drawn at random from {_images(waiting)} without labels.")


def foreground(
    waiting: Sequence[Candidate], labelled: Sequence[Candidate], seed: int | None = None
) -> Choice | None:
    """An image drawn by the share of its slices with a structure, and one of these slices."""
    scored = [candidate for candidate in waiting if candidate.slice is not None]
    within = [candidate for candidate in scored if candidate.foreground]
    if not within:
        return _unscored(waiting, labelled)
    slices, full = (Counter(c.image for c in group) for group in (scored, within))
    images = sorted(full)
    generator = generators.Random(seed)
    shares = [full[image] / slices[image] for image in images]
    image = generator.choices(images, shares)[0]
    chosen = generator.choice(sorted(c.slice or 0 for c in within if c.image == image))
    return Choice(
        image,
        chosen,
        f"It was drawn at random by the share of slices with a structure, {full[image]} of "
        f"{slices[image]} here, from {_images(scored)} without labels.",
    )


def disagreement(
    waiting: Sequence[Candidate], labelled: Sequence[Candidate], seed: int | None = None
) -> Choice | None:
    """The slice in which the model's answers differ on the largest area of the heart."""
    within = _of_the_heart(waiting)
    if not within:
        return _unscored(waiting, labelled)
    worst = max(within, key=lambda candidate: candidate.disputed_mm2)
    return _choice(worst, f"{disputed(worst)}, most of {len(within)} slices in {_images(within)}.")


def diversity(
    waiting: Sequence[Candidate], labelled: Sequence[Candidate], seed: int | None = None
) -> Choice | None:
    """The slice whose heart looks least like any that is labelled; the most typical at first."""
    within = _of_the_heart(waiting)
    if not within:
        return _unscored(waiting, labelled)
    distances = novelty(within, labelled)
    chosen = within[int(np.argmax(distances))]
    known = sum(candidate.features is not None for candidate in labelled)
    if not known:
        reason = f"Slice {chosen.slice} is the most typical of {len(within)}, as none is labelled."
    else:
        reason = (
            f"Slice {chosen.slice} looks least like the {known} labelled ones: its distance to the "
            f"nearest is {distances.max():.1f}, the median of {len(within)} slices "
            f"{np.median(distances):.1f}."
        )
    return _choice(chosen, reason)


def suggested(
    waiting: Sequence[Candidate], labelled: Sequence[Candidate], seed: int | None = None
) -> Choice | None:
    """The slice with the greatest `usefulness`: the default."""
    within = _of_the_heart(waiting)
    if not within:
        return _unscored(waiting, labelled)
    useful = usefulness(within, labelled)
    at = int(np.argmax(useful[0]))
    chosen, known = within[at], _scored(labelled)
    _, worse, distant = useful[:, at]
    looks = f"looks less like the labelled ones than {distant:.0%} of them"
    if not known:
        looks = f"is more typical than {distant:.0%} of them"
    own = sum(candidate.patient == chosen.patient for candidate in labelled)
    third = sum(candidate.third == chosen.third for candidate in known)
    return _choice(
        chosen,
        f"{disputed(chosen)}, more than in {worse:.0%} of the {len(within) - 1} others that "
        f"wait, and it {looks}; labelled are {own} of its patient and, of "
        f"{len(known)} in all, {third} in its third of the heart.",
    )


STRATEGIES: Mapping[str, Strategy] = {
    "suggested": suggested,
    "first": first,
    "random": random,
    "foreground": foreground,
    "disagreement": disagreement,
    "diversity": diversity,
}


def usefulness(waiting: Sequence[Candidate], labelled: Sequence[Candidate]) -> np.ndarray:
    """How much each slice promises to teach, and its ranks by disagreement and by novelty.

    Float (3, n), 0 to 1. The first is the mean of the other two, divided by 1 + the labelled slices
    of its patient, and by 1 + how often its third of the heart is labelled against an even share.
    """
    worse = ranks(np.array([candidate.disputed_mm2 for candidate in waiting]))
    distant = ranks(novelty(waiting, labelled))
    patients = Counter(candidate.patient for candidate in labelled)
    thirds = Counter(candidate.third for candidate in _scored(labelled))
    even = max(thirds.total() / THIRDS, 1.0)
    seen = [(patients[c.patient], thirds[c.third] / even) for c in waiting]
    divisors = np.array([(1 + own) * (1 + share) for own, share in seen])
    return np.stack([(worse + distant) / 2 / divisors, worse, distant])


def novelty(waiting: Sequence[Candidate], labelled: Sequence[Candidate]) -> np.ndarray:
    """Distance of each slice's features to the nearest labelled slice's: float (n,).

    Each feature is scaled to unit spread over all slices, and the root of the mean square is taken
    over them. Without a labelled slice: the negative distance to the mean, so that the most
    typical slice comes first. Zeros where features are missing.
    """
    features = [c.features for c in waiting if c.features is not None]
    known = [c.features for c in labelled if c.features is not None]
    if len(features) < len(waiting) or not features:
        return np.zeros(len(waiting))
    everything = np.stack([*features, *known]).astype(np.float64)
    spread = everything.std(0)
    used = spread > 1e-9 * max(float(spread.max()), 1e-30)
    scaled = everything[:, used] / spread[used] / np.sqrt(max(np.count_nonzero(used), 1))
    own, others = scaled[: len(features)], scaled[len(features) :]
    if not len(others):
        return -np.linalg.norm(own - own.mean(0), axis=1)
    nearest = np.full(len(own), np.inf)
    for part in np.array_split(others, -(-len(others) // TOGETHER)):
        squares = (own**2).sum(1)[:, None] + (part**2).sum(1) - 2 * own @ part.T
        np.minimum(nearest, squares.min(1), out=nearest)
    return np.sqrt(np.maximum(nearest, 0.0))


def ranks(values: np.ndarray) -> np.ndarray:
    """The share of the others that each value exceeds, 0 to 1: float (n,)."""
    below = np.searchsorted(np.sort(values), values, side="left")
    return below / max(len(values) - 1, 1)


def disputed(candidate: Candidate) -> str:
    """Where a model's answers differ, without a full stop."""
    areas = candidate.disputed_mm2 / 100, candidate.heart_mm2 / 100
    return (
        f"In slice {candidate.slice} two answers of the model differ on {areas[0]:.1f} of "
        f"{areas[1]:.1f} cm2 of heart"
    )


def _of_the_heart(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in _scored(candidates) if candidate.heart_mm2 > 0]


def _scored(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.slice is not None]


def _unscored(waiting: Sequence[Candidate], labelled: Sequence[Candidate]) -> Choice | None:
    """Without scores: the first of the patient of whom least is labelled."""
    if not waiting:
        return None
    patients = Counter(candidate.patient for candidate in labelled)
    chosen = min(waiting, key=lambda candidate: patients[candidate.patient])
    return _choice(
        chosen,
        f"No slice with a heart is scored among {_images(waiting)} without labels, so it is the "
        f"first of a patient of whom least is labelled ({patients[chosen.patient]}).",
    )


def _drawn(waiting: Sequence[Candidate], seed: int | None, reason: str) -> Choice | None:
    images = sorted({candidate.image for candidate in waiting})
    if not images:
        return None
    generator = generators.Random(seed)
    image = generator.choice(images)
    slices = sorted(c.slice for c in waiting if c.image == image and c.slice is not None)
    return Choice(image, generator.choice(slices) if slices else None, reason)


def _choice(candidate: Candidate, reason: str) -> Choice:
    return Choice(candidate.image, candidate.slice, reason)


def _images(candidates: Sequence[Candidate]) -> str:
    count = len({candidate.image for candidate in candidates})
    return "1 image" if count == 1 else f"{count} images"
