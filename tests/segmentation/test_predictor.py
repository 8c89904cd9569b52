"""From a study to labels on its own grid, with networks that cannot be wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cinelabel.core.errors import InputError, ModelError
from cinelabel.networks import resolve
from cinelabel.segmentation import Segmenter


def dice(a: np.ndarray, b: np.ndarray, value: int) -> float:
    return 2.0 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum())


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"mirrored": True},
        {"oblique": True},
        {"spacing": (0.7, 0.7, 10.0)},
        {"spacing": (1.9, 1.4, 6.0)},
    ],
    ids=["plain", "left-handed", "oblique", "fine", "anisotropic"],
)
def test_labels_return_to_the_source_grid_where_they_belong(
    make_segmenter, drawn, kind: dict
) -> None:
    study, truth = drawn.study(**kind)
    result = make_segmenter().segment(study)
    assert result.labels.shape == study.frames.shape
    for value in (1, 2, 3):
        assert dice(result.labels, truth, value) > 0.93


def test_a_network_made_for_one_size_sees_that_size(make_segmenter, drawn) -> None:
    seen = []

    def segmenter(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape[2:])
        return drawn.reads_structures(images)

    study, truth = drawn.study()
    make_segmenter(segmenter=segmenter).segment(study)
    free = set(seen)
    seen.clear()
    network = replace(resolve("swin_unet-compact"), size=160)
    result = make_segmenter(segmenter=segmenter, network=network).segment(study)
    assert free != set(seen) == {(160, 160)}
    assert dice(result.labels, truth, 1) > 0.93


def test_the_heart_is_found_off_the_middle_of_the_image(make_segmenter, drawn) -> None:
    study, truth = drawn.study()
    heart = make_segmenter().segment(study).heart
    seen = np.argwhere(truth.any((2, 3)))
    middle = (seen.min(0) + seen.max(0)) / 2
    assert np.hypot(*((middle - heart.centre) * 1.3)) < 8.0
    assert heart.slices == (1, 4)


def test_ed_and_es_are_found_from_the_cavity_when_nobody_names_them(make_segmenter, drawn) -> None:
    result = make_segmenter().segment(drawn.study()[0])
    assert (result.ed, result.es) == (0, 2)
    assert result.measures.lv_edv_ml > result.measures.lv_esv_ml


def test_only_the_phases_asked_for_are_labelled(make_segmenter, drawn) -> None:
    result = make_segmenter().segment(drawn.study()[0], frames=[1])
    assert result.labels[..., 1].any()
    assert not result.labels[..., [0, 2]].any()


def test_a_phase_that_does_not_exist_is_refused_by_number(make_segmenter, drawn) -> None:
    with pytest.raises(InputError, match="no phase 7"):
        make_segmenter().segment(drawn.study()[0], frames=[7])


def test_no_heart_is_an_answer_with_a_reason_and_empty_labels(make_segmenter, drawn) -> None:
    result = make_segmenter(locator=drawn.blind).segment(drawn.study()[0])
    assert result.heart is None
    assert result.reason.startswith("no heart found")
    assert not result.labels.any()
    assert result.measures.lv_ef_percent is None


def test_a_locator_that_points_too_far_aside_is_corrected_once(make_segmenter, drawn) -> None:
    def points_aside(images: np.ndarray) -> np.ndarray:
        shifted = np.zeros_like(images)
        shifted[:, :, 36:52, 20:36] = 1.0
        return np.concatenate([0.5 - shifted, shifted - 0.5], 1) * 20.0

    study, truth = drawn.study(frames=1, centre_mm=(150.0, 130.0))
    result = make_segmenter(locator=points_aside).segment(study, mirror=False)
    assert dice(result.labels, truth, 1) > 0.93


def test_progress_counts_every_phase(make_segmenter, drawn) -> None:
    seen = []
    make_segmenter().segment(drawn.study()[0], progress=lambda *step: seen.append(step))
    assert [(done, total) for done, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]


def test_mirroring_averages_four_views(make_segmenter, drawn) -> None:
    calls = []

    def counted(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return drawn.reads_structures(images)

    study, _ = drawn.study(frames=1)
    make_segmenter(segmenter=counted).segment(study, mirror=False)
    single = len(calls)
    make_segmenter(segmenter=counted).segment(study)
    assert len(calls) - single == 4 * single


def test_a_version_without_locator_is_refused() -> None:
    version = SimpleNamespace(name="half", card=SimpleNamespace(members=[]))
    with pytest.raises(ModelError, match="half"):
        Segmenter(version, "cpu")


def test_an_unknown_device_is_refused() -> None:
    version = SimpleNamespace(name="any", card=SimpleNamespace(members=[]))
    with pytest.raises(InputError, match="tpu"):
        Segmenter(version, "tpu")
