"""The gallery: hearts upright, slices from base to apex, one scale for phantoms and real cases."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest
from cinelabel.core.grid import Grid
from cinelabel.phantom import gallery
from cinelabel.phantom.anatomy import GROUPS
from cinelabel.phantom.breathing import Manner
from cinelabel.phantom.cohort import PhantomStudy
from cinelabel.phantom.gallery import (
    Exhibit,
    GalleryStyle,
    draw_gallery,
    phantom_exhibit,
    phantom_exhibits,
)
from cinelabel.phantom.rendering import plane
from cinelabel.studies.study import Study

STYLE = GalleryStyle(slices=3, tile=40, field_mm=80.0)
SIZE = 40  # pixels of 2 mm


def heart(turn: float = 0.0, mirrored: bool = False, base_first: bool = True) -> PhantomStudy:
    """LV in the middle, RV at -x, a bright chest wall at +y; smaller towards the apex."""
    view = plane((SIZE, SIZE), 2.0, turn=turn, mirrored=mirrored)
    images = np.full((SIZE, SIZE, 6, 2), 10, np.float32)
    images[view.y > 32] = 200
    labels = np.zeros(images.shape, np.uint8)
    for z in range(1, 6):
        distance = np.hypot(view.x, view.y)
        labels[(view.x < 0) & (np.hypot(view.x + 14, view.y) < 14 - z), z] = 3
        labels[distance < 16 - 2 * z, z] = 2
        labels[distance < 5, z] = 1
    images[labels == 1], images[labels == 3] = 100, 90
    if not base_first:
        labels, images = labels[:, :, ::-1], images[:, :, ::-1]
    grid = Grid((SIZE, SIZE, 6), np.diag([2.0, 2.0, 8.0, 1.0]))
    study = Study("heart", images.copy(), grid, True, ed=0, es=1, kind="phantom")
    truth = {"geometry": {"mirrored": mirrored}, "grade": 2}
    return PhantomStudy(study, labels.copy(), truth)


def picture(path) -> np.ndarray:
    return (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)


@pytest.mark.parametrize("turn", [0.0, 0.5, 1.5, 3.0, -1.0, -2.2])
@pytest.mark.parametrize("mirrored", [True, False])
def test_phantoms_are_turned_until_rv_is_left_and_the_chest_wall_above(turn, mirrored):
    shown = phantom_exhibit(heart(turn, mirrored), "a heart")
    labels, image = shown.labelled[..., 1], shown.images[0][..., 1]
    (rv_x, rv_y), (lv_x, lv_y), (chest_x, chest_y) = (
        np.argwhere(mask).mean(axis=0) for mask in (labels == 3, labels == 1, image == 200)
    )
    right, down = chest_x - lv_x, chest_y - lv_y
    # within 55 degrees of upright, and seen from the apex: RV a quarter turn left of the chest wall
    assert np.degrees(np.arctan2(abs(right), -down)) < 55
    assert (rv_x - lv_x) * down - (rv_y - lv_y) * right > 0


def test_pixel_sizes_go_along_with_a_quarter_turn():
    grid = Grid((SIZE, SIZE, 6), np.diag([2.0, 3.0, 8.0, 1.0]))
    for turn, pixel in ((0.0, (2.0, 3.0)), (np.pi / 2, (3.0, 2.0))):
        made = heart(turn)
        study = Study("heart", made.study.frames, grid, True, ed=0, es=1, kind="phantom")
        assert phantom_exhibit(PhantomStudy(study, made.labels, made.truth), "").pixel == pixel


def tiles(sheet: np.ndarray, style: GalleryStyle = STYLE, half: int = 0, row: int = 0):
    """ED tiles of a row, (slices, tile, tile)."""
    step = style.tile + style.gap
    width = 2 * (style.slices * step + 3 * style.gap) + 5 * style.gap
    top = style.heading + row * (step + style.caption) + style.caption
    left = half * width + 2 * style.gap
    return [
        sheet[top : top + style.tile, left + k * step : left + k * step + style.tile]
        for k in range(style.slices)
    ]


@pytest.mark.parametrize("base_first", [True, False])
def test_slices_run_from_beyond_the_base_to_the_apex(tmp_path, base_first):
    shown = phantom_exhibit(heart(base_first=base_first), "a heart")
    draw_gallery(tmp_path / "sheet.png", [shown], contours=True, style=STYLE)
    shown_tiles = tiles(picture(tmp_path / "sheet.png"))
    coloured = [(np.ptp(tile, axis=2) > 30).sum() for tile in shown_tiles]
    assert coloured[0] == 0  # above the base
    assert coloured[1] > coloured[2] > 0


def test_without_contours_the_tiles_are_grey_and_blood_is_brighter_than_muscle(tmp_path):
    shown = phantom_exhibit(heart(), "")
    draw_gallery(tmp_path / "sheet.png", [shown], style=STYLE)
    middle = tiles(picture(tmp_path / "sheet.png"))[1]
    assert np.ptp(middle, axis=2).max() == 0
    left = round(np.argwhere(shown.labelled).mean(axis=0)[0] - 19.5)  # of the tile in the picture
    assert middle[20, 20 - left, 0] > 150 > 50 > middle[20, 25 - left, 0]
    assert middle[1, 20:].min() == 255  # the chest wall is upwards


def test_phantoms_and_real_cases_have_one_scale(tmp_path):
    fine = phantom_exhibit(heart(), "")
    coarse = Exhibit(
        "a real heart",
        tuple(image[::2, ::2] for image in fine.images),
        tuple(labels[::2, ::2] for labels in fine.labels),
        (4.0, 4.0),
    )
    draw_gallery(tmp_path / "sheet.png", [fine], [coarse], contours=True, style=STYLE)
    sheet = picture(tmp_path / "sheet.png")
    extents = [
        np.ptp(np.argwhere(np.ptp(tiles(sheet, half=half)[1], axis=2) > 30), axis=0)
        for half in (0, 1)
    ]
    assert np.abs(extents[0] - extents[1]).max() <= 3


def test_cases_without_labels_show_their_whole_stack(tmp_path):
    stack = np.broadcast_to(np.arange(6.0) * 40, (SIZE, SIZE, 6))
    case = Exhibit("", (stack, stack), (None, None), (2.0, 2.0))
    draw_gallery(tmp_path / "sheet.png", [case], style=STYLE)
    first, _, last = tiles(picture(tmp_path / "sheet.png"))
    assert (first[20, 20, 0], last[20, 20, 0]) == (0, 255)


def test_every_group_and_manner_is_shown_or_the_one_asked_for(monkeypatch):
    asked = []

    def make_study(seed, *, frames, group, manner, settings):
        assert settings.random_contrast_share == 0
        asked.append((seed, group, manner))
        return heart()

    monkeypatch.setattr(gallery, "make_study", make_study)
    titles = [exhibit.title for exhibit in phantom_exhibits(5)]
    assert [seed for seed, _, _ in asked] == list(range(5, 5 + len(asked)))
    assert {group for _, group, _ in asked} == set(GROUPS)
    assert {manner for _, _, manner in asked} == set(Manner)
    assert "normal, full hold, grade 2" in titles
    asked.clear()
    phantom_exhibits(5, group="small", manner=Manner.FREE)
    assert asked == [(5, "small", Manner.FREE)]
