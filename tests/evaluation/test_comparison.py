"""The table of a comparison: medians over seeds of means over cases, and its figures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cinelabel.core.labels import CANONICAL
from cinelabel.datasets import Case
from cinelabel.evaluation.comparison import BEFORE, Outcome, Result, Search
from cinelabel.evaluation.comparison_report import (
    comparison_table,
    grid_figure,
    rates_figure,
    write_report,
)
from cinelabel.evaluation.metrics import Score
from cinelabel.learning.comparison import ComparisonConfig
from rich.console import Console


def score(case: str, dice: float | None, structure: str = "LV") -> Score:
    given = {"ppv": dice, "sensitivity": dice, "empty": None if dice else "prediction"}
    return Score(case, structure, dice, None, None, diagonal_mm=1.0, distances=False, **given)


def outcome(row: str, seed: int | None, *dice: float | None) -> Outcome:
    scores = tuple(score(f"case{k}", value) for k, value in enumerate(dice))
    return Outcome(row, seed, None, 5, 1.5, scores, None)


@pytest.fixture
def result() -> Result:
    found = [outcome("all", seed, dice, 0.7) for seed, dice in enumerate((0.9, 0.5, 0.8))]
    return Result([outcome(BEFORE, None, 0.4, 0.6), *found], [])


@pytest.fixture
def comparison() -> SimpleNamespace:
    """What of a comparison the report reads."""
    cases = [Case("acdc", f"p{k}", "ED", Path(), None, CANONICAL, structures=()) for k in range(2)]
    sides = {"training": cases * 3, "validation": cases[:1], "test": cases}
    config = ComparisonConfig(
        name="mine", methods={"all": None}, seeds=(0, 1, 2), model="m-1", member="net"
    )
    return SimpleNamespace(config=config, sides=sides, examples=SimpleNamespace(slice_count=40))


def test_a_structure_that_was_missed_counts_as_no_overlap():
    found = outcome("all", 1, 0.8, None)
    assert found.figure("Dice", "LV") == pytest.approx(0.4)
    assert found.figure("PPV", "LV") == pytest.approx(0.4)


def test_the_mean_of_the_structures_weighs_them_alike():
    scores = (score("a", 0.9), score("b", 0.7), score("a", 0.2, "RV"))
    found = Outcome("all", 1, None, 5, 1.5, scores, None)
    assert found.figure("Dice") == pytest.approx((0.8 + 0.2) / 2)
    assert found.figure("Dice", "MYO") is None


def test_of_equally_good_layers_the_fewest_stay():
    assert Search("row", 4, {(1, 3): 0.5, (2, 3): 0.5, (1, 1): 0.4}).chosen == (2, 3)


def test_the_table_is_the_median_over_seeds_with_the_range(comparison, result, tmp_path):
    write_report(tmp_path, comparison, result)
    with (tmp_path / "table.csv").open() as stream:
        rows = {(r["method"], r["structure"], r["figure"]): r for r in csv.DictReader(stream)}
    row = rows["all", "LV", "Dice"]
    # means over the two cases: 0.8, 0.6 and 0.75
    numbers = [float(row[key]) for key in ("median", "lowest", "highest")]
    assert numbers == pytest.approx([0.75, 0.6, 0.8])
    assert (row["seeds"], row["patients"], row["cases"]) == ("3", "2", "2")
    assert float(rows[BEFORE, "mean", "Dice"]["median"]) == pytest.approx(0.5)
    with (tmp_path / "seeds.csv").open() as stream:
        told = [r for r in csv.DictReader(stream) if r["figure"] == "Dice"]
    assert [(r["seed"], float(r["value"])) for r in told[1:]] == [
        ("0", pytest.approx(0.8)),
        ("1", pytest.approx(0.6)),
        ("2", pytest.approx(0.75)),
    ]


def test_the_printed_table_tells_medians_and_what_they_are_of(comparison, result, capsys):
    Console(width=120).print(comparison_table(comparison, result))
    printed = capsys.readouterr().out
    assert "0.750" in printed
    assert "mine: 2 patients, 2 cases" in printed
    assert "Median, lowest and highest of 3 seeds" in printed
    assert "40 training slices" in " ".join(printed.split())


def test_a_table_of_phantoms_says_that_they_are_no_patients(comparison, result):
    assert "simulated" not in str(comparison_table(comparison, result).caption)
    comparison.sides["test"] = [replace(case, set="phantom") for case in comparison.sides["test"]]
    assert "Phantoms are simulated" in str(comparison_table(comparison, result).caption)


def test_figures_of_a_grid_and_of_rates_are_drawn(tmp_path):
    dice = {(m, n): 0.5 + 0.01 * m * n for n in range(1, 6) for m in range(1, n + 1)}
    grid_figure(tmp_path / "grid.png", Search("bi-directional", 6, dice), "1 patient, 2 cases")
    steps = np.arange(20)
    runs = {
        seed: {f"layer_{k}": 1e-3 * 1.1 ** (steps * abs(k - 2 - seed / 9)) for k in range(6)}
        for seed in range(3)
    }
    rates_figure(tmp_path / "rates.png", runs, title="metalr")
    for name in ("grid.png", "rates.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
