"""The scanner's physics against closed forms and direct sums."""

from __future__ import annotations

import numpy as np
import pytest
from cinelabel.phantom.acquisition import (
    Coil,
    LineStates,
    Poses,
    Scanner,
    acquire,
    grey_values,
    noise_gain,
    sample_scanner,
    sampling,
    sensitivity,
    zero_fill,
)
from scipy.special import eval_laguerre, hyp1f1, poch


def blob(shape: tuple[int, int], centre: tuple[float, float], width: float = 3.0) -> np.ndarray:
    rows, columns = np.indices(shape)
    squared = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return np.exp(-0.5 * squared / width**2).astype(np.float32)


def take(image: np.ndarray, scanner: Scanner, pixel: float = 1.0, seed: int = 0) -> np.ndarray:
    return acquire(Poses.still(image), pixel, scanner, np.random.default_rng(seed))


def states(
    lines: int, in_plane: object = 0.0, through: object = 0.0, beat: object = 0.0
) -> LineStates:
    return LineStates(
        np.broadcast_to(np.asarray(in_plane, float), (lines, 2)),
        np.broadcast_to(np.asarray(through, float), (lines,)),
        np.broadcast_to(np.asarray(beat, float), (lines,)),
    )


def dirichlet(size: int, count: int) -> np.ndarray:
    """Mean of `count` neighbouring frequencies at each pixel, in magnitude."""
    angle = np.pi * np.arange(size) / size
    with np.errstate(invalid="ignore"):
        wave = np.abs(np.sin(count * angle) / np.sin(angle)) / size
    wave[0] = count / size
    return wave


# Point spread


@pytest.mark.parametrize("phase_axis", [0, 1])
@pytest.mark.parametrize("shape", [(32, 40), (33, 41)])
def test_an_ideal_scanner_returns_the_magnitude_of_the_object(
    phase_axis: int, shape: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    seen = take(image, Scanner(phase_axis=phase_axis))
    np.testing.assert_allclose(seen, np.abs(image), atol=1e-5)
    assert seen.dtype == np.float32


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_the_point_spread_function_is_the_dirichlet_kernel_of_the_matrix(phase_axis: int) -> None:
    image = np.zeros((64, 80), np.float32)
    image[0, 0] = 1.0
    # 64 mm at 2.6 mm: frequencies up to 12, 25 lines; 80 mm at 1.9 mm: up to 21, 43 lines
    seen = take(image, Scanner(resolution=(2.6, 1.9), phase_axis=phase_axis))
    expected = np.outer(dirichlet(64, 25), dirichlet(80, 43))
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_partial_fourier_widens_the_point_spread_as_the_lines_left_out_demand() -> None:
    image = np.zeros((64, 64), np.float32)
    image[0, 0] = 1.0
    seen = take(image, Scanner(partial_fourier=0.625))
    np.testing.assert_allclose(seen[:, 0], dirichlet(64, 40), atol=1e-6)
    np.testing.assert_allclose(seen[0, 1:], 0.0, atol=1e-6)


def test_partial_fourier_and_filters_keep_the_signal_of_an_even_object() -> None:
    image = np.full((48, 48), 0.7, np.float32)
    scanner = Scanner(partial_fourier=0.75, apodisation=0.8, resolution=(2.0, 2.5))
    np.testing.assert_allclose(take(image, scanner), 0.7, atol=1e-5)


def test_low_resolution_removes_detail_beyond_its_limit() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (32, 16))
    np.testing.assert_allclose(take(stripes, Scanner(resolution=(3.0, 3.0))), 0.5, atol=1e-5)


def test_the_filter_blurs_a_point_and_damps_its_side_lobes() -> None:
    image = np.zeros((64, 64), np.float32)
    image[32, 32] = 1.0
    sharp = take(image, Scanner(resolution=(2.0, 2.0)))[:, 32]
    soft = take(image, Scanner(resolution=(2.0, 2.0), apodisation=1.0))[:, 32]
    assert soft[32] < sharp[32]
    assert soft[:26].max() / soft[32] < 0.3 * sharp[:26].max() / sharp[32]


def test_a_border_of_opposed_fat_and_water_cancels_into_a_dark_line() -> None:
    image = np.ones((32, 32), np.float32)
    image[:, 16:] = -1.0
    image[:, 16] = 0.0  # a pixel that holds as much fat as water
    seen = take(image, Scanner())
    np.testing.assert_allclose(seen[:, 16], 0.0, atol=1e-6)
    np.testing.assert_allclose(seen[:, [14, 18]], 1.0, atol=1e-5)


# Noise


@pytest.mark.parametrize("signal", [0.0, 0.1, 0.3])
def test_noise_has_the_mean_and_spread_of_rice(signal: float) -> None:
    sigma = 0.1
    seen = take(np.full((256, 256), signal, np.float32), Scanner(noise=sigma))
    power = -0.5 * (signal / sigma) ** 2
    mean = sigma * np.sqrt(np.pi / 2) * eval_laguerre(0.5, power)
    spread = np.sqrt(2 * sigma**2 + signal**2 - mean**2)
    assert seen.mean() == pytest.approx(mean, rel=0.01)
    assert seen.std() == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("channels", [2, 4, 16])
@pytest.mark.parametrize("signal", [0.0, 0.25])
def test_noise_of_many_channels_has_the_mean_and_power_of_the_noncentral_chi(
    channels: int, signal: float
) -> None:
    sigma = 0.1
    seen = take(
        np.full((256, 256), signal, np.float32), Scanner(noise=sigma, channels=channels)
    ).astype(float)
    # Koay and Basser, J Magn Reson 2006, eq. 4
    beta = np.sqrt(np.pi / 2) * poch(1.5, channels - 1) / poch(1.0, channels - 1)
    mean = sigma * beta * hyp1f1(-0.5, channels, -0.5 * (signal / sigma) ** 2)
    power = signal**2 + 2 * channels * sigma**2
    assert seen.mean() == pytest.approx(mean, rel=0.01)
    assert (seen**2).mean() == pytest.approx(power, rel=0.015)
    assert seen.std() == pytest.approx(np.sqrt(power - mean**2), rel=0.03)


def test_noise_of_a_zero_filled_picture_has_its_spread_and_the_correlation_of_the_matrix() -> None:
    scanner = Scanner(noise=0.05, resolution=(2.0, 2.0))
    fluctuation = np.stack(
        [take(np.full((128, 128), 3.0, np.float32), scanner, seed=s) - 3.0 for s in range(4)]
    )
    assert fluctuation.std() == pytest.approx(0.05, rel=0.02)
    neighbours = (fluctuation[:, 1:] * fluctuation[:, :-1]).mean() / fluctuation.var()
    angle = np.pi / 128
    assert neighbours == pytest.approx(np.sin(65 * angle) / (65 * np.sin(angle)), abs=0.02)


def test_a_filter_lowers_the_noise_by_its_root_mean_square() -> None:
    scanner = Scanner(noise=0.05, apodisation=0.7, resolution=(1.6, 2.0))
    seen = take(np.full((256, 256), 3.0, np.float32), scanner)
    k = np.arange(-80, 81)
    window = 1.0 - 0.35 * (1.0 - np.cos(np.pi * k / 80))
    across = np.arange(-64, 65)
    window_across = 1.0 - 0.35 * (1.0 - np.cos(np.pi * across / 64))
    expected = 0.05 * np.sqrt((window**2).mean() * (window_across**2).mean())
    assert seen.std() == pytest.approx(expected, rel=0.03)


def test_lines_left_out_take_their_noise_with_them() -> None:
    seen = take(np.full((256, 256), 3.0, np.float32), Scanner(noise=0.05, partial_fourier=0.75))
    assert seen.std() == pytest.approx(0.05 * np.sqrt(0.75), rel=0.03)


def test_acceleration_raises_the_noise_by_its_root_and_the_geometry_factor() -> None:
    seen = np.stack(
        [
            take(np.full((64, 256), 3.0, np.float32), Scanner(noise=0.02, acceleration=3), seed=s)
            for s in range(10)
        ]
    )
    measured = seen.std(axis=(0, 2))
    gain = noise_gain(64, 3)
    np.testing.assert_allclose(measured, 0.02 * gain, rtol=0.1)
    assert gain.min() == pytest.approx(np.sqrt(3.0), rel=0.05)
    assert gain.max() < 1.5 * np.sqrt(3.0)
    np.testing.assert_array_equal(noise_gain(64, 1), 1.0)


def test_the_same_generator_gives_the_same_picture() -> None:
    scanner = sample_scanner(np.random.default_rng(5))
    image = blob((48, 48), (20.0, 30.0))
    np.testing.assert_array_equal(take(image, scanner, 1.4, 7), take(image, scanner, 1.4, 7))
    assert not np.array_equal(take(image, scanner, 1.4, 7), take(image, scanner, 1.4, 8))


# Motion


@pytest.mark.parametrize("phase_axis", [0, 1])
@pytest.mark.parametrize("shift", [(3.0, -2.0), (1.37, 2.61)])
def test_an_object_displaced_during_the_whole_acquisition_is_displaced_in_the_picture(
    phase_axis: int, shift: tuple[float, float]
) -> None:
    pixel = 1.25
    shape = (48, 64)
    lines = states(shape[phase_axis], np.array(shift) * pixel)
    seen = acquire(
        Poses.still(blob(shape, (22.0, 30.0))),
        pixel,
        Scanner(phase_axis=phase_axis),
        np.random.default_rng(0),
        lines,
    )
    expected = blob(shape, (22.0 + shift[0], 30.0 + shift[1]))
    np.testing.assert_allclose(seen, expected, atol=2e-5)


@pytest.mark.parametrize("phase_axis", [0, 1])
def test_every_line_carries_the_phase_ramp_and_the_poses_of_its_own_state(phase_axis: int) -> None:
    rng = np.random.default_rng(2)
    shape, pixel = (24, 30), 1.5
    moving = rng.normal(size=(3, 2, *shape)).astype(np.float32)
    static = rng.normal(size=shape).astype(np.float32)
    grid, beats = np.array([-4.0, 1.0, 3.0]), np.array([0.0, 1.0])
    count = shape[phase_axis]
    lines = LineStates(
        rng.normal(size=(count, 2)), rng.uniform(-4.0, 3.0, count), rng.uniform(0.0, 1.0, count)
    )
    seen = acquire(
        Poses(moving, static, grid, beats), pixel, Scanner(phase_axis=phase_axis), rng, lines
    )

    frequency = [np.fft.fftshift(np.fft.fftfreq(n, pixel)) for n in shape]
    spectra = np.fft.fftshift(np.fft.fft2(moving), (-2, -1))
    result = np.fft.fftshift(np.fft.fft2(static))
    for line in range(count):
        cut = (line, slice(None)) if phase_axis == 0 else (slice(None), line)
        ramps = np.exp(
            -2j
            * np.pi
            * (
                frequency[0][:, None] * lines.in_plane[line, 0]
                + frequency[1][None] * lines.in_plane[line, 1]
            )
        )
        by_depth = [
            np.interp(lines.contraction[line], beats, [0, 1]) * (spectra[k, 1] - spectra[k, 0])
            + spectra[k, 0]
            for k in range(3)
        ]
        at = np.interp(lines.through_mm[line], grid, [0, 1, 2])
        lower = min(int(at), 1)
        mixed = (lower + 1 - at) * by_depth[lower] + (at - lower) * by_depth[lower + 1]
        result[cut] += (mixed * ramps)[cut]
    expected = np.abs(np.fft.ifft2(np.fft.ifftshift(result)))
    np.testing.assert_allclose(seen, expected, atol=2e-5)


def test_what_is_static_stays_while_the_heart_moves() -> None:
    shape = (48, 48)
    chest, heart = blob(shape, (8.0, 8.0)), blob(shape, (30.0, 30.0))
    poses = Poses(heart[None, None], chest, np.zeros(1), np.zeros(1))
    seen = acquire(poses, 1.0, Scanner(), np.random.default_rng(0), states(48, (4.0, 0.0)))
    np.testing.assert_allclose(seen, chest + blob(shape, (34.0, 30.0)), atol=2e-5)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_ghosts_of_periodic_motion_lie_a_fraction_of_the_field_of_view_away(period: int) -> None:
    shape = (64, 64)
    point = np.zeros(shape, np.float32)
    point[10, 20] = 1.0
    phase = 2 * np.pi * np.arange(64) / period
    poses = Poses(np.stack([0.5 * point, 1.5 * point])[None], None, np.zeros(1), np.arange(2.0))
    # Lines see a brightness of 1 + 0.4 cos: two side bands of 0.2
    lines = states(64, beat=0.5 + 0.4 * np.cos(phase))
    seen = acquire(poses, 1.0, Scanner(), np.random.default_rng(0), lines)
    ghost = np.zeros(64)
    ghost[10] = 1.0
    for side in (-1, 1):
        ghost[(10 + side * 64 // period) % 64] += 0.2
    np.testing.assert_allclose(seen[:, 20], ghost, atol=1e-5)
    np.testing.assert_allclose(np.delete(seen, 20, axis=1), 0.0, atol=1e-5)


def test_displacement_between_lines_spreads_energy_along_phase_encoding_only() -> None:
    image = np.zeros((64, 64), np.float32)
    image[30:34, 30:34] = 1.0
    moves = np.zeros((64, 2))
    moves[::2, 0] = 4.0
    for axis in (0, 1):
        seen = acquire(
            Poses.still(image),
            1.0,
            Scanner(phase_axis=axis),
            np.random.default_rng(1),
            states(64, moves[:, ::1] if axis == 0 else moves[:, ::-1]),
        )
        seen = seen if axis == 0 else seen.T
        assert seen[:20, 30:34].max() > 0.05
        assert seen[:, :28].max() < 1e-4


def test_states_beyond_the_poses_see_the_nearest_pose() -> None:
    near, far = blob((32, 32), (10.0, 10.0)), blob((32, 32), (20.0, 20.0))
    poses = Poses(np.stack([near, far])[:, None], None, np.array([-2.0, 2.0]), np.zeros(1))
    seen = acquire(poses, 1.0, Scanner(), np.random.default_rng(0), states(32, through=9.0))
    np.testing.assert_allclose(seen, far, atol=1e-5)


def test_without_line_states_the_slice_lies_between_the_poses_and_includes_what_is_static() -> None:
    near, far = blob((32, 32), (10.0, 10.0)), blob((32, 32), (20.0, 20.0))
    static = blob((32, 32), (10.0, 25.0))
    poses = Poses(np.stack([near, far])[:, None], static, np.array([-1.0, 3.0]), np.zeros(1))
    seen = acquire(poses, 1.0, Scanner(), np.random.default_rng(0))
    np.testing.assert_allclose(seen, 0.75 * near + 0.25 * far + static, atol=1e-5)


@pytest.mark.parametrize("acceleration", [2, 4])
def test_parallel_imaging_leaves_copies_a_fraction_of_the_field_of_view_away(
    acceleration: int,
) -> None:
    image = np.zeros((64, 64), np.float32)
    image[5, :] = 1.0
    seen = take(image, Scanner(acceleration=acceleration, residual=0.1))
    copies = [(5 + k * 64 // acceleration) % 64 for k in range(1, acceleration)]
    elsewhere = np.delete(seen, [5, *copies], axis=0)
    assert all(0.0 < seen[row].max() <= 0.1 + 1e-6 for row in copies)
    np.testing.assert_allclose(elsewhere, 0.0, atol=1e-5)
    np.testing.assert_allclose(seen[5], 1.0, atol=1e-5)


# What the reconstruction adds


@pytest.mark.parametrize("shape", [(32, 24), (33, 27)])
def test_zero_filling_interpolates_band_limited_pictures_exactly(shape: tuple[int, int]) -> None:
    def wave(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return 2.0 + np.cos(6 * np.pi * rows + 0.4) + 0.5 * np.sin(8 * np.pi * columns)

    def sample(n: int, m: int) -> np.ndarray:
        return wave(np.arange(n)[:, None] / n, np.arange(m)[None] / m).astype(np.float32)

    fine = zero_fill(sample(*shape), (80, 70))
    np.testing.assert_allclose(fine, sample(80, 70), atol=1e-5)
    back = zero_fill(fine, shape)
    np.testing.assert_allclose(back, sample(*shape), atol=1e-5)


def test_zero_filling_keeps_the_pixels_it_had_and_the_proportion_of_the_axes() -> None:
    image = 5.0 + np.random.default_rng(0).random((32, 24)).astype(np.float32)
    fine = zero_fill(image, 64)
    assert fine.shape == (64, 48)
    np.testing.assert_allclose(fine[::2, ::2], image, atol=1e-5)
    turned = zero_fill(image * np.exp(0.7j), 64)
    assert turned.dtype == np.complex64
    np.testing.assert_allclose(np.abs(turned[::2, ::2]), image, atol=1e-5)


def test_grey_values_are_whole_and_end_at_the_brightest_level() -> None:
    values = grey_values(np.linspace(0.0, 2.0, 50, dtype=np.float32), Scanner(grey_levels=255), 1.0)
    assert np.array_equal(values, np.round(values))
    assert values.min() == 0.0
    assert values.max() == 255.0


def plane() -> tuple[np.ndarray, np.ndarray]:
    axis = 1.4 * (np.arange(101, dtype=np.float32) - 50)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def test_sensitivity_follows_the_loops_and_is_one_at_the_heart() -> None:
    x, y = plane()
    coils = (Coil(-90.0, 60.0, 80.0, 1.0), Coil(120.0, 0.0, 110.0, 0.6))
    field = sensitivity(Scanner(coils=coils), x, y)

    def power(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        near = (1.0 + ((px + 90.0) ** 2 + (py - 60.0) ** 2) / 80.0**2) ** -3
        return near + 0.36 * (1.0 + ((px - 120.0) ** 2 + py**2) / 110.0**2) ** -3

    expected = np.sqrt(power(x, y) / power(np.zeros(1), np.zeros(1)))
    np.testing.assert_allclose(field, expected, rtol=3e-3)
    assert field[50, 50] == pytest.approx(1.0, rel=3e-3)


def test_flattening_removes_the_shading_and_no_coils_shade_nothing() -> None:
    x, y = plane()
    coils = (Coil(-90.0, 60.0, 80.0, 1.0),)
    np.testing.assert_allclose(sensitivity(Scanner(coils=coils, flattening=1.0), x, y), 1.0)
    np.testing.assert_array_equal(sensitivity(Scanner(), x, y), 1.0)


def test_bias_varies_the_field_by_its_spread() -> None:
    x, y = plane()
    spread = [np.log(sensitivity(Scanner(bias=0.2, seed=s), x, y)).std() for s in range(20)]
    assert np.mean(spread) == pytest.approx(0.2, rel=0.5)


# Protocols


def test_protocols_use_the_clinical_ranges_and_the_picture_stays_finite() -> None:
    image = blob((48, 56), (20.0, 30.0), 8.0)
    drawn = [sample_scanner(np.random.default_rng(s)) for s in range(60)]
    assert {s.phase_axis for s in drawn} == {0, 1}
    assert {1, 2} <= {s.acceleration for s in drawn}
    assert {None, 256, 512} == {s.zero_fill for s in drawn}
    for scanner in drawn:
        assert scanner.resolution[scanner.phase_axis] >= scanner.resolution[1 - scanner.phase_axis]
        seen = take(image, scanner, 1.4)
        assert np.isfinite(seen).all()
        assert seen.min() >= 0.0


def test_the_lines_of_a_protocol_are_those_its_resolution_and_share_ask_for() -> None:
    # 100 lines of 2 mm: 4 mm keeps frequencies -25 to 25; three quarters of 51 lines are 38
    kept = sampling((100, 80), 2.0, Scanner(resolution=(4.0, 2.0), partial_fourier=0.75))
    assert kept.rows.tolist() == list(range(-12, 26))
    assert kept.columns.tolist() == list(range(-40, 40))
    assert kept.full_lines == 51


def test_wrong_shapes_and_protocols_are_refused() -> None:
    image = np.zeros((16, 20), np.float32)
    with pytest.raises(ValueError, match="20 line states for 16 lines"):
        acquire(Poses.still(image), 1.0, Scanner(), np.random.default_rng(0), states(20))
    with pytest.raises(ValueError, match="in_plane must be"):
        LineStates(np.zeros((16, 3)), np.zeros(16), np.zeros(16))
    with pytest.raises(ValueError, match="ascend"):
        Poses(np.zeros((2, 1, 4, 4), np.float32), None, np.zeros(2), np.zeros(1))
    with pytest.raises(ValueError, match="static"):
        Poses(image[None, None], np.zeros((4, 4), np.float32), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="partial_fourier"):
        Scanner(partial_fourier=0.5)
    with pytest.raises(ValueError, match="phase_axis"):
        Scanner(phase_axis=2)
