"""Icy movies, whose frames agree a period of a ring further as well: aligned rightly, or said not to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from focusnb.ops.defects import prepare_bad_pixels
from focusnb.ops.dose import Dose
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion import estimate
from focusnb.ops.motion.align import estimate_shifts
from focusnb.ops.motion.band import Band, bin_frames, transform_frames
from focusnb.ops.motion.estimate import estimate_motion
from focusnb.ops.motion.evidence import Evidence, fine_part
from focusnb.ops.simulate import simulate_movie, standard_case
from tests.ops.test_local_motion import total_error
from tests.strict import strict

RNG = np.random.default_rng
STRONG = {"burst": 6.0, "drift": 8.0, "local": 4.0}
LITTLE = {"burst": 0.5, "drift": 1.5, "local": 0.5}


@pytest.mark.parametrize(
    ("crystalline", "dose", "motion", "seed", "pixels"),
    [
        # without looking elsewhere: 4.3, 9.8, 10.7 and 50 px, and "converged"
        (1500.0, 1.0, STRONG, 1, (320, 352)),
        (1500.0, 0.5, LITTLE, 2, (320, 352)),
        (4000.0, 1.0, LITTLE, 1, (320, 352)),
        (4000.0, 3.0, STRONG, 2, (320, 352)),
        # too small for windows
        (4000.0, 2.0, LITTLE, 4, (90, 100)),
    ],
)
def test_an_icy_movie_ends_no_worse_than_it_was(
    crystalline: float, dose: float, motion: dict[str, float], seed: int, pixels: tuple[int, int]
) -> None:
    spec = standard_case("small")
    specimen = replace(spec.specimen, crystalline=crystalline)
    moved = replace(spec.motion, **motion)
    spec = replace(spec, shape=pixels, frames=8, dose_per_frame=dose, specimen=specimen, motion=moved)
    movie = simulate_movie(spec, seed)
    frames = CorrectedFrames(movie.frames, gain=movie.gain, bad_pixels=prepare_bad_pixels(movie.detector.defects))
    found = estimate_motion(frames, pixel_size=1.06, dose=Dose(dose))
    assert np.isfinite(found.uncertainty)
    assert total_error(movie, found.field) < 0.3


def lattice_frames(path: np.ndarray, *, pixels: int = 200, period: float = 4.0, noise: float = 3.0) -> np.ndarray:
    """Frames (t, y, x) of a square lattice that needs a path to be aligned, and of nothing else but noise."""
    place, turn = np.arange(pixels), np.radians(20.0)
    y, x = np.meshgrid(place, place, indexing="ij")
    frames = []
    for dy, dx in path:
        along = [((y + dy) * np.cos(a) + (x + dx) * np.sin(a)) / period for a in (turn, turn + np.pi / 2)]
        frames.append(sum(np.cos(2 * np.pi * u) for u in along))
    return (np.stack(frames) + RNG(1).normal(0.0, noise, (len(path), pixels, pixels))).astype(np.float32)


def band_of(frames: np.ndarray, *, pixel_size: float = 1.0) -> Band:
    binned = bin_frames(CorrectedFrames(frames), pixel_size=pixel_size)
    return transform_frames(binned, pixel_size=pixel_size, resolution=3.5)


def test_of_several_paths_the_true_one_explains_most() -> None:
    rng = RNG(2)
    scene = rng.normal(0.0, 1.0, (160, 170))
    path = np.array([[0, 0], [2, -1], [5, 3], [6, 3], [9, 2]], float)
    frames = [np.roll(scene, (-int(dy), -int(dx)), axis=(0, 1)) for dy, dx in path]
    evidence = Evidence(band_of((np.stack(frames) + rng.normal(0.0, 2.0, (5, 160, 170))).astype(np.float32)), 1.0)
    still = np.zeros_like(path)
    gain = evidence.gain(path)
    assert evidence.gain(still) == 0.0
    assert evidence.worth(still, np.inf) == 0.0
    assert gain > 100.0
    assert gain > max(evidence.gain(-path), evidence.gain(path[:, ::-1]), evidence.gain(0.8 * path))
    assert evidence.proves(path, 0.5, fine=0.0, rough=still)
    noise = Evidence(band_of(rng.normal(0.0, 1.0, (5, 160, 170)).astype(np.float32)), 1.0)
    assert noise.worth(path, 0.5) < 0.0
    assert not noise.proves(path, 0.5, fine=0.0, rough=path)


def test_freedom_of_a_path_is_that_of_its_cosines() -> None:
    evidence = Evidence(band_of(RNG(6).normal(0.0, 1.0, (8, 64, 64)).astype(np.float32)), 1.0)

    def freedom(path: np.ndarray, uncertainty: float) -> float:
        return evidence.gain(path) - evidence.worth(path, uncertainty)

    time = np.arange(8)
    along = np.sqrt(2 / 8) * np.cos(np.pi * (time + 0.5) / 8)
    path = 3.0 + np.outer(along, [3.0, 4.0])
    assert freedom(path, 0.5) == pytest.approx(1.0 + np.log(25.0 / 0.25))
    # what is shorter than its error is chance
    assert freedom(path, 10.0) == pytest.approx(0.25)
    drift = np.outer(time, [0.7, -0.5])
    assert freedom(drift, 0.2) < freedom(drift[[3, 0, 6, 1, 7, 4, 2, 5]], 0.2) - 5.0


@pytest.mark.parametrize(
    ("case", "pixels", "frames", "dose", "seed", "local", "largest"),
    [
        # few waves of a smooth path are enough: 3.7 px where it is not believed
        ("mid", 768, 8, 0.5, 943, "rejected", 1.0),
        # local motion of noise, that both halves were led to, made 0.7 px of 0.55
        ("mid", 512, 5, 1.0, 933, "rejected", 0.6),
    ],
)
def test_a_weak_movie_is_aligned(
    case: str, pixels: int, frames: int, dose: float, seed: int, local: str, largest: float
) -> None:
    spec = replace(standard_case(case), shape=(pixels, pixels), frames=frames, dose_per_frame=dose)
    movie = simulate_movie(spec, seed)
    corrected = CorrectedFrames(movie.frames, gain=movie.gain, bad_pixels=prepare_bad_pixels(movie.detector.defects))
    found = estimate_motion(corrected, pixel_size=1.06, dose=Dose(dose))
    assert np.isfinite(found.uncertainty)
    assert found.local == local
    assert total_error(movie, found.field) < largest


def test_where_little_motion_is_not_told_from_noise_nothing_moves() -> None:
    spec = standard_case("hard")
    motion = replace(spec.motion, burst=0.4, drift=0.8, local=0.5)
    spec = replace(spec, shape=(512, 512), frames=3, dose_per_frame=2.0, motion=motion)
    movie = simulate_movie(spec, 1928)
    frames = CorrectedFrames(movie.frames, gain=movie.gain, bad_pixels=prepare_bad_pixels(movie.detector.defects))
    found = estimate_motion(frames, pixel_size=1.06, dose=Dose(2.0))
    # it was moved by 0.9 px, and is 0.44 px wrong as it is
    assert np.isinf(found.uncertainty)
    assert total_error(movie, found.field) < 0.5


@pytest.mark.parametrize(
    ("gains", "expected"), [([2.0], 2.0), ([50.0, -3.0], -6.0), ([20.0, 11.0], 20.0), ([150.0], 150.0)]
)
def test_gain_of_local_motion_is_that_from_unmoved_places(
    gains: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, begun = iter(gains), []

    def step(self: object, shifts: np.ndarray, coefficients: np.ndarray, local: bool) -> estimate._State:
        begun.append((shifts, coefficients, local))
        return moved

    monkeypatch.setattr(estimate._Search, "_step", step)
    monkeypatch.setattr(estimate._Search, "_unseen", lambda self, state: next(told))
    measured = estimate.Measurement(np.zeros((1, 3, 2, 2)), np.ones((1, 3)), 9.0, np.ones(4))
    moved = estimate._State(np.ones((3, 2)), np.ones((3, 2, 5)), 0.0, measured, measured.steps, np.ones((3, 2)), None)
    search = object.__new__(estimate._Search)
    assert search.gain(moved) == expected
    assert next(told, None) is None
    for shifts, coefficients, local in begun:
        np.testing.assert_array_equal(shifts, moved.shifts)
        np.testing.assert_array_equal(coefficients, 0.0)
        assert local


def test_evidence_of_frames_without_noise_and_on_another_array() -> None:
    frames = np.stack([RNG(3).normal(0.0, 1.0, (64, 64))] * 3).astype(np.float32)
    moved = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0]])
    assert Evidence(band_of(frames), 1.0).gain(moved) < -1000.0
    there = bin_frames(CorrectedFrames(strict(frames)), pixel_size=1.0)
    evidence = Evidence(transform_frames(there, pixel_size=1.0, resolution=3.5), 1.0)
    assert evidence.gain(moved) == pytest.approx(Evidence(band_of(frames), 1.0).gain(moved), rel=1e-3)
    assert not evidence.slips(np.zeros((3, 2)), moved)


def test_a_step_over_a_lattice_is_not_told_from_its_repetition() -> None:
    smooth = np.outer(np.arange(8), [0.6, -0.5])
    jumped = smooth + np.where(np.arange(8) >= 4, 6.0, 0.0)[:, None]
    far = np.full((8, 2), 20.0) * np.arange(8)[:, None]
    assert not Evidence(band_of(lattice_frames(smooth)), 1.0).slips(smooth, far)
    evidence = Evidence(band_of(lattice_frames(jumped)), 1.0)
    assert evidence.slips(jumped, far)
    # unless long waves tell the same
    assert not evidence.slips(jumped, jumped + 0.3)
    # a specimen that does not repeat itself may jump
    scene = RNG(4).normal(0.0, 1.0, (200, 200))
    frames = [np.roll(scene, (-int(dy), -int(dx)), axis=(0, 1)) for dy, dx in np.rint(jumped)]
    irregular = (np.stack(frames) + RNG(5).normal(0.0, 1.0, (8, 200, 200))).astype(np.float32)
    assert not Evidence(band_of(irregular), 1.0).slips(np.rint(jumped), far)


def test_a_crystal_that_leaps_is_not_moved() -> None:
    # from its low frequencies alone, which hold nothing, the path was 18 px wrong
    path = np.outer(np.arange(4), [4.5, 1.0])
    found = estimate_shifts(CorrectedFrames(lattice_frames(path, pixels=128)), pixel_size=1.0)
    assert np.isinf(found.uncertainty)
    np.testing.assert_array_equal(found.shifts, 0.0)


def test_which_part_is_fine() -> None:
    frequency = np.array([0.05, 0.1, 0.2, 0.25])
    overlap = np.array([1.0, 2.0, 3.0, 2.0])
    assert fine_part(overlap, frequency, 1.0) == pytest.approx(5 / 8)
    # waves of 0.2 cycles/px are 10 Å long where a pixel has 2 Å
    assert fine_part(overlap, frequency, 2.0) == 0.0
    assert fine_part(0.0 * overlap, frequency, 1.0) == 0.0
