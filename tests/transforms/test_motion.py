"""Motion on images: replayed, of the same mean, along phase encoding, labels where they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cinelabel.core.errors import RunError
from cinelabel.phantom.breathing import Manner, Respiration, motion_effect, still
from cinelabel.transforms.motion import (
    MotionAugmentation,
    MotionParameters,
    _between_slices,
    apply_motion,
    line_motion,
    sample_motion_parameters,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
STRAIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def ring(
    size: int = 96, radius: float = 20.0, middle: tuple[float, float] = (48, 44)
) -> np.ndarray:
    """A bright cavity in a darker wall."""
    x, y = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    distance = np.hypot(x - middle[0], y - middle[1])
    cavity = np.clip(radius - distance + 0.5, 0, 1)
    wall = np.clip(radius + 8.0 - distance + 0.5, 0, 1)
    return (10.0 + 60.0 * cavity + 30.0 * wall).astype(np.float32)


def drawn(seed: int, shape: tuple[int, ...], **changes: object) -> MotionParameters:
    rng = np.random.default_rng(seed)
    values: dict = {"spacing": 8.0, **changes}
    return sample_motion_parameters(rng, shape, 1.5, **values)


def quiet(shape: tuple[int, ...], **changes: object) -> MotionParameters:
    """Parameters of a perfect acquisition."""
    count = shape[0] if len(shape) == 3 else 1
    held = replace(drawn(0, shape), motions=(still(96),) * count, partial_fourier=1.0)
    return replace(held, axes=STRAIGHT, scale=1.0, **changes)


def drifting(shape: tuple[int, ...], speed: tuple[float, float, float]) -> MotionParameters:
    motion = still(96)
    respiration = replace(motion.respiration, drift_mm_s=speed)
    return quiet(shape, motions=(replace(motion, respiration=respiration),), phase_axis=0)


def test_parameters_can_be_replayed_through_json() -> None:
    stack = np.stack([ring(radius=r) for r in (14.0, 20.0, 24.0)])
    settings = MotionAugmentation(noise=(0.01, 0.05), shift_mm=2.0)
    parameters = drawn(3, stack.shape, settings=settings)
    again = MotionParameters.from_json(json.dumps(parameters.to_json()))
    assert again == parameters
    np.testing.assert_array_equal(apply_motion(stack, parameters), apply_motion(stack, again))


def test_the_same_generator_state_gives_the_same_parameters() -> None:
    assert drawn(5, (64, 80)) == drawn(5, (64, 80))


@pytest.mark.parametrize("shape", [(96, 96), (3, 96, 96), (1, 96, 96)])
def test_a_heart_at_rest_gives_the_image_back(shape: tuple[int, ...]) -> None:
    image = np.broadcast_to(ring(), shape).copy()
    seen = apply_motion(image, quiet(shape))
    assert isinstance(seen, np.ndarray)
    assert seen.shape == shape
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, image, atol=0.01)


@pytest.mark.parametrize("offset", [0.0, -30.0])
def test_intensities_keep_their_mean_even_where_they_are_negative(offset: float) -> None:
    image = ring() + offset
    seen = apply_motion(image, drawn(2, image.shape, manner=Manner.INTENSIVE))
    assert isinstance(seen, np.ndarray)
    assert seen.mean() == pytest.approx(float(image.mean()), rel=1e-4)
    assert np.abs(seen - image).max() > 1.0


def test_labels_stay_where_they_are_during_the_acquisition() -> None:
    image = ring()
    labels = (image > 80).astype(np.uint8)
    parameters = drawn(4, image.shape, settings=MotionAugmentation(shift_mm=5.0))
    seen, kept = apply_motion(image, parameters, labels)
    np.testing.assert_array_equal(kept, labels)
    assert seen.shape == image.shape


def test_motion_is_counted_from_where_the_signal_was_acquired() -> None:
    offsets = []
    for seed in range(6):
        image = ring()
        seen = apply_motion(image, drawn(seed, image.shape, manner=Manner.FREE))
        bright = np.argwhere(np.asarray(seen) > 75.0)
        offsets.append(bright.mean(0) - np.argwhere(image > 75.0).mean(0))
    assert np.abs(offsets).max() < 1.5  # pixels, of breaths of 3 to 8


def test_a_shift_of_the_hold_moves_image_and_labels_together_when_asked() -> None:
    image = ring()
    labels = (image > 80).astype(np.uint8)
    parameters = quiet(image.shape, shifts_mm=((6.0, -4.5),))
    seen, moved = apply_motion(image, parameters, labels, shift_labels=True)
    expected = ring(middle=(52, 41))
    np.testing.assert_allclose(seen, expected, atol=0.3)
    np.testing.assert_array_equal(moved, expected > 80)
    assert not np.array_equal(moved, labels)
    np.testing.assert_allclose(apply_motion(image, parameters), image, atol=0.01)


@pytest.mark.parametrize("axis", [0, 1])
def test_ghosts_spread_along_phase_encoding_only(axis: int) -> None:
    image = np.zeros((96, 96), np.float32)
    image[44:52, 44:52] = 100.0
    parameters = drawn(1, image.shape, manner=Manner.INTENSIVE, axes=np.eye(3)[[2, 1, 0]])
    parameters = replace(parameters, phase_axis=axis, scale=1.0, partial_fourier=1.0)
    seen = np.asarray(apply_motion(image, parameters))
    along = seen if axis == 0 else seen.T
    assert along[:25, 44:52].max() > 2.0
    assert along[:25, :25].max() < 0.1 * along[:25, 44:52].max()


def test_a_drift_between_segments_moves_lines_as_far_as_it_lasts() -> None:
    parameters = drifting((96, 96), (1.0, 0.0, 0.0))
    moved, _ = line_motion(parameters, 0, 96)
    beats = parameters.motions[0].timing.beats
    assert np.ptp(moved[:, 0]) == pytest.approx(0.9 * (beats - 1))
    np.testing.assert_allclose(moved[:, 1:], 0.0, atol=1e-12)


def test_a_displacement_along_the_stack_brings_in_the_neighbouring_slices() -> None:
    stack = np.stack([ring(radius=r) for r in (10.0, 18.0, 26.0)])
    motion = still(96)
    respiration: Respiration = replace(motion.respiration, drift_mm_s=(0.0, 0.0, 1.5))
    moving = replace(motion, respiration=respiration)
    parameters = quiet(stack.shape, motions=(moving,) * 3, spacing=6.0)
    seen = np.asarray(apply_motion(stack, parameters))
    assert motion_effect(seen[1], stack[1]) > 0.05
    lone = np.asarray(apply_motion(stack[1], replace(parameters, motions=(moving,))))
    np.testing.assert_allclose(lone, stack[1], atol=0.01)


def test_a_slice_shows_what_lay_below_it_once_the_heart_has_moved_up_the_stack() -> None:
    stack = np.stack([np.full((8, 8), value, np.float32) for value in (1.0, 2.0, 5.0)])
    for depth, expected in ((0.0, 2.0), (6.0, 1.0), (-6.0, 5.0), (-3.0, 3.5), (60.0, 1.0)):
        np.testing.assert_allclose(_between_slices(stack, 1, depth, 6.0), expected)


def test_wider_breathing_disturbs_the_image_more() -> None:
    image = ring()
    effects = []
    for manner in (Manner.FULL_HOLD, Manner.FREE, Manner.INTENSIVE):
        seen = [apply_motion(image, drawn(s, image.shape, manner=manner)) for s in range(8)]
        effects.append(float(np.mean([motion_effect(np.asarray(v), image) for v in seen])))
    assert effects[0] < 0.5 * effects[1]
    assert effects[1] < effects[2]


def test_a_rotating_heart_is_turned_about_the_middle() -> None:
    image = ring(middle=(70, 47.5))
    motion = still(96)
    habit = replace(motion.respiration.habit, depth_mm=10.0, rotation_rad_mm=0.008)
    respiration = replace(
        motion.respiration, habit=habit, hold_depth_mm=10.0, release_s=2.0, release_duration_s=0.1
    )
    parameters = quiet(image.shape, motions=(replace(motion, respiration=respiration),))
    nowhere = replace(parameters, axes=((0.0, 0.0, 0.0),) * 3)
    moved, turned = line_motion(nowhere, 0, 96)
    np.testing.assert_array_equal(moved, 0.0)
    assert np.ptp(turned) == pytest.approx(0.08)
    assert motion_effect(np.asarray(apply_motion(image, nowhere)), image) > 0.1
    centred = ring(middle=(47.5, 47.5))
    assert motion_effect(np.asarray(apply_motion(centred, nowhere)), centred) < 0.05


def test_no_noise_comes_in_unless_asked() -> None:
    image = np.full((64, 64), 50.0, np.float32)
    image[0, 0] = 0.0
    parameters = quiet(image.shape)
    clean = np.asarray(apply_motion(image, parameters))
    noisy = np.asarray(apply_motion(image, replace(parameters, noise=0.05)))
    assert clean[10:-10, 10:-10].std() < 0.05
    assert noisy[10:-10, 10:-10].std() == pytest.approx(2.5, rel=0.1)


def test_an_image_of_another_number_of_slices_is_refused() -> None:
    with pytest.raises(RunError, match="does not fit"):
        apply_motion(np.zeros((4, 32, 32), np.float32), drawn(0, (3, 32, 32)))
    with pytest.raises(RunError, match="image"):
        drawn(0, (3, 2, 32, 32))


def test_real_images_blur_and_ghost_by_manner() -> None:
    nibabel = pytest.importorskip("nibabel")
    path = SHARED / "acdc" / "patient064" / "patient064_ED.nii.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    file = nibabel.load(path)
    volume = np.asarray(file.get_fdata(), np.float32)[60:-60, 60:-60]
    image = np.ascontiguousarray(volume[:, :, volume.shape[2] // 2])
    pixel = float(file.header.get_zooms()[0])
    effects = []
    for manner in Manner:
        seen = [
            apply_motion(
                image,
                sample_motion_parameters(
                    np.random.default_rng(s), image.shape, pixel, manner=manner
                ),
            )
            for s in range(8)
        ]
        effects.append(float(np.median([motion_effect(np.asarray(v), image) for v in seen])))
    assert effects[0] < 0.05
    assert effects[0] < effects[1] < effects[3]
    assert effects[2] < effects[3]
