"""Progress on a terminal and elsewhere: lines with a rate and what is left."""

from __future__ import annotations

import time

import pytest
from cinelabel.learning.reporting import Reporter
from rich.console import Console


def test_work_that_goes_on_tells_its_rate_and_what_is_left(reporter, written, monkeypatch):
    now = iter([100.0, 110.0, 120.0, 140.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    for done in (20, 25, 30, 100):  # 20 were there already; of 25 too little time has passed
        reporter.progress(done, 100, "prepared cases")
    assert written.getvalue().splitlines() == [
        "prepared cases: 20/100, 0.00/s, ? left",
        "prepared cases: 30/100, 0.50/s, 0:02:20 left",
        "prepared cases: 100/100, 2.00/s, 0:00:00 left",
    ]


def test_other_work_of_the_same_name_begins_with_a_rate_of_its_own(reporter, written, monkeypatch):
    now = iter([100.0, 110.0, 120.0, 121.0, 125.0, 130.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    for done, total in ((0, 48), (48, 48), (0, 8), (8, 8), (0, 8), (8, 8)):
        reporter.progress(done, total, "slices")
    assert [line for line in written.getvalue().splitlines() if "/s, 0:00:00 left" in line] == [
        "slices: 48/48, 4.80/s, 0:00:00 left",
        "slices: 8/8, 8.00/s, 0:00:00 left",
        "slices: 8/8, 1.60/s, 0:00:00 left",
    ]


def test_a_bar_on_a_terminal_begins_again_for_other_work_of_the_same_name(written):
    reporter = Reporter(Console(file=written, width=200, force_terminal=True))
    for done, total in ((0, 48), (48, 48), (8, 8), (1, 8)):
        reporter.progress(done, total, "slices")
    (bar,) = reporter._bar.tasks
    assert (bar.completed, bar.total, bar.finished) == (1, 8, False)
    assert "-" not in bar.fields["detail"]


@pytest.mark.parametrize(("rate", "left"), [(0.0, "?"), (2.0, "0:00:30")])
def test_a_step_tells_its_loss_and_what_is_left(reporter, written, rate, left):
    reporter.step(40, 100, 0.5, 0.01, rate, log=True)
    assert written.getvalue().rstrip().endswith(f"{rate:.2f} steps/s, {left} left")
