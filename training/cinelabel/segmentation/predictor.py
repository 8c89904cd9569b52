"""Segmenting a study: locate, crop, members with mirroring, average, inverse, post-process.

The order is that of Gong et al. (STACOM 2022, sections 2.5 and 3.3) with a heart locator in place
of the pseudo labels that centre their crops. Members run one after another; what they say is summed
on the study's grid, where the heart is, for as many phases at a time as `MEMORY_BYTES` holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from cinelabel.core.errors import InputError, ModelError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import Measures, measure
from cinelabel.models.store import ModelStore, ModelVersion
from cinelabel.segmentation.agreement import Agreement, pairwise_dice
from cinelabel.segmentation.average import VOTES, Region, Vote, add_vote, entropy, largest
from cinelabel.segmentation.backend import choose_device
from cinelabel.segmentation.locator import HeartBox, Located, contiguous, locate
from cinelabel.segmentation.member import CLASSES, Clock, Member, MemberCost, resident_bytes
from cinelabel.segmentation.postprocess import Postprocessing
from cinelabel.studies.study import Study
from cinelabel.transforms.preparation import heart_centre
from cinelabel.transforms.preprocess import Crop

RECENTRE_MM = 12.0
"""A window whose middle lies this far off the first labels is centred again."""
MEMORY_BYTES = 256 * 2**20
"""What the sums over the members may take; a long cine goes through in several parts."""


Progress = Callable[[int, int, str], None]
"""Told steps done, steps in all (a step is a phase of a member), and the member's name."""


@dataclass(frozen=True)
class Options:
    """How a study is segmented; the arguments of `Segmenter.segment`."""

    mirror: bool = True
    turns: bool = False
    vote: Vote = "average"
    postprocessing: Postprocessing = Postprocessing()
    keep_members: bool = False
    uncertainty: bool = False


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What is known of a study after segmentation. Arrays lie on the study's grid.

    Attributes:
        labels: uint8 (x, y, z, t), post-processed.
        heart, reason: where the heart is, or why none was found.
        ed, es: phases, when there is more than one.
        measures: volumes and function.
        timings_s: seconds a step.
        model, device, fast: the version, where it ran, and if by its fast member alone.
        members: names of those that took part.
        member_costs: what each took.
        agreement: Dice between each two members; None for a single one or without a heart.
        entropy: float16 (x, y, z, t), nats (0 to ln 4 = 1.386), of the members' average, or of
            the shares of their votes; on request.
        member_labels, average_labels: uint8 (x, y, z, t), each member's own labels and those of
            all together, before post-processing; on request.
    """

    labels: np.ndarray
    heart: HeartBox | None
    reason: str | None
    ed: int | None
    es: int | None
    measures: Measures
    timings_s: dict[str, float]
    model: str
    device: str
    fast: bool = False
    members: tuple[str, ...] = ()
    member_costs: Mapping[str, MemberCost] = field(default_factory=dict)
    agreement: Agreement | None = None
    entropy: np.ndarray | None = None
    member_labels: Mapping[str, np.ndarray] | None = None
    average_labels: np.ndarray | None = None


class Segmenter:
    """A model version that is ready to segment studies; networks are loaded when first needed."""

    def __init__(self, version: ModelVersion, device: str = "auto") -> None:
        """Read what the members of a version expect; ModelError when it lacks one."""
        self.version = version
        self.device = choose_device(device)
        cards = version.card.members
        if [m.role for m in cards].count("locator") != 1 or len(cards) < 2:
            raise ModelError(
                "a model version needs one locator and at least one segmenter", where=version.name
            )
        loaded = [Member(version, card, self.device) for card in cards]
        self._locator = next(m for m in loaded if m.card.role == "locator")
        self._segmenters = {m.name: m for m in loaded if m.card.role == "segmenter"}

    @classmethod
    def load(
        cls, version: str | None = None, device: str = "auto", store: ModelStore | None = None
    ) -> Segmenter:
        """The segmenter of a version, the current one when None.

        Raises:
            ModelError: for an unknown version or a card that does not hold together.
            InputError: for an unknown device.
        """
        return cls((store or ModelStore()).load(version), device)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the networks that segment."""
        return tuple(self._segmenters)

    @property
    def fast_member(self) -> str:
        """The member that is used alone when it has to be fast."""
        return self.version.card.fast or self.members[0]

    def member(self, name: str) -> Member:
        """The network that segments, by its name; InputError when there is none."""
        return self._chosen([name], fast=False)[0]

    def locate(self, study: Study, mirror: bool = True) -> Located:
        """Where the heart is in a study; ModelError when the locator's files are damaged."""
        locator = self._locator
        found = locate(study.frames, study.grid, locator.backend(), locator.preparation, mirror)
        locator.release()
        return found

    def segment(
        self,
        study: Study,
        *,
        frames: Sequence[int] | None = None,
        mirror: bool = True,
        fast: bool = False,
        members: Sequence[str] | None = None,
        turns: bool = False,
        vote: Vote = "average",
        postprocessing: Postprocessing | None = None,
        keep_members: bool = False,
        uncertainty: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segment a study, every slice of every wanted phase.

        Args:
            study: of any number of phases.
            frames: phases to segment, all when None; the others stay empty.
            mirror: average over mirrorings along all axes.
            fast: one pass of one network: no mirroring, and unless `members` names others the
                card's fast member alone.
            members: names of those that take part, all when None.
            turns: average over quarter turns in the plane instead of mirrorings.
            vote: "average" of probabilities, or "hard": each member's label counts, and of labels
                with equally many votes the lowest wins. Members weigh as the card says.
            postprocessing: steps to take; all when None.
            keep_members: give each member's labels too.
            uncertainty: give the entropy too.
            progress: told of every phase of every member.

        Raises:
            InputError: for a phase that the study, or a member that the version does not have, or
                an unknown vote.
            ModelError: when a member's files are missing or damaged.
        """
        start = time.perf_counter()
        wanted = self._wanted(study, frames)
        chosen = self._chosen(members, fast)
        if vote not in VOTES:
            raise InputError(f"a vote is one of {', '.join(VOTES)}, not {vote!r}")
        options = Options(
            mirror=mirror and not fast,
            turns=turns and not fast,
            vote=vote,
            postprocessing=postprocessing or Postprocessing(),
            keep_members=keep_members,
            uncertainty=uncertainty,
        )
        clock = Clock()
        run = _Run(study, chosen, options, clock, progress)
        with threadpool_limits(1, "blas"):  # matrices this small only wait for a second thread
            with clock.step("locate"):
                located = self.locate(study, options.mirror)
            heart = located.heart if located.heart is None else run.label(wanted, located.heart)
        labels = run.labels
        measures = measure(labels, study.grid, study.ed, study.es, study.trigger_times_ms)
        reason = located.reason
        if reason is None and not labels.any():
            reason = "no heart found: the segmenter labelled nothing where the locator pointed"
        return Segmentation(
            labels=labels,
            heart=heart,
            reason=reason,
            ed=measures.ed,
            es=measures.es,
            measures=measures,
            timings_s={**clock.seconds, "total": time.perf_counter() - start},
            model=self.version.name,
            device=self.device,
            fast=fast,
            members=tuple(member.name for member in chosen),
            member_costs=run.costs,
            agreement=run.agreement(),
            entropy=run.entropy,
            member_labels=run.member_labels,
            average_labels=run.average_labels,
        )

    def _wanted(self, study: Study, frames: Sequence[int] | None) -> list[int]:
        wanted = list(range(study.n_frames)) if frames is None else list(frames)
        for t in wanted:
            if not 0 <= t < study.n_frames:
                raise InputError(
                    f"there is no phase {t}; the study has {study.n_frames}", where=study.name
                )
        return wanted

    def _chosen(self, members: Sequence[str] | None, fast: bool) -> list[Member]:
        if members is None:
            members = [self.fast_member] if fast else self.members
        for name in members:
            if name not in self._segmenters:
                raise InputError(
                    f"there is no member '{name}' that segments",
                    where=self.version.name,
                    remedy=f"Known: {', '.join(self.members)}",
                )
        if not members:
            raise InputError("at least one member must take part", where=self.version.name)
        return [self._segmenters[name] for name in dict.fromkeys(members)]


class _Run:
    """One study on its way through the members."""

    def __init__(
        self,
        study: Study,
        members: Sequence[Member],
        options: Options,
        clock: Clock,
        progress: Progress | None,
    ) -> None:
        self._study, self._members, self._options = study, members, options
        self._clock, self._progress, self._done = clock, progress, 0
        shape = study.frames.shape
        self.labels = np.zeros(shape, np.uint8)
        self.entropy = np.zeros(shape, np.float16) if options.uncertainty else None
        keep = options.keep_members
        self.average_labels = np.zeros(shape, np.uint8) if keep else None
        self.member_labels = {m.name: np.zeros(shape, np.uint8) for m in members} if keep else None
        self.costs = {m.name: MemberCost(0.0, None) for m in members}
        self._dice: dict[int, np.ndarray] = {}

    def label(self, wanted: Sequence[int], heart: HeartBox) -> HeartBox:
        """Label the wanted phases; the heart, centred again if the first labels ask for it."""
        if not wanted:
            return heart
        heart, known = self._look_first(wanted[0], heart)
        windows = {m.name: m.window(self._study.grid, heart) for m in self._members}
        region = Region.around(list(windows.values()))
        for part in self._parts(wanted, region):
            self._label_part(part, len(wanted), windows, region, known)
        return heart

    def agreement(self) -> Agreement | None:
        """Dice between the members, None unless two or more labelled something."""
        if not self._dice:
            return None
        names = tuple(member.name for member in self._members)
        return Agreement(names, tuple(self._dice), np.stack(list(self._dice.values())))

    def _look_first(self, t: int, heart: HeartBox) -> tuple[HeartBox, dict[int, np.ndarray]]:
        """The first member's maps of the first phase, or the heart to centre on instead."""
        member = self._members[0]
        window = member.window(self._study.grid, heart)
        region = Region.around([window])
        maps = self._maps(member, t, window)
        labels = np.zeros(self._study.grid.shape, np.uint8)
        region.into(labels, largest(region.restore(maps, window)))
        better = recentred(self._options.postprocessing.apply(labels), self._study.grid, heart)
        return (heart, {t: maps}) if better is heart else (better, {})

    def _parts(self, wanted: Sequence[int], region: Region) -> Iterator[list[int]]:
        """The phases, as many at a time as memory for their sums allows."""
        voxels = region.shape[0] * region.shape[1] * self._study.grid.shape[2]
        each = voxels * (4 * CLASSES["segmenter"] + len(self._members))
        count = max(1, MEMORY_BYTES // each)
        for start in range(0, len(wanted), count):
            yield list(wanted[start : start + count])

    def _label_part(
        self,
        part: Sequence[int],
        n_wanted: int,
        windows: Mapping[str, Crop],
        region: Region,
        known: dict[int, np.ndarray],
    ) -> None:
        shape = (self._study.grid.shape[2], *region.shape)
        totals = np.zeros((len(part), CLASSES["segmenter"], *shape), np.float32)
        alone: list[list[np.ndarray]] = [[] for _ in part]
        for member in self._members:
            for position, t in enumerate(part):
                first = member is self._members[0] and t in known
                maps = known.pop(t) if first else self._maps(member, t, windows[member.name])
                with self._clock.step("restore"):
                    shares = region.restore(maps, windows[member.name])
                    self._add(totals[position], alone[position], shares, member)
                self._done += 1
                if self._progress is not None:
                    total = n_wanted * len(self._members)
                    self._progress(self._done, total, member.name)
            member.release()
        for position, t in enumerate(part):
            self._finish(t, totals[position], alone[position], region)

    def _maps(self, member: Member, t: int, window: Crop) -> np.ndarray:
        """A member's probabilities of a phase in its window; what they cost is noted."""
        start = time.perf_counter()
        options = self._options
        volume = contiguous(self._study.frames, t)
        maps = member.probabilities(volume, window, options.mirror, options.turns, self._clock)
        before = self.costs[member.name]
        seen = [b for b in (before.peak_bytes, resident_bytes()) if b is not None]
        seconds = before.seconds + time.perf_counter() - start
        self.costs[member.name] = MemberCost(seconds, max(seen, default=None))
        return maps

    def _add(
        self, total: np.ndarray, alone: list[np.ndarray], shares: np.ndarray, member: Member
    ) -> None:
        """Add what a member says of a phase to the sum, and keep its labels to compare."""
        options, weight = self._options, member.card.weight
        hard = options.vote == "hard"
        if hard or options.keep_members or len(self._members) > 1:
            alone.append(largest(shares))
        if hard:
            add_vote(total, alone[-1], weight)
        else:
            total += shares if weight == 1.0 else np.float32(weight) * shares

    def _finish(
        self, t: int, total: np.ndarray, alone: Sequence[np.ndarray], region: Region
    ) -> None:
        """From the sum of one phase to its labels and what else was asked for."""
        with self._clock.step("restore"):
            labels = np.zeros(self._study.grid.shape, np.uint8)
            region.into(labels, largest(total))
            if self.average_labels is not None:
                self.average_labels[..., t] = labels
            if self.member_labels is not None:
                for member, own in zip(self._members, alone, strict=True):
                    region.into(self.member_labels[member.name][..., t], own)
            if self.entropy is not None:
                region.into(self.entropy[..., t], entropy(total))
            if len(self._members) > 1:
                self._dice[t] = pairwise_dice(alone)
        with self._clock.step("postprocess"):
            self.labels[..., t] = self._options.postprocessing.apply(labels)


def recentred(labels: np.ndarray, grid: Grid, heart: HeartBox) -> HeartBox:
    """The same box, or one round the labels (x, y, z) when those lie well off its middle."""
    centre = heart_centre(labels)
    if centre is None:
        return heart
    pixel = np.asarray(grid.spacing[:2])
    if np.hypot(*((np.array(centre) - heart.centre) * pixel)) < RECENTRE_MM:
        return heart
    seen = np.argwhere(labels.any(2))
    extent = (seen.max(0) - seen.min(0) + 1) * pixel
    return replace(heart, centre=centre, extent_mm=(float(extent[0]), float(extent[1])))
