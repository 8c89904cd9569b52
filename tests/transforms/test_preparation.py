"""What each kind of network sees of a volume, and the way back to the volume's own pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cinelabel.models
import numpy as np
import pytest
from cinelabel.core.errors import InputError, ModelError
from cinelabel.core.grid import Grid
from cinelabel.transforms.preparation import (
    COMPACT,
    CONVOLUTIONAL,
    TRANSFORMER,
    Preparation,
    heart_centre,
)
from cinelabel.transforms.preprocess import Crop, cubic_matrix, normalise, pad_slices, unit_range
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

FORMS = {"compact": COMPACT, "convolutional": CONVOLUTIONAL, "transformer": TRANSFORMER}
KEPT_SHARE = {"compact": 0.95, "convolutional": 0.999, "transformer": 1.0}
BUNDLED = sorted((Path(cinelabel.models.__file__).parent / "bundled").glob("*/card.json"))


def _grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], left_handed: bool = False
) -> Grid:
    """An oblique grid."""
    cosines = np.linalg.qr(np.array([[0.7, -0.6, 0.3], [0.5, 0.8, -0.2], [0.2, 0.3, 0.9]]))[0]
    if (np.linalg.det(cosines) < 0) != left_handed:
        cosines[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = cosines * spacing
    affine[:3, 3] = (-70.0, 31.0, 12.0)
    return Grid(shape, affine)


GRIDS = {
    "oblique": _grid((200, 232, 2), (1.3, 1.3, 10.0)),
    "left-handed": _grid((300, 280, 2), (0.7, 0.7, 9.6), left_handed=True),
    "anisotropic": _grid((150, 280, 2), (1.9, 0.9, 8.0)),
    "small": _grid((90, 101, 2), (1.4, 1.4, 8.0)),
}
PLACES = {"middle": (0.5, 0.5), "border": (0.08, 0.9)}


def _heart(grid: Grid, place: tuple[float, float]) -> np.ndarray:
    """Labels of a ring, its cavity and a ventricle beside it, cut where the image ends."""
    i, j = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(grid.shape[:2], grid.spacing[:2], strict=True)),
        indexing="ij",
    )
    middle = [p * n * s for p, n, s in zip(place, grid.shape[:2], grid.spacing[:2], strict=True)]
    radius = np.hypot(i - middle[0], j - middle[1])
    beside = np.hypot(i - middle[0] - 35.0, j - middle[1]) < 22.0
    flat = np.where(radius < 20.0, 1, np.where(radius < 30.0, 2, np.where(beside, 3, 0)))
    labels = np.repeat(flat[..., None], grid.shape[2], 2).astype(np.uint8)
    labels[..., 0] = 0
    return labels


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("form", FORMS)
def test_labels_and_probabilities_return_to_the_volume(form: str, name: str, place: str) -> None:
    grid, preparation = GRIDS[name], FORMS[form]
    labels = _heart(grid, PLACES[place])
    crop = preparation.crop(grid, heart_centre(labels))
    seen = crop.apply_labels(labels)
    assert seen.dtype == np.uint8
    assert seen.shape == (grid.shape[2], *crop.size)
    returned = crop.restore_labels(seen)
    maps = crop.restore_probabilities(np.stack([seen == c for c in range(4)], 1))
    assert returned.dtype == np.uint8
    assert returned.shape == labels.shape
    assert not returned[..., 0].any()
    np.testing.assert_allclose(maps.sum(0), 1.0, atol=1e-6)
    np.testing.assert_array_equal(maps.argmax(0), returned)
    for structure in (1, 2, 3):
        kept = _dice(labels == structure, returned == structure)
        assert kept >= KEPT_SHARE[form], structure


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_window_lies_where_it_should_in_the_body(form: str, name: str) -> None:
    grid, preparation = GRIDS[name], FORMS[form]
    crop = preparation.crop(grid, (40.0, 55.0))
    world = grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    inner = tuple(slice(part.start + 30, part.stop - 30) for part in crop.covered())
    seen = np.stack([crop.apply(world[..., axis])[1][inner] for axis in range(3)], -1)
    middle = np.array([40.0, 55.0])
    if preparation.window == "image":
        middle = (np.array(grid.shape[:2]) - 1) / 2
    if preparation.spacing_mm is None:
        middle -= 0.5  # whole pixels, the lower ones
    expected = grid.index_to_world(np.array([*middle, 1.0]))
    for axis, part in enumerate(np.meshgrid(*(np.arange(n) for n in crop.size), indexing="ij")):
        pixel = preparation.spacing_mm or grid.spacing[axis]
        along = (part[inner] - (crop.size[axis] - 1) / 2) * pixel
        expected = expected + along[..., None] * grid.columns[:, axis]
    np.testing.assert_allclose(seen, expected, atol=0.15)  # widened weights lean by so much
    np.testing.assert_allclose(seen.mean((0, 1)), expected.mean((0, 1)), atol=0.01)


@pytest.mark.parametrize("name", GRIDS)
def test_a_smooth_image_returns_from_a_whole_image_window(name: str) -> None:
    grid = GRIDS[name]
    image = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=grid.shape), (4, 4, 0))
    crop = CONVOLUTIONAL.crop(grid)
    inner = (slice(6, -6), slice(6, -6))
    back = crop.restore(crop.apply(image), order=3)
    assert np.abs(back - image)[inner].max() < 0.01 * image.std()


@pytest.mark.parametrize(("source", "target"), [(400, 512), (57, 41), (64, 64)])
def test_the_cubic_matrix_is_scipys_zoom(source: int, target: int) -> None:
    line = np.random.default_rng(1).normal(size=(source, 3))
    matrix = cubic_matrix(source, target, source / target, (source - 1) / 2)
    expected = ndimage.zoom(line, (target / source, 1), order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(matrix @ line, expected, atol=1e-5)


def test_whole_images_are_clipped_then_resampled_then_standardised() -> None:
    grid = _grid((400, 410, 2), (0.75, 0.71, 10.0))
    volume = np.random.default_rng(3).gamma(2.0, 100.0, grid.shape)
    volume[200, 200] = 1e5
    crop = CONVOLUTIONAL.crop(grid)
    seen = CONVOLUTIONAL.prepare(volume, crop)
    at = [
        (n - 1) / 2 + (np.arange(512) - 255.5) * 0.66 / s
        for n, s in zip(grid.shape, grid.spacing[:2], strict=False)
    ]
    inside = [(a >= -0.5) & (a <= n - 0.5) for a, n in zip(at, grid.shape, strict=False)]
    where = np.meshgrid(at[0][inside[0]], at[1][inside[1]], indexing="ij")
    assert seen.shape == (2, 512, 512)
    clipped = np.clip(volume, *np.percentile(volume, (0.5, 99.5)))
    expected = np.stack(
        [
            ndimage.map_coordinates(image, where, order=3, mode="nearest")
            for image in np.moveaxis(clipped, 2, 0)
        ]
    )
    expected = (expected - expected.mean()) / expected.std()
    part = seen[:, inside[0]][:, :, inside[1]]
    np.testing.assert_allclose(part, expected, atol=1e-4)
    assert np.count_nonzero(seen) <= part.size


def test_a_volume_may_be_judged_as_a_whole() -> None:
    volume = np.stack([np.full((40, 40), 10.0), np.full((40, 40), 30.0)], 2)
    wanted = replace(CONVOLUTIONAL, spacing_mm=None, size=48)
    seen = wanted.prepare(volume, wanted.crop(Grid((40, 40, 2), np.eye(4))))
    np.testing.assert_allclose(seen[0, 4:44, 4:44], -1.0, atol=1e-6)
    np.testing.assert_allclose(seen[1, 4:44, 4:44], 1.0, atol=1e-6)
    assert not seen[:, :4].any()
    assert not seen[:, :, 44:].any()
    ranged = replace(wanted, intensity="min-max")
    seen = ranged.prepare(volume, ranged.crop(Grid((40, 40, 2), np.eye(4))))
    assert not seen[0].any()
    assert (seen[1, 4:44, 4:44] == 1.0).all()


def test_a_transformer_sees_the_hearts_own_pixels_in_the_range_from_0_to_1() -> None:
    grid = _grid((260, 300, 2), (0.68, 0.68, 10.0))
    volume = np.random.default_rng(4).gamma(2.0, 100.0, grid.shape).astype(np.float32)
    labels = np.zeros(grid.shape, np.uint8)
    labels[100:120, 140:161, 0] = 2
    labels[108:133, 150:171, 1] = 3  # box 100..132, 140..170: middle 116, 155
    seen = TRANSFORMER.prepare(volume, TRANSFORMER.crop(grid, heart_centre(labels)))
    for k in (0, 1):
        part = volume[116 - 112 : 116 + 112, 155 - 112 : 155 + 112, k]
        clipped = np.clip(part, *np.percentile(part, (0.5, 99.5)))
        expected = (clipped - clipped.min()) / (clipped.max() - clipped.min())
        np.testing.assert_allclose(seen[k], expected, atol=1e-5)
        assert (seen[k].min(), seen[k].max()) == (0.0, 1.0)


def test_intensities_by_hand() -> None:
    grid = Grid((16, 16, 1), np.eye(4))
    volume = np.tile([0.0, 1.0, 2.0, 3.0], (16, 4))[..., None]
    plain = Preparation(spacing_mm=None, size=16, clip_percentiles=(0.0, 100.0))
    crop = plain.crop(grid, (7.5, 7.5))
    spread = np.sqrt(1.25)
    z_scores = np.array([-1.5, -0.5, 0.5, 1.5]) / spread
    np.testing.assert_allclose(plain.prepare(volume, crop)[0, 0, :4], z_scores, atol=1e-6)
    ranged = replace(plain, intensity="min-max")
    np.testing.assert_allclose(ranged.prepare(volume, crop)[0, 0, :4], [0, 1 / 3, 2 / 3, 1])
    clipped = replace(ranged, clip_percentiles=(30.0, 100.0))  # the lowest quarter becomes 1
    np.testing.assert_allclose(clipped.prepare(volume, crop)[0, 0, :4], [0, 0, 0.5, 1])


def test_a_heart_at_the_border_is_padded_with_air() -> None:
    grid = Grid((60, 60, 1), np.eye(4))
    crop = TRANSFORMER.crop(grid, (2.0, 59.0), only=32)
    seen = crop.apply(np.ones(grid.shape))[0]
    assert crop.covered() == (slice(14, 32), slice(0, 17))
    assert seen[14:, :17].all()
    assert seen.sum() == 18 * 17


def test_the_compact_form_is_what_its_networks_learned_from() -> None:
    grid = _grid((224, 208, 3), (1.4, 1.6, 8.0))
    volume = np.random.default_rng(5).gamma(2.0, 100.0, grid.shape).astype(np.float32)
    crop = COMPACT.crop(grid, (101.3, 88.2), extent_mm=(96.4, 180.0))
    by_hand = Crop((101.3, 88.2), (128, 160), 1.5, (224, 208), grid.spacing[:2])
    assert crop == by_hand
    slices = normalise(by_hand.apply(volume))
    np.testing.assert_array_equal(COMPACT.prepare(volume, crop), slices)
    ranged = replace(COMPACT, intensity="min-max")
    np.testing.assert_array_equal(ranged.prepare(volume, crop), unit_range(slices))


@pytest.mark.parametrize(
    ("extent_mm", "only", "size"),
    [
        (None, 0, (128, 128)),
        ((96.4, 180.0), 0, (128, 160)),
        ((10.0, 400.0), 0, (128, 192)),
        ((96.4, 180.0), 144, (144, 144)),
    ],
)
def test_a_window_follows_the_heart_within_bounds(extent_mm, only, size) -> None:
    assert COMPACT.crop(GRIDS["oblique"], (100.0, 100.0), extent_mm, only).size == size


def test_the_middle_of_all_structures_is_that_of_their_box() -> None:
    labels = np.zeros((20, 30, 3, 2), np.uint8)
    labels[4, 10, 0, 0] = 1
    labels[9, 24, 2, 1] = 3
    assert heart_centre(labels) == (6.5, 17.0)
    assert heart_centre(labels[..., 0]) == (4.0, 10.0)
    assert heart_centre(np.zeros((5, 5, 2))) is None


def test_a_window_round_the_heart_needs_to_know_where_it_is() -> None:
    with pytest.raises(InputError, match="where the heart is"):
        COMPACT.crop(GRIDS["oblique"])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(16, 48),
    centre=st.tuples(st.floats(-5, 45), st.floats(-5, 45)),
    seed=st.integers(0, 99),
)
def test_in_the_images_own_pixels_nothing_changes(shape, size, centre, seed) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid((*shape, 2), np.diag([0.7, 1.3, 9.0, 1.0]))
    crop = Preparation(spacing_mm=None, size=size, order=3).crop(grid, centre)
    labels = rng.integers(0, 4, grid.shape).astype(np.uint8)
    image = rng.normal(size=grid.shape).astype(np.float32)
    shown = crop.restore(np.ones((1, *crop.size)))[..., 0] > 0
    assert shown.sum() == np.prod([part.stop - part.start for part in crop.covered()])
    np.testing.assert_array_equal(
        crop.restore_labels(crop.apply_labels(labels)), labels * shown[..., None]
    )
    np.testing.assert_allclose(
        crop.restore(crop.apply(image), order=3), image * shown[..., None], atol=1e-5
    )
    for middle, wanted in zip(crop.centre, centre, strict=True):
        assert abs(middle - wanted) <= 0.5 + 1e-9


@settings(max_examples=40, deadline=None)
@given(
    spacing=st.tuples(st.floats(0.5, 3.0), st.floats(0.5, 3.0)),
    pixel=st.floats(0.5, 3.0),
    centre=st.tuples(st.floats(-30, 60), st.floats(-30, 60)),
    seed=st.integers(0, 99),
)
def test_probabilities_stay_probabilities(spacing, pixel, centre, seed) -> None:
    grid = Grid((33, 28, 2), np.diag([*spacing, 8.0, 1.0]))
    crop = Preparation(spacing_mm=pixel, size=24, order=3).crop(grid, centre)
    maps = np.random.default_rng(seed).dirichlet(np.ones(4), (2, 24, 24)).transpose(0, 3, 1, 2)
    restored = crop.restore_probabilities(maps)
    shown = crop.restore(np.ones((1, 24, 24)))[..., 0] > 0
    assert restored.min() >= 0.0
    np.testing.assert_allclose(restored.sum(0), 1.0, atol=1e-5)
    assert (restored[0][~shown] == 1.0).all()


@given(n=st.integers(1, 30), multiple=st.integers(1, 12))
def test_repeated_end_slices_are_taken_away_again(n: int, multiple: int) -> None:
    images = np.arange(n)[:, None, None] * np.ones((1, 2, 2))
    padded, where = pad_slices(images, multiple)
    assert len(padded) == -(-n // multiple) * multiple
    np.testing.assert_array_equal(padded[where], images)
    assert len(padded) - where.stop - where.start in (0, 1)
    assert set(padded[: where.start, 0, 0]) <= {0}
    assert set(padded[where.stop :, 0, 0]) <= {n - 1}


@pytest.mark.parametrize("card", BUNDLED, ids=lambda path: path.parent.name)
def test_the_cards_of_bundled_models_are_understood(card: Path) -> None:
    for member in json.loads(card.read_text())["members"]:
        read = Preparation.from_dict(member["preprocessing"])
        assert read.spacing_mm == member["preprocessing"]["spacing_mm"]
        assert Preparation.from_dict(json.loads(json.dumps(read.to_dict()))) == read


def test_the_first_cards_mean_the_compact_form() -> None:
    first = {
        "spacing_mm": 1.5,
        "size": 128,
        "clip_percentiles": [0.5, 99.5],
        "normalisation": "zero mean and unit spread, each slice by itself",
    }
    assert Preparation.from_dict(first) == COMPACT


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spacing", 1.5),
        ("spacing_mm", 0.0),
        ("spacing_mm", float("nan")),
        ("size", "128"),
        ("window", "lung"),
        ("order", 2),
        ("intensity", "histogram"),
        ("normalised_over", "study"),
        ("depth", 0),
        ("clip_percentiles", [99.5, 0.5]),
        ("clip_percentiles", [1.0]),
        ("normalisation", "by the median"),
    ],
)
def test_what_a_card_says_wrongly_is_named(key: str, value: object) -> None:
    with pytest.raises(ModelError) as caught:
        Preparation.from_dict({"spacing_mm": 1.5, "size": 128, key: value})
    assert f"'{key}'" in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_card_must_say_the_pixel_size_and_the_window() -> None:
    with pytest.raises(ModelError, match="'size'"):
        Preparation.from_dict({"spacing_mm": 1.5})
