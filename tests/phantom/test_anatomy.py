"""The heart's geometry keeps what a heart keeps."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.phantom.anatomy import ANGLE_TABLE, GROUPS, RANGES, sample_heart, wrap


def cavity_volume_ml(heart, contraction: float, step: float = 0.5) -> float:
    heights = np.arange(step / 2, heart.length(contraction), step)
    areas = [
        0.5 * np.sum(heart.lv_borders(float(z), contraction)[0] ** 2) * (2 * np.pi / 720)
        for z in heights
    ]
    return float(np.sum(areas) * step / 1000.0)


def wall_volume_ml(heart, contraction: float, step: float = 0.5) -> float:
    heights = np.arange(step / 2, heart.length(contraction), step)
    areas = []
    for z in heights:
        endo, epi = heart.lv_borders(float(z), contraction)
        areas.append(0.5 * np.sum(epi**2 - endo**2) * (2 * np.pi / 720))
    return float(np.sum(areas) * step / 1000.0)


@pytest.mark.parametrize("group", list(GROUPS))
def test_epicardium_encloses_endocardium_at_every_height_and_phase(group: str) -> None:
    heart = sample_heart(np.random.default_rng(3), group)
    for contraction in (0.0, 0.4, 1.0):
        for z in np.linspace(-heart.wall_apex, heart.length(contraction), 25):
            endo, epi = heart.lv_borders(float(z), contraction)
            assert np.all(epi >= endo)


@pytest.mark.parametrize("group", ["normal", "dilated", "small"])
def test_the_wall_keeps_its_volume_while_it_contracts(group: str) -> None:
    for seed in range(5):
        heart = sample_heart(np.random.default_rng(seed), group)
        assert wall_volume_ml(heart, 1.0) == pytest.approx(wall_volume_ml(heart, 0.0), rel=0.03)


def test_ejection_fraction_of_normal_hearts_is_in_the_range_asked_for() -> None:
    low, high = RANGES["normal"].ejection
    for seed in range(20):
        heart = sample_heart(np.random.default_rng(seed), "normal")
        ed, es = cavity_volume_ml(heart, 0.0), cavity_volume_ml(heart, 1.0)
        assert low - 0.06 <= 1.0 - es / ed <= high + 0.06


def test_dilated_hearts_are_larger_and_weaker_than_normal_ones() -> None:
    def means(group: str) -> tuple[float, float]:
        hearts = [sample_heart(np.random.default_rng(seed), group) for seed in range(20)]
        ed = [cavity_volume_ml(h, 0.0, 2.0) for h in hearts]
        es = [cavity_volume_ml(h, 1.0, 2.0) for h in hearts]
        return float(np.mean(ed)), float(np.mean(1.0 - np.array(es) / np.array(ed)))

    assert means("dilated")[0] > 1.3 * means("normal")[0]
    assert means("dilated")[1] < 0.6 * means("normal")[1]


def test_a_scar_moves_less_than_the_wall_opposite() -> None:
    for seed in range(10):
        heart = sample_heart(np.random.default_rng(seed), "infarcted")
        scar = heart.scars[0]
        z_ed, z_es = scar.height * heart.length(0.0), scar.height * heart.length(1.0)
        inward = heart.lv_borders(z_ed + 1e-3, 0.0)[0] - heart.lv_borders(z_es + 1e-3, 1.0)[0]
        at_scar = int(np.argmin(np.abs(wrap(ANGLE_TABLE - scar.angle))))
        assert inward[at_scar] <= inward.max() * 0.75 + 1e-6


def test_the_same_seed_gives_the_same_heart() -> None:
    assert sample_heart(np.random.default_rng(5)) == sample_heart(np.random.default_rng(5))


def test_shares_of_the_groups_add_up_to_one() -> None:
    assert sum(GROUPS.values()) == pytest.approx(1.0)
    assert set(GROUPS) == set(RANGES)
