"""Which frames a person edited, saving and autosaving them, and taking a frame back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from CineLabelLib.core.errors import CineLabelError, InputError, LabelError
from CineLabelLib.core.labels import Structure
from CineLabelLib.desk.base import Desk, Every, Lane, UseCase, told
from CineLabelLib.desk.states import EditingState, Origin
from CineLabelLib.records import LocalRecords

READ_S = 0.2
"""How soon after an edit the labels are read from the scene; painting edits many times a second."""

AUTOSAVE_S = 10.0
"""How much work a crash may cost."""


class Editing(UseCase[EditingState]):
    """Keeps the labels of all frames as the scene has them, and what a person did to them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, EditingState())
        self._labels = _empty((0, 0, 0, 0))
        self._before: dict[int, tuple[np.ndarray, Origin]] = {}
        self._unread: set[int] = set()
        self._unknown: dict[int, LabelError] = {}
        self._models: dict[int, str | None] = {}
        self._counts: Counter[int] = Counter()
        self._mine: set[int] = set()
        self._records: LocalRecords | None = None
        self._answered: list[LocalRecords] = []
        self._autosaved: Counter[int] = Counter()
        self._unkept: list[Callable[[], None]] = []
        self._read, self._autosave = Every(desk.clock, READ_S), Every(desk.clock, AUTOSAVE_S)
        desk.scene.edited.connect(self._edited)
        desk.scene.frame_changed.connect(self._frame_changed)
        desk.scene.closing.connect(self._closing)

    # What other use cases ask and tell

    def begin(self, records: LocalRecords | None) -> None:
        """Begin with the study that is on screen, without labels."""
        study = self.desk.study
        shape = (0, 0, 0, 0) if study is None else study.voxels.shape
        self._labels = _empty(shape)
        for kept in (self._before, self._unread, self._unknown, self._models, self._counts):
            kept.clear()
        self._autosaved.clear()
        self._answered.clear()
        self._mine.clear()
        self._records = records
        self._state = EditingState(origins=(Origin.NONE,) * shape[3])
        self._autosave.restart()
        self._set(frame=0 if study is None else self.desk.scene.frame())

    def labels(self, frame: int) -> np.ndarray:
        """A frame's labels (x, y, z) uint8 as the scene has them now, not to be changed.

        Raises:
            LabelError: a segment is none of LV, MYO, RV.
        """
        if frame in self._unread:
            self._take(frame)
        if frame in self._unknown:
            raise self._unknown[frame]
        return self._labels[..., frame]

    def known(self, frame: int) -> np.ndarray:
        """As `labels`, without segments that are none of LV, MYO, RV."""
        return self._labels[..., frame]

    def unknown(self) -> Mapping[int, LabelError]:
        """Frames with a segment that is none of LV, MYO, RV, and the sentence about it."""
        return self._unknown

    def model(self, frame: int) -> str | None:
        """The model version whose labels a frame began with."""
        return self._models.get(frame)

    def count(self, frame: int) -> int:
        """How often a frame was edited, to tell later whether it was edited since."""
        return self._counts[frame]

    def put(self, frame: int, labels: np.ndarray, origin: Origin, model: str | None = None) -> None:
        """Put labels (x, y, z) onto a frame, see `put_all`."""
        self.put_all({frame: labels}, origin, model)

    def put_all(
        self, labels: Mapping[int, np.ndarray], origin: Origin, model: str | None = None
    ) -> None:
        """Put labels (x, y, z) onto frames; PERSON are edits of hers that were not saved yet.

        Labels of a person that are replaced come back by `restore_frame`.
        """
        for frame, own in labels.items():
            self._put(frame, own, model)
        these, state = frozenset(labels), self.state
        edited = these if origin in (Origin.PERSON, Origin.SAVED) else frozenset()
        unsaved = these if origin is Origin.PERSON else frozenset()
        origins = tuple(origin if f in these else old for f, old in enumerate(state.origins))
        self._set(
            edited=state.edited - these | edited,
            unsaved=state.unsaved - these | unsaved,
            unsubmitted=state.unsubmitted - these | unsaved,
            origins=origins,
        )
        for frame in labels:
            self.desk.labels_changed.emit(frame)

    def _put(self, frame: int, labels: np.ndarray, model: str | None) -> None:
        if frame in self._unread:
            self._take(frame)
        hers = self._labels[..., frame].copy(order="F"), self.state.origins[frame]
        self.desk.scene.set_labels(frame, labels)
        self._labels[..., frame] = labels
        for kept in (self._before, self._unknown):
            kept.pop(frame, None)
        if frame in self.state.edited:
            self._before[frame] = hers
        self._models[frame] = model
        self._counts[frame] += 1

    def submitted(self, frame: int, count: int) -> None:
        """A frame's labels, as they were after `count` edits, are in the outbox or further."""
        if self._counts[frame] == count:
            done = frozenset({frame})
            self._before.pop(frame, None)
            self._mine.discard(frame)
            self._set(unsaved=self.state.unsaved - done, unsubmitted=self.state.unsubmitted - done)
            self._forget_autosave_if_saved()

    def not_submitted(self, frames: frozenset[int]) -> None:
        """Frames whose saved labels the server does not have yet."""
        self._mine |= frames
        self._set(unsubmitted=self.state.unsubmitted | frames)

    def answered(self, offered: LocalRecords) -> None:
        """Unsaved edits of an earlier time are restored or not wanted: forget them when saved."""
        self._answered.append(offered)
        self._forget_autosave_if_saved()

    def autosave(self) -> None:
        """Keep unsaved edits where they are found when the study is opened again."""
        for frame in tuple(self._unread):
            self._take(frame)
        study, unsaved, records = self.desk.study, sorted(self.state.unsaved), self._records
        if study is None or records is None or not unsaved or self._autosaved == self._counts:
            return
        reader = self.desk.reader
        drawn = {frame: self._labels[..., frame].copy(order="F") for frame in unsaved}
        self._autosaved, bases = self._counts.copy(), self._bases(unsaved)

        def write() -> None:
            labels = _empty(study.voxels.shape)
            for frame, own in drawn.items():
                labels[..., frame] = own
            records.autosave(study, labels, unsaved, reader, bases)

        self._write(write, lambda error: self._not_autosaved(error, records, write))

    def tick(self) -> None:
        edits = self.desk.scene.edits
        able = (edits.can_undo(), edits.can_redo())
        if able != (self.state.can_undo, self.state.can_redo):
            self._set(can_undo=able[0], can_redo=able[1])
        if self._unread and self._read.due():
            self._take(min(self._unread))
        if (self.state.unsaved or self._unkept) and self._autosave.due():
            again, self._unkept = self._unkept, []
            for write in again:
                self._write(write, lambda error, write=write: self._unkept.append(write))
            self.autosave()

    # What a person asks for

    @told
    def undo(self) -> None:
        self.desk.scene.edits.undo()

    @told
    def redo(self) -> None:
        self.desk.scene.edits.redo()

    @told
    def copy_from_slice(self, offset: int, replace: bool = False) -> None:
        """Give the slice on screen its neighbour's labels, -1 or +1; `replace` other labels."""
        here = self.desk.scene.slice()
        if not 0 <= here + offset < self.desk.opened().voxels.shape[2]:
            raise InputError("there is no slice on that side", where=f"slice {here}")
        self.desk.scene.edits.copy_slice(here + offset, here, replace)

    @told
    def copy_from_frame(self, offset: int, whole: bool = False, replace: bool = False) -> None:
        """Give the slice on screen, or the frame, the labels of the frame before or after."""
        scene = self.desk.scene
        other = (scene.frame() + offset) % self.desk.opened().voxels.shape[3]
        scene.edits.copy_frame(other, None if whole else scene.slice(), replace)

    @told
    def clear_slice(self) -> None:
        self.desk.opened()
        self.desk.scene.edits.clear_slice(self.desk.scene.slice())

    @told
    def fill_between(self, structure: Structure | None = None) -> None:
        self.desk.opened()
        self.desk.scene.edits.fill_between(structure)

    @told
    def smooth(self, structure: Structure | None = None) -> None:
        self.desk.opened()
        self.desk.scene.edits.smooth(structure)

    @told
    def keep_largest(self, structure: Structure | None = None) -> None:
        self.desk.opened()
        self.desk.scene.edits.keep_largest(structure)

    @told
    def close_muscle(self) -> None:
        """Put muscle where RV touches LV in the frame on screen; fill holes in LV and muscle."""
        self.desk.opened()
        self.desk.scene.edits.close_muscle()

    @told
    def grow(self, structure: Structure, by_mm: float) -> None:
        self.desk.opened()
        self.desk.scene.edits.grow(structure, by_mm)

    @told
    def restore_frame(self) -> None:
        """Give the frame on screen the labels it had when it was opened, saved or submitted last.

        Her edits take their place, so that restoring again brings them back.
        """
        self.desk.opened()
        frame = self.desk.scene.frame()
        if frame not in self._before:
            raise InputError("nobody edited it since", where=f"frame {frame}")
        if frame in self._unread:
            self._take(frame)
        hers = self._labels[..., frame].copy(order="F"), self.state.origins[frame]
        labels, origin = self._before[frame]
        self.put(frame, labels, origin, self._models.get(frame))
        self._before[frame] = hers
        if origin is Origin.SAVED and frame in self._mine:
            self.not_submitted(frozenset({frame}))

    @told
    def save(self) -> None:
        """Keep the labels beside the study, as a new version."""
        study, records = self.desk.opened(), self._records
        if records is None:
            raise InputError("there is no folder to save in", where=study.name)
        for frame in range(study.n_frames):
            self.labels(frame)
        # Of a server's case her own labels alone: others' would come back as hers, over newer ones.
        edited = sorted(self.state.unsubmitted if study.images else self.state.edited)
        labels, bases = self._labels.copy(order="F"), self._bases(edited)
        counts, reader = self._counts.copy(), self.desk.reader
        self._set(sentence="Saving.")

        def saved(version: int) -> None:
            still = frozenset(f for f in self.state.unsaved if self._counts[f] != counts[f])
            for frame in self.state.unsaved - still:
                self._before.pop(frame, None)
            time = self.desk.clock.now().isoformat(timespec="seconds")
            self._set(unsaved=still, saved_at=time, sentence=f"Saved as version {version}.")
            self._forget_autosave_if_saved()

        def failed(error: CineLabelError) -> None:
            self._set(sentence=str(error))
            self.desk.problem.emit(str(error))

        self.desk.ask(
            lambda task: records.save_labels(study, labels, edited, reader, bases),
            saved,
            failed,
            lane=Lane.FILES,
        )

    # What the scene tells

    def _edited(self, frame: int) -> None:
        if self.desk.study is None:
            return
        if frame not in self._before:
            before = self._labels[..., frame].copy(order="F")
            self._before[frame] = before, self.state.origins[frame]
        self._counts[frame] += 1
        if not self._unread:
            self._read.restart()
        self._unread.add(frame)
        hers = frozenset({frame})
        self._set(
            edited=self.state.edited | hers,
            unsaved=self.state.unsaved | hers,
            unsubmitted=self.state.unsubmitted | hers,
            origins=self._with_origin(frame, Origin.PERSON),
            sentence="",
        )

    def _frame_changed(self, frame: int) -> None:
        if self.desk.study is None:
            return
        for left in tuple(self._unread):
            self._take(left)
        self._set(frame=frame)

    @told
    def _closing(self) -> None:
        """The scene goes away; its labels can still be read."""
        self.autosave()

    def _take(self, frame: int) -> None:
        """Read a frame's labels from the scene; a segment that is unknown is told once."""
        self._unread.discard(frame)
        try:
            self._labels[..., frame] = self.desk.scene.labels(frame)
            self._unknown.pop(frame, None)
        except LabelError as error:
            self._labels[..., frame] = self.desk.scene.labels(frame, strict=False)
            is_new = str(error) != str(self._unknown.get(frame))
            self._unknown[frame] = error
            if is_new:
                self._set(sentence=str(error))
                self.desk.problem.emit(str(error))
        self.desk.labels_changed.emit(frame)

    def _forget_autosave_if_saved(self) -> None:
        if self._records is None or self.state.unsaved:
            return
        forget = (self._records, *self._answered)
        self._answered.clear()
        self._autosaved.clear()

        def write() -> None:
            for records in forget:
                records.forget_autosave()

        self._write(write)

    def _write(
        self, write: Callable[[], None], failed: Callable[[CineLabelError], None] | None = None
    ) -> None:
        """Write in the thread of files, which does one after the other and ends what waits."""
        self.desk.ask(
            lambda task: write(),
            lambda _: None,
            failed or self._not_written,
            lane=Lane.FILES,
            of_study=False,
        )

    def _not_written(self, error: CineLabelError) -> None:
        self._autosaved.clear()
        self._set(sentence=str(error))
        self.desk.tell(error)

    def _not_autosaved(
        self, error: CineLabelError, records: LocalRecords, write: Callable[[], None]
    ) -> None:
        """Edits of a study that is on screen are autosaved again; of one that is not, from here."""
        if records is self._records:
            self._not_written(error)
            return
        self._unkept.append(write)
        again = "Its unsaved edits are tried again as long as Slicer stays open: free some space."
        self.desk.problem.emit(f"{error} {again}")

    def _bases(self, frames: Iterable[int]) -> dict[int, int]:
        """The server's versions that frames began from."""
        images, bases = self.desk.opened().images, self.desk.bases
        return {f: bases[images[f]] for f in frames if images and images[f] in bases}

    def _with_origin(self, frame: int, origin: Origin) -> tuple[Origin, ...]:
        origins = self.state.origins
        return (*origins[:frame], origin, *origins[frame + 1 :])


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    """No labels, each frame in one piece, its first axis the fastest as in files and in VTK."""
    return np.zeros(shape, np.uint8, order="F")
