"""Every button of the panel: what it does, why it cannot work, and that it never blocks."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

UI = Path(__file__).resolve().parents[3] / "slicer_extension" / "CineLabel" / "Resources" / "UI"
SECTIONS = ("study", "breath_holds", "segment", "edit", "measure", "learn")
SLOWEST_S = 0.5
"""The main thread may be away for 0.1 s; a busy machine gets more, the server takes 5 s."""
DISC = np.s_[14:18, 13:17, 2]


def opened(bench: Any) -> None:
    bench.open_case()


def reviewed(bench: Any) -> None:
    """A case with a row a slice and a reason chosen."""
    bench.open_case()
    bench.wait(lambda: bench.panel.session.review.state.worst_first, "the review")
    bench.panel.breath_holds.ui.reasonBox.setEditText("breathing motion")


def decided(bench: Any) -> None:
    reviewed(bench)
    bench.press(bench.panel.breath_holds.ui.acceptButton)
    bench.press(bench.panel.breath_holds.ui.acceptStudyButton)
    bench.settle()


def segmented(bench: Any) -> None:
    bench.open_case()
    bench.press(bench.panel.segment.ui.segmentButton)
    bench.settle()


def edited(bench: Any) -> None:
    """Frame 1 is segmented, and slice 2 of it edited."""
    segmented(bench)
    bench.paint(1, DISC, 0)
    bench.scene.go_to_slice(2)


def undone(bench: Any) -> None:
    edited(bench)
    bench.press(bench.panel.edit.ui.undoButton)
    bench.settle()


def with_a_gap(bench: Any) -> None:
    """Muscle and cavity in slices 0 and 5 and between, but not in slice 2."""
    segmented(bench)
    bench.paint(1, np.s_[:, :, 2], 0)
    bench.scene.go_to_slice(2)


def one_structure(bench: Any) -> None:
    edited(bench)
    bench.panel.edit.ui.structureBox.setCurrentIndex(1)
    bench.panel.edit.refresh()


def withheld(bench: Any) -> None:
    edited(bench)
    bench.press(bench.panel.segment.ui.segmentButton)
    bench.wait(lambda: bench.panel.session.segmentation.state.withheld, "the question")


def refused(bench: Any) -> None:
    """A submission that somebody else's label came before."""
    from CineLabelLib.answers import OutOfDate

    error = OutOfDate("another label came first", cause="conflict")
    error.version, error.who, error.time = 3, "paul", "2026-01-02T03:04:05Z"
    edited(bench)
    bench.server.refusals["submit"] = error
    bench.press(bench.panel.learn.ui.submitFrameButton)
    bench.wait(lambda: bench.panel.session.submitting.state.conflict, "the conflict")
    bench.settle()
    bench.server.versions[1] = 3
    del bench.server.refusals["submit"]


def seen(bench: Any) -> None:
    refused(bench)
    bench.press(bench.panel.learn.ui.theirsButton)
    bench.wait(lambda: bench.panel.session.submitting.state.conflict.seen, "theirs")


def waiting(bench: Any) -> None:
    """A submission that the server was not there for."""
    from CineLabelLib.answers import ServerGone

    edited(bench)
    bench.server.refusals["submit"] = ServerGone("nobody answers", remedy="Start the server")
    bench.press(bench.panel.learn.ui.submitFrameButton)
    bench.wait(lambda: bench.panel.session.submitting.state.waiting, "the outbox")
    bench.settle()
    bench.server.refusals.clear()
    bench.panel.learn.ui.waitingTable.selectRow(0)


def kept_refused(bench: Any) -> None:
    refused(bench)
    bench.panel.learn.ui.waitingTable.selectRow(0)


def skippable(bench: Any) -> None:
    bench.open_case()
    bench.panel.learn.ui.skipBox.setEditText("not a short-axis cine")


def training(bench: Any) -> None:
    bench.connect()
    bench.press(bench.panel.learn.ui.startButton)
    bench.wait(lambda: bench.panel.session.training.state.running, "the training")
    bench.settle()


def interrupted(bench: Any) -> None:
    training(bench)
    bench.press(bench.panel.learn.ui.stopButton)
    bench.wait(lambda: not bench.panel.session.training.state.running, "the end of the training")
    bench.settle()


def with_models(bench: Any) -> None:
    bench.connect()
    bench.wait(lambda: bench.panel.session.training.state.models, "the versions")
    bench.panel.learn.ui.modelsTable.selectRow(1)
    bench.panel.learn.ui.whyEdit.setText("better in the clinic")


def unsaved(bench: Any) -> None:
    """A study whose edits of an earlier time are offered."""
    edited(bench)
    bench.panel.session.editing.autosave()
    bench.scene.close()
    bench.press(bench.panel.study.ui.nextButton)
    bench.wait(lambda: bench.panel.session.opening.state.unsaved, "the offer")
    bench.settle()


def opening(bench: Any) -> None:
    """The server takes long to give the case."""
    bench.connect()
    bench.settle()
    bench.server.pause_s = 5.0
    bench.press(bench.panel.study.ui.nextButton)


def segmenting(bench: Any) -> None:
    bench.open_case()
    bench.server.pause_s = 5.0
    bench.press(bench.panel.segment.ui.segmentButton)


def fresh(bench: Any) -> None:
    """No server and no study."""


def chosen_file(bench: Any) -> None:
    from fakes import beating_disc, nifti_bytes

    path = bench.panel.session.desk.folder / "local.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(nifti_bytes(beating_disc()))
    bench.asked.file = path


def chosen_folder(bench: Any) -> None:
    bench.asked.folder = bench.panel.session.desk.folder / "empty"
    bench.asked.folder.mkdir(parents=True)


def two_series(bench: Any) -> None:
    """A folder of which it is not clear which series is meant; the second one is chosen."""
    from cinelabel.core.grid import Grid
    from cinelabel.studies import Study
    from cinelabel.studies.dicom_writer import write_cine
    from fakes import beating_disc

    frames = beating_disc()
    folder = bench.panel.session.desk.folder / "exam"
    for number in (3, 4):
        grid = Grid(frames.shape[:3], np.diag([1.5, 1.5, 8, 1]))
        exam = Study("exam", frames.astype(np.float32), grid, True, kind="phantom")
        write_cine(folder / str(number), exam, series_number=number)
    bench.asked.folder = folder
    bench.press(bench.panel.study.ui.openFolderButton)
    bench.wait(bench.panel.study.ui.seriesFrame.isVisible, "the choice")
    bench.panel.study.ui.seriesBox.setCurrentIndex(1)


def listed(bench: Any) -> None:
    bench.connect()
    bench.press(bench.panel.study.ui.listButton)
    bench.wait(lambda: bench.panel.session.opening.state.cases, "the cases")


def here(bench: Any) -> np.ndarray:
    """The labels on screen."""
    return bench.scene.labels(bench.scene.frame())


def decision(bench: Any) -> Any:
    rows = {row.index: row for row in bench.panel.session.review.state.rows}
    found = rows[bench.scene.slice()].decision
    return found and found.action.value


def has_asked(method: str) -> Callable[[Any], bool]:
    return lambda bench: method in bench.server.asked


PATHS: dict[tuple[str, str], tuple[Callable[[Any], None], Callable[[Any], object]]] = {
    ("study", "connectButton"): (fresh, lambda b: b.panel.session.desk.client is not None),
    ("study", "disconnectButton"): (opened, lambda b: b.panel.session.desk.client is None),
    ("study", "nextButton"): (
        lambda b: b.connect(),
        lambda b: "disagree about 2.1 cm²" in b.panel.study.ui.reasonLabel.text(),
    ),
    ("study", "listButton"): (
        lambda b: b.connect(),
        lambda b: b.panel.study.ui.casesBox.count() == 4,
    ),
    ("study", "openCaseButton"): (listed, lambda b: b.panel.session.opening.state.study),
    ("study", "openFileButton"): (chosen_file, lambda b: b.panel.session.opening.state.study),
    ("study", "openFolderButton"): (chosen_folder, lambda b: b.message),
    ("study", "openSeriesButton"): (
        two_series,
        lambda b: b.panel.study.ui.studyLabel.text().startswith("exam-4: "),
    ),
    ("study", "leaveSeriesButton"): (
        two_series,
        lambda b: not b.panel.study.ui.seriesFrame.isVisible() and b.scene.study is None,
    ),
    ("study", "cancelOpeningButton"): (
        opening,
        lambda b: b.panel.session.opening.state.busy is None,
    ),
    ("study", "restoreButton"): (unsaved, lambda b: not here(b)[DISC].any() and here(b).any()),
    ("study", "leaveButton"): (unsaved, lambda b: b.panel.session.opening.state.unsaved is None),
    ("study", "previousFrameButton"): (opened, lambda b: b.scene.frame() == 0),
    ("study", "nextFrameButton"): (opened, lambda b: b.scene.frame() == 2),
    ("study", "playButton"): (opened, lambda b: b.scene.playing() and b.scene.speed == 20),
    ("study", "edButton"): (opened, lambda b: b.scene.frame() == 0),
    ("study", "esButton"): (opened, lambda b: b.scene.frame() == 2),
    ("study", "markEdButton"): (opened, lambda b: b.panel.study.ui.edButton.text() == "ED (1)"),
    ("study", "markEsButton"): (opened, lambda b: b.panel.study.ui.esButton.text() == "ES (1)"),
    ("breath_holds", "acceptButton"): (reviewed, lambda b: decision(b) == "accept"),
    ("breath_holds", "repeatButton"): (reviewed, lambda b: decision(b) == "repeat"),
    ("breath_holds", "excludeButton"): (reviewed, lambda b: decision(b) == "exclude"),
    ("breath_holds", "clearButton"): (decided, lambda b: decision(b) is None),
    ("breath_holds", "nextWorstButton"): (
        reviewed,
        lambda b: b.scene.slice() == b.panel.session.review.state.worst_first[0],
    ),
    ("breath_holds", "acceptStudyButton"): (
        reviewed,
        lambda b: b.panel.session.review.state.decision.action.value == "accept",
    ),
    ("breath_holds", "repeatStudyButton"): (
        reviewed,
        lambda b: b.panel.session.review.state.decision.reason == "breathing motion",
    ),
    ("breath_holds", "excludeStudyButton"): (
        reviewed,
        lambda b: b.panel.session.review.state.decision.action.value == "exclude",
    ),
    ("breath_holds", "clearStudyButton"): (
        decided,
        lambda b: b.panel.session.review.state.decision is None,
    ),
    ("segment", "segmentButton"): (opened, lambda b: here(b).any()),
    ("segment", "cancelButton"): (
        segmenting,
        lambda b: not b.panel.session.segmentation.state.running and not here(b).any(),
    ),
    ("segment", "keepButton"): (
        withheld,
        lambda b: not b.panel.segment.ui.withheldFrame.isVisible() and not here(b)[DISC].any(),
    ),
    ("segment", "replaceButton"): (withheld, lambda b: here(b)[DISC].all()),
    ("segment", "nextLookButton"): (segmented, lambda b: b.scene.slice() == 5),
    ("edit", "undoButton"): (edited, lambda b: here(b)[DISC].all()),
    ("edit", "redoButton"): (undone, lambda b: not here(b)[DISC].any()),
    ("edit", "restoreButton"): (edited, lambda b: here(b)[DISC].all()),
    ("edit", "saveButton"): (edited, lambda b: not b.panel.session.editing.state.unsaved),
    ("edit", "previousSliceButton"): (edited, lambda b: here(b)[DISC].all()),
    ("edit", "nextSliceButton"): (edited, lambda b: here(b)[DISC].all()),
    ("edit", "previousFrameButton"): (edited, lambda b: "no labels to copy" in b.message),
    ("edit", "nextFrameButton"): (edited, lambda b: "no labels to copy" in b.message),
    ("edit", "fillButton"): (with_a_gap, lambda b: here(b)[:, :, 2].any()),
    ("edit", "smoothButton"): (edited, lambda b: b.panel.session.editing.state.can_undo),
    ("edit", "islandsButton"): (edited, lambda b: b.message or here(b).any()),
    ("edit", "growButton"): (one_structure, lambda b: b.message or here(b).any()),
    ("edit", "shrinkButton"): (
        one_structure,
        lambda b: (here(b) == 1).sum() < (b.scene.labels(1) > 0).sum(),
    ),
    ("edit", "clearSliceButton"): (edited, lambda b: not here(b)[:, :, 2].any()),
    ("edit", "closeMuscleButton"): (edited, lambda b: here(b)[DISC].all()),
    ("measure", "copyButton"): (
        segmented,
        lambda b: b.application.clipboard().text() == b.panel.session.measuring.text() != "",
    ),
    ("measure", "exportButton"): (
        lambda b: (
            segmented(b),
            setattr(b.asked, "saved", b.panel.session.desk.folder / "measures.csv"),
        ),
        lambda b: b.asked.saved.is_file(),
    ),
    ("learn", "submitFrameButton"): (
        edited,
        lambda b: [s.frame for s in b.server.submitted] == [1],
    ),
    ("learn", "submitEditedButton"): (edited, lambda b: b.server.versions == [0, 1, 0, 0]),
    ("learn", "theirsButton"): (refused, lambda b: b.scene.beside.get(1) is not None),
    ("learn", "overButton"): (seen, lambda b: [s.base_version for s in b.server.submitted] == [3]),
    ("learn", "keepMineButton"): (
        refused,
        lambda b: (
            not b.panel.learn.ui.conflictFrame.isVisible()
            and b.panel.session.submitting.state.waiting
        ),
    ),
    ("learn", "sendButton"): (waiting, lambda b: len(b.server.submitted) == 1),
    ("learn", "openMineButton"): (waiting, lambda b: not here(b)[DISC].any()),
    ("learn", "tryAgainButton"): (kept_refused, lambda b: len(b.server.submitted) == 1),
    ("learn", "withdrawButton"): (
        waiting,
        lambda b: b.asked.questions and not b.panel.session.submitting.state.waiting,
    ),
    ("learn", "skipButton"): (skippable, has_asked("skip")),
    ("learn", "reopenButton"): (skippable, has_asked("reopen")),
    ("learn", "startButton"): (lambda b: b.connect(), has_asked("start_training")),
    ("learn", "stopButton"): (training, has_asked("stop_training")),
    ("learn", "resumeButton"): (interrupted, has_asked("resume_training")),
    ("learn", "refreshButton"): (lambda b: b.connect(), has_asked("training")),
    ("learn", "useButton"): (with_models, lambda b: b.server.current == "tuned-1"),
    ("learn", "rollBackButton"): (with_models, lambda b: b.server.current == "phantom-1"),
}


def in_the_files() -> set[tuple[str, str]]:
    """Section and name of each button in the .ui files."""
    files = {"study": "Study", "breath_holds": "BreathHolds", "segment": "Segment"}
    files |= {"edit": "Edit", "measure": "Measure", "learn": "Learn"}
    return {
        (section, str(widget.get("name")))
        for section, file in files.items()
        for widget in ET.parse(UI / f"{file}.ui").iter("widget")
        if widget.get("class") == "QPushButton"
    }


def test_every_button_of_the_files_has_its_path_here() -> None:
    assert set(PATHS) == in_the_files()


@pytest.mark.parametrize(("section", "name"), sorted(PATHS))
def test_a_button_does_what_it_says_and_waits_for_no_server(
    bench: Any, section: str, name: str
) -> None:
    before, after = PATHS[section, name]
    before(bench)
    bench.server.pause_s, bench.slowest_s = 5.0, 0.0
    bench.press(getattr(getattr(bench.panel, section).ui, name))
    for _ in range(5):
        bench.turn()
    print(f"{section} {name}: {1000 * bench.slowest_s:.0f} ms")
    assert bench.slowest_s < SLOWEST_S
    bench.server.pause_s = 0.0
    bench.wait(lambda: after(bench), name)


def test_without_server_and_study_only_what_can_work_is_enabled(bench: Any) -> None:
    enabled = {
        name
        for section in SECTIONS
        for name, widget in vars(getattr(bench.panel, section).ui).items()
        if name.endswith("Button") and widget.isEnabled() and widget.isVisibleTo(bench.panel.widget)
    }
    assert enabled == {"connectButton", "openFileButton", "openFolderButton"}


def test_a_button_that_cannot_work_says_why(bench: Any) -> None:
    ui = bench.panel.learn.ui
    assert "Open a study first" in ui.submitFrameButton.toolTip()
    assert "Connect to a server first" in ui.startButton.toolTip()
    bench.open_case()
    assert "Every edited frame is submitted" in ui.submitEditedButton.toolTip()
    assert "reason" in ui.skipButton.toolTip()


def test_a_reader_who_may_only_read_is_told_so(bench: Any) -> None:
    bench.server.role = "reader"
    bench.open_case()
    assert "annotator" in bench.panel.learn.ui.submitFrameButton.toolTip()
    assert "admin" in bench.panel.learn.ui.startButton.toolTip()


def test_a_local_study_is_sent_only_after_a_yes(bench: Any, cine: Path) -> None:
    bench.connect()
    bench.open_file(cine)
    bench.asked.agrees = False
    bench.press(bench.panel.segment.ui.segmentButton)
    assert "its images are sent to http://127.0.0.1:8000" in bench.asked.questions[-1]
    assert "segment" not in bench.server.asked


def test_labels_are_not_replaced_by_a_copy_unasked(bench: Any) -> None:
    edited(bench)
    bench.asked.agrees = False
    before = here(bench)
    bench.press(bench.panel.edit.ui.previousSliceButton)
    assert "labels already" in bench.asked.questions[-1]
    assert (here(bench) == before).all()


def test_the_muscle_is_closed_as_an_edit_that_can_be_undone(bench: Any) -> None:
    ui, editing = bench.panel.edit.ui, bench.panel.session.editing
    segmented(bench)
    bench.paint(1, np.s_[22:27, 13:18, 3], 3)
    before = here(bench)
    bench.press(ui.saveButton)
    bench.wait(lambda: not editing.state.unsaved, "the end of saving")
    bench.press(ui.closeMuscleButton)
    bench.settle()
    changed = here(bench) != before
    assert set(before[changed]) == {3}
    assert set(here(bench)[changed]) == {2}
    assert editing.state.unsaved == {1}
    bench.press(ui.undoButton)
    assert (here(bench) == before).all()


def test_what_changes_labels_waits_for_a_frame_that_has_some(bench: Any) -> None:
    bench.open_case()
    ui = bench.panel.edit.ui
    buttons = (ui.fillButton, ui.smoothButton, ui.islandsButton, ui.closeMuscleButton)
    for button in (*buttons, ui.clearSliceButton, ui.growButton, ui.shrinkButton):
        assert "no labels yet" in button.toolTip()
    bench.press(bench.panel.segment.ui.segmentButton)
    bench.settle()
    assert all(button.isEnabled() for button in (*buttons, ui.clearSliceButton))
    bench.scene.go_to(0)
    assert not ui.closeMuscleButton.isEnabled()
