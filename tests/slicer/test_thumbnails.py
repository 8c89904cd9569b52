"""What is seen of breath-holds without a model, on made-up stacks and on real ones."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from CineLabelLib import nifti, thumbnails
from CineLabelLib.core.review import SliceReview
from CineLabelLib.study import CineStudy
from scipy import ndimage

SPACING = (1.5, 1.5)
SLICES = 8


def stack(at: tuple[float, float] = (64, 64), frames: int = 4) -> np.ndarray:
    """Frames (128, 128, 8, t), a copy: a contracting ventricle in a muscle, and vessels."""
    return _stack(at, frames).copy()


@functools.cache
def _stack(at: tuple[float, float], frames: int) -> np.ndarray:
    x, y = np.mgrid[:128, :128].astype(np.float32)
    voxels = np.zeros((128, 128, SLICES, frames), np.float32)
    for k in range(SLICES):
        body = 40.0 * (np.hypot((x - 64) / 58, (y - 64) / 44) < 1)
        body[np.hypot(x - at[0], y - at[1]) < 34] = 12
        for dx, dy, radius in ((-30, 20, 5), (26, 24, 4), (20, -28, 6), (-24, -24, 3), (2, 36, 4)):
            body[np.hypot(x - at[0] - dx, y - at[1] - dy - 0.5 * k) < radius] = 150
        for t in range(frames):
            here = body.copy()
            r = np.hypot(x - at[0] - 0.6 * k, y - at[1] + 0.3 * k)
            here[np.hypot(x - at[0] - 0.6 * k, y - at[1] - 17) < 13] = 160
            here[r < 18 - 0.8 * k] = 70
            here[r < 13 - 0.8 * k - 3 * np.sin(np.pi * t / max(frames, 1))] = 180
            voxels[:, :, k, t] = ndimage.gaussian_filter(here, 0.8)
    return voxels + np.random.default_rng(1).normal(0, 2, voxels.shape).astype(np.float32)


Change = Callable[[np.ndarray], np.ndarray]


def spoil(voxels: np.ndarray, k: int, change: Change) -> np.ndarray:
    for t in range(voxels.shape[3]):
        voxels[:, :, k, t] = change(voxels[:, :, k, t])
    return voxels


def test_nothing_is_told_of_a_good_stack():
    looks = thumbnails.look_at(stack(), SPACING)
    assert [look.findings for look in looks] == [()] * SLICES
    assert max(look.badness for look in looks) < thumbnails.TOLD_FROM


@pytest.mark.parametrize("k", [2, 3, SLICES - 2])
@pytest.mark.parametrize("pixels", [(6, 0), (-4, 6)])
def test_a_shifted_slice_is_found_with_its_shift_in_millimetres(k, pixels):
    voxels = spoil(stack(), k, lambda image: np.roll(image, pixels, (0, 1)))
    looks = thumbnails.look_at(voxels, SPACING)
    assert looks[k].shift_mm == pytest.approx([1.5 * p for p in pixels], abs=2.5)
    assert thumbnails.worst_first(looks)[0] == k
    far = round(float(np.hypot(*looks[k].shift_mm)))
    assert f"lies {far} mm off the other slices" in looks[k].findings


def test_a_blurred_slice_is_found_with_the_width_of_its_edges():
    voxels = spoil(stack(), 5, lambda image: ndimage.gaussian_filter(image, 2.0))
    looks = thumbnails.look_at(voxels, SPACING)
    assert thumbnails.worst_first(looks)[0] == 5
    assert looks[5].edge_width_mm > 1.3 * looks[4].edge_width_mm
    assert looks[5].findings[0].startswith(f"edges {looks[5].edge_width_mm:.1f} mm wide, usually")


def test_the_width_of_an_edge_is_in_millimetres():
    ramp = np.zeros((90, 40), np.float32) + np.clip(np.arange(90) - 40, 0, 10)[:, None] / 10
    assert thumbnails.edge_width_mm(ramp, (1.5, 1.5)) == pytest.approx(15, rel=0.1)
    assert thumbnails.edge_width_mm(ramp, (3.0, 1.5)) == pytest.approx(30, rel=0.1)


def test_a_slice_without_contrast_is_found():
    voxels = spoil(stack(), 2, lambda image: 60 + 0.4 * image)
    looks = thumbnails.look_at(voxels, SPACING)
    assert thumbnails.worst_first(looks)[0] == 2
    assert any(f"contrast {looks[2].contrast:.2f} of 1" in words for words in looks[2].findings)


def test_a_slice_that_shows_nothing_is_the_worst_and_its_shift_is_not_known():
    voxels = spoil(stack(), 7, lambda image: 0.03 * image)
    voxels = spoil(voxels, 4, lambda image: ndimage.gaussian_filter(image, 2.0))
    looks = thumbnails.look_at(voxels, SPACING)
    assert thumbnails.worst_first(looks)[:2] == (7, 4)
    assert looks[7].findings == ("shows next to nothing, 3% of the usual signal",)
    assert (looks[7].badness, looks[7].shift_mm, looks[7].edge_width_mm) == (1.0, None, None)
    assert looks[6].findings == ()


def test_a_look_fits_into_the_review_record():
    voxels = spoil(stack(), 2, lambda image: 60 + 0.4 * image)
    voxels = spoil(voxels, 7, lambda image: 0.03 * image)
    reviews = [look.review() for look in thumbnails.look_at(voxels, SPACING)]
    assert [review.index for review in reviews] == list(range(SLICES))
    assert reviews[2].contrast
    assert not reviews[2].coverage
    assert reviews[7] == SliceReview(7, coverage=("shows next to nothing, 3% of the usual signal",))
    assert reviews[0].shift_mm is not None


@pytest.mark.parametrize("at", [(44, 76), (64, 64), (80, 56)])
def test_the_heart_is_found_where_it_moves(at):
    x, y = thumbnails.heart_box(stack(at), SPACING)
    assert x.start < at[0] - 20 < at[0] + 20 < x.stop
    assert y.start < at[1] - 20 < at[1] + 20 < y.stop
    assert (x.stop - x.start) * 1.5 == pytest.approx(2 * thumbnails.HEART_MM, abs=3)


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((20, 30, 3, 2), np.int16),
        np.full((64, 64, 6, 5), 7.0),
        stack()[:, :, :1, :1],
        stack()[:, :, :2],
        stack(frames=1),
        np.where(np.arange(128)[:, None, None, None] < 40, np.nan, stack()),
        (stack() * 20).astype(np.uint16),
    ],
    ids=["black", "grey", "one slice", "two slices", "one frame", "holes", "uint16"],
)
def test_any_stack_is_looked_at(voxels):
    looks = thumbnails.look_at(voxels, SPACING)
    assert len(looks) == voxels.shape[2]
    for look in looks:
        assert 0 <= look.badness <= 1
        assert look.thumbnail.shape == (thumbnails.SIZE, thumbnails.SIZE)
        assert look.thumbnail.dtype == np.uint8


def test_a_thumbnail_keeps_the_order_of_its_source_and_square_millimetres():
    image = np.zeros((60, 30, 1), np.float32)
    image[:6, :6] = 100
    (picture,) = np.moveaxis(thumbnails.thumbnails(image, (1.0, 2.0)), 2, 0)
    assert (picture[0, 0], picture[-1, 0], picture[0, -1]) == (255, 0, 0)
    bright = np.argwhere(picture > 127)
    assert bright.max(axis=0).tolist() == pytest.approx([9, 18], abs=1)


def test_a_single_bright_voxel_does_not_darken_a_thumbnail_and_a_dim_slice_looks_dim():
    images = stack()[..., 0]
    images[:, :, 2] *= 0.4
    usual = thumbnails.thumbnails(images, SPACING)
    images[0, 0, 0] = 1e6
    np.testing.assert_allclose(
        thumbnails.thumbnails(images, SPACING)[4:, 4:], usual[4:, 4:], atol=1
    )
    means = usual.mean(axis=(0, 1))
    assert means[2] < 0.6 * means[1]


def test_a_study_is_looked_at_in_its_end_diastole():
    voxels = stack()
    voxels[:, :, 3, 1] *= 0.02
    study = CineStudy("made-up", voxels, np.diag([1.5, 1.5, 8.0, 1.0]), ed=1)
    assert thumbnails.look(study)[3].findings[0].startswith("shows next to nothing")
    assert thumbnails.look(study, frame=0)[3].findings == ()


@pytest.fixture(scope="module")
def real_stacks(shared_data):
    """Voxels and spacing of end-diastole of two public sets."""
    found = []
    for path in sorted(shared_data.glob("[am]*/*/*_ED.nii.gz")):
        image = nifti.read(path)
        found.append((image.voxels[..., None].astype(np.float32), image.affine))
    return found


def test_a_real_slice_that_is_shifted_or_blurred_is_among_the_worst(real_stacks):
    places = []
    for voxels, affine in real_stacks:
        dx, dy = np.linalg.norm(affine[:3, :2], axis=0)
        k, by = voxels.shape[2] // 2, (round(12 / dx), 0)
        changes = (
            lambda image, by=by: np.roll(image, by, (0, 1)),
            lambda image: ndimage.gaussian_filter(image, 2.5),
        )
        for change in changes:
            looks = thumbnails.look_at(spoil(voxels.copy(), k, change), (dx, dy))
            places.append(thumbnails.worst_first(looks).index(k))
    assert np.median(places) == 0
    assert max(places) <= 2
