from __future__ import annotations

import numpy as np
from CineLabelLib.core.labels import LV
from CineLabelLib.desk.states import Origin
from CineLabelLib.shortaxis import AlreadyLabelled, NothingToDo


def test_only_frames_that_a_person_edited_count_as_edited(bench):
    bench.open_local()
    bench.draw(3)
    for frame in range(5):
        bench.scene.go_to(frame)
    state = bench.session.editing.state
    assert (state.edited, state.unsaved, state.unsubmitted) == ({3}, {3}, {3})
    assert state.origins[3] is Origin.PERSON
    assert state.origins[0] is Origin.NONE


def test_saving_keeps_a_version_and_leaves_nothing_unsaved(bench):
    bench.open_local()
    bench.draw(3)
    bench.session.editing.save()
    bench.settle()
    state = bench.session.editing.state
    assert not state.unsaved
    assert state.edited == {3}
    assert state.sentence == "Saved as version 1."


def test_an_edit_while_saving_stays_unsaved(bench, make_heart):
    bench.open_local()
    bench.draw(3)
    bench.session.editing.save()
    bench.scene.person_edits(make_heart(1))
    bench.settle()
    assert bench.session.editing.state.unsaved == {3}


def test_restoring_a_frame_brings_back_what_was_there_and_again_the_edits(bench, make_heart):
    bench.open_local()
    bench.session.editing.put(1, make_heart(0), Origin.MODEL, "v1")
    mine = bench.draw(1, make_heart(2))
    bench.session.editing.restore_frame()
    np.testing.assert_array_equal(bench.scene.kept[..., 1], make_heart(0))
    assert not bench.session.editing.state.edited
    bench.session.editing.restore_frame()
    np.testing.assert_array_equal(bench.scene.kept[..., 1], mine)
    assert bench.session.editing.state.edited == {1}


def test_nothing_is_restored_on_a_frame_that_nobody_edited(bench):
    bench.open_local()
    bench.session.editing.restore_frame()
    assert bench.problems == ["frame 0: nobody edited it since."]


def test_a_scene_that_is_closed_with_unsaved_edits_offers_them_at_the_next_opening(bench):
    bench.open_local()
    mine = bench.draw(2)
    bench.scene.close()
    assert bench.session.desk.study is None
    bench.open_local()
    offered = bench.session.opening.state.unsaved
    assert offered.frames == (2,)
    assert not bench.scene.kept.any()
    bench.session.opening.restore_unsaved()
    np.testing.assert_array_equal(bench.scene.kept[..., 2], mine)
    assert bench.session.editing.state.unsaved == {2}


def test_an_edit_right_before_the_scene_closes_is_not_lost(bench, make_heart):
    bench.open_local()
    bench.scene.person_edits(make_heart(1))
    bench.scene.close()
    bench.open_local()
    bench.session.opening.restore_unsaved()
    np.testing.assert_array_equal(bench.scene.kept[..., 0], make_heart(1))


def test_a_kill_costs_no_edits_that_are_older_than_ten_seconds(bench, make_heart):
    bench.open_local()
    bench.draw(1)
    bench.pass_time(11)
    again = bench.restart()
    again.open_local()
    again.session.opening.restore_unsaved()
    np.testing.assert_array_equal(again.scene.kept[..., 1], make_heart(1))


def test_what_was_saved_is_not_offered_again(bench):
    bench.open_local()
    bench.draw(1)
    bench.pass_time(11)
    bench.session.editing.save()
    bench.settle()
    again = bench.restart()
    again.open_local()
    assert again.session.opening.state.unsaved is None


def test_an_offer_that_nobody_answered_survives_saving_other_edits(bench, make_heart):
    bench.open_local()
    bench.draw(1)
    bench.scene.close()
    bench.open_local()
    bench.draw(3)
    bench.session.editing.save()
    bench.settle()
    bench.open_local()
    assert bench.session.opening.state.unsaved.frames == (1,)
    bench.session.opening.restore_unsaved()
    np.testing.assert_array_equal(bench.scene.kept[..., 1], make_heart(1))


def test_edits_that_are_left_are_not_offered_again(bench):
    bench.open_local()
    bench.draw(1)
    bench.scene.close()
    bench.open_local()
    bench.session.opening.leave_unsaved()
    bench.settle()
    bench.open_local()
    assert bench.session.opening.state.unsaved is None
    assert not bench.scene.kept.any()


def test_opening_another_study_keeps_the_unsaved_edits_of_the_one_before(bench):
    bench.open_local()
    bench.draw(1)
    bench.open_case()
    bench.open_local()
    assert bench.session.opening.state.unsaved.frames == (1,)


def test_closing_the_desk_keeps_unsaved_edits(bench):
    bench.open_local()
    bench.draw(1)
    bench.session.close()
    again = bench.restart()
    again.open_local()
    assert again.session.opening.state.unsaved.frames == (1,)


def test_a_fourth_segment_is_one_sentence_and_the_known_ones_are_not_lost(bench, make_heart):
    bench.open_local()
    bench.scene.fourth.add(0)
    bench.scene.person_edits(make_heart(1))
    bench.pass_time(1)
    bench.pass_time(1)
    assert len(bench.problems) == 1
    assert "'Scar'" in bench.problems[0]
    bench.session.editing.save()
    assert len(bench.problems) == 2
    bench.scene.close()
    bench.open_local()
    bench.session.opening.restore_unsaved()
    np.testing.assert_array_equal(bench.scene.kept[..., 0], make_heart(1))


def test_a_fourth_segment_that_is_removed_is_no_problem_any_more(bench, make_heart):
    bench.open_local()
    bench.scene.fourth.add(0)
    bench.scene.person_edits(make_heart(1))
    bench.pass_time(1)
    bench.scene.fourth.clear()
    bench.scene.person_edits(make_heart(2))
    bench.pass_time(1)
    np.testing.assert_array_equal(bench.session.editing.labels(0), make_heart(2))


def test_painting_reads_the_scene_a_few_times_a_second_only(bench, make_heart):
    bench.open_local()
    before = bench.scene.reads
    for _ in range(50):
        bench.scene.person_edits(make_heart(1))
        bench.clock.passed += 0.02
        bench.session.tick()
    assert 1 <= bench.scene.reads - before <= 6


def test_undo_counts_as_an_edit(bench, make_heart):
    bench.open_local()
    bench.draw(0)
    assert bench.session.editing.state.can_undo
    bench.session.editing.undo()
    bench.pass_time(1)
    assert not bench.session.editing.labels(0).any()
    assert not bench.session.editing.state.can_undo


def test_buttons_reach_the_slice_and_frame_on_screen(bench):
    bench.open_local()
    bench.scene.go_to(0)
    bench.scene.go_to_slice(1)
    editing = bench.session.editing
    editing.copy_from_slice(1)
    editing.copy_from_frame(-1)
    editing.copy_from_frame(1, whole=True)
    editing.clear_slice()
    editing.grow(LV, 1.5)
    assert bench.scene.edits.calls == [
        ("copy_slice", 2, 1, False),
        ("copy_frame", 4, 1, False),
        ("copy_frame", 1, None, False),
        ("clear_slice", 1),
        ("grow", LV, 1.5),
    ]


def test_closing_the_muscle_is_of_the_frame_on_screen_and_what_it_cannot_do_is_told(bench):
    bench.session.editing.close_muscle()
    bench.open_local()
    bench.scene.edits.fails = NothingToDo("the muscle is closed already")
    bench.session.editing.close_muscle()
    assert bench.scene.edits.calls == [("close_muscle",)]
    assert bench.problems == [
        "no study is open. Open one first.",
        "the muscle is closed already.",
    ]


def test_there_is_no_slice_beyond_the_ends(bench):
    bench.open_local()
    bench.session.editing.copy_from_slice(-1)
    assert bench.problems == ["slice 0: there is no slice on that side."]


def test_labels_are_replaced_by_a_copy_only_when_the_reader_says_so(bench):
    bench.open_local()
    bench.scene.go_to_slice(1)
    bench.scene.edits.fails = AlreadyLabelled((1,), "a copy")
    bench.session.editing.copy_from_slice(1)
    assert "Confirm it, or clear them first." in bench.problems[0]
    bench.session.editing.copy_from_slice(1, replace=True)
    assert bench.scene.edits.calls[-1] == ("copy_slice", 2, 1, True)
    assert len(bench.problems) == 1
