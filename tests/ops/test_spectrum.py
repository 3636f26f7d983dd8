"""Average amplitude spectra: levels, places, orientation, sampling."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.spectrum import Sampling, choose_sampling, log_display, power_spectrum, rotational_average


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_each_pixel_is_the_mean_of_the_amplitudes_it_covers():
    """Three frequencies of the transform lie in each pixel of the spectrum, with their middle on its middle."""
    image = noise((192, 192)) + 7.0
    fade = np.ones(192)
    fade[:29] = np.sin(np.pi / 2 * (np.arange(29) + 0.5) / 29) ** 2
    fade[-29:] = fade[28::-1]
    window = np.outer(fade, fade)
    window /= np.sqrt((window**2).sum())
    sampled = image[::2, ::2].mean()  # the level is measured on every second pixel
    amplitude = np.abs(np.fft.fftshift(np.fft.fft2((image - sampled) * window)))
    wide = np.pad(amplitude, ((1, 1), (1, 1)), mode="wrap")[: 3 * 64, : 3 * 64]
    expected = wide.reshape(64, 3, 64, 3).mean(axis=(1, 3))
    found = power_spectrum(image, box=64)
    assert found.dtype == np.float32
    away = np.ones((64, 64), bool)
    away[:, 0] = away[0] = away[:, 32] = away[32, 32] = False
    np.testing.assert_allclose(found[away], expected[away], rtol=2e-4, atol=1e-4)
    assert found[32, 32] == pytest.approx(
        np.mean([found[31, 32], found[33, 32], found[32, 31], found[32, 33]]), rel=1e-5
    )


def test_wave_appears_where_it_belongs_in_a_rectangular_image():
    y, x = np.indices((192, 320))
    wave = np.cos(2 * np.pi * (5 * x + 12 * y) / 64).astype(np.float32)
    found = power_spectrum(wave, box=64)
    peaks = {tuple(place) for place in np.argwhere(found > 0.9 * found.max())}
    assert peaks == {(32 + 12, 32 + 5), (32 - 12, 32 - 5)}


@pytest.mark.parametrize(
    "sampling",
    [Sampling(64), Sampling(64, 1.5), Sampling(64, 2.0), Sampling(64, 1.17)],
    ids=["plain", "resampled", "half", "odd"],
)
def test_white_noise_is_level_and_waves_keep_their_place(sampling: Sampling):
    found = power_spectrum(3.0 * noise((700, 520)), sampling=sampling)
    frequency, average = rotational_average(found, sampling.factor)
    assert frequency[20] == pytest.approx(20 / (64 * sampling.factor), rel=0.01)
    np.testing.assert_allclose(average[2:], 3.0 * np.sqrt(np.pi) / 2, rtol=0.08)
    y, x = np.indices((700, 520))
    period = 64 * sampling.factor  # one spectrum pixel is one wave in this many image pixels
    wave = np.cos(2 * np.pi * (7 * x - 11 * y) / period).astype(np.float32)
    found = power_spectrum(wave, sampling=sampling)
    peaks = np.argwhere(found > 0.9 * found.max())
    assert {tuple(place) for place in peaks} == {(32 - 11, 32 + 7), (32 + 11, 32 - 7)}


def test_friedel_symmetry_and_no_dependence_on_the_mean():
    image = noise((150, 230), 3)
    found = power_spectrum(image, box=64)
    np.testing.assert_allclose(found[1:, 1:], found[:0:-1, :0:-1], rtol=1e-5)
    np.testing.assert_allclose(power_spectrum(image + 1000.0, box=64), found, atol=2e-3)


def test_integers_small_images_and_constants():
    counts = np.random.default_rng(1).poisson(4.0, (90, 70)).astype(np.uint8)
    found = power_spectrum(counts, box=64)
    assert found.shape == (64, 64)
    _, average = rotational_average(found, 1.0)
    np.testing.assert_allclose(average[4:], 2.0 * np.sqrt(np.pi) / 2, rtol=0.35)
    assert not power_spectrum(np.full((100, 100), 5.0, np.float32), box=64).any()


def test_gold_counts_less_and_an_empty_border_not_at_all():
    image = noise((512, 512))
    clean = power_spectrum(image, box=64)
    dirty = image.copy()
    y, x = np.indices(image.shape)
    dirty[(y - 100) ** 2 + (x - 400) ** 2 < 400] += 60.0
    dirty[:, :100] = 0.0
    plain, robust = (power_spectrum(dirty, box=64, robust=flag) for flag in (False, True))

    def error(found: np.ndarray) -> float:
        difference = np.abs(found / clean - 1)
        return float(difference[difference.shape[0] // 2 + 4 :].mean())

    assert error(robust) < 0.1
    assert error(plain) > 2 * error(robust)


def test_rotational_average_of_a_known_radius():
    y, x = np.indices((128, 128)) - 64
    frequency, average = rotational_average((np.hypot(y, x) / (128 * 2.0)).astype(np.float32), 2.0)
    np.testing.assert_allclose(average, frequency, rtol=1e-6)
    assert len(frequency) == 64
    assert frequency[-1] == pytest.approx(63 / 256, rel=1e-3)


def test_log_display_is_finite_where_there_is_nothing():
    shown = log_display(np.array([[0.0, 1.0], [np.e, 0.0]], np.float32))
    np.testing.assert_allclose(shown, [[0, 0], [1, 0]], atol=1e-6)
    assert np.isfinite(log_display(np.zeros((4, 4), np.float32))).all()


@pytest.mark.parametrize("pixel_size", [0.4, 0.5, 0.83, 1.06, 1.5, 2.5])
def test_sampling_reaches_a_useful_frequency(pixel_size: float):
    assert pixel_size * choose_sampling(pixel_size).factor == pytest.approx(max(1.0, pixel_size))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((3, 64, 64))}, "3 axes"),
        ({"image": np.zeros((64, 64)), "box": 63}, "63"),
        ({"image": np.zeros((64, 64)), "sampling": Sampling(64, 0.5)}, "0.5"),
    ],
)
def test_refuses_what_makes_no_spectrum(arguments: dict, message: str):
    image = arguments.pop("image")
    with pytest.raises(ParameterError, match=message):
        power_spectrum(image, **arguments)
    with pytest.raises(ParameterError, match="positive"):
        choose_sampling(0.0)
