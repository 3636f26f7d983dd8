"""The same functions on a strict stand-in for a device array give what they give on numpy."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.ops import backend, defects, dose, fourier, gain
from focusnb.ops.backend import to_numpy
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.align import estimate_shifts
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.frc import frc_resolution
from focusnb.ops.motion.sums import sum_frames
from tests.strict import NAMESPACES, StrictArray, strict


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).normal(5.0, 1.0, (48, 62)).astype(np.float32)


def test_strict_array_refuses_numpy(image: np.ndarray) -> None:
    ours = strict(image)
    with pytest.raises(TypeError):
        ours + image
    with pytest.raises(TypeError):
        image * ours
    with pytest.raises(TypeError):
        ours * np.float32(2.0)
    with pytest.raises(TypeError):
        np.sqrt(ours)
    with pytest.raises(TypeError):
        np.asarray(ours)
    with pytest.raises(TypeError):
        NAMESPACES.xp.maximum(ours, image)
    with pytest.raises(TypeError):
        ours[np.array([1, 2])]
    assert isinstance(NAMESPACES.xp.asarray(image), StrictArray)
    assert isinstance(ours.sum(), StrictArray)
    np.testing.assert_array_equal(to_numpy(2.0 * ours - 1.0), 2.0 * image - 1.0)


def test_namespaces_follow_the_array(image: np.ndarray) -> None:
    ours = strict(image)
    assert backend.array_namespace(ours) is NAMESPACES.xp
    assert backend.array_namespace(image) is np
    with pytest.raises(TypeError, match="mixed"):
        backend.array_namespace(ours, image)
    with pytest.raises(TypeError, match="str"):
        backend.array_namespace("image")


@pytest.mark.parametrize(
    "function",
    [
        lambda a: fourier.crop_fourier(a, (24, 31)),
        lambda a: fourier.pad_fourier(a, (50, 64)),
        lambda a: fourier.pad_mean(a, (50, 70)),
        lambda a: fourier.crop_to_pixel_size(a, 1.0, 1.5)[0],
        lambda a: fourier.shift_fourier(a, (1.25, -3.5)),
        lambda a: fourier.low_pass(a, pixel_size=1.0, resolution=5.0),
        lambda a: fourier.ring_correlation(a, a[::-1])[1],
        lambda a: fourier.rotational_average(abs(backend.fft_namespace(a).rfft2(a)), a.shape)[1],
        lambda a: gain.orient_gain(a, rotation=3, flip=True),
        lambda a: gain.bad_gain_pixels(a),
        lambda a: defects.find_hot_pixels(a),
        lambda a: dose.dose_weights(abs(a), dose.Dose(1.2, prior=3.0, voltage=250.0), 3),
    ],
)
def test_images_alike(function, image: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    image[7, 9] = 60.0
    image[11, 3] = 0.0
    result = function(strict(image))
    assert isinstance(result, StrictArray)
    np.testing.assert_allclose(to_numpy(result), function(image), rtol=1e-5, atol=1e-5)


def test_gain_orientation_alike(image: np.ndarray) -> None:
    frame = np.random.default_rng(4).poisson(200.0 / image).astype(np.float32)
    found = gain.find_orientation(strict(frame), strict(np.rot90(image, 2).copy()))
    expected = gain.find_orientation(frame, np.rot90(image, 2).copy())
    assert (found.best, found.certain) == (expected.best, True)
    assert found.correlation == pytest.approx(expected.correlation, rel=1e-4)


def test_movies_alike() -> None:
    rng = np.random.default_rng(8)
    scene = fourier.low_pass(rng.normal(0.0, 4.0, (200, 220)).astype(np.float32), pixel_size=1.0, resolution=6.0)
    moved = [fourier.shift_fourier(scene, (0.6 * t, -0.4 * t))[20:180, 20:188] for t in range(6)]
    raw = rng.poisson(np.maximum(6.0 + 4.0 * np.stack(moved), 0.0)).astype(np.uint8)
    sensitivity = rng.uniform(0.8, 1.2, raw.shape[1:]).astype(np.float32)
    sensitivity[40, 50] = 0.0
    bad = defects.prepare_bad_pixels(sensitivity == 0)
    host = CorrectedFrames(raw, gain=sensitivity, bad_pixels=bad, seed=5)
    device = CorrectedFrames(strict(raw), gain=strict(sensitivity), bad_pixels=bad, seed=5)

    np.testing.assert_allclose(to_numpy(device[2]), host[2], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(device.binned(3, 3)), host.binned(3, 3), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(device.sum(1, 2)), host.sum(1, 2), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(device.raw_mean()), host.raw_mean(), rtol=1e-5)

    expected = estimate_shifts(host, pixel_size=1.0)
    found = estimate_shifts(device, pixel_size=1.0)
    np.testing.assert_allclose(found.shifts, expected.shifts, atol=2e-3)
    np.testing.assert_allclose(found.correlation, expected.correlation, atol=2e-3)

    motion = MotionField(expected.shifts, host.shape[1:])
    options = {"pixel_size": 1.0, "target_pixel_size": 1.5, "dose": dose.Dose(1.0), "halves": True}
    sums, reference = (sum_frames(movie, motion, **options) for movie in (device, host))
    for name in ("unweighted", "dose_weighted", "even", "odd", "even_weighted", "odd_weighted"):
        np.testing.assert_allclose(to_numpy(getattr(sums, name)), getattr(reference, name), rtol=1e-4, atol=1e-4)
    assert frc_resolution(sums.even, sums.odd, pixel_size=1.5) == pytest.approx(
        frc_resolution(reference.even, reference.odd, pixel_size=1.5), rel=1e-4
    )
