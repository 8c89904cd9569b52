"""Tables of scores and measures in their three forms."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from cinelabel.core.errors import OutputError
from cinelabel.core.grid import Grid
from cinelabel.core.measures import measure
from cinelabel.evaluation.metrics import Score, summarise
from cinelabel.evaluation.report import (
    cases_table,
    measures_table,
    scores_as_dict,
    summary_table,
    write_measures_csv,
    write_scores_csv,
)
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


def test_the_summary_table_shows_means_empties_and_the_penalised_figure():
    shown = rendered(summary_table(summarise(SCORES)))
    lv = next(line for line in shown.splitlines() if " LV " in line)
    rv = next(line for line in shown.splitlines() if " RV " in line)
    assert "0.800 ± 0.141" in lv
    assert "3.0 ± 1.4" in lv
    assert " 2 " in rv
    assert "0.000" in rv
    assert "400.0" in rv
    assert "left out of the mean" in shown


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


def test_the_json_form_holds_cases_summary_and_policy_without_nan():
    record = json.loads(json.dumps(scores_as_dict(SCORES), allow_nan=False))
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
