"""Box plots of scores: which rows and panels there are, and where their boxes lie."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.core.errors import InputError
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.evaluation.boxes import scores_figure
from cinelabel.evaluation.metrics import Score
from matplotlib.image import imread


def made(methods: int = 1, distances: bool = True) -> list[Score]:
    return [
        Score(
            f"p{case}",
            structure.name,
            0.9 - 0.05 * case,
            2.0 + case if distances else None,
            1.0 if distances else None,
            None,
            400.0,
            method=f"method {number}",
            distances=distances,
            groups={"vendor": "AB"[case % 2]},
        )
        for number in range(methods)
        for case in range(5)
        for structure in (LV, MYO, RV)
    ]


def share_of(picture, structure) -> float:
    """Share of pixels in the colour of the structure's boxes, which is its own on white."""
    colour = 0.45 * np.array(structure.colour) + 0.55 * 255
    away = abs(picture[..., :3] * 255 - colour).max(axis=-1)
    return float((away < 3).mean())


def test_every_structure_has_boxes_in_its_colour_and_rows_add_height(tmp_path):
    scores_figure(tmp_path / "one.png", made())
    scores_figure(tmp_path / "many.png", made(methods=4), by="vendor", title="by vendor")
    one, many = imread(tmp_path / "one.png"), imread(tmp_path / "many.png")
    assert many.shape[0] > 2 * one.shape[0]
    assert many.shape[1] == one.shape[1]
    for structure in (LV, MYO, RV):
        assert share_of(one, structure) > 1e-3
        assert share_of(many, structure) > 1e-3


def test_without_distances_there_is_no_row_of_panels_for_them(tmp_path):
    scores_figure(tmp_path / "both.png", made())
    scores_figure(tmp_path / "dice.png", made(distances=False))
    assert imread(tmp_path / "dice.png").shape[0] < imread(tmp_path / "both.png").shape[0]


def test_a_structure_that_nobody_scored_has_no_panel_and_no_colour(tmp_path):
    scores_figure(tmp_path / "two.png", [s for s in made() if s.structure != "RV"])
    picture = imread(tmp_path / "two.png")
    assert share_of(picture, RV) == 0.0
    assert share_of(picture, LV) > 1e-3


def test_a_missed_structure_is_drawn_at_dice_zero(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    draw = Axes.boxplot
    monkeypatch.setattr(
        Axes,
        "boxplot",
        lambda self, values, **rest: drawn.append(values) or draw(self, values, **rest),
    )
    missed = Score("p9", "LV", None, None, None, "prediction", 400.0)
    found = Score("p8", "LV", 0.8, 3.0, 1.0, None, 400.0)
    scores_figure(tmp_path / "f.png", [found, missed])
    assert drawn == [[[0.8, 0.0]], [[3.0]]]


def test_nothing_to_draw_is_refused(tmp_path):
    both = Score("p", "LV", None, None, None, "both", 400.0)
    with pytest.raises(InputError, match="no score to draw"):
        scores_figure(tmp_path / "f.png", [both])
    assert not list(tmp_path.iterdir())
