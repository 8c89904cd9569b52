"""The ways of a reader with the real client and the real server; her scene alone is of arrays."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from CineLabelLib import nifti
from CineLabelLib.client import Client
from CineLabelLib.core.grid import Grid
from CineLabelLib.core.measures import measure
from CineLabelLib.core.review import Action
from CineLabelLib.desk.states import Link, Scope
from CineLabelLib.session import Session

pytest.importorskip("monailabel", reason="the [server] extra is not installed")


@pytest.fixture
def reader(bench, guarded_alone):
    """A bench whose session talks to the real server, connected as an annotator."""
    factory = partial(Client, client_id="desk")
    bench.session = Session(
        bench.scene, bench.workers, factory, bench.folder / "real", bench.clock, "annotator-1"
    )
    bench.session.problem.connect(bench.problems.append)
    bench.session.told.connect(bench.told.append)
    bench.session.connection.connect(guarded_alone.url, guarded_alone.tokens["annotator"])
    bench.settle()
    assert bench.session.connection.state.link is Link.CONNECTED, bench.problems
    return bench


def another(server, role="admin"):
    return Client(server.url, server.tokens[role], client_id="other")


def test_a_case_is_opened_segmented_edited_measured_and_submitted(reader, guarded_alone):
    session, scene = reader.session, reader.scene
    session.opening.next_case("first")
    reader.settle()
    study, image = session.desk.study, session.opening.state.image
    assert session.opening.state.reason
    session.segmentation.run(Scope.FRAME)
    reader.settle()
    frame = scene.frame()
    mine = scene.labels(frame)
    assert mine.any(), reader.problems
    mine[mine == 1] = 2
    mine[20:30, 20:30, 3] = 1
    reader.draw(frame, mine)
    assert session.measuring.state.lv_ml[0] == pytest.approx(
        measure(mine, study.grid, ed=0).lv_edv_ml
    )
    session.submitting.submit_frame("corrected at the base")
    reader.settle()
    assert dict(session.submitting.state.sent) == {image: 1}, reader.problems
    kept = nifti.read_labels(another(guarded_alone).label(image).content)
    np.testing.assert_array_equal(kept.voxels, mine)
    assert study.grid.equals(Grid(kept.voxels.shape, kept.affine))


def test_a_label_that_came_first_is_seen_and_then_submitted_over(reader, guarded_alone):
    session, image = reader.session, "heart__t01"
    session.opening.open_case(image)
    reader.settle()
    base = another(guarded_alone).image_info(image).version
    mine = np.zeros(session.desk.study.grid.shape, np.uint8)
    mine[30:40, 30:40, 2] = 1
    reader.draw(1, mine)
    with guarded_alone.client("admin") as admin:
        files = {"label": ("label.nii.gz", guarded_alone.label(image))}
        data = {"params": f'{{"base_version": {base}}}'}
        answer = admin.put("/datastore/label", params={"image": image}, files=files, data=data)
        assert answer.status_code == 200, answer.text
    session.submitting.submit_edited()
    reader.settle()
    conflict = session.submitting.state.conflict
    assert (conflict.version, conflict.who) == (base + 1, "admin-1"), reader.problems
    session.submitting.open_theirs()
    reader.settle()
    theirs = reader.scene.beside[1][0]
    np.testing.assert_array_equal(theirs, guarded_alone.phantom.labels[..., 1])
    session.submitting.submit_over()
    reader.settle()
    found = another(guarded_alone).label(image)
    assert found.version == base + 2
    np.testing.assert_array_equal(nifti.read_labels(found.content).voxels, mine)
    assert session.submitting.state.waiting == ()


def test_decisions_about_breath_holds_are_on_the_server(reader, guarded_alone):
    reader.session.opening.open_case("heart__t00")
    reader.settle()
    reader.session.review.decide(2, Action.REPEAT, "breathing")
    reader.settle()
    record = another(guarded_alone).review("heart").record
    assert record["slices"][2]["decision"]["reason"] == "breathing"
    assert reader.session.review.state.saved


def test_a_study_of_this_machine_is_segmented_by_the_server(reader, guarded_alone, tmp_path):
    path = tmp_path / "mine.nii.gz"
    phantom = guarded_alone.phantom.study
    path.write_bytes(nifti.image_bytes(phantom.frames, phantom.grid.affine))
    reader.session.opening.open_file(path)
    reader.settle()
    reader.session.segmentation.run(Scope.ALL)
    reader.settle()
    assert reader.session.measuring.state.frames == (0, 1), reader.problems
    assert not reader.session.editing.state.edited


def test_an_annotator_is_told_who_may_train(reader):
    reader.session.training.start()
    reader.settle()
    assert reader.problems == [
        "only a token of the role admin may start a training; ask who runs the server."
    ]
