from __future__ import annotations

import threading

import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.studies import Study
from cinelabel.studies.dicom_writer import write_cine
from CineLabelLib import answers, nifti
from CineLabelLib.desk.states import Link, Origin


def test_connecting_tells_who_we_are_and_which_model_answers(bench):
    bench.connect()
    state = bench.session.connection.state
    assert (state.link, state.who, state.role, state.model) == (
        Link.CONNECTED,
        "reader",
        "admin",
        "v1",
    )
    assert state.strategies == ("suggested", "first")
    assert state.open_cases == 5


def test_a_wrong_token_is_told_and_nothing_is_connected(bench):
    bench.server.fails["check_token"] = answers.TokenWrong("the token is not right", cause="token")
    bench.connect()
    assert bench.session.desk.client is None
    assert bench.problems == ["the token is not right."]


def test_an_address_that_is_unsafe_is_told_at_once(bench):
    bench.session.connection.connect("http://127.0.0.1:9", "plain")
    assert bench.session.connection.state.link is Link.OFF
    assert bench.problems == ["the token would travel unprotected."]


def test_a_server_that_goes_away_and_comes_back_is_told(bench):
    bench.connect()
    bench.server.fails["check_token"] = answers.ServerGone("nobody answers")
    bench.pass_time(6)
    assert bench.session.connection.state.link is Link.LOST
    bench.server.fails.clear()
    bench.pass_time(6)
    assert bench.session.connection.state.link is Link.CONNECTED


def test_an_answer_of_a_server_that_was_left_is_dropped(bench):
    bench.server.hangs = threading.Event()
    bench.session.connection.connect("http://127.0.0.1:9")
    bench.session.connection.disconnect()
    bench.server.hangs.set()
    bench.settle()
    assert bench.session.connection.state.link is Link.OFF
    assert bench.session.desk.client is None


def test_a_case_of_the_server_opens_at_its_frame_with_ed_and_es(bench):
    bench.open_case(frame=3)
    state = bench.session.opening.state
    assert (state.study.name, state.image, state.ed, state.es) == ("heart", "heart__t03", 0, 2)
    assert bench.scene.frame() == 3
    np.testing.assert_array_equal(
        state.study.frame(3), nifti.read(bench.server.files["heart__t03"]).voxels
    )


def test_the_next_case_comes_with_its_reason_and_slice(bench):
    bench.connect()
    bench.session.opening.next_case()
    bench.settle()
    state = bench.session.opening.state
    assert (state.image, state.reason, state.slice) == ("heart__t00", "Two answers differ.", 2)
    assert bench.scene.slice() == 2
    assert ("next_case", "suggested") in bench.server.asked


def test_no_next_case_is_said(bench, make_heart):
    bench.connect()
    for image in bench.server.images:
        bench.server.label(image, make_heart(), "Bo", "2030-05-06T07:00:00+00:00")
    bench.session.opening.next_case("first")
    bench.settle()
    assert bench.told == ["The server has no more cases to label."]
    assert bench.session.opening.state.study is None


def test_labels_that_the_server_has_are_opened_and_count_as_a_persons(bench, make_heart):
    bench.server.label("heart__t01", make_heart(1), "Bo", "2030-05-06T07:00:00+00:00")
    bench.open_case()
    np.testing.assert_array_equal(bench.scene.kept[..., 1], make_heart(1))
    state = bench.session.editing.state
    assert state.origins[1] is Origin.SAVED
    assert state.edited == {1}
    assert not state.unsubmitted


def test_a_local_study_works_without_any_server(bench, make_heart):
    path = bench.open_local()
    assert bench.session.desk.study.source == path
    bench.draw(2, make_heart(2))
    bench.session.editing.save()
    bench.settle()
    again = bench.restart()
    again.open_local()
    np.testing.assert_array_equal(again.scene.kept[..., 2], make_heart(2))
    assert again.session.editing.state.edited == {2}
    assert not again.problems


@pytest.fixture
def exam(tmp_path):
    """A folder with two series of four slices."""
    frames = np.arange(7 * 5 * 4 * 3, dtype=np.float32).reshape(7, 5, 4, 3)
    for number in (3, 4):
        study = Study("exam", frames + number, Grid((7, 5, 4), np.eye(4)), True, kind="phantom")
        write_cine(tmp_path / "exam" / str(number), study, series_number=number)
    return tmp_path / "exam"


def test_several_series_of_a_folder_are_offered_and_the_chosen_one_opens(bench, exam):
    bench.session.opening.open_folder(exam)
    bench.settle()
    choice = bench.session.opening.state.choice
    assert [key for key, _ in choice.series] == ["3", "4"]
    assert "4 slices, 3 phases" in choice.series[1][1]
    assert choice.sentence.startswith("exam holds 2 series, of which 2 may be the cine")
    assert not bench.problems
    bench.session.opening.open_series("4")
    bench.settle()
    assert bench.session.desk.study.voxels.min() == 4
    assert bench.session.opening.state.choice is None


def test_a_choice_of_series_ends_when_something_else_is_opened_or_none_is_wanted(bench, exam):
    bench.session.opening.open_folder(exam)
    bench.settle()
    bench.session.opening.leave_series()
    assert bench.session.opening.state.choice is None
    bench.session.opening.open_series("4")
    assert bench.problems == ["no folder waits for a choice of its series."]
    bench.session.opening.open_folder(exam)
    bench.settle()
    bench.open_local()
    assert bench.session.opening.state.choice is None


def test_a_file_that_is_no_image_is_one_sentence_and_the_study_stays(bench, tmp_path):
    bench.open_local()
    study = bench.session.desk.study
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    bench.session.opening.open_file(tmp_path / "broken.nii.gz")
    bench.settle()
    assert len(bench.problems) == 1
    assert "broken.nii.gz" in bench.problems[0]
    assert bench.session.desk.study is study


def test_what_was_being_opened_is_dropped_when_something_else_is_opened(bench):
    bench.connect()
    bench.server.hangs = threading.Event()
    bench.session.opening.open_case("heart__t00")
    bench.session.opening.open_file(bench.folder / "local.nii.gz")
    bench.server.hangs.set()
    bench.open_local()
    assert bench.session.desk.study.name == "local"


def test_a_study_still_opening_is_given_up_and_given_back_when_its_server_is_left(bench):
    bench.connect()
    hung = bench.server.hangs = threading.Event()
    bench.session.opening.open_case("heart__t00")
    bench.until(lambda: ("image_info", "heart__t00") in bench.server.asked)
    bench.session.connection.disconnect()
    assert bench.session.opening.state.busy is None
    bench.server.hangs = None
    hung.set()
    bench.until(lambda: ("let_go", "heart__t00") in bench.server.asked)
    bench.settle()
    assert bench.server.leases == {}
    assert bench.session.desk.study is None


def test_opening_can_be_cancelled(bench):
    bench.open_local()
    bench.connect()
    bench.server.hangs = threading.Event()
    bench.session.opening.open_case("heart__t00")
    bench.session.opening.cancel()
    bench.server.hangs.set()
    bench.settle()
    assert bench.session.desk.study.name == "local"
    assert bench.session.opening.state.busy is None
    assert not bench.problems


def test_a_lease_is_given_back_when_another_case_is_opened(bench):
    bench.open_case(0)
    assert bench.server.leases == {"heart__t00": "reader"}
    bench.open_case(1)
    assert bench.server.leases == {"heart__t01": "reader"}
    bench.session.opening.close_study()
    bench.settle()
    assert bench.server.leases == {}


def test_a_lease_is_given_back_when_the_desk_closes(bench):
    bench.open_case(0)
    bench.session.close()
    assert bench.server.leases == {}


def test_a_case_is_given_back_before_its_server_is_left_and_held_again_on_return(bench):
    bench.open_case(0)
    bench.server.asked.clear()
    bench.session.connection.disconnect()
    bench.settle()
    assert bench.server.leases == {}
    assert bench.server.asked == [("let_go", "heart__t00"), ("close", "http://127.0.0.1:9")]
    bench.connect()
    assert bench.server.leases == {"heart__t00": "reader"}


def test_a_case_is_given_back_when_another_server_is_connected(bench):
    bench.open_case(0)
    other = "http://127.0.0.1:8"
    bench.addresses[other] = type(bench.server)()
    bench.session.connection.connect(other)
    bench.settle()
    assert bench.server.leases == bench.addresses[other].leases == {}


@pytest.mark.parametrize("by_strategy", [True, False])
def test_a_case_that_cannot_be_opened_is_not_held(bench, by_strategy):
    bench.connect()
    bench.server.fails["fetch_study"] = answers.ServerGone("nobody answers")
    opening = bench.session.opening
    opening.next_case() if by_strategy else opening.open_case("heart__t00")
    bench.settle()
    assert bench.problems == ["nobody answers."]
    assert bench.server.leases == {}


def test_a_lease_is_held_longer_while_its_case_is_open(bench):
    bench.open_case(0)
    before = bench.server.asked.count(("hold", "heart__t00"))
    bench.pass_time(21 * 60)
    assert bench.server.asked.count(("hold", "heart__t00")) == before + 1


def test_a_case_that_another_holds_opens_to_look_at(bench, a_conflict):
    bench.server.fails["hold"] = answers.OutOfDate("Bo holds this case until 9:00")
    bench.open_case(0)
    assert bench.session.desk.study.name == "heart"
    assert "Bo holds this case" in bench.session.opening.state.sentence


def test_phases_that_the_reader_marks_are_there_again(bench):
    bench.open_local()
    bench.session.opening.step(-1)
    assert bench.scene.frame() == 4
    bench.session.opening.mark_es()
    bench.scene.go_to(1)
    bench.session.opening.mark_ed()
    bench.settle()
    again = bench.restart()
    again.open_local()
    assert (again.session.opening.state.ed, again.session.opening.state.es) == (1, 4)
    again.session.opening.go_to_es()
    assert again.scene.frame() == 4


def test_a_phase_that_nobody_knows_is_said(bench):
    bench.open_local()
    bench.session.opening.go_to_ed()
    assert bench.problems[0].startswith("ED is not known.")


@pytest.mark.parametrize("action", ["step", "go_to_ed", "mark_es", "restore_unsaved"])
def test_without_a_study_every_button_says_so(bench, action):
    arguments = (1,) if action == "step" else ()
    getattr(bench.session.opening, action)(*arguments)
    assert bench.problems == ["no study is open. Open one first."]
