"""Tables of scores and measures in their three forms."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from cinelabel.core.errors import OutputError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import measure
from cinelabel.evaluation.metrics import Score
from cinelabel.evaluation.report import (
    MOST_CASE_ROWS,
    cases_table,
    difference_table,
    measures_table,
    score_tables,
    scores_as_dict,
    summary_table,
    write_measures_csv,
    write_scores_csv,
    write_summary_csv,
)
from cinelabel.evaluation.summary import summarise
from rich.console import Console

SCORES = [
    Score("p1", "LV", 0.9, 2.0, 0.5, None, 400.0, frame=0),
    Score("p1", "RV", None, None, None, "prediction", 400.0, frame=0),
    Score("p2", "LV", 0.7, 4.0, 1.5, None, 400.0, frame=0),
    Score("p2", "RV", None, None, None, "both", 400.0, frame=0),
]


def rendered(table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.fixture
def beating():
    labels = np.zeros((10, 10, 2, 3), np.uint8)
    labels[2:8, 2:7, :, 0] = 1  # 60 voxels of 0.1 ml at ED
    labels[2:7, 2:5, :, 2] = 1  # 30 at ES
    labels[2:7, 2:7, :, 1] = 1
    labels[0, :, :, :] = 2  # 20 voxels
    return measure(labels, Grid((10, 10, 2), np.diag([2.0, 5.0, 10.0, 1.0])))


def scored(method: str, case: str, structure: str, dice: float | None, hd95: float | None) -> Score:
    empty = "prediction" if dice is None else None
    return Score(
        case,
        structure,
        dice,
        hd95,
        hd95,
        empty,
        400.0,
        method=method,
        patient=case[:2],
        groups={"vendor": "GE" if case < "p3" else "Canon"},
    )


def two_methods() -> list[Score]:
    gains = {"first": (0.0, 0.0, 0.0), "second": (0.02, 0.04, 0.12)}
    return [
        scored(method, f"p{number}_ED", structure, dice + gain, 5.0 - 10 * gain)
        for method, found in gains.items()
        for number, gain in enumerate(found, 1)
        for structure, dice in (("LV", 0.8), ("RV", 0.7))
    ]


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_the_summary_table_has_a_row_a_method_and_columns_a_figure_and_structure():
    shown = rendered(summary_table(summarise(two_methods())))
    lines = shown.splitlines()
    head = next(number for number, line in enumerate(lines) if "HD95 mm" in line)
    assert lines[head].split() == ["Dice", "Dice", "HD95", "mm", "HD95", "mm"]
    assert lines[head + 1].split() == ["LV", "RV", "LV", "RV"]
    assert line_of(shown, "first").split("  ")[-1].strip() == "5.00 ± 0.00"
    second = line_of(shown, "second")
    assert "0.860 ± 0.053" in second
    assert "4.40 ± 0.53" in second
    assert shown.count("n 3 of 3 patients") == 2
    assert "[0.820, 0.920]" in shown
    assert "95 %" in shown


def test_the_better_method_is_bold_also_where_less_is_better():
    console = Console(width=200, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(summary_table(summarise(two_methods())))
    bold = re.findall(r"\x1b\[1m *([^ \x1b]+)", capture.get())
    assert [value for value in bold if value[0].isdigit()] == ["0.860", "0.760", "4.40", "4.40"]


def test_groups_are_sections_below_all_cases():
    shown = rendered(summary_table(summarise(two_methods(), ["vendor"])))
    places = [shown.index(text) for text in ("all cases", "vendor: GE", "vendor: Canon")]
    assert places == sorted(places)
    assert shown.count("n 1 of 1 patient\n") + shown.count("n 1 of 1 patient ") == 2


def test_what_is_empty_is_counted_and_a_second_table_scores_it_as_a_failure():
    tables = score_tables(SCORES, summarise(SCORES))
    plain, penalised = (rendered(table) for table in tables[1:])
    assert "0.800 ± 0.141" in plain
    assert "3.00 ± 1.41" in plain
    assert "left out: RV 2" in plain
    assert "left out of the mean" in plain
    assert "400.00" in penalised
    assert "0.000" in penalised
    assert "left out: RV 1" in penalised


def test_the_second_table_is_left_out_where_nothing_is_missed():
    scores = two_methods()
    titles = [table.title for table in score_tables(scores, summarise(scores))]
    assert titles == ["Cases", "Agreement", "Difference to first"]


def test_single_cases_are_printed_while_they_are_few():
    many = [scored("m", f"p{n}", "LV", 0.8, 3.0) for n in range(MOST_CASE_ROWS + 1)]
    assert "Cases" in [t.title for t in score_tables(many[1:], summarise(many[1:]))]
    assert "Cases" not in [t.title for t in score_tables(many, summarise(many))]


def test_differences_are_of_the_same_cases_and_a_miss_counts_as_zero():
    scores = [*two_methods(), scored("first", "p4_ED", "LV", 0.9, 2.0)]
    shown = rendered(difference_table(scores))
    assert line_of(shown, "second").split()[1:] == ["+0.060", "+0.060", "-0.60", "-0.60"]
    assert "[0.020, 0.120]" in shown
    missed = scored("second", "p4_ED", "LV", None, None)
    shown = rendered(difference_table([*scores, missed]))
    # (0.02 + 0.04 + 0.12 - 0.9) / 4
    assert line_of(shown, "second").split()[1] == "-0.180"
    assert difference_table(SCORES) is None


def test_the_cases_table_says_which_side_is_empty():
    shown = rendered(cases_table(SCORES))
    assert "no prediction" in shown
    assert "both empty" in shown
    assert "0.900" in shown


def test_the_csv_has_one_row_a_score_and_empty_cells_where_there_is_no_value(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores_csv(path, SCORES)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    assert float(rows[0]["dice"]) == 0.9
    assert rows[1]["dice"] == ""
    assert rows[1]["empty"] == "prediction"
    assert float(rows[1]["penalised_hd95_mm"]) == 400.0


def test_groupings_are_columns_of_the_csv(tmp_path):
    write_scores_csv(tmp_path / "s.csv", two_methods())
    with (tmp_path / "s.csv").open(newline="") as stream:
        row = next(csv.DictReader(stream))
    facts = {name: row[name] for name in ("method", "case", "patient", "vendor", "structure")}
    assert list(facts.values()) == ["first", "p1_ED", "p1", "GE", "LV"]


def test_means_and_intervals_go_to_a_csv_of_their_own(tmp_path):
    write_summary_csv(tmp_path / "s.csv", summarise(two_methods(), ["vendor"]))
    with (tmp_path / "s.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    (row,) = [
        row
        for row in rows
        if (row["method"], row["group"], row["structure"], row["figure"])
        == ("second", "", "LV", "dice")
    ]
    assert float(row["mean"]) == pytest.approx(0.86)
    assert float(row["low"]) == pytest.approx(0.82)
    assert (row["n"], row["patients"]) == ("3", "3")
    canon = [row for row in rows if row["group"] == "Canon"]
    assert {(row["by"], row["low"], row["sd"]) for row in canon} == {("vendor", "", "")}


def test_the_json_form_holds_cases_summary_and_policy_without_nan():
    record = scores_as_dict(SCORES, summarise(SCORES))
    record = json.loads(json.dumps(record, allow_nan=False))
    assert len(record["cases"]) == 4
    assert record["summary"][0]["dice"]["mean"] == pytest.approx(0.8)
    assert record["summary"][1]["n_empty"] == 2
    assert record["summary"][1]["dice"] is None
    assert "diagonal" in record["policy"]


def test_the_measures_table_shows_volumes_by_hand(beating):
    shown = rendered(measures_table({"study": beating}))
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if "│" in line}
    assert "6.0" in lines["LV EDV (ml)"]
    assert "3.0" in lines["LV ESV (ml)"]
    assert "50.0" in lines["LV EF (%)"]
    assert "2.1" in lines["LV mass (g)"]
    assert "2" in lines["ES frame"]


def test_a_label_of_one_unknown_phase_shows_its_volumes():
    labels = np.zeros((10, 10, 2), np.uint8)
    labels[2:8, 2:7] = 1
    found = measure(labels, Grid((10, 10, 2), np.diag([2.0, 5.0, 10.0, 1.0])))
    shown = rendered(measures_table({"study": found}))
    assert "LV volume (ml)" in shown
    assert "6.0" in shown
    assert "EDV" not in shown


def test_measures_go_to_csv(tmp_path, beating):
    path = tmp_path / "measures.csv"
    write_measures_csv(path, {"a": beating})
    with path.open(newline="") as stream:
        row = next(csv.DictReader(stream))
    assert row["study"] == "a"
    assert float(row["lv_ef_percent"]) == pytest.approx(50.0)


def test_a_csv_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        write_scores_csv(tmp_path / "file" / "scores.csv", SCORES)
    assert (tmp_path / "file").read_text() == "in the way"
