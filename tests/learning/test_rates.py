"""Learning rates as figures: what is read, what is drawn, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.learning import rates

TABLE = "step,loss,rate_stem,rate_encoder_1,rate_head\n1,0.9,0.001,0,0.01\n2,0.8,0.002,0,0.008\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(TABLE)
    return path


def test_rates_are_read_in_the_order_of_the_network(table: Path) -> None:
    steps, found = rates.read_rates(table)
    assert steps.tolist() == [1, 2]
    assert {name: values.tolist() for name, values in found.items()} == {
        "stem": [0.001, 0.002],
        "encoder_1": [0, 0],
        "head": [0.01, 0.008],
    }
    assert list(found) == ["stem", "encoder_1", "head"]


@pytest.mark.parametrize("torn", ["3,0.7,0.0", "3", ",,,,\n", "3,0.7\n", "3,0.7,x,0,0.1\n"])
def test_a_row_that_was_cut_short_is_left_out(table: Path, tmp_path: Path, torn: str) -> None:
    table.write_text(TABLE + torn)
    assert rates.read_rates(table)[0].tolist() == [1, 2]
    rates.draw_rates(table, tmp_path / "figures")


def test_both_figures_are_drawn_as_png(table: Path, tmp_path: Path) -> None:
    paths = rates.draw_rates(table, tmp_path / "figures", "a member")
    assert [path.name for path in paths] == ["rates.png", "rates-final.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_group_that_stays_has_no_line_over_the_steps(table: Path) -> None:
    (axes,) = rates._over_steps(*rates.read_rates(table)).axes
    assert [line.get_label() for line in axes.lines] == ["stem", "head"]
    assert axes.get_yscale() == "log"


def test_final_rates_stand_beside_the_first_along_the_depth(table: Path) -> None:
    (axes,) = rates._final(*rates.read_rates(table)).axes
    first, last = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(first, [0.001, np.nan, 0.01])
    np.testing.assert_array_equal(last, [0.002, np.nan, 0.008])
    assert [text.get_text() for text in axes.get_xticklabels()][1] == "encoder_1 (stays)"


@pytest.mark.parametrize("text", ["", "step,loss\n1,2\n", "step,rate_stem\n", "step,rate_a\n1,x\n"])
def test_a_table_without_rates_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(InputError, match="no learning rates"):
        rates.draw_rates(tmp_path / "metrics.csv", tmp_path)
