"""Overlay and curve figures: what is drawn where, checked on the pixels and on the geometry."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from cinelabel.core.errors import GridError, InputError
from cinelabel.core.grid import Grid
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.core.measures import measure
from cinelabel.evaluation.figures import columns_for, curve_figure, heart_box, overlay_figure
from cinelabel.studies.study import Study
from matplotlib.image import imread


def make_study(slices: int = 6, frames: int = 2) -> tuple[Study, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 100, (80, 60, slices, frames)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[30:50, 20:40] = MYO.value
    labels[35:45, 25:35] = LV.value
    labels[22:30, 22:38] = RV.value
    grid = Grid((80, 60, slices), np.diag([2.0, 2.0, 10.0, 1.0]))
    study = Study("patient", image, grid, is_cine=frames > 1, ed=0, es=frames - 1)
    return study, labels


def share_of(picture: np.ndarray, structure) -> float:
    """Share of pixels whose colour is close to the structure's line colour."""
    away = np.abs(picture[..., :3] * 255 - np.array(structure.colour)).max(axis=-1)
    return float((away < 12).mean())


@pytest.mark.parametrize("slices", [1, 6, 10, 14, 20])
def test_the_overlay_is_written_for_any_usual_number_of_slices(tmp_path, slices):
    study, labels = make_study(slices)
    overlay_figure(tmp_path / "o.png", study, labels)
    picture = imread(tmp_path / "o.png")
    assert 300 < picture.shape[1] < 2200
    for structure in (LV, MYO, RV):
        assert share_of(picture, structure) > 1e-4


def test_an_empty_label_draws_no_contour_of_any_structure(tmp_path):
    study, labels = make_study()
    overlay_figure(tmp_path / "full.png", study, labels)
    overlay_figure(tmp_path / "empty.png", study, labels * 0)
    # the legend shows each colour once; contours show it in every slice
    full, empty = imread(tmp_path / "full.png"), imread(tmp_path / "empty.png")
    for structure in (LV, MYO, RV):
        assert share_of(empty, structure) < 0.2 * share_of(full, structure)


def test_a_study_of_one_phase_has_one_panel(tmp_path):
    cine, labels = make_study(frames=2)
    single, label = make_study(frames=1)
    overlay_figure(tmp_path / "two.png", cine, labels)
    overlay_figure(tmp_path / "one.png", single, label[..., 0], {"ED": 0, "ES": 0})
    two, one = imread(tmp_path / "two.png"), imread(tmp_path / "one.png")
    assert one.shape[0] < 0.65 * two.shape[0]
    assert one.shape[1] == two.shape[1]


def test_the_box_holds_the_heart_with_its_margin_and_stays_in_the_image():
    _, labels = make_study(frames=1)
    box = heart_box([labels[..., 0]], (2.0, 2.0, 10.0), margin_mm=10.0)
    assert box.x[0] <= 22 - 5
    assert box.x[1] >= 50 + 5
    assert box.y[0] <= 20 - 5
    assert box.y[1] >= 40 + 5
    assert box.x[1] - box.x[0] == box.y[1] - box.y[0]
    whole = heart_box([labels[..., 0]], (2.0, 2.0, 10.0), margin_mm=500.0)
    assert (whole.x, whole.y) == ((0, 80), (0, 60))
    nothing = heart_box([labels[..., 0] * 0], (2.0, 2.0, 10.0), margin_mm=10.0)
    assert (nothing.x, nothing.y) == ((0, 80), (0, 60))


def test_rows_are_evenly_filled():
    assert [columns_for(n, 7) for n in (1, 6, 7, 8, 10, 14, 15, 20)] == [1, 6, 7, 4, 5, 7, 5, 7]


def test_labels_of_another_shape_and_frames_that_do_not_exist_are_refused(tmp_path):
    study, labels = make_study()
    with pytest.raises(GridError, match="patient"):
        overlay_figure(tmp_path / "o.png", study, labels[:-1])
    with pytest.raises(InputError, match="frame 9"):
        overlay_figure(tmp_path / "o.png", study, labels, {"ED": 9})
    assert not list(tmp_path.iterdir())


def test_the_curve_is_drawn_with_all_three_structures(tmp_path):
    labels = np.zeros((10, 10, 2, 5), np.uint8)
    for t, width in enumerate((9, 7, 4, 6, 8)):
        labels[:width, :5, :, t] = LV.value
        labels[:width, 5:7, :, t] = RV.value
        labels[:3, 8:, :, t] = MYO.value
    grid = Grid((10, 10, 2), np.diag([2.0, 5.0, 10.0, 1.0]))
    found = measure(labels, grid, trigger_times_ms=(0.0, 40.0, 80.0, 120.0, 160.0))
    curve_figure(tmp_path / "curve.png", found)
    picture = imread(tmp_path / "curve.png")
    for structure in (LV, MYO, RV):
        assert share_of(picture, structure) > 5e-4


def test_a_curve_of_one_frame_is_refused(tmp_path):
    labels = np.ones((4, 4, 2), np.uint8)
    found = measure(labels, Grid((4, 4, 2), np.eye(4)))
    with pytest.raises(InputError, match="two frames"):
        curve_figure(tmp_path / "curve.png", found)


def test_importing_the_report_imports_neither_matplotlib_nor_torch():
    code = (
        "import sys, cinelabel.evaluation.report, cinelabel.evaluation.metrics;"
        "heavy = {'matplotlib', 'torch', 'monai', 'rich'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
