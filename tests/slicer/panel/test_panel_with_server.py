"""The panel's buttons on stand-ins, with the real session, the real client and the real server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="the [server] extra is not installed")

from cinelabel import studies
from cinelabel.labelstore import LabelStore


@pytest.fixture
def connected(bench: Any, guarded: Any, all_open: None) -> Any:
    """A bench whose panel is connected to the real server by its own buttons, as an annotator."""
    from CineLabelLib.client import Client

    connection = bench.panel.session.connection
    connection._factory = partial(Client, client_id="mary")
    ui = bench.panel.study.ui
    ui.addressEdit.setText(guarded.url)
    ui.tokenEdit.setText(guarded.tokens["annotator"])
    bench.press(ui.connectButton)
    bench.wait(lambda: ui.linkLabel.text() == "connected", "the connection")
    bench.settle()
    return bench


def open_last(bench: Any) -> str:
    """List the cases, and open the last one; its image."""
    ui = bench.panel.study.ui
    bench.press(ui.listButton)
    bench.settle()
    ui.casesBox.setCurrentIndex(ui.casesBox.count() - 1)
    bench.press(ui.openCaseButton)
    bench.wait(lambda: bench.panel.session.opening.state.study is not None, "the case")
    bench.settle()
    return str(bench.panel.session.opening.state.image)


def stored(guarded: Any, image: str) -> np.ndarray:
    """The newest label in the store, read by the server's own library."""
    found = LabelStore(guarded.folder / "workspace").newest(image)
    assert found is not None
    return studies.load_label(found.path)[0]


def test_a_case_goes_through_the_buttons_from_the_list_into_the_store(
    connected: Any, guarded: Any
) -> None:
    image = open_last(connected)
    frame, panel = connected.scene.frame(), connected.panel
    connected.press(panel.segment.ui.segmentButton)
    connected.wait(lambda: not panel.session.segmentation.state.running, "the segmentation")
    connected.settle()
    connected.paint(frame, np.s_[2:9, 3:8, 1:3], 3)
    connected.press(panel.learn.ui.submitEditedButton)
    connected.wait(lambda: image in panel.session.submitting.state.sent, "the submission")
    connected.settle()
    assert np.array_equal(stored(guarded, image), connected.scene.labels(frame))
    assert stored(guarded, image)[2:9, 3:8, 1:3].all()
    assert f"keeps {image}" in connected.message


def test_a_label_that_came_first_is_named_and_stays_until_the_reader_has_seen_it(
    connected: Any, guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = open_last(connected)
    frame, panel = connected.scene.frame(), connected.panel
    base = panel.session.desk.bases[image]
    with guarded.client("admin") as other:
        sent = {"label": ("label.nii.gz", guarded.label(image))}
        told = {"params": f'{{"base_version": {base}, "client_id": "other"}}'}
        right: Callable[..., Any] = other.put
        assert right("/datastore/label", params={"image": image}, data=told, files=sent).is_success
    theirs = stored(guarded, image)
    connected.paint(frame, np.s_[3:8, 3:8, 1:3], 1)
    mine = connected.scene.labels(frame)
    connected.press(panel.learn.ui.submitEditedButton)
    connected.wait(lambda: panel.session.submitting.state.conflict is not None, "the conflict")
    connected.settle()
    assert "admin-1" in connected.message
    assert np.array_equal(stored(guarded, image), theirs)
    connected.press(panel.learn.ui.theirsButton)
    connected.settle()
    connected.press(panel.learn.ui.overButton)
    connected.settle()
    assert np.array_equal(stored(guarded, image), mine)
    assert np.array_equal(connected.scene.labels(frame), mine)
