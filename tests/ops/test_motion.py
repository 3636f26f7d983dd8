"""Motion: found on movies of known shifts, summed exactly, described by hand-computed numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg

from focusnb.ops.dose import Dose
from focusnb.ops.fourier import crop_fourier, fast_shape, low_pass, plan_resize, shift_fourier
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion import band, smoothing, start
from focusnb.ops.motion.align import estimate_shifts
from focusnb.ops.motion.exact import add_shifted, add_shifted_plain
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.frc import frc_resolution
from focusnb.ops.motion.sums import sum_frames
from focusnb.ops.motion.trajectory import describe_motion
from focusnb.ops.motion.weighting import SquaredFrequencies

RNG = np.random.default_rng


def make_movie(shifts: np.ndarray, *, shape: tuple[int, int] = (256, 300), contrast: float = 1.0, seed: int = 0):
    """Poisson frames (t, y, x) of a scene that needs the given shifts to be aligned."""
    rng = RNG(seed)
    margin = 64
    scene = rng.normal(0.0, 1.0, (shape[0] + 2 * margin, shape[1] + 2 * margin)).astype(np.float32)
    scene = low_pass(scene, pixel_size=1.0, resolution=8.0, width=0.5)
    scene = 3.0 * (1.0 + contrast * scene / scene.std() * 0.3)
    # output(r) = frame(r - shift): the specimen itself has moved by -shift
    frames = [shift_fourier(scene, (-dy, -dx))[margin:-margin, margin:-margin] for dy, dx in shifts]
    return rng.poisson(np.maximum(np.stack(frames), 0.0)).astype(np.uint8)


def transformed(movie: np.ndarray) -> band.Band:
    binned = band.bin_frames(CorrectedFrames(movie), pixel_size=1.0)
    return band.transform_frames(binned, pixel_size=1.0, resolution=5.0)


def error(found: np.ndarray, truth: np.ndarray) -> float:
    difference = found - truth
    difference = difference - difference.mean(axis=0)
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


@pytest.fixture(scope="module")
def curve() -> np.ndarray:
    t = np.arange(16)
    path = np.stack([4.0 * (1 - np.exp(-t / 3.0)), -3.0 * (1 - np.exp(-t / 2.0)) + 0.2 * t], axis=1)
    return path + RNG(1).normal(0, 0.05, path.shape).cumsum(axis=0)


def test_shifts_are_found_with_their_sign(curve: np.ndarray) -> None:
    found = estimate_shifts(CorrectedFrames(make_movie(curve)), pixel_size=1.0)
    assert found.converged
    np.testing.assert_array_equal(found.shifts[0], 0.0)
    assert error(found.shifts, curve) < 0.12
    assert found.shifts[-1, 0] > 3.0
    assert found.shifts[-1, 1] < 1.0
    assert (found.correlation > 0.02).all()
    assert 0.01 < found.uncertainty < 1.0


def test_pixel_size_changes_what_is_used_not_the_unit(curve: np.ndarray) -> None:
    movie = make_movie(curve)
    fine, coarse = (estimate_shifts(CorrectedFrames(movie), pixel_size=size) for size in (0.8, 3.0))
    assert error(fine.shifts, curve) < 0.2
    assert error(coarse.shifts, curve) < 0.2
    low_passed = estimate_shifts(CorrectedFrames(movie), pixel_size=1.0, b_factor=500.0)
    assert error(low_passed.shifts, curve) < 0.15


def test_a_jump_is_kept_and_what_is_around_stays_smooth(curve: np.ndarray) -> None:
    jumped = curve.copy()
    jumped[9:] += [7.0, -5.0]
    found = estimate_shifts(CorrectedFrames(make_movie(jumped, contrast=0.6)), pixel_size=1.0)
    assert error(found.shifts, jumped) < 0.3
    np.testing.assert_allclose((found.shifts[9] - found.shifts[8])[:2], jumped[9] - jumped[8], atol=0.8)


def test_a_long_drift_is_found() -> None:
    drift = np.outer(np.arange(14), [3.0, -2.5])
    assert error(estimate_shifts(CorrectedFrames(make_movie(drift)), pixel_size=1.0).shifts, drift) < 0.2


def test_fixed_lines_of_the_camera_do_not_hold_the_frames(curve: np.ndarray) -> None:
    movie = make_movie(curve).astype(np.uint16)
    movie = movie + (RNG(2).integers(0, 3, movie.shape[2]))[None, None, :].astype(np.uint16)
    movie = movie + (RNG(3).integers(0, 3, movie.shape[1]))[None, :, None].astype(np.uint16)
    assert error(estimate_shifts(CorrectedFrames(movie), pixel_size=1.0).shifts, curve) < 0.2


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_few_frames(frames: int, curve: np.ndarray) -> None:
    found = estimate_shifts(CorrectedFrames(make_movie(curve[:frames])), pixel_size=1.0)
    assert found.shifts.shape == (frames, 2)
    assert found.converged
    assert error(found.shifts, curve[:frames]) < 0.2


def test_an_empty_field_is_not_moved() -> None:
    found = estimate_shifts(CorrectedFrames(RNG(4).poisson(1.0, (12, 240, 260)).astype(np.uint8)), pixel_size=1.0)
    np.testing.assert_array_equal(found.shifts, 0.0)
    assert not found.converged
    assert found.uncertainty == np.inf


def test_frames_that_cannot_be_aligned_are_named() -> None:
    movie = RNG(5).poisson(2.0, (4, 128, 128)).astype(np.uint8)
    movie[2] = 7
    with pytest.raises(ValueError, match=r"frame 3 .* is constant"):
        estimate_shifts(CorrectedFrames(movie), pixel_size=1.0)
    broken = movie.astype(np.float32)
    broken[1, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"frame 2 .* holds values that are not finite"):
        estimate_shifts(CorrectedFrames(broken), pixel_size=1.0)
    with pytest.raises(ValueError, match="8 x 300 pixels are too small"):
        estimate_shifts(CorrectedFrames(RNG(5).poisson(2.0, (4, 8, 300)).astype(np.uint8)), pixel_size=1.0)


def test_compiled_comparison_equals_its_plain_twin(curve: np.ndarray) -> None:
    spectra = transformed(make_movie(curve[:3]))
    phases = band.move_phases(spectra, curve[:3])
    total = band.sum_moved(spectra, phases)
    np.testing.assert_allclose(total, band.sum_moved_plain(spectra, phases), atol=1e-4)
    weights = np.abs(RNG(6).normal(size=total.shape)).astype(np.float32)
    np.testing.assert_allclose(
        band.compare_moved(spectra, phases, total, weights),
        band.compare_moved_plain(spectra, phases, total, weights),
        rtol=2e-3,
        atol=1.0,
    )


def test_gradient_is_that_of_the_overlap(curve: np.ndarray) -> None:
    spectra = transformed(make_movie(curve[:4]))
    weights = np.ones(spectra.use.shape, np.float32)

    def overlap(shifts: np.ndarray) -> np.ndarray:
        phases = band.move_phases(spectra, shifts)
        return band.compare_moved(spectra, phases, band.sum_moved(spectra, phases), weights).sum(axis=1)

    start = np.zeros((4, 2))
    gradient = overlap(start)[2, 1:3]
    for axis in range(2):
        step = np.zeros((4, 2))
        step[2, axis] = 0.01
        numeric = (overlap(step)[2, 0] - overlap(-step)[2, 0]) / 0.02
        assert gradient[axis] == pytest.approx(numeric, rel=0.02)


def test_regression_equals_the_textbook_formula() -> None:
    rng = RNG(7)
    factor = rng.normal(size=(9, 9))
    prior, variance = factor @ factor.T, rng.uniform(0.5, 2.0, 9)
    measured = rng.normal(size=(9, 2))
    positions = measured.copy()
    covariance = prior + np.diag(variance)
    likelihood = smoothing._regress(covariance, variance, positions, np.empty((9, 9)))
    np.testing.assert_allclose(positions, prior @ scipy.linalg.solve(covariance, measured), atol=1e-10)
    expected = -0.5 * np.einsum("ta,ta->", measured, scipy.linalg.solve(covariance, measured))
    assert likelihood == pytest.approx(expected - np.linalg.slogdet(covariance)[1])


def test_smoothing_borrows_from_neighbours_but_keeps_a_jump() -> None:
    rng = RNG(8)
    truth = np.stack([np.linspace(0, 6, 40), np.sin(np.linspace(0, 3, 40))], axis=1)
    truth[25:] += [6.0, 3.0]
    errors, raw = [], []
    for _ in range(5):
        noise = rng.normal(0, 0.5, truth.shape)
        smooth = smoothing.smooth_trajectory(truth + noise, np.full(40, 0.25))
        errors.append(error(smooth, truth))
        raw.append(error(truth + noise, truth))
    assert np.median(errors) < 0.5 * np.median(raw)
    # where nothing is uncertain nothing is changed
    np.testing.assert_allclose(smoothing.smooth_trajectory(truth, np.full(40, 1e-8)), truth, atol=1e-3)


def test_an_uncertain_frame_takes_its_place_from_its_neighbours() -> None:
    path = np.outer(np.arange(20.0), [0.5, 0.2])
    measured, variance = path + RNG(9).normal(0, 0.05, path.shape), np.full(20, 0.0025)
    measured[8] += [5.0, -9.0]
    variance[8] = 100.0
    smooth = smoothing.smooth_trajectory(measured, variance)
    np.testing.assert_allclose(smooth[8], path[8], atol=0.15)


def test_sums_are_means_of_shifted_frames() -> None:
    rng = RNG(10)
    raw = rng.poisson(5.0, (5, 64, 72)).astype(np.uint8)  # sides that need no filling
    shifts = rng.normal(0, 3.0, (5, 2))
    moved = [shift_fourier(frame.astype(np.float32), tuple(shift)) for frame, shift in zip(raw, shifts, strict=True)]
    sums = sum_frames(CorrectedFrames(raw), MotionField(shifts, (64, 72)), pixel_size=1.2, halves=True, mode="exact")
    assert sums.pixel_size == 1.2
    assert sums.unweighted.dtype == np.float32
    assert sums.dose_weighted is None
    np.testing.assert_allclose(sums.unweighted, np.mean(moved, axis=0), atol=1e-4)
    np.testing.assert_allclose(sums.even, np.mean(moved[0::2], axis=0), atol=1e-4)
    np.testing.assert_allclose(sums.odd, np.mean(moved[1::2], axis=0), atol=1e-4)
    with pytest.raises(ValueError, match=r"5 frames need as many shifts.*\(4, 2\)"):
        sum_frames(CorrectedFrames(raw), MotionField(shifts[:4], (64, 72)), pixel_size=1.0)


def test_sums_of_odd_sizes_are_filled_and_trimmed() -> None:
    rng = RNG(11)
    scene = low_pass(rng.normal(5.0, 1.0, (131, 143)).astype(np.float32), pixel_size=1.0, resolution=6.0)
    frames = np.stack([scene, shift_fourier(scene, (-2, 3))])
    motion = MotionField(np.array([[0.0, 0.0], [2.0, -3.0]]), (131, 143))
    sums = sum_frames(CorrectedFrames(frames), motion, pixel_size=1.0, mode="exact")
    assert sums.unweighted.shape == (131, 143)
    np.testing.assert_allclose(sums.unweighted[10:-10, 10:-10], scene[10:-10, 10:-10], atol=1e-3)


def test_dose_weighted_sum_follows_the_formula() -> None:
    rng = RNG(12)
    raw = rng.poisson(5.0, (4, 60, 64)).astype(np.uint8)
    dose = Dose(3.0, prior=5.0, voltage=200.0)
    still = MotionField(np.zeros((4, 2)), (60, 64))
    sums = sum_frames(CorrectedFrames(raw), still, pixel_size=1.5, dose=dose, mode="exact")
    k = np.hypot(np.fft.fftfreq(60, 1.5)[:, None], np.fft.rfftfreq(64, 1.5)[None, :])
    with np.errstate(divide="ignore"):
        critical = 0.8 * (0.245 * k**-1.665 + 2.81)
    q = np.stack([np.exp(-(5.0 + 3.0 * (t + 1)) / (2 * critical)) for t in range(4)])
    weighted = (q * np.fft.rfft2(raw)).sum(axis=0) / np.sqrt((q**2).sum(axis=0))
    # the mean restored: everything in units of the plain mean
    expected = np.fft.irfft2(weighted, s=(60, 64)) / np.sqrt(4)
    np.testing.assert_allclose(sums.dose_weighted, expected, atol=2e-3)
    assert sums.dose_weighted.mean() == pytest.approx(raw.mean(), rel=1e-5)


def test_sums_are_cropped_in_the_same_pass() -> None:
    rng = RNG(13)
    raw = rng.poisson(5.0, (3, 120, 144)).astype(np.uint8)
    motion = MotionField(np.array([[0.0, 0.0], [1.5, -2.0], [-0.7, 4.0]]), (120, 144))
    frames = CorrectedFrames(raw)
    full = sum_frames(frames, motion, pixel_size=0.5, dose=Dose(1.0), mode="exact")
    cropped = sum_frames(frames, motion, pixel_size=0.5, target_pixel_size=1.0, dose=Dose(1.0), mode="exact")
    assert cropped.pixel_size == pytest.approx(1.0)
    assert cropped.unweighted.shape == (60, 72)
    # Nyquist of the cropped sum is moved by its real part, inside the band both are the same
    for whole, part in ((full.unweighted, cropped.unweighted), (full.dose_weighted, cropped.dose_weighted)):
        smooth = low_pass(crop_fourier(whole, (60, 72)), pixel_size=1.0, resolution=2.3)
        np.testing.assert_allclose(low_pass(part, pixel_size=1.0, resolution=2.3), smooth, atol=2e-3)


def test_compiled_addition_equals_its_plain_twin() -> None:
    rng = RNG(14)

    def noise(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    spectrum, phases = noise(12, 7), (noise(12), noise(7))
    squares = SquaredFrequencies(plan_resize((12, 12), 1.0), 1.0, np)
    table = rng.random(len(squares.frequency)).astype(np.float32)
    results = []
    for function in (add_shifted, add_shifted_plain):
        total, weighted = np.ones((12, 7), np.complex64), np.ones((12, 7), np.complex64)
        function(spectrum, phases, total, weighted, table, squares)
        function(spectrum, phases, total, None, None, None)
        results.append((total, weighted))
    for compiled, plain in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, atol=1e-5)


def test_frc_resolution_of_halves() -> None:
    rng = RNG(15)
    signal, first, second = (rng.normal(size=(400, 380)).astype(np.float32) for _ in range(3))
    signal = low_pass(signal, pixel_size=1.0, resolution=5.0, width=0.02)
    assert frc_resolution(signal + first, signal + second, pixel_size=1.0) == pytest.approx(5.0, rel=0.1)
    assert frc_resolution(first, second, pixel_size=1.0) is None
    assert frc_resolution(first, first, pixel_size=1.5) == 3.0


def test_description_of_a_path_by_hand() -> None:
    # steps of 5, 2 and 1 px of 2 Å: 10, 4, 2 Å
    path = [[0.0, 0.0], [3.0, 4.0], [3.0, 6.0], [4.0, 6.0]]
    summary = describe_motion(path, pixel_size=2.0, dose_per_frame=1.5)
    assert summary.motion_total == pytest.approx(16.0)
    # frame middles at 0.75, 2.25, 3.75, 5.25: 4.0 lies a sixth of the last step beyond the third frame
    assert summary.motion_early == pytest.approx(14.0 + 2.0 / 6.0)
    assert summary.motion_late == pytest.approx(2.0 - 2.0 / 6.0)
    assert summary.drift == pytest.approx(np.hypot(8.0, 12.0))
    assert summary.max_step == pytest.approx(10.0)
    # least squares through (0, 10), (1, 4), (2, 2): slope -4
    assert summary.deceleration == pytest.approx(4.0)
    # |(6, 8) - (3, 6)| and |(6, 12) - (7, 10)| in Å over 16
    assert summary.jitter == pytest.approx((np.hypot(3.0, 2.0) + np.hypot(1.0, 2.0)) / 16.0)


def test_description_of_little_motion() -> None:
    without = describe_motion([[0, 0], [1, 1]], pixel_size=1.0)
    assert without.motion_early is None
    assert without.motion_late is None
    assert without.deceleration == 0.0
    for path in ([], [[0.0, 0.0]], [[2.0, 2.0]] * 5):
        still = describe_motion(path, pixel_size=1.0, dose_per_frame=1.0)
        assert still == replace(still, motion_total=0.0, motion_early=0.0, motion_late=0.0, drift=0.0, jitter=0.0)
    # sign of the shifts does not matter
    path = RNG(16).normal(size=(6, 2))
    assert describe_motion(path, pixel_size=1.3) == describe_motion(-path, pixel_size=1.3)


def test_maps_of_few_places_are_those_of_a_transform(curve: np.ndarray) -> None:
    spectra = transformed(make_movie(curve[:4]))
    grid = start.Grid(spectra, 1.0)
    phases = band.move_phases(spectra, 0.5 * curve[:4])
    total = band.sum_moved(spectra, phases)
    weights = np.abs(RNG(8).normal(size=total.shape)).astype(np.float32)
    for distance in (3.0, 15.0):
        found = grid.correlate(spectra, phases, total, weights, distance)
        expected = grid.correlate_plain(spectra, phases, total, weights, distance)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_products_of_spectra_that_far_apart() -> None:
    rng = RNG(9)
    groups = (rng.normal(size=(6, 7, 9)) + 1j * rng.normal(size=(6, 7, 9))).astype(np.complex64)
    for lag in range(1, 6):
        expected = sum(groups[i] * groups[i + lag].conj() for i in range(6 - lag))
        np.testing.assert_allclose(start._products(groups, lag), expected, atol=1e-4)


def test_a_band_is_that_of_the_whole_transform() -> None:
    movie = RNG(10).normal(size=(3, 101, 93)).astype(np.float32)
    binned = band.bin_frames(CorrectedFrames(movie + 9.0), pixel_size=4.0)
    found = band.transform_frames(binned, pixel_size=4.0, resolution=12.0)
    shape = fast_shape(binned.shape)
    rows = np.rint(found.y * found.field[0]).astype(int)
    for t in range(3):
        whole = np.fft.rfft2(binned.images[t], s=shape) / np.sqrt(shape[0] * shape[1])
        np.testing.assert_allclose(found.spectra[t], whole[rows, : len(found.x)] * found.use, atol=1e-5)
    expected = (np.abs(found.spectra) ** 2).sum(axis=0)
    np.testing.assert_allclose(band.sum_power(found), expected, rtol=1e-4, atol=1e-6)


def test_phases_are_exact_however_far_a_frame_moves() -> None:
    spectra = transformed(RNG(11).normal(size=(2, 64, 72)).astype(np.float32) + 9.0)
    shifts = np.array([[0.3, -0.7], [512.25, -1033.6]])
    for found, axis, k in zip(band.move_phases(spectra, shifts), (0, 1), (spectra.y, spectra.x), strict=True):
        np.testing.assert_allclose(found, np.exp(-2j * np.pi * np.outer(shifts[:, axis], k)), atol=5e-7)


def test_evidence_of_a_jump_is_that_of_its_covariance() -> None:
    rng = RNG(12)
    measured = rng.normal(size=(11, 2)).cumsum(axis=0)
    measured[6:] += 5.0
    factor = rng.normal(size=(11, 11))
    covariance = factor @ factor.T + np.diag(rng.uniform(0.5, 2.0, 11))
    found = np.empty(10)
    smoothing._jump_evidence(covariance, measured, 40.0, found)
    for place in range(1, 11):
        after = (np.arange(11) >= place).astype(float)
        whole = covariance + 40.0 * np.outer(after, after)
        expected = -np.linalg.slogdet(whole)[1] - 0.5 * np.trace(measured.T @ np.linalg.solve(whole, measured))
        assert found[place - 1] == pytest.approx(expected, rel=1e-9)
