"""Local motion: found on movies of known motion, rejected where there is none, told in RELION's words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from focusnb.ops.binning import halve, halve_plain
from focusnb.ops.defects import prepare_bad_pixels
from focusnb.ops.dose import Dose
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion import estimate, local, patches
from focusnb.ops.motion.band import bin_frames
from focusnb.ops.motion.cubic import field_from_cubic, project_on_cubic
from focusnb.ops.motion.estimate import MotionEstimate, _every_frame, estimate_motion
from focusnb.ops.motion.field import MotionField, place_terms
from focusnb.ops.motion.patches import choose_patches, cut_patches
from focusnb.ops.simulate import SimulatedMovie, simulate_movie, standard_case
from tests.relion_model import relion_shift
from tests.strict import strict

RNG = np.random.default_rng


def corrected(movie: SimulatedMovie, seed: int) -> CorrectedFrames:
    bad = prepare_bad_pixels(movie.detector.defects)
    return CorrectedFrames(movie.frames, gain=movie.gain, bad_pixels=bad, seed=seed)


def places(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = ((np.arange(7) + 0.5) / 7 * side for side in shape)
    return y[:, None], x[None, :]


def error(difference: np.ndarray) -> float:
    difference = difference - difference.mean(axis=0)
    return float(np.sqrt((difference**2).sum(axis=-1).mean()))


def total_error(movie: SimulatedMovie, field: MotionField) -> float:
    y, x = places(movie.frames.shape[1:])
    truth = np.stack([movie.truth.shift_at(t, y, x) for t in range(len(movie.frames))])
    return error(field.at(y, x) - truth)


@pytest.fixture(scope="module")
def moving() -> SimulatedMovie:
    return simulate_movie(standard_case("small"), 3)


@pytest.fixture(scope="module")
def found(moving: SimulatedMovie) -> MotionEstimate:
    return estimate_motion(corrected(moving, 3), pixel_size=1.06, dose=Dose(1.0))


def test_local_motion_is_found_with_its_sign(moving: SimulatedMovie, found: MotionEstimate) -> None:
    assert (found.local, found.converged) == ("fitted", True)
    assert found.field.local is not None
    np.testing.assert_array_equal(found.field.at(500.0, 100.0)[0], 0.0)
    whole = MotionField(found.field.shifts, found.field.shape)
    assert total_error(moving, found.field) < 0.6 * total_error(moving, whole)
    assert error(found.field.shifts - moving.truth.field_mean()) < 0.22
    # the last frame at two corners: their difference is local motion alone
    corners = [found.field.at(y, x)[-1] for y, x in ((50.0, 70.0), (960.0, 900.0))]
    truth = [moving.truth.shift_at(-1, y, x) for y, x in ((50.0, 70.0), (960.0, 900.0))]
    np.testing.assert_allclose(corners[0] - corners[1], truth[0] - truth[1], atol=1.0)
    assert found.tracks is not None
    assert found.tracks.measured.shape == (36, 24, 2)
    assert not found.tracks.dropped.any()


def test_where_there_is_none_it_is_rejected_and_does_no_harm() -> None:
    spec = standard_case("small")
    movie = simulate_movie(replace(spec, motion=replace(spec.motion, local=0.0)), 1)
    frames = corrected(movie, 1)
    tried = estimate_motion(frames, pixel_size=1.06, dose=Dose(1.0))
    without = estimate_motion(frames, pixel_size=1.06, dose=Dose(1.0), local=False)
    assert without.local == "off"
    assert total_error(movie, tried.field) <= total_error(movie, without.field) + 0.05


def test_a_jump_of_ten_pixels_is_kept() -> None:
    spec = standard_case("small")
    movie = simulate_movie(replace(spec, motion=replace(spec.motion, jump=10.0)), 1)
    found = estimate_motion(corrected(movie, 1), pixel_size=1.06, dose=Dose(1.0))
    truth, middle = movie.truth.field_mean(), len(movie.frames) // 2
    jump, true = (path[middle] - path[middle - 1] for path in (found.field.shifts, truth))
    assert np.hypot(*(jump - true)) < 0.5


def test_hardly_any_signal_is_not_moved_at_all() -> None:
    spec = replace(standard_case("small"), shape=(512, 512), dose_per_frame=0.2 / 24 / 1.06**2)
    found = estimate_motion(corrected(simulate_movie(spec, 1), 1), pixel_size=1.06, dose=Dose(spec.dose_per_frame))
    np.testing.assert_array_equal(found.field.shifts, 0.0)
    assert found.uncertainty == np.inf
    assert not found.converged


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_few_frames(frames: int) -> None:
    spec = replace(standard_case("small"), shape=(601, 623), frames=frames, dose_per_frame=4.0)
    movie = simulate_movie(spec, 2)
    found = estimate_motion(corrected(movie, 2), pixel_size=1.06, dose=Dose(4.0))
    still = MotionField(np.zeros((frames, 2)), (601, 623))
    assert total_error(movie, found.field) <= total_error(movie, still) + 0.05


def test_many_frames_are_grouped(moving: SimulatedMovie) -> None:
    found = estimate_motion(corrected(moving, 3), pixel_size=1.06, dose=Dose(1.0), group=3)
    assert found.field.shifts.shape == (24, 2)
    assert found.tracks is not None
    np.testing.assert_allclose(found.tracks.frames, np.arange(8) * 3 + 1.0)
    assert error(found.field.shifts - moving.truth.field_mean()) < 0.6


def test_between_groups_a_path_goes_on_straight() -> None:
    line = np.outer(np.array([1.0, 4.0, 7.0]), [0.5, -1.0])
    every = _every_frame(MotionField(line, (64, 64)), np.array([1.0, 4.0, 7.0]), 9)
    np.testing.assert_allclose(every.shifts, np.outer(np.arange(9), [0.5, -1.0]), atol=1e-12)


def test_a_patch_that_disagrees_is_dropped() -> None:
    rng = RNG(5)
    shape = (1000, 1000)
    y, x = np.meshgrid(np.arange(5) * 200.0 + 100, np.arange(5) * 200.0 + 100, indexing="ij")
    centres = np.stack([y.ravel(), x.ravel()], axis=1)
    settling = 1.0 - np.exp(-np.arange(30) / 5.0)
    slopes = rng.normal(0, 3.0, (2, 5))
    motion = np.einsum("t,ak,pk->pta", settling, slopes, place_terms(centres[:, 0], centres[:, 1], shape))
    measured = motion[:, :, None, :] + rng.normal(0, 0.3, (25, 30, 2, 2))
    measured[7] += np.linspace(0, 6, 30)[:, None, None]
    weights = np.full((25, 30), 2.0 / 0.09)
    fit = local.fit_local_motion(measured, weights, centres, shape, pixel_size=1.0)
    np.testing.assert_array_equal(np.flatnonzero(fit.dropped), [7])
    terms = place_terms(centres[:, 0], centres[:, 1], shape)
    wrong = np.einsum("ak,pk->pa", fit.coefficients[-1] - settling[-1] * slopes, terms)
    assert np.sqrt((wrong**2).sum(axis=1).mean()) < 0.15
    gain = local.gain_by_local_motion(measured, weights, centres, shape, pixel_size=1.0, dropped=fit.dropped)
    assert gain > 100.0
    noise = rng.normal(0, 0.3, measured.shape)
    none = local.gain_by_local_motion(noise, weights, centres, shape, pixel_size=1.0, dropped=fit.dropped)
    assert none < local.WORTH


def test_a_quadratic_cubic_motion_survives_the_way_through_relion() -> None:
    rng = RNG(6)
    time = np.arange(12)
    powers = np.stack([time, time**2, time**3], axis=1) / np.array([11.0, 121.0, 1331.0])
    field = MotionField(
        rng.normal(size=(12, 2)), (900, 1100), np.einsum("ti,iak->tak", powers, rng.normal(0, 2.0, (3, 2, 5)))
    )
    shifts, coefficients, lost = project_on_cubic(field)
    assert coefficients.shape == (36,)
    assert lost < 1e-9
    for t, y, x in ((0, 10.0, 20.0), (5, 800.0, 120.0), (11, 333.0, 1000.0)):
        expected = field.at(y, x)[t]
        np.testing.assert_allclose(shifts[t] + relion_shift(coefficients, t, y, x, field.shape), expected, atol=1e-9)
    again = field_from_cubic(shifts, coefficients, field.shape)
    np.testing.assert_allclose(again.shifts, field.shifts, atol=1e-9)
    np.testing.assert_allclose(again.local, field.local, atol=1e-9)
    # by hand: only x changes, and only with x²; the mean over the field stays in the whole-frame shifts
    bent = np.zeros((3, 2, 5))
    bent[:, 1, 2] = [0.0, 1.0, 2.0]
    shifts, coefficients, _ = project_on_cubic(MotionField(np.zeros((3, 2)), (100, 100), bent))
    assert coefficients[6] == pytest.approx(1.0)
    np.testing.assert_allclose(shifts[:, 1], [0.0, -1 / 12, -2 / 12], atol=1e-12)
    with pytest.raises(ValueError, match="no local motion"):
        project_on_cubic(MotionField(np.zeros((3, 2)), (100, 100)))


def test_what_a_cubic_cannot_follow_is_told() -> None:
    sudden = np.zeros((40, 2, 5))
    sudden[1:, 0, 0] = 4.0
    field = MotionField(np.zeros((40, 2)), (500, 500), sudden)
    assert 0.1 < project_on_cubic(field)[2] < field.local_rms()


def test_the_field_seen_from_another_frame() -> None:
    field = MotionField(RNG(7).normal(size=(5, 2)), (300, 200), RNG(8).normal(size=(5, 2, 5)))
    seen = field.seen_from(3)
    np.testing.assert_allclose(seen.at(20.0, 30.0)[3], 0.0, atol=1e-12)
    np.testing.assert_allclose(seen.at(20.0, 30.0), field.at(20.0, 30.0) - field.at(20.0, 30.0)[3], atol=1e-12)


def test_patches_lie_within_the_field_and_know_their_place() -> None:
    assert choose_patches((1085.0, 1085.0)) == (6, 6)
    assert choose_patches((4000.0, 5600.0)) == (7, 8)
    assert choose_patches((300.0, 300.0)) == (3, 3)
    rng = RNG(9)
    movie = rng.poisson(2.0, (3, 300, 340)).astype(np.uint8)
    movie[:, 210:214, 60:64] += 200
    shifts = np.array([[0.0, 0.0], [20.0, -10.0], [20.0, -10.0]])
    binned = bin_frames(CorrectedFrames(movie), pixel_size=1.5)
    cut = cut_patches(binned, shifts, pixel_size=1.5, resolution=5.0, count=(3, 3))
    assert cut is not None
    assert len(cut) == 9
    half = 0.5 * np.array(cut.field)
    for t in range(3):
        # windows in the frame: the place in the aligned image less the shift
        inside = cut.centres - cut.taken[t]
        assert (inside - half >= -1.0).all()
        assert (inside + half <= np.array(movie.shape[1:]) + 1.0).all()
    # the bright spot is in the window that holds its place
    brightest = int(np.argmax(cut.own_power.sum(axis=1)))
    assert (np.abs(cut.centres[brightest] - [212, 62]) < half + 2.0).all()
    small = bin_frames(CorrectedFrames(movie[:, :90, :90]), pixel_size=1.5)
    assert cut_patches(small, shifts, pixel_size=1.5, resolution=5.0) is None


def test_halving_keeps_waves_and_equals_its_plain_twin() -> None:
    image = RNG(10).normal(size=(61, 70)).astype(np.float32)
    np.testing.assert_allclose(halve(image), halve_plain(image), atol=1e-5)
    y, x = np.arange(64)[:, None], np.arange(64)[None, :]
    wave = np.cos(2 * np.pi * (0.06 * (y + 0.5) + 0.1 * (x + 0.5))).astype(np.float32)
    half = np.cos(2 * np.pi * (0.12 * (y[:32] + 0.5) + 0.2 * (x[:, :32] + 0.5)))
    # the gain is alike everywhere, so nothing has moved
    gain = (halve(wave) * half)[4:-4, 4:-4].sum() / (half[4:-4, 4:-4] ** 2).sum()
    assert 0.9 < gain < 1.2
    np.testing.assert_allclose(halve(wave)[4:-4, 4:-4], gain * half[4:-4, 4:-4], atol=0.01)
    alias = np.cos(2 * np.pi * 0.4 * x * np.ones((64, 1))).astype(np.float32)
    assert np.abs(halve(alias)[4:-4, 4:-4]).max() < 0.15


def test_kept_frequencies_equal_their_plain_twin() -> None:
    rng = RNG(11)
    transform = (rng.normal(size=(2, 8, 6)) + 1j * rng.normal(size=(2, 8, 6))).astype(np.complex64)
    rows, factor = np.array([0, 1, 6, 7]), rng.random((4, 5)).astype(np.float32)
    results = []
    for keep in (patches._keep, patches.keep_plain):
        kept, power = np.zeros((2, 4, 5), np.complex64), np.zeros((2, 4, 5), np.float32)
        keep(transform, rows, factor, kept, power)
        results.append((kept, power))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def test_on_a_strict_array_the_result_is_the_same() -> None:
    spec = replace(standard_case("small"), shape=(420, 440), frames=6, dose_per_frame=3.0)
    movie = simulate_movie(spec, 4)
    plain = estimate_motion(CorrectedFrames(movie.frames), pixel_size=1.06, dose=Dose(3.0))
    there = estimate_motion(CorrectedFrames(strict(movie.frames)), pixel_size=1.06, dose=Dose(3.0))
    assert plain.local == there.local
    np.testing.assert_allclose(there.field.shifts, plain.field.shifts, atol=0.02)


def test_a_short_last_group_is_where_its_frames_are() -> None:
    spec = standard_case("small")
    still = replace(spec.motion, burst=0.0, walk=0.0, local=0.0, drift=6.0)
    movie = simulate_movie(replace(spec, shape=(420, 440), frames=13, dose_per_frame=3.0, motion=still), 3)
    # no more than half of the frames are one group
    for group, middles in ((4, [1.5, 5.5, 9.5, 12.0]), (20, [2.5, 8.5, 12.0])):
        found = estimate_motion(corrected(movie, 3), pixel_size=1.06, dose=Dose(3.0), group=group, local=False)
        assert found.tracks is not None
        np.testing.assert_allclose(found.tracks.frames, middles)
        assert error(found.field.shifts - movie.truth.field_mean()) < 0.6


@pytest.mark.parametrize("frames", [2, 3, 10])
def test_noise_alone_is_not_aligned(frames: int) -> None:
    for seed in range(6):
        noise = RNG(seed).poisson(0.3, (frames, 300, 300)).astype(np.uint8)
        found = estimate_motion(CorrectedFrames(noise), pixel_size=1.06, dose=Dose(1.0))
        np.testing.assert_array_equal(found.field.shifts, 0.0)


def test_dose_before_the_movie_changes_nothing() -> None:
    spec = replace(standard_case("small"), shape=(420, 440), frames=8, dose_per_frame=3.0)
    frames = corrected(simulate_movie(spec, 4), 4)
    paths = [estimate_motion(frames, pixel_size=1.06, dose=Dose(3.0, prior=prior)).field.shifts for prior in (0, 1e4)]
    np.testing.assert_allclose(paths[1], paths[0], atol=1e-6)


def test_patches_too_many_for_the_field_are_refused() -> None:
    noise = RNG(1).poisson(2.0, (4, 256, 320)).astype(np.uint8)
    with pytest.raises(ValueError, match="16 x 20 patches are too many for frames of 256 x 320"):
        estimate_motion(CorrectedFrames(noise), pixel_size=1.06, patches=(16, 20))


def test_a_search_that_goes_astray_returns_to_where_it_agreed_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sharp ring of ice agrees with itself a period further: frames swing from one place to another."""
    significances, begun = [40.0, 60.0, 20.0, 10.0], []

    def swing(self: object, shifts: np.ndarray, coefficients: np.ndarray, local: bool) -> estimate._State:
        begun.append((shifts, coefficients))
        significance = significances[len(begun) - 1]
        found = estimate.Measurement(np.zeros((1, 3, 2, 2)), np.ones((1, 3)), significance, np.ones(4))
        return estimate._State(shifts + 3.0, coefficients + 1.0, 3.0, found, found.steps, shifts, None)

    monkeypatch.setattr(estimate._Search, "_step", swing)
    search = object.__new__(estimate._Search)
    search.tolerance, search.iterations = 0.05, 4
    state, done = search.run(np.zeros((3, 2)), True)
    assert done == 4
    assert state.change > search.tolerance
    assert state.measurement.significance == 60.0
    np.testing.assert_array_equal(state.shifts, begun[1][0])
    np.testing.assert_array_equal(state.coefficients, begun[1][1])
    # one that only creeps keeps its last step
    begun.clear()
    significances[2:] = 59.0, 58.0
    state, _ = search.run(np.zeros((3, 2)), True)
    assert state.measurement.significance == 58.0
