"""Learning rates rise in the warm-up and fall to their end, as worked out by hand."""

from __future__ import annotations

import pytest
from cinelabel.learning.config import ScheduleConfig
from cinelabel.learning.schedules import learning_rate


def rates(name: str, warmup: float, steps: int) -> list[float]:
    schedule = ScheduleConfig(name=name, warmup=warmup)
    return [learning_rate(schedule, 2.0, step, steps) for step in range(steps + 1)]


def test_poly_without_warm_up_is_that_of_nnunet():
    assert rates("poly", 0.0, 10) == pytest.approx(
        [2.0 * (1 - step / 10) ** 0.9 for step in range(11)]
    )


def test_cosine_is_half_way_down_in_the_middle():
    found = rates("cosine", 0.0, 10)
    assert [found[0], found[5]] == pytest.approx([2.0, 1.0])
    assert found[10] == pytest.approx(0.0, abs=1e-12)


def test_a_linear_warm_up_reaches_the_peak_when_it_ends():
    assert rates("cosine", 0.4, 10)[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])


def test_one_cycle_starts_low_peaks_after_the_warm_up_and_ends_near_zero():
    found = rates("onecycle", 0.3, 100)
    assert 2.0 / 25 < found[0] < 2.0 / 20
    assert max(range(101), key=found.__getitem__) == 30
    assert found[30] == 2.0
    assert found[100] == pytest.approx(2.0 / 10_000)
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)


@pytest.mark.parametrize("name", ["onecycle", "poly", "cosine"])
def test_a_run_of_one_step_has_a_rate(name):
    assert learning_rate(ScheduleConfig(name=name, warmup=0.5), 1e-3, 0, 1) == pytest.approx(1e-3)
