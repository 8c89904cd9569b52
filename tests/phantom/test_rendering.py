"""Pictures and labels of slices agree with the anatomy that they are made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cinelabel.core.labels import LV, MYO, RV
from cinelabel.phantom.anatomy import Heart, sample_heart
from cinelabel.phantom.rendering import (
    Background,
    Plane,
    Subject,
    plane,
    readers_draw,
    render,
    render_poses,
)
from cinelabel.phantom.settings import PhantomSettings
from cinelabel.phantom.thorax import Thorax, sample_thorax
from cinelabel.phantom.tissue import Flow, Tissues, sample_tissues

SIGNALS = {
    "blood": 1.0,
    "rv_blood": 0.95,
    "vessel": 0.9,
    "myocardium": 0.3,
    "muscle": 0.3,
    "fat": -0.8,
    "pericardium": 0.1,
    "liver": 0.4,
    "spleen": 0.4,
    "stomach": 0.4,
    "bowel": 0.4,
    "gas": 0.0,
    "marrow": 0.3,
    "kidney": 0.4,
    "csf": 1.2,
    "lung": 0.05,
    "air": 0.0,
}
CLEAN = Tissues(signal=SIGNALS, flow=Flow(jet=0.0, inflow=0.0, slow=0.0))


@pytest.fixture(scope="module")
def thorax() -> Thorax:
    rng = np.random.default_rng(0)
    heart = sample_heart(rng, "normal")
    return sample_thorax(rng, CLEAN, heart, PhantomSettings())


def subject_of(thorax: Thorax, seed: int, group: str, rough: float = 0.5) -> Subject:
    heart = sample_heart(np.random.default_rng(seed), group)
    return Subject(heart, thorax, CLEAN, (rough, rough), texture_seed=seed)


def empty(view: Plane, moving: float = 1.0) -> Background:
    return Background(
        np.zeros(view.x.shape, np.float32), np.full(view.x.shape, moving, np.float32)
    )


def volumes_ml(subject: Subject, contraction: float, step: float, pixel: float) -> np.ndarray:
    """LV, MYO and RV of a stack of thin labelled slices."""
    view = plane((int(210 / pixel), int(210 / pixel)), pixel, (-15.0, 0.0))
    behind, total = empty(view), np.zeros(3)
    for height in np.arange(-18.0, subject.heart.length_ed + 40.0, step):
        _, labels = render(subject, view, float(height), 0.1, contraction, behind)
        total += [np.count_nonzero(labels == part.value) for part in (LV, MYO, RV)]
    return total * pixel**2 * step / 1000.0


@pytest.mark.parametrize(("seed", "group"), [(1, "normal"), (2, "dilated"), (4, "abnormal_rv")])
def test_volumes_and_ejection_fraction_of_labels_are_those_of_the_anatomy(
    thorax: Thorax, seed: int, group: str
) -> None:
    subject = subject_of(thorax, seed, group)
    level = replace(
        subject, heart=replace(subject.heart, valve_tilt=(0.0, 0.0), axis_tilt=(0.05, -0.08))
    )
    ed, es = (volumes_ml(level, contraction, 2.0, 1.5) for contraction in (0.0, 1.0))
    true_ed, true_es = (level.heart.volumes_ml(contraction) for contraction in (0.0, 1.0))
    for k, name in enumerate(("LV", "MYO")):
        assert ed[k] == pytest.approx(true_ed[name], rel=0.04, abs=2.0)
        assert es[k] == pytest.approx(true_es[name], rel=0.05, abs=3.0)
    assert 1.0 - es[0] / ed[0] == pytest.approx(1.0 - true_es["LV"] / true_ed["LV"], abs=0.03)


@pytest.mark.parametrize("seed", [1, 6])
def test_volume_of_the_right_ventricle_is_that_of_the_anatomy_but_for_slices_without_left_one(
    thorax: Thorax, seed: int
) -> None:
    heart = replace(
        sample_heart(np.random.default_rng(seed), "normal"),
        valve_tilt=(0.0, 0.0),
        rv_valve=(-6.0, 0.0, 0.0),
    )
    subject = Subject(heart, thorax, CLEAN, (0.5, 0.5), seed)
    assert volumes_ml(subject, 0.0, 2.0, 1.5)[2] == pytest.approx(
        heart.volumes_ml(0.0)["RV"], rel=0.06, abs=3.0
    )


def test_papillary_muscles_are_dark_in_the_picture_and_cavity_in_the_labels(
    thorax: Thorax,
) -> None:
    dark = 0
    for seed in range(6):
        subject = subject_of(thorax, seed, "normal", rough=0.0)
        view = plane((120, 120), 1.2)
        height = 0.4 * subject.heart.length_ed
        image, labels = render(subject, view, height, 2.0, 0.0, empty(view))
        cavity = labels == LV.value
        inside = cavity & np.isin(np.roll(labels, 3, 0), LV.value)
        dark += int(np.count_nonzero(image[inside] < 0.45) > 5)
        assert np.median(image[cavity]) > 0.8
    assert dark >= 4


def level_base(heart: Heart) -> Heart:
    return replace(heart, valve_tilt=(0.0, 0.0))


def test_no_slice_is_drawn_where_less_than_half_of_the_circumference_is_muscle(
    thorax: Thorax,
) -> None:
    base = subject_of(thorax, 1, "normal")
    tilted = replace(base, heart=replace(base.heart, valve_tilt=(0.5, 0.0)))
    view = plane((128, 128), 1.5)
    length = tilted.heart.length(0.0)
    drawn = [
        render(tilted, view, length + offset, 4.0, 0.0, empty(view))[1].any()
        for offset in (-8.0, -3.0, 3.0, 8.0)
    ]
    assert drawn == [True, True, False, False]


def test_an_open_ring_is_drawn_as_muscle_below_the_valve_plane_alone(thorax: Thorax) -> None:
    base = subject_of(thorax, 1, "normal")
    heart = replace(base.heart, valve_tilt=(0.6, 0.0), axis_tilt=(0.0, 0.0))
    tilted = replace(base, heart=heart)
    view = plane((128, 128), 1.5)
    height = heart.length(0.0) - 4.0
    labels = render(tilted, view, height, 1.0, 0.0, empty(view))[1]
    above = heart.valve_height(view.x, view.y, 0.0) < height - 2.0
    drawn = np.isin(labels, (LV.value, MYO.value))
    assert drawn.any()
    assert above[np.hypot(view.x, view.y) < 20.0].any()
    assert not (drawn & above).any()


def test_the_right_ventricle_is_not_drawn_above_its_valve_nor_without_the_left(
    thorax: Thorax,
) -> None:
    base = subject_of(thorax, 3, "normal")
    heart = replace(base.heart, rv_valve=(-15.0, 0.0, 0.0), valve_tilt=(0.0, 0.0))
    low = replace(base, heart=heart)
    view = plane((128, 128), 1.6, (-15.0, 0.0))
    length = heart.length(0.0)
    below = render(low, view, length - 25.0, 2.0, 0.0, empty(view))[1]
    between = render(low, view, length - 8.0, 2.0, 0.0, empty(view))[1]
    beyond = render(low, view, length + 12.0, 8.0, 0.0, empty(view))[1]
    assert (below == RV.value).any()
    assert (between == LV.value).any()
    assert not (between == RV.value).any()
    assert not beyond.any()


def test_what_readers_draw_has_no_hole_between_ventricle_and_muscle(thorax: Thorax) -> None:
    subject = subject_of(thorax, 5, "normal")
    view = plane((128, 128), 1.4)
    labels = render(subject, view, 0.5 * subject.heart.length_ed, 8.0, 0.0, empty(view))[1]
    cavity = labels == LV.value
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        assert np.all(np.isin(np.roll(labels, step, axis)[cavity], (LV.value, MYO.value)))


def test_the_same_subject_gives_the_same_slice_and_another_texture_another(
    thorax: Thorax,
) -> None:
    subject = subject_of(thorax, 2, "normal")
    view = plane((96, 96), 1.8, turn=0.4)
    first = render(subject, view, 40.0, 8.0, 0.5)
    again = render(subject, view, 40.0, 8.0, 0.5)
    other = render(replace(subject, texture_seed=99), view, 40.0, 8.0, 0.5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_a_turned_and_mirrored_view_shows_the_same_heart(thorax: Thorax) -> None:
    subject = subject_of(thorax, 2, "normal")
    straight = plane((97, 97), 1.8)
    turned = plane((97, 97), 1.8, turn=np.pi / 2, mirrored=True)
    image, labels = render(subject, straight, 40.0, 8.0, 0.3, empty(straight))
    seen, drawn = render(subject, turned, 40.0, 8.0, 0.3, empty(turned))
    # x = -second, y = -first of the turned view.
    assert np.allclose(turned.axes, [[0.0, -1.0], [-1.0, 0.0]], atol=1e-6)
    assert np.mean(labels != drawn[::-1, ::-1].T) < 0.002
    assert np.abs(seen[::-1, ::-1].T - image).max() < 0.02


def test_axes_of_a_plane_are_the_steps_between_its_pixels() -> None:
    view = plane((9, 7), 1.5, (3.0, -4.0), turn=0.7, mirrored=True)
    for axis in (0, 1):
        step = np.stack([np.diff(view.x, axis=axis), np.diff(view.y, axis=axis)], -1)
        assert np.allclose(step, 1.5 * view.axes[axis], atol=1e-4)
    assert (view.x[4, 3], view.y[4, 3]) == pytest.approx((3.0, -4.0), abs=1e-5)


def test_the_signal_is_blood_in_the_cavity_and_muscle_in_the_wall(thorax: Thorax) -> None:
    subject = subject_of(thorax, 1, "normal", rough=0.0)
    heart = replace(subject.heart, papillaries=())
    view = plane((160, 160), 1.0)
    image, labels = render(
        replace(subject, heart=heart), view, 0.6 * heart.length_ed, 1.0, 0.0, empty(view)
    )
    assert np.median(image[labels == LV.value]) == pytest.approx(1.0, abs=0.02)
    assert np.median(image[labels == MYO.value]) == pytest.approx(0.3, abs=0.02)


def test_opposed_fat_is_negative_so_that_its_border_cancels(thorax: Thorax) -> None:
    subject = subject_of(thorax, 1, "normal")
    heart = replace(subject.heart, fat=8.0)
    view = plane((160, 160), 1.2, (-10.0, 0.0))
    image, _ = render(
        replace(subject, heart=heart), view, 0.6 * heart.length_ed, 4.0, 0.0, empty(view)
    )
    assert image.min() < -0.6
    across = np.abs(np.diff(np.sign(image), axis=0)) == 2
    assert across.any()


def test_poses_at_rest_add_up_to_the_rendered_picture(thorax: Thorax) -> None:
    subject = subject_of(thorax, 2, "normal")
    view = plane((72, 80), 2.2)
    noise = np.random.default_rng(0)
    behind = Background(
        noise.uniform(-1, 1, view.x.shape).astype(np.float32),
        noise.uniform(0, 1, view.x.shape).astype(np.float32),
    )
    poses = render_poses(subject, view, 40.0, 8.0, [0.0, 1.0], [-5.0, 0.0, 5.0], behind)
    assert poses.moving.shape == (3, 2, 72, 80)
    assert poses.static is not None
    for k, through in enumerate((-5.0, 0.0, 5.0)):
        for c, contraction in enumerate((0.0, 1.0)):
            picture, _ = render(subject, view, 40.0 + through, 8.0, contraction, behind)
            assert np.allclose(poses.moving[k, c] + poses.static, picture, atol=1e-5)


def test_nothing_of_the_heart_is_static_and_nothing_of_the_chest_wall_moves(
    thorax: Thorax,
) -> None:
    subject = subject_of(thorax, 2, "normal")
    view = plane((96, 96), 2.4)
    behind = Background(np.ones(view.x.shape, np.float32), np.zeros(view.x.shape, np.float32))
    poses = render_poses(subject, view, 40.0, 8.0, [0.0], [-3.0, 3.0], behind)
    _, labels = render(subject, view, 40.0, 8.0, 0.0, behind)
    assert poses.static is not None
    assert np.abs(poses.static[labels == LV.value]).max() < 1e-6
    assert poses.static[0, 0] == 1.0
    assert np.abs(poses.moving[..., 0, 0]).max() == 0.0


def test_a_single_through_plane_state_has_no_static_part(thorax: Thorax) -> None:
    subject = subject_of(thorax, 2, "normal")
    view = plane((64, 64), 2.4)
    poses = render_poses(subject, view, 40.0, 8.0, [0.2], [0.0], empty(view, moving=0.3))
    assert poses.static is None
    assert np.array_equal(
        poses.moving[0, 0], render(subject, view, 40.0, 8.0, 0.2, empty(view))[0]
    )


def test_a_rotated_pose_turns_the_heart_about_its_axis(thorax: Thorax) -> None:
    subject = subject_of(thorax, 2, "normal")
    heart = replace(subject.heart, axis_tilt=(0.0, 0.0))
    subject = replace(subject, heart=heart)
    straight, turned = plane((121, 121), 1.6), plane((121, 121), 1.6, turn=0.3)
    pose = render_poses(
        subject, turned, 40.0, 8.0, [0.0], [0.0], empty(turned), rotations_rad=[0.3]
    )
    still = render(subject, straight, 40.0, 8.0, 0.0, empty(straight))[0]
    assert np.abs(pose.moving[0, 0] - still).max() < 0.02


def test_a_slice_far_from_the_heart_is_its_background(thorax: Thorax) -> None:
    subject = subject_of(thorax, 2, "normal")
    view = plane((64, 64), 1.6, (400.0, 0.0))
    behind = empty(view)
    image, labels = render(subject, view, 40.0, 8.0, 0.0, behind)
    assert np.array_equal(image, behind.signal)
    assert not labels.any()


@pytest.mark.parametrize("group", ["normal", "hypertrophic", "dilated", "small", "abnormal_rv"])
def test_every_height_and_phase_gives_finite_pictures(thorax: Thorax, group: str) -> None:
    tissues = sample_tissues(np.random.default_rng(7), PhantomSettings())
    subject = replace(subject_of(thorax, 11, group, rough=2.0), tissues=tissues)
    view = plane((64, 64), 3.0)
    for height in np.linspace(-30.0, subject.heart.length_ed + 60.0, 12):
        for contraction in (0.0, 0.5, 1.0):
            image, _ = render(subject, view, float(height), 10.0, contraction, empty(view))
            assert np.isfinite(image).all()
            assert np.abs(image).max() < 8.0


def test_readers_draw_the_middle_of_the_ventricle_and_not_beyond_its_ends() -> None:
    heart = level_base(sample_heart(np.random.default_rng(1), "normal"))
    length = heart.length(0.0)

    def drawn(height: float) -> bool:
        return readers_draw(heart, heart.section(height, 0.0), height, 0.0)

    assert drawn(0.5 * length)
    assert not drawn(length + 3.0)
    assert not drawn(-40.0)


def test_roughness_darkens_the_cavity_and_leaves_the_labels_alone(thorax: Thorax) -> None:
    smooth, rough = (subject_of(thorax, 2, "normal", rough=value) for value in (0.0, 1.5))
    view = plane((128, 128), 1.4)
    height = 0.3 * smooth.heart.length_ed
    even, labels = render(smooth, view, height, 4.0, 0.0, empty(view))
    uneven, same = render(rough, view, height, 4.0, 0.0, empty(view))
    assert np.array_equal(labels, same)
    for part in (LV, RV):
        assert uneven[labels == part.value].mean() < 0.97 * even[labels == part.value].mean()


def test_chambers_above_the_valves_are_bright_and_parted_by_darker_walls(thorax: Thorax) -> None:
    subject = subject_of(thorax, 2, "normal")
    heart = subject.heart
    height = heart.length_ed + 22.0
    chambers = {body.name: body for body in heart.chambers(height, 0.0)}
    view = plane((200, 200), 1.0, (-15.0, 0.0))
    image, labels = render(subject, view, height, 1.0, 0.0, empty(view))
    rise = height - 0.5 * heart.length_ed
    shift = np.array(heart.axis_tilt) * rise

    def at(name: str) -> np.ndarray:
        return np.array([chambers[name].x, chambers[name].y]) + shift

    def seen(place: np.ndarray) -> float:
        nearest = np.hypot(view.x - place[0], view.y - place[1]).argmin()
        return float(image.ravel()[nearest])

    assert not labels.any()
    for name in ("left_atrium", "aorta", "right_atrium"):
        assert seen(at(name)) > 0.7
    between = [
        seen(at("aorta") + share * (at("left_atrium") - at("aorta")))
        for share in np.linspace(0.0, 1.0, 60)
    ]
    assert min(between) < 0.65
