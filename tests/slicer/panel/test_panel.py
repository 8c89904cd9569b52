"""The panel as a whole: what went wrong in a sentence, keys, thumbnails, progress, closing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

DISC = np.s_[14:18, 13:17, 2]


def errors() -> dict[str, tuple[Exception, str]]:
    """What a server may refuse with, and the remedy that the reader must see."""
    from CineLabelLib import answers

    return {
        "gone": (
            answers.ServerGone("nobody answers", remedy="Start the server"),
            "Start the server",
        ),
        "timeout": (answers.TimedOut("no answer in 30 s", remedy="Try again"), "Try again"),
        "token": (
            answers.TokenWrong("the token is not known", remedy="Ask for a token", status=401),
            "Ask for a token",
        ),
        "size": (
            answers.TooLarge("the label is too large", remedy="Ask who runs the server"),
            "Ask who runs the server",
        ),
        "fault": (answers.ServerFault("the server failed", remedy="Tell who runs it"), "Tell who"),
    }


@pytest.mark.parametrize("kind", ["gone", "timeout", "token", "fault"])
def test_a_server_that_cannot_be_reached_is_told_in_one_sentence(bench: Any, kind: str) -> None:
    error, remedy = errors()[kind]
    bench.server.refusals["check_token"] = error
    bench.press(bench.panel.study.ui.connectButton)
    bench.wait(lambda: bench.message, "the message")
    assert remedy in bench.message
    assert bench.panel.ui.messageFrame.isVisible()
    assert bench.panel.study.ui.linkLabel.text() == "no server"


@pytest.mark.parametrize("kind", ["gone", "timeout", "token", "size", "fault"])
def test_a_segmentation_that_failed_is_told_and_can_be_asked_again(bench: Any, kind: str) -> None:
    error, remedy = errors()[kind]
    bench.open_case()
    bench.server.refusals["segment"] = error
    bench.press(bench.panel.segment.ui.segmentButton)
    bench.wait(lambda: bench.message, "the message")
    assert remedy in bench.message
    assert bench.panel.segment.ui.segmentButton.isEnabled()


@pytest.mark.parametrize("kind", ["gone", "timeout", "token", "size"])
def test_a_submission_that_failed_waits_in_the_outbox(bench: Any, kind: str) -> None:
    error, remedy = errors()[kind]
    bench.open_case()
    bench.paint(1, DISC)
    bench.server.refusals["submit"] = error
    bench.press(bench.panel.learn.ui.submitFrameButton)
    bench.wait(lambda: bench.panel.session.submitting.state.waiting, "the outbox")
    bench.settle()
    shown = bench.message + bench.panel.learn.ui.submitLabel.text()
    assert remedy in shown
    assert bench.panel.learn.ui.waitingTable.rowCount() == 1


def test_a_conflict_tells_who_came_first_and_offers_ways_out(bench: Any) -> None:
    from CineLabelLib.answers import OutOfDate

    error = OutOfDate("another label came first", cause="conflict")
    error.version, error.who, error.time = 3, "paul", "2026-01-02T03:04:05Z"
    bench.open_case()
    bench.paint(1, DISC)
    bench.server.refusals["submit"] = error
    bench.press(bench.panel.learn.ui.submitFrameButton)
    ui = bench.panel.learn.ui
    bench.wait(ui.conflictFrame.isVisible, "the conflict")
    assert "paul" in ui.conflictLabel.text()
    assert not ui.overButton.isEnabled()
    assert "Look at theirs first" in ui.overButton.toolTip()


def test_theirs_counts_as_shown_once_it_is_there_and_not_for_the_next_conflict(bench: Any) -> None:
    from CineLabelLib.answers import OutOfDate, ServerGone

    error = OutOfDate("another label came first", cause="conflict")
    error.version, error.who, error.time = 3, "paul", "2026-01-02T03:04:05Z"
    submitting, ui = bench.panel.session.submitting, bench.panel.learn.ui
    bench.open_case()
    bench.paint(1, DISC)
    bench.server.refusals.update(submit=error, label=ServerGone("nobody answers"))
    bench.press(ui.submitFrameButton)
    bench.wait(ui.conflictFrame.isVisible, "the conflict")
    bench.press(ui.theirsButton)
    bench.settle()
    assert ui.theirsButton.text() == "Show theirs"
    del bench.server.refusals["label"]
    bench.server.versions[1] = 3
    bench.press(ui.theirsButton)
    bench.settle()
    assert ui.theirsButton.text() == "Hide theirs"
    submitting.try_again(submitting.state.waiting[0].entry)
    bench.settle()
    assert ui.conflictFrame.isVisible()
    assert ui.theirsButton.text() == "Show theirs"
    assert bench.scene.beside[1] is None


def test_labels_of_another_reader_are_not_called_mine(bench: Any) -> None:
    bench.server.versions[2] = 1
    bench.open_case()
    label = bench.panel.edit.ui.editedLabel
    before = "Labelled by a person before: frame 2."
    assert label.text() == f"You edited no frame of this study yet. {before}"
    bench.paint(1, DISC)
    own = "You edited frame 1 (1 with unsaved edits, autosaved as you work)."
    assert label.text() == f"{own} {before}"


def test_cancelling_leaves_no_message_and_no_label(bench: Any) -> None:
    bench.open_case()
    bench.server.pause_s = 5.0
    bench.press(bench.panel.segment.ui.segmentButton)
    bench.press(bench.panel.segment.ui.cancelButton)
    bench.settle()
    assert bench.panel.segment.ui.segmentLabel.text() == "Cancelled."
    assert not bench.scene.labels(1).any()


def test_progress_and_cancel_are_shown_only_while_something_runs(bench: Any) -> None:
    ui = bench.panel.segment.ui
    bench.open_case()
    assert not ui.segmentBar.isVisible()
    bench.server.pause_s = 1.0
    bench.press(ui.segmentButton)
    assert ui.segmentBar.isVisible()
    bench.server.pause_s = 0.0
    bench.settle()
    assert not ui.segmentBar.isVisible()
    assert not ui.cancelButton.isEnabled()


def test_the_message_is_closed_by_its_button(bench: Any) -> None:
    bench.panel.session.problem.emit("It went wrong. Try again.")
    assert bench.message == "It went wrong. Try again."
    bench.panel.ui.messageCloseButton.click()
    assert not bench.panel.ui.messageFrame.isVisible()


def test_keys_work_from_enter_to_exit(bench: Any) -> None:
    import slicer
    from CineLabelLib.shortcuts import SHORTCUTS
    from PySide6.QtGui import QShortcut

    window = slicer.util.mainWindow()
    assert not window.findChildren(QShortcut)
    bench.panel.enter()
    keys = {key.key().toString(): key for key in window.findChildren(QShortcut)}
    assert set(keys) == {shortcut.key for shortcut in SHORTCUTS}
    bench.open_case()
    keys["L"].activated.emit()
    assert bench.scene.frame() == 2
    bench.panel.exit()
    assert not window.findChildren(QShortcut)


def test_every_key_has_an_action_and_its_button_names_it(bench: Any) -> None:
    from CineLabelLib.shortcuts import SHORTCUTS

    actions, buttons = bench.panel.actions(), bench.panel.buttons()
    assert set(actions) == {shortcut.action for shortcut in SHORTCUTS}
    bench.open_case()
    for shortcut in SHORTCUTS:
        if shortcut.action in buttons:
            section, button = buttons[shortcut.action]
            assert f"({shortcut.key})" in section.help_of(button)


def test_a_key_that_cannot_work_says_why(bench: Any) -> None:
    bench.panel.actions()["accept"]()
    assert "Open a study first" in bench.message


def test_slices_are_listed_worst_first_with_their_pictures(bench: Any, cine: Path) -> None:
    bench.open_file(cine)
    bench.wait(lambda: bench.panel.session.review.state.worst_first, "the review")
    table, state = bench.panel.breath_holds.ui.holdsTable, bench.panel.session.review.state
    shown = [int(table.item(row, 0).text()) for row in range(table.rowCount())]
    assert tuple(shown) == state.worst_first
    badness = {row.index: row.badness for row in state.rows}
    assert [badness[index] for index in shown] == sorted(badness.values(), reverse=True)
    assert not any(table.item(row, 0).icon().isNull() for row in range(table.rowCount()))


def test_one_key_decides_about_the_slice_on_screen(bench: Any, cine: Path) -> None:
    bench.open_file(cine)
    bench.wait(lambda: bench.panel.session.review.state.worst_first, "the review")
    bench.scene.go_to_slice(4)
    bench.panel.actions()["accept"]()
    rows = {row.index: row for row in bench.panel.session.review.state.rows}
    assert rows[4].decision.action.value == "accept"


def test_the_row_of_the_slice_on_screen_is_selected_and_a_row_goes_to_its_slice(
    bench: Any, cine: Path
) -> None:
    bench.open_file(cine)
    bench.wait(lambda: bench.panel.session.review.state.worst_first, "the review")
    table, order = (
        bench.panel.breath_holds.ui.holdsTable,
        list(bench.panel.session.review.state.worst_first),
    )
    bench.scene.go_to_slice(1)
    assert table.currentRow() == order.index(1)
    table.selectRow(order.index(5))
    assert bench.scene.slice() == 5


def test_a_picture_is_turned_as_the_views_show_it() -> None:
    from CineLabelLib.core.grid import Grid
    from CineLabelLib.planes import as_viewed

    grey = np.arange(6, dtype=np.uint8).reshape(3, 2)
    to_left_and_back = Grid((3, 2, 1), np.diag([-1.0, -1.0, 8.0, 1.0]))
    to_right_and_front = Grid((3, 2, 1), np.diag([1.0, 1.0, 8.0, 1.0]))
    assert (as_viewed(grey, to_left_and_back) == grey).all()
    assert (as_viewed(grey, to_right_and_front) == grey[::-1, ::-1]).all()
    turned = np.array([[0, -1.0, 0, 0], [0, 0, 8.0, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    assert (as_viewed(grey, Grid((3, 2, 1), turned)) == grey.T).all()


def test_a_scene_that_closes_loses_no_edit_and_says_so(bench: Any) -> None:
    bench.open_case()
    bench.paint(1, DISC)
    bench.panel.scene_closes()
    bench.scene.close()
    bench.settle()
    ui = bench.panel.study.ui
    assert "offered when it is opened again" in ui.studyLabel.text()
    bench.press(ui.nextButton)
    bench.wait(ui.unsavedFrame.isVisible, "the offer")
    bench.settle()
    bench.press(ui.restoreButton)
    bench.settle()
    assert bench.scene.labels(1)[DISC].all()


def test_unsaved_edits_are_discarded_only_by_a_reader_who_is_sure(bench: Any) -> None:
    bench.open_case()
    bench.paint(1, DISC)
    bench.scene.close()
    bench.settle()
    ui = bench.panel.study.ui
    bench.press(ui.nextButton)
    bench.wait(ui.unsavedFrame.isVisible, "the offer")
    bench.settle()
    bench.asked.agrees = False
    bench.press(ui.leaveButton)
    assert "for good" in bench.asked.questions[-1]
    assert bench.panel.session.opening.state.unsaved is not None


def test_height_and_weight_go_with_their_study(bench: Any, cine: Path) -> None:
    bench.open_case()
    ui = bench.panel.measure.ui
    ui.heightSpin.setValue(172)
    ui.weightSpin.setValue(68)
    assert ui.surfaceLabel.text()
    bench.open_file(cine)
    assert (ui.heightSpin.value(), ui.weightSpin.value(), ui.surfaceLabel.text()) == (0, 0, "")


def test_measures_follow_an_edit(bench: Any) -> None:
    bench.open_case()
    bench.panel.segment.ui.scopeBox.setCurrentIndex(2)
    bench.press(bench.panel.segment.ui.segmentButton)
    bench.settle()
    table = bench.panel.measure.ui.figuresTable
    bench.wait(lambda: table.rowCount() and "ml" in table.item(0, 1).text(), "the measures")
    before = table.item(0, 1).text()
    bench.paint(0, np.s_[:, :, 0:3], 0)
    bench.wait(lambda: table.item(0, 1).text() != before, "the new measure")


def test_address_and_name_are_remembered_and_the_token_is_not(bench: Any, tmp_path: Path) -> None:
    ui = bench.panel.study.ui
    ui.tokenEdit.setText("secret-token")
    ui.readerEdit.setText("dr smith")
    ui.readerEdit.editingFinished.emit()
    bench.connect()
    bench.panel.study.tools.settings.sync()
    kept = (tmp_path / "settings.ini").read_text()
    assert "http://127.0.0.1:8000" in kept
    assert "dr smith" in kept
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"secret-token" in path.read_bytes() for path in written)
    assert bench.panel.session.desk.reader == "dr smith"


def test_the_module_makes_the_panel_and_takes_it_away(
    application: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import CineLabel
    import qt
    import slicer
    from fakes import FakeScene
    from PySide6.QtWidgets import QWidget

    scene = FakeScene()
    scene.edits.node = object()
    scene.edits.use = lambda history: setattr(scene, "history", history)
    for name, found in (
        ("scene", {"MrmlScene": lambda: scene}),
        ("editing", {"embed": lambda *args: None, "WidgetHistory": lambda *args: args}),
    ):
        module = ModuleType(f"CineLabelLib.mrml.{name}")
        vars(module).update(found)
        monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    mrml = SimpleNamespace(StartCloseEvent=1)
    monkeypatch.setattr(slicer, "mrmlScene", mrml, raising=False)
    monkeypatch.setattr(slicer.util, "findChild", lambda widget, name: name)
    monkeypatch.setattr(CineLabel, "data_folder", lambda: tmp_path)
    kept = qt.QSettings(str(tmp_path / "settings.ini"), qt.QSettings.IniFormat)
    monkeypatch.setattr(CineLabel.qt, "QSettings", lambda: kept, raising=False)
    monkeypatch.setattr(
        CineLabel.CineLabelWidget, "resources", Path(CineLabel.__file__).parent / "Resources", False
    )
    widget = CineLabel.CineLabelWidget(QWidget())
    widget.setup()
    panel = widget.panel
    assert widget.observed == [(mrml, 1, widget.onSceneStartClose)]
    assert scene.history[1:] == ("UndoButton", "RedoButton")
    widget.enter()
    assert panel.keys_installed()
    widget.onSceneStartClose(None, None)
    widget.exit()
    assert not panel.keys_installed()
    widget.cleanup()
    assert widget.panel is None
    assert not widget.observed


def test_the_box_of_a_conflict_closes_once_its_submission_is_settled(bench: Any) -> None:
    from CineLabelLib.answers import OutOfDate

    error = OutOfDate("another label came first", cause="conflict")
    error.version, error.who = 3, "paul"
    submitting, ui = bench.panel.session.submitting, bench.panel.learn.ui
    bench.open_case()
    bench.paint(1, DISC)
    bench.server.refusals["submit"] = error
    bench.press(ui.submitFrameButton)
    bench.wait(ui.conflictFrame.isVisible, "the conflict")
    bench.settle()
    del bench.server.refusals["submit"]
    ui.waitingTable.selectRow(0)
    bench.press(ui.tryAgainButton)
    bench.wait(lambda: not submitting.state.waiting, "the submission")
    bench.settle()
    assert not ui.conflictFrame.isVisible()
    assert "keeps heart__t01 as version 1" in ui.submitLabel.text()
