"""Figures of a simulation, by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from cinelabel.active.curves import (
    curves,
    draw_curves,
    draw_left_out,
    points,
    saved,
    slices_to,
    write_tables,
)
from cinelabel.active.plan import ALL, Cell, SimulationConfig
from cinelabel.active.simulation import CaseScore, Result

CONFIG = SimulationConfig(
    name="a", about="Tests.", model="phantom-2", methods={"metalr": {}}, budgets=(10, 20)
)


def result(cell: Cell, *dice: float) -> Result:
    """Of one case for each Dice, all three structures alike."""
    scores = tuple(
        CaseScore(f"p{k}", f"{cell.fold}{k}", name, value)
        for k, value in enumerate(dice)
        for name in ("LV", "MYO", "RV")
    )
    slices = 100 if cell.budget is None else cell.budget
    return Result(cell, slices, 2, 5, 1.0, 2.0, scores, {}, ())


def some() -> list[Result]:
    """Before 0.5; by all 100 slices 0.8; three seeds each of two strategies."""
    found = [result(Cell("test"), 0.4, 0.6), result(Cell("test", ALL, "metalr", 1, None), 0.8)]
    for seed, change in enumerate((-0.1, 0.0, 0.02)):
        for budget, one, other in ((10, 0.7, 0.6), (20, 0.78, 0.7)):
            found += [
                result(Cell("test", "suggested", "metalr", seed, budget), one + change),
                result(Cell("test", "foreground", "metalr", seed, budget), other + change),
            ]
    return found


def test_the_first_crossing_is_found_on_straight_lines() -> None:
    assert slices_to([0, 10, 20], [0.5, 0.7, 0.6], 0.6) == pytest.approx(5.0)
    assert slices_to([0, 10], [0.5, 0.7], 0.4) == 0.0
    assert slices_to([0, 10], [0.5, 0.7], 0.8) is None


def test_a_curve_is_the_median_of_the_seeds_from_the_version_before_on() -> None:
    (curve,) = [c for c in curves(points(some())) if c.strategy == "suggested"]
    assert curve.slices == (0, 10, 20)
    expected = [[0.5, 0.5, 0.5], [0.6, 0.7, 0.72], [0.68, 0.78, 0.8]]
    np.testing.assert_allclose(curve.dice["mean"], expected)
    assert curve.seeds == 3


def test_slices_needed_are_those_to_a_share_of_what_the_whole_pool_gives() -> None:
    (curve,) = [c for c in curves(points(some())) if c.strategy == "suggested"]
    assert curve.needed[0] == pytest.approx(10 + 10 * (0.76 - 0.7) / 0.08)
    assert curve.needed[1] is None


def test_what_is_saved_is_told_against_foreground_aware_random_and_its_own_method() -> None:
    found = [
        result(Cell("test"), 0.5),
        result(Cell("test", ALL, "metalr", 1, None), 1.0),
        result(Cell("test", "suggested", "metalr", 1, 10), 1.0),
        result(Cell("test", "foreground", "metalr", 1, 20), 1.0),
        result(Cell("test", ALL, "all", 1, None), 1.0),
        result(Cell("test", "suggested", "all", 1, 10), 1.0),
    ]
    drawn = curves(points(found))
    told = {(c.strategy, c.method): saved(c, drawn) for c in drawn}
    assert told["suggested", "metalr"] == pytest.approx((0.5, 0.5))
    assert told["suggested", "all"] == (None, None)


def test_a_point_counts_once_all_its_folds_are_finished() -> None:
    cells = [Cell(fold, "first", "all", seed, 4) for seed in (1, 2) for fold in ("a", "b")]
    found = [result(Cell("a"), 0.2), result(Cell("b"), 0.4)]
    found += [result(cell, 0.5) for cell in cells[:3]]
    done = points(found)
    assert [(point.strategy, point.seed) for point in done] == [("before", 0), ("first", 1)]
    assert done[0].dice["LV"] == pytest.approx(0.3)


def test_tables_hold_every_seed_and_every_case(tmp_path: Path) -> None:
    write_tables(tmp_path, some())
    rows = {
        name: list(csv.DictReader((tmp_path / f"{name}.csv").open()))
        for name in ("points", "cases", "curves")
    }
    assert len(rows["points"]) == len(some())
    assert len(rows["cases"]) == 3 * (len(some()) + 1)
    assert {row["of_foreground_95%"] for row in rows["curves"]} == {""}
    assert rows["curves"][0]["slices_to_95%"] == "17.5"


def test_figures_are_drawn(tmp_path: Path) -> None:
    draw_curves(tmp_path / "curves.png", CONFIG, points(some()))
    draw_left_out(tmp_path / "left-out.png", CONFIG, points(some()))
    for name in ("curves.png", "left-out.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
