"""nnU-Net's augmentation: its numbers, its work, and chance that comes from the generator alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from cinelabel.core.errors import RunError
from cinelabel.transforms import build_augmentation
from cinelabel.transforms.nnunet import ImageParameters, NnUNetAugmentation, NnUNetDefaults
from scipy import stats

STILL = ImageParameters(
    motion=None,
    angles=(),
    scale=None,
    noise=None,
    noise_seed=0,
    blur=(),
    brightness=None,
    contrast=None,
    zoom=None,
    gamma_inverted=None,
    gamma=None,
    mirrored=(),
)
PATCHES = ((48, 40), (5, 48, 40), (24, 32, 28))
"""Slices; stacks that are moved in the plane; stacks that are turned about every axis."""


def batch(shape: tuple[int, ...], count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid of label 2 in one of label 1, bright on noise."""
    axes = np.meshgrid(*[np.linspace(-1.0, 1.0, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum(((a - 0.1) * (k + 1)) ** 2 for k, a in enumerate(axes)))
    labels = np.broadcast_to((radius < 0.9).astype(np.uint8) + (radius < 0.5), (count, *shape))
    noise = 0.05 * np.random.default_rng(0).normal(size=labels.shape)
    return (labels - 0.5 + noise).astype(np.float32), labels.astype(np.uint8)


@pytest.mark.parametrize("patch", PATCHES)
def test_a_batch_depends_on_its_generator_alone(patch: tuple[int, ...]) -> None:
    images, labels = batch(patch)
    augment = NnUNetAugmentation(patch, motion=0.5)
    first = augment(images, labels, np.random.default_rng(3))
    stop = threading.Event()

    def dropout() -> None:
        while not stop.is_set():
            torch.rand(64)
            np.random.random(64)

    other = threading.Thread(target=dropout)
    other.start()
    try:
        again = augment(images, labels, np.random.default_rng(3))
    finally:
        stop.set()
        other.join()
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], augment(images, labels, np.random.default_rng(4))[0])
    assert (first[0].dtype, first[1].dtype) == (np.float32, np.uint8)
    assert first[0].shape == first[1].shape == images.shape


def test_chance_of_the_whole_process_is_left_alone() -> None:
    images, labels = batch((48, 40), 40)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    given = images.copy()
    NnUNetAugmentation((48, 40), motion=0.2)(images, labels, np.random.default_rng(0))
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])
    np.testing.assert_array_equal(given, images)


def test_without_a_change_images_keep_every_value() -> None:
    images, labels = batch((48, 40), 1)
    image, truth = NnUNetAugmentation((48, 40)).apply(images[0], labels[0], STILL)
    np.testing.assert_array_equal(image, images[0])
    np.testing.assert_array_equal(truth, labels[0])


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("wider", [0, 6])
def test_movement_is_that_of_the_library_for_the_same_numbers(
    patch: tuple[int, ...], wider: int
) -> None:
    augment = NnUNetAugmentation(patch)
    flat = augment.in_plane and len(patch) == 3
    shape = (*patch[:1], *(n + wider for n in patch[1:])) if flat else [n + wider for n in patch]
    images, labels = batch(tuple(shape), 1)
    angles = (0.4,) if augment.in_plane else (0.4, -0.3, 0.2)
    library = SpatialTransform(
        patch[1:] if flat else patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=1.0,
        rotation=lambda image, dim: angles[min(dim, len(angles) - 1)],
        p_scaling=1.0,
        scaling=1.2,
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    as_channels = (slice(None),) if flat else (None,)
    seen = library(
        image=torch.from_numpy(images[0])[as_channels],
        segmentation=torch.from_numpy(labels[0].astype(np.int16))[as_channels],
    )
    image, truth = augment.apply(images[0], labels[0], replace(STILL, angles=angles, scale=1.2))
    np.testing.assert_allclose(image, seen["image"].numpy().reshape(patch), atol=2e-5)
    expected = seen["segmentation"].numpy().reshape(patch).clip(0)
    assert (truth == expected).mean() > 0.9995  # a tie may fall either way


def test_the_heart_is_turned_by_the_angle_and_shrunk_by_the_scale() -> None:
    x, y = np.meshgrid(np.arange(64) - 31.5, np.arange(64) - 31.5, indexing="ij")
    labels = ((np.abs(x) < 20) & (np.abs(y) < 6)).astype(np.uint8)
    augment = NnUNetAugmentation((64, 64))
    quarter = replace(STILL, angles=(np.pi / 2,), scale=1.25)
    image, truth = augment.apply(labels.astype(np.float32), labels, quarter)
    np.testing.assert_array_equal(truth, (np.abs(x) < 6 / 1.25) & (np.abs(y) < 20 / 1.25))
    assert image[truth > 0].mean() > 0.9


def test_slices_of_an_anisotropic_stack_move_alike_and_in_the_plane() -> None:
    images, labels = batch((48, 40), 1)
    stack, truth = np.repeat(images, 6, 0), np.repeat(labels, 6, 0)
    parameters = replace(STILL, angles=(1.0,), scale=0.8, zoom=0.5)
    seen, moved = NnUNetAugmentation((6, 48, 40)).apply(stack, truth, parameters)
    np.testing.assert_array_equal(seen, np.repeat(seen[:1], 6, 0))
    np.testing.assert_array_equal(moved, np.repeat(moved[:1], 6, 0))


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane"),
    [
        ((512, 512), 180.0, True),
        ((192, 128), 180.0, True),
        ((200, 128), 15.0, True),
        ((10, 448, 384), 180.0, True),
        ((64, 192, 128), 30.0, False),
        ((63, 192, 128), 180.0, True),
    ],
)
def test_the_shape_of_the_patch_says_how_far_to_turn(
    patch: tuple[int, ...], degrees: float, in_plane: bool
) -> None:
    augment = NnUNetAugmentation(patch)
    assert (augment.most_degrees, augment.in_plane) == (degrees, in_plane)
    nnunet = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    asked = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=patch), print_to_log_file=lambda *_: None
    )
    rule = nnunet.nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size
    rotation, dummy, _, mirrored = rule(asked)
    assert np.rad2deg(rotation[1]) == pytest.approx(degrees)
    assert (dummy, len(mirrored)) == (in_plane and len(patch) == 3, len(patch))


def draws(patch: tuple[int, ...] = (48, 40), count: int = 6000) -> list[ImageParameters]:
    augment, rng = NnUNetAugmentation(patch), np.random.default_rng(11)
    return [augment.sample(patch, rng) for _ in range(count)]


def test_each_change_happens_as_often_as_in_nnunet() -> None:
    drawn = draws()
    shares = {
        "angles": 0.2,
        "scale": 0.2,
        "noise": 0.1,
        "blur": 0.2 * 0.5,
        "brightness": 0.15,
        "contrast": 0.15,
        "zoom": 0.25 * 0.5,
        "gamma_inverted": 0.1,
        "gamma": 0.3,
    }
    for name, share in shares.items():
        happened = sum(getattr(p, name) not in (None, ()) for p in drawn)
        assert stats.binomtest(happened, len(drawn), share).pvalue > 1e-3, name
    for axis in (0, 1):
        mirrored = sum(axis in p.mirrored for p in drawn)
        assert stats.binomtest(mirrored, len(drawn), 0.5).pvalue > 1e-3
    assert all(p.motion is None for p in drawn)


def test_ranges_are_drawn_from_as_the_library_draws_from_them() -> None:
    image = torch.zeros(1, 48, 40)
    np.random.seed(5)

    def library(transform: object, name: str, count: int = 1500) -> np.ndarray:
        taken = [transform.get_parameters(image=image)[name] for _ in range(count)]
        return np.array([np.ravel(np.asarray(each))[0] for each in taken], float)

    contrast = library(ContrastTransform(BGContrast((0.75, 1.25)), True, False, 1), "multipliers")
    gamma = library(GammaTransform(BGContrast((0.7, 1.5)), 1, False, 1, 1), "gamma")
    blur = library(GaussianBlurTransform((0.5, 1.0), False, False, 1), "sigmas")
    zoom = library(SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 1), "scales")
    drawn = draws()

    def ours(name: str) -> np.ndarray:
        values = [getattr(p, name) for p in drawn]
        return np.array([np.ravel(value)[0] for value in values if value not in (None, ())])

    for name, theirs in (
        ("contrast", contrast),
        ("brightness", contrast),
        ("gamma", gamma),
        ("gamma_inverted", gamma),
        ("blur", blur),
        ("zoom", zoom),
        ("scale", np.random.uniform(0.7, 1.4, 1500)),
        ("noise", np.random.uniform(0.0, 0.1, 1500)),
        ("angles", np.random.uniform(-np.pi, np.pi, 1500)),
    ):
        assert stats.ks_2samp(ours(name), theirs).pvalue > 1e-3, name


@pytest.mark.parametrize("patch", [(48, 40), (5, 48, 40)])
def test_numbers_and_order_are_those_of_the_installed_nnunet(patch: tuple[int, ...]) -> None:
    nnunet = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    d, augment = NnUNetDefaults(), NnUNetAugmentation(patch)
    most = np.deg2rad(augment.most_degrees)
    dummy = len(patch) == 3
    pipeline = nnunet.nnUNetTrainer.get_training_transforms(
        patch, (-most, most), None, tuple(range(len(patch))), dummy
    )
    steps = [t for t in pipeline.transforms if not type(t).__name__.startswith("Convert")]
    spatial, noise, blur, brightness, contrast, low, inverted, gamma, mirror, last = steps
    assert (spatial.p_rotation, spatial.p_scaling) == (d.rotation, d.scaling)
    assert (spatial.scaling, spatial.p_elastic_deform) == (d.scale, 0)
    assert spatial.p_synchronize_scaling_across_axes == spatial.p_rot_per_axis == 1
    assert (spatial.border_mode_seg, spatial.padding_value_seg) == ("constant", -1)
    assert (noise.apply_probability, noise.transform.noise_variance) == (d.noise, d.noise_spread)
    assert (blur.apply_probability, blur.transform.p_per_channel) == (d.blur, d.blur_share)
    assert (blur.transform.blur_sigma, blur.transform.synchronize_axes) == (d.blur_pixels, False)
    assert brightness.apply_probability == d.brightness
    assert brightness.transform.multiplier_range.contrast_range == d.brightness_range
    assert (contrast.apply_probability, contrast.transform.preserve_range) == (d.contrast, True)
    assert contrast.transform.contrast_range.contrast_range == d.contrast_range
    assert low.apply_probability == d.low_resolution
    assert (low.transform.p_per_channel, low.transform.scale) == (d.low_resolution_share, d.zoom)
    assert (low.transform.synchronize_axes, low.transform.ignore_axes) == (
        True,
        (0,) if dummy else None,
    )
    assert (inverted.apply_probability, gamma.apply_probability) == (d.gamma_inverted, d.gamma)
    assert (inverted.transform.p_invert_image, gamma.transform.p_invert_image) == (1, 0)
    for each in (inverted.transform, gamma.transform):
        assert each.gamma.contrast_range == d.gamma_range
        assert each.p_retain_stats == each.p_per_channel == 1
    assert mirror.allowed_axes == tuple(range(len(patch)))
    assert type(last).__name__ == "RemoveLabelTransform"


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({"noise": 0.1}, lambda a, b: 0.08 < (b - a).std() < 0.12),
        ({"brightness": 0.8}, lambda a, b: np.allclose(b, 0.8 * a)),
        ({"contrast": 1.2}, lambda a, b: (b.min(), b.max()) == (a.min(), a.max())),
        ({"contrast": 0.75}, lambda a, b: np.isclose(b.std(), 0.75 * a.std(), rtol=1e-4)),
        ({"blur": (0.9, 0.9)}, lambda a, b: np.abs(np.diff(b)).mean() < np.abs(np.diff(a)).mean()),
        ({"zoom": 0.5}, lambda a, b: np.abs(np.diff(b)).mean() < np.abs(np.diff(a)).mean()),
        ({"gamma": 1.4}, lambda a, b: np.median(b) < np.median(a)),
        ({"gamma_inverted": 1.4}, lambda a, b: np.median(b) > np.median(a)),
        ({"mirrored": (1,)}, lambda a, b: np.array_equal(b, a[:, ::-1])),
    ],
)
def test_a_change_of_the_image_does_what_its_name_says(change: dict, holds: object) -> None:
    image = np.random.default_rng(1).normal(size=(48, 40)).astype(np.float32)
    labels = (image > 1).astype(np.uint8)
    augment = NnUNetAugmentation((48, 40))
    seen, truth = augment.apply(image, labels, replace(STILL, **change))
    assert holds(image, seen)
    np.testing.assert_array_equal(truth, labels[:, ::-1] if "mirrored" in change else labels)
    if "gamma" in str(change):
        np.testing.assert_allclose(
            [seen.mean(), seen.std()], [image.mean(), image.std()], atol=1e-4
        )


@pytest.mark.parametrize("patch", [(48, 40), (5, 48, 40)])
def test_motion_is_put_onto_images_as_often_as_asked(patch: tuple[int, ...]) -> None:
    images, labels = batch(patch, 1)
    augment = build_augmentation({"kind": "nnunet", "motion": 0.3}, patch)
    assert isinstance(augment, NnUNetAugmentation)
    rng = np.random.default_rng(2)
    drawn = [augment.sample(patch, rng).motion for _ in range(300)]
    happened = [motion for motion in drawn if motion is not None]
    assert stats.binomtest(len(happened), len(drawn), 0.3).pvalue > 1e-3
    assert len(happened[0].motions) == (patch[0] if len(patch) == 3 else 1)
    seen, truth = augment.apply(images[0], labels[0], replace(STILL, motion=happened[0]))
    np.testing.assert_array_equal(truth, labels[0])
    assert seen.mean() == pytest.approx(images[0].mean(), abs=1e-3)
    assert np.abs(seen - images[0]).max() > 0.05


@pytest.mark.parametrize(
    ("settings", "patch", "sentence"),
    [
        ({"kind": "nnunet", "motoin": 0.1}, (48, 40), "'motoin'"),
        ({"kind": "elastic"}, (48, 40), "'elastic'"),
        ({"sharpness": 1.0}, (48, 40), "'sharpness'"),
        ({"kind": "nnunet", "motion": 1.5}, (48, 40), "between 0 and 1, not 1.5"),
        ({"kind": "nnunet", "motion": "often"}, (48, 40), "'often'"),
        ({"kind": "nnunet"}, (3, 48, 40), "four or more"),
    ],
)
def test_settings_that_cannot_be_are_named(
    settings: dict, patch: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(RunError, match=sentence):
        build_augmentation(settings, patch)


def test_slices_where_stacks_are_expected_are_refused() -> None:
    images, labels = batch((48, 40))
    with pytest.raises(RunError, match="do not fit the patch"):
        NnUNetAugmentation((5, 48, 40))(images, labels, np.random.default_rng(0))
