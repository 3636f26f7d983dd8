"""Orientation of gain references by an asymmetric pattern, and the pattern they leave."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from focusnb.ops import gain
from focusnb.ops.backend import to_numpy
from focusnb.ops.gain import Orientation
from tests.strict import strict

LETTER = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def test_rotation_then_flip_of_rows() -> None:
    # numpy's quarter turn: the last column becomes the first row
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=1), [[3, 6], [2, 5], [1, 4]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=1, flip=True), [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=2), [[6, 5, 4], [3, 2, 1]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, flip=True), [[4, 5, 6], [1, 2, 3]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=-1), gain.orient_gain(LETTER, rotation=3))


def test_allowed_orientations_follow_the_shapes() -> None:
    square = gain.orientations((4, 4), (4, 4))
    assert len(set(square)) == 8
    assert {(o.rotation, o.flip) for o in gain.orientations((3, 4), (3, 4))} == {(0, 0), (2, 0), (0, 1), (2, 1)}
    assert {(o.rotation, o.flip) for o in gain.orientations((3, 4), (4, 3))} == {(1, 0), (3, 0), (1, 1), (3, 1)}
    assert gain.orientations((3, 4), (4, 4)) == ()


def test_bad_pixels_are_zeros_and_nonsense_is_refused() -> None:
    reference = np.ones((3, 4), np.float32)
    reference[1, 2] = 0.0
    assert np.argwhere(gain.bad_gain_pixels(reference)).tolist() == [[1, 2]]
    reference[0, 0] = np.nan
    reference[0, 1] = np.inf
    with pytest.raises(ValueError, match="2 values that are not finite"):
        gain.bad_gain_pixels(reference)
    with pytest.raises(ValueError, match="1 values below 0"):
        gain.bad_gain_pixels(np.array([[1.0, -0.1]], np.float32))


@pytest.mark.parametrize("rotation", range(4))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(120, 120), (100, 140)])
def test_orientation_is_found(shape: tuple[int, int], rotation: int, flip: bool) -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(1.0, 0.06, shape).astype(np.float32)
    reference[5, 7] = 0.0
    oriented = gain.orient_gain(reference, rotation=rotation, flip=flip)
    y = np.linspace(0, 6, oriented.shape[0])[:, None]
    expected = 40.0 * (1.0 + 0.2 * np.sin(y))  # a specimen
    response = np.divide(1.0, oriented, out=np.zeros_like(oriented), where=oriented > 0)
    counts = rng.poisson(expected * response)
    counts[50, 60] = 4000  # a hot pixel
    found = gain.find_orientation((counts / 40.0).astype(np.float32), reference)
    assert found.best == Orientation(rotation, flip)
    assert found.certain
    assert found.correlation > found.second_correlation + found.margin


def test_unrelated_gain_is_not_certain() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(1.0, 0.06, (150, 150)).astype(np.float32)
    frame = rng.poisson(40.0, (150, 150)).astype(np.float32)
    assert not gain.find_orientation(frame, reference).certain
    with pytest.raises(ValueError, match=r"\(150, 150\).*\(150, 149\)"):
        gain.find_orientation(frame[:, 1:], reference)


def movie_mean(gain_in_frame: np.ndarray, counts: float, seed: int = 4) -> np.ndarray:
    """Mean of raw counts of a camera whose gain lies like this, over a specimen."""
    rng = np.random.default_rng(seed)
    y = np.linspace(0, 6, gain_in_frame.shape[0])[:, None]
    response = np.divide(1.0, gain_in_frame, out=np.zeros_like(gain_in_frame), where=gain_in_frame > 0)
    return rng.poisson(counts * (1.0 + 0.2 * np.sin(y)) * response).astype(np.float32)


def reference_of(shape: tuple[int, int], rms: float = 0.06) -> np.ndarray:
    reference = np.random.default_rng(5).normal(1.0, rms, shape).astype(np.float32)
    reference[shape[0] // 2, shape[1] // 2 + 3] = 0.0
    return reference


EIGHT = [(rotation, flip) for rotation in range(4) for flip in (False, True)]
# a gain turned by a quarter has another shape than frames that are not square
LYING = [
    (shape, true, given)
    for shape in ((150, 150), (151, 151), (150, 131))
    for true, given in itertools.product(EIGHT, EIGHT)
    if shape[0] == shape[1] or (true[0] - given[0]) % 2 == 0
]


@pytest.mark.parametrize("centre", [91, 1024])
@pytest.mark.parametrize(("shape", "true", "given"), LYING)
def test_every_wrong_orientation_is_told(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    centre: int,
    true: tuple[int, bool],
    given: tuple[int, bool],
) -> None:
    monkeypatch.setattr(gain, "CENTRE", centre)
    reference = reference_of(shape)
    raw = movie_mean(gain.orient_gain(reference, rotation=true[0], flip=true[1]), 40.0)
    used = gain.orient_gain(reference, rotation=given[0], flip=given[1])
    fit = gain.check_orientation(raw * used, used, given=Orientation(*given))
    assert fit.best == Orientation(*true)
    assert fit.verdict == ("as given" if true == given else "another fits better")
    assert fit.correlation > 0.2
    assert fit.given_correlation == fit.correlation if true == given else abs(fit.given_correlation) < 0.1


@pytest.mark.parametrize("reason", ["few counts", "flat", "mirrored", "of another camera"])
def test_what_does_not_suffice_is_uncertain(reason: str) -> None:
    reference = reference_of((128, 128), rms=0.0 if reason == "flat" else 0.06)
    if reason == "mirrored":
        reference[64:] = reference[:64][::-1]
    lying = reference_of((128, 129))[:, 1:] if reason == "of another camera" else reference
    raw = movie_mean(np.ascontiguousarray(lying), 0.5 if reason == "few counts" else 40.0)
    fit = gain.check_orientation(raw * reference, reference, given=Orientation(0, False))
    assert (fit.verdict, fit.best) == ("uncertain", Orientation(0, False))


@pytest.mark.parametrize("recorded", ["raw", "corrected already", "changed by half", "inverse"])
def test_how_much_of_the_pattern_the_counts_show(recorded: str) -> None:
    reference = reference_of((300, 320))
    there = {"raw": 1.0, "corrected already": 0.0, "changed by half": 0.5, "inverse": -1.0}[recorded]
    raw = movie_mean(np.where(reference > 0, np.maximum(reference, 0.01) ** there, 0), 40.0)
    fit = gain.check_orientation(raw * reference, reference, given=Orientation(0, False))
    assert fit.pattern == pytest.approx(there, abs=0.06)
    assert dict(fit.correlations)[Orientation(0, False)] == fit.given_correlation
    assert [value for _, value in fit.correlations] == sorted((v for _, v in fit.correlations), reverse=True)
    assert fit.pixels == 300 * 320


def test_contrast_of_a_reference() -> None:
    reference = reference_of((300, 320), rms=0.05)
    reference[10, 10] = 0
    assert gain.gain_contrast(reference) == pytest.approx(0.05, rel=0.1)
    assert gain.gain_contrast(np.ones((64, 64), np.float32)) == 0


def test_windows_are_the_middles_of_the_quadrants() -> None:
    image = np.add.outer(1000.0 * np.arange(20), np.arange(30)).astype(np.float32)
    windows = gain.sample_windows(image, size=4)
    assert (windows.shape, windows.dtype) == ((16, 4), np.float32)
    corners = [(3, 5), (3, 20), (13, 5), (13, 20)]
    expected = np.concatenate([image[y : y + 4, x : x + 4] for y, x in corners])
    np.testing.assert_allclose(windows, expected / expected.mean(), rtol=1e-6)
    assert gain.sample_windows(image[:7, :9], size=4).shape == (12, 4)
    assert gain.sample_windows(np.zeros((20, 20), np.float32)) is None
    assert gain.sample_windows(-image) is None


def halves_of_a_session(
    left: float, *, movies: int = 12, counts: float = 40.0, specimen: float = 0.05, shape: tuple[int, int] = (400, 300)
) -> tuple[np.ndarray, np.ndarray]:
    """Means of even and odd movies whose gain reference leaves a pattern of this relative strength."""
    rng = np.random.default_rng(6)
    pattern = 1.0 + left * rng.normal(0.0, 1.0, shape)
    beam = 1.0 + 0.1 * np.linspace(-1, 1, shape[0])[:, None] ** 2
    halves = np.zeros((2, *shape))
    for number in range(movies):
        shown = ndimage.gaussian_filter(rng.normal(0.0, 1.0, shape), 2.0)
        expected = counts * beam * (1.0 + specimen * shown / shown.std())
        halves[number % 2] += rng.poisson(expected) * pattern
    halves[:, 7, 9] *= 40.0  # a hot pixel that was not found
    return halves[0].astype(np.float32), halves[1].astype(np.float32)


@pytest.mark.parametrize("left", [0.01, 0.02, 0.08])
def test_residual_gain_is_what_was_left(left: float) -> None:
    found = gain.residual_gain(*halves_of_a_session(left))
    assert abs(found.covariance - left**2) < 4 * found.uncertainty + 0.06 * left**2
    assert found.fraction == pytest.approx(left, rel=0.15)
    assert found.fraction < found.limit


def test_without_a_pattern_noise_and_specimen_cancel() -> None:
    even, odd = halves_of_a_session(0.0)
    found = gain.residual_gain(even, odd)
    assert abs(found.covariance) < 4 * found.uncertainty
    # the same movies in both halves: noise and specimen would pass for a pattern
    assert gain.residual_gain(even, even).fraction > 0.05
    assert gain.ResidualGain(-1e-6, 1e-6).fraction == 0.0
    with pytest.raises(ValueError, match=r"\(400, 300\) and \(399, 300\)"):
        gain.residual_gain(even, odd[1:])


def test_the_uncertainty_is_that_of_repeated_sessions() -> None:
    rng = np.random.default_rng(8)
    found = [gain.residual_gain(*(1.0 + rng.normal(0.0, 0.05, (2, 96, 96)))) for _ in range(60)]
    scatter = np.std([one.covariance for one in found])
    assert scatter == pytest.approx(np.mean([one.uncertainty for one in found]), rel=0.35)


def test_on_the_device_as_on_the_host() -> None:
    reference = reference_of((128, 128))
    raw = movie_mean(gain.orient_gain(reference, rotation=1, flip=True), 40.0)
    host = gain.check_orientation(raw * reference, reference, given=Orientation(0, False))
    device = gain.check_orientation(strict(raw * reference), strict(reference), given=Orientation(0, False))
    assert (device.best, device.verdict) == (Orientation(1, True), "another fits better")
    assert device.correlation == pytest.approx(host.correlation, rel=1e-4)
    np.testing.assert_allclose(to_numpy(gain.sample_windows(strict(raw))), gain.sample_windows(raw), rtol=1e-6)
    even, odd = halves_of_a_session(0.02, movies=4)
    assert gain.residual_gain(strict(even), strict(odd)).covariance == pytest.approx(
        gain.residual_gain(even, odd).covariance, rel=1e-3
    )


@pytest.mark.parametrize("shape", [(60, 75), (9, 5), (3, 40), (1, 1)])
@pytest.mark.parametrize("width", [1, 9, 33])
def test_the_mean_of_a_box_equals_its_plain_twin(shape: tuple[int, int], width: int) -> None:
    image = np.random.default_rng(31).normal(7.0, 2.0, shape).astype(np.float32)
    np.testing.assert_allclose(gain.box_mean(image, width), gain.box_mean_plain(image, width), rtol=1e-5)
