"""Opening studies: of the server, the next by strategy, a file, a folder; their phases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CineLabelLib.answers import NextCase, NotAllowed, OutOfDate
from CineLabelLib.core.errors import ChoiceError, CineLabelError, InputError
from CineLabelLib.desk import reading
from CineLabelLib.desk.base import Desk, Every, Lane, UseCase, told
from CineLabelLib.desk.editing import Editing
from CineLabelLib.desk.reading import Brought
from CineLabelLib.desk.states import OpeningState, Origin, SeriesChoice, Unsaved
from CineLabelLib.records import SavedLabels
from CineLabelLib.signals import Signal

if TYPE_CHECKING:
    from CineLabelLib.client import Client
    from CineLabelLib.work import Task

LEASE_MINUTES = 60.0
RENEW_S = 20 * 60.0


class Opening(UseCase[OpeningState]):
    """Brings a study on screen, and what was known and unsaved about it.

    Attributes:
        brought: (Brought) a study is on screen with its labels.
    """

    def __init__(self, desk: Desk, editing: Editing) -> None:
        super().__init__(desk, OpeningState())
        self.brought = Signal()
        self._editing = editing
        self._task: Task[Any] | None = None
        self._opened_from: Client | None = None
        self._records: reading.LocalRecords | None = None
        self._unsaved: SavedLabels | None = None
        self._offered: reading.LocalRecords | None = None
        self._held: tuple[Client, str] | None = None
        self._lapsed: str | None = None
        self._renew = Every(desk.clock, RENEW_S)
        desk.scene.closing.connect(self._scene_closing)
        desk.client_changed.connect(self._client_changed)

    @told
    def list_cases(self, state: str | None = None) -> None:
        """Ask for the server's cases (open, labelled, skipped; None is all) into `state.cases`."""
        client = self.desk.connected()
        self.desk.ask(
            lambda task: client.following(task).cases(state=state),
            lambda cases: self._set(cases=cases),
            lane=Lane.WATCH,
            of_study=False,
        )

    @told
    def open_case(self, image: str) -> None:
        """Open the study of an image of the server and go to its frame."""
        client, folder = self.desk.connected(), self._studies()
        known = next((case for case in self.state.cases if case.image == image), None)
        on_screen = self._held and self._held[1]

        def work(task: Task[Any]) -> tuple[Brought, str | None]:
            study = known.study if known else client.following(task).image_info(image).study
            note = _hold(client.following(task), image)
            held = None if note or image == on_screen else image
            return _bring(client, study, folder, held, task), note

        def done(found: tuple[Brought, str | None]) -> None:
            brought, note = found
            self._show(brought, image, client, holds=note is None, notes=note or "")

        self._begin(f"Opening {image}.", work, done, client=client)

    @told
    def next_case(self, strategy: str = "") -> None:
        """Open what the server gives next; by the strategy offered first if none is named."""
        client, folder = self.desk.connected(), self._studies()
        on_screen = self._held and self._held[1]

        def work(task: Task[Any]) -> tuple[Brought, NextCase] | None:
            ours = client.following(task)
            found = ours.next_case(strategy or next(iter(ours.info().strategies), "first"))
            if found is None:
                return None
            held = None if found.image == on_screen else found.image
            return _bring(client, found.study, folder, held, task), found

        def done(found: tuple[Brought, NextCase] | None) -> None:
            if found is None:
                sentence = "The server has no more cases to label."
                self._set(sentence=sentence)
                self.desk.told.emit(sentence)
                return
            brought, case = found
            holds = case.lease is not None
            self._show(brought, case.image, client, holds, case.reason, case.slice)

        self._begin("Asking for the next case.", work, done, client=client)

    @told
    def open_file(self, path: Path) -> None:
        """Open a 3D or 4D NIfTI file of this machine."""
        self._open_local(path, None)

    @told
    def open_folder(self, path: Path, series: str | None = None) -> None:
        """Open a folder with a DICOM cine; `series` chooses one of several by its key.

        Where it is not clear which is meant, `state.choice` offers them.
        """
        self._open_local(path, series)

    @told
    def open_series(self, key: str) -> None:
        """Open one of the series that are offered."""
        if self.state.choice is None:
            raise InputError("no folder waits for a choice of its series")
        self._open_local(self.state.choice.folder, key)

    def leave_series(self) -> None:
        """Open none of the series that are offered."""
        self._set(choice=None)

    @told
    def cancel(self) -> None:
        """Give up what is being opened; the study on screen stays."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._set(busy=None, fraction=None)

    @told
    def close_study(self) -> None:
        """Take the study away; unsaved edits are kept for its next opening."""
        self._leave()
        if self.desk.study is not None:
            self.desk.study = None
            self.desk.scene.clear()
        self._forget("No study is open.")

    @told
    def restore_unsaved(self) -> None:
        """Put the unsaved edits of an earlier time onto their frames."""
        study, kept = self.desk.opened(), self._unsaved
        if kept is None:
            raise InputError("there are no unsaved edits of an earlier time")
        for frame, version in kept.bases.items() if study.images else ():
            self.desk.bases[study.images[frame]] = version  # a newer one is a conflict
        edits = {frame: kept.labels[..., frame] for frame in kept.edited_frames}
        self._editing.put_all(edits, Origin.PERSON)
        self._answer()

    @told
    def leave_unsaved(self) -> None:
        """Do not offer them again, and remove them."""
        self._answer()

    @told
    def step(self, by: int) -> None:
        """Go some frames on or back; the cycle closes."""
        study = self.desk.opened()
        self.desk.scene.go_to((self.desk.scene.frame() + by) % study.n_frames)

    @told
    def go_to_ed(self) -> None:
        """Show end-diastole."""
        self._go_to_phase("ED", self.desk.ed)

    @told
    def go_to_es(self) -> None:
        """Show end-systole."""
        self._go_to_phase("ES", self.desk.es)

    @told
    def mark_ed(self) -> None:
        """The frame on screen is end-diastole."""
        self.desk.opened()
        self.mark_phases(self.desk.scene.frame(), self.desk.es)

    @told
    def mark_es(self) -> None:
        """The frame on screen is end-systole."""
        self.desk.opened()
        self.mark_phases(self.desk.ed, self.desk.scene.frame())

    def mark_phases(self, ed: int | None, es: int | None) -> None:
        """ED and ES are these frames, and are again when the study is opened next."""
        records = self._records
        self.desk.ed, self.desk.es = ed, es
        self._set(ed=ed, es=es)
        self.desk.phases_changed.emit()
        if records is not None:
            self.desk.ask(
                lambda task: reading.save_phases(records, ed, es),
                lambda _: None,
                lane=Lane.FILES,
                of_study=False,
            )

    def note(self, sentence: str) -> None:
        """Tell something more about the study that is on screen."""
        self._set(sentence=f"{self.state.sentence} {sentence}")

    def tick(self) -> None:
        """Hold the case that is open for longer."""
        if self._held is not None and self._renew.due():
            self._hold_on(*self._held)

    # How it is done

    def _answer(self) -> None:
        offered, self._unsaved, self._offered = self._offered, None, None
        if offered is not None:
            self._editing.answered(offered)
        self._set(unsaved=None)

    def _open_local(self, path: Path, series: str | None) -> None:
        path, folder = Path(path), self._studies()
        self._begin(
            f"Opening {path}.",
            lambda task: reading.bring_local(path, series, folder, task),
            lambda brought: self._show(brought, None),
            lambda error: self._not_clear(path, error),
        )

    def _not_clear(self, folder: Path, error: CineLabelError) -> None:
        """Offer the series of a folder, or tell what else was wrong with it."""
        if isinstance(error, ChoiceError):
            sentence = f"{folder.name} {error.problem}. Choose one."
            self._set(choice=SeriesChoice(folder, error.choices, sentence))
        else:
            self.desk.tell(error)

    def _studies(self) -> Path:
        return self.desk.folder / "studies"

    def _begin(
        self,
        busy: str,
        work: Callable[[Task[Any]], Any],
        done: Callable[[Any], None],
        failed: Callable[[CineLabelError], None] | None = None,
        client: Client | None = None,
    ) -> None:
        """Open something in place of what is being opened; an answer that is late is dropped."""
        self.cancel()
        self._opened_from = client
        self.desk.leaving.emit()
        self._set(busy=busy, fraction=None, choice=None)

        def finish(found: Any) -> None:
            if self._task is task:
                self._task = None
                self._set(busy=None, fraction=None)
                done(found)

        def fail(error: CineLabelError) -> None:
            if self._task is task:
                self._task = None
                self._set(busy=None, fraction=None)
                (failed or self.desk.tell)(error)

        task = self.desk.ask(
            work,
            finish,
            fail,
            of_study=False,
            progress=lambda fraction, text: self._set(busy=text, fraction=fraction),
        )
        self._task = task

    def _show(
        self,
        brought: Brought,
        image: str | None,
        client: Client | None = None,
        holds: bool = False,
        reason: str = "",
        slice: int | None = None,
        notes: str = "",
    ) -> None:
        """Put a study in place of the one on screen, whose unsaved edits are kept first."""
        desk, study = self.desk, brought.study
        self._leave(but=image)
        desk.study = None
        desk.scene.show(study)
        desk.study, desk.ed, desk.es = study, brought.ed, brought.es
        self._records, self._unsaved, self._offered = brought.records, None, None
        desk.home = client
        if client is not None and image is not None and holds:
            self._held = (client, image)
            self._renew.restart()
        self._editing.begin(brought.records)
        frame = study.images.index(image) if image in study.images else brought.ed or 0
        desk.scene.go_to(frame)
        if slice is not None and 0 <= slice < study.n_slices:
            desk.scene.go_to_slice(slice)
        sentences = [f"{study.name}: {study.n_slices} slices, {study.n_frames} frames.", notes]
        self._state = OpeningState(cases=self.state.cases)
        self._set(
            study=study,
            sentence=" ".join(s for s in (*sentences, *brought.notes, *desk.scene.notes) if s),
            image=image,
            reason=reason or None,
            slice=slice,
            ed=brought.ed,
            es=brought.es,
        )
        desk.study_changed.emit()
        self._editing.put_all(brought.labels, Origin.SAVED)
        self._editing.not_submitted(brought.mine)
        self._look_for_unsaved(brought.records.folder)
        self.brought.emit(brought)

    def _look_for_unsaved(self, folder: Path) -> None:
        """Offer edits that were not saved; behind the autosave of the study before.

        Records of their own know them, so that saving other edits does not forget them.
        """
        study, offered = self.desk.opened(), reading.LocalRecords(folder)

        def found(kept: SavedLabels | None) -> None:
            if kept is not None:
                self._unsaved, self._offered = kept, offered
                self._set(unsaved=_offer(kept))
                for note in kept.notes:
                    self.note(note)

        self.desk.ask(lambda task: offered.recover(study), found, lane=Lane.FILES)

    def _leave(self, but: str | None = None) -> None:
        """Keep the unsaved edits of the study on screen, and give its case back."""
        self.cancel()
        self.desk.leaving.emit()
        self._editing.autosave()
        held, self._held, self._lapsed = self._held, None, None
        if held is not None and held[1] != but:
            self._let_go(*held)

    def _hold_on(self, client: Client, image: str) -> None:
        self.desk.ask(
            lambda task: client.following(task).hold(image, LEASE_MINUTES),
            lambda _: None,
            self._not_held,
            lane=Lane.WATCH,
        )

    def _let_go(self, client: Client, image: str) -> None:
        self.desk.ask(
            lambda task: client.following(task).let_go(image),
            lambda _: None,
            lambda error: None,  # the server takes it back within the hour
            lane=Lane.WATCH,
            of_study=False,
        )

    def _forget(self, sentence: str) -> None:
        self.desk.study = self.desk.home = self.desk.ed = self.desk.es = None
        self._records = self._unsaved = self._offered = None
        self._editing.begin(None)
        self._state = OpeningState(sentence=sentence, cases=self.state.cases)
        self._set()
        self.desk.study_changed.emit()

    def _scene_closing(self) -> None:
        """The scene is emptied by somebody else; `editing` has kept unsaved edits by then."""
        if self.desk.study is not None:
            unsaved = self._editing.state.unsaved
            self._leave()
            kept = " Unsaved edits are offered when it is opened again." if unsaved else ""
            self._forget(f"The scene was closed.{kept}")

    def _client_changed(self) -> None:
        """Give the case back at the server that is left, and hold it again where it is at home."""
        if self._opened_from not in (None, self.desk.client):
            self.cancel()
        self._set(cases=())
        held, home = self._held, self.desk.at_home()
        if held is not None and held[0] is not self.desk.client:
            self._held, self._lapsed = None, held[1]
            self._let_go(*held)
        elif self._lapsed is not None and home is not None:
            self._held, self._lapsed = (home, self._lapsed), None
            self._renew.restart()
            self._hold_on(*self._held)

    def _not_held(self, error: CineLabelError) -> None:
        if isinstance(error, OutOfDate | NotAllowed):
            self._held = None
            self.desk.tell(error)

    def _go_to_phase(self, phase: str, frame: int | None) -> None:
        self.desk.opened()
        if frame is None:
            remedy = f"Go to its frame and mark it, or segment all frames to find {phase}"
            raise InputError(f"{phase} is not known", remedy=remedy)
        self.desk.scene.go_to(frame)


def _hold(client: Client, image: str) -> str | None:
    """Hold a case; why it is not held, None where it is."""
    try:
        client.hold(image, LEASE_MINUTES)
    except (OutOfDate, NotAllowed) as error:
        return f"It is opened to look at: {error}"
    return None


def _bring(client: Client, study: str, folder: Path, held: str | None, task: Task[Any]) -> Brought:
    """A study of the server; the case that is held for it is given back if it cannot be brought."""
    try:
        brought = reading.bring_served(client, study, folder, task)
        task.check()
    except CineLabelError:
        with suppress(CineLabelError):
            if held is not None:
                client.let_go(held)
        raise
    return brought


def _offer(kept: SavedLabels) -> Unsaved:
    frames = kept.edited_frames
    what = f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames)} frames"
    return Unsaved(frames, f"Edits of {what} by {kept.who} of {kept.time} were not saved.")
