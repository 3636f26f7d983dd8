"""Ice measures against images whose spectrum is known exactly."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.ice import (
    amplitudes,
    find_ice_ring,
    ice_ring_excess,
    ice_ring_position,
    ice_ring_strength,
    iciness,
    iciness_outer,
    iciness_paper,
    measure_ice,
)
from focusnb.ops.simulate import simulate_micrograph, standard_case


def image_with(profile, shape: tuple[int, int] = (640, 900), pixel_size: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return an image whose Fourier amplitudes are exactly ``profile`` of the frequency in 1/Å, phases random."""
    k = np.hypot(np.fft.fftfreq(shape[0], pixel_size)[:, None], np.fft.rfftfreq(shape[1], pixel_size)[None, :])
    phase = np.angle(np.fft.rfft2(np.random.default_rng(seed).normal(size=shape)))
    return (np.fft.irfft2(profile(k) * np.exp(1j * phase), s=shape) + 40.0).astype(np.float32)


def in_band(k: np.ndarray, finest: float, coarsest: float) -> np.ndarray:
    return (k > 1 / coarsest) & (k < 1 / finest)


def test_noise_gives_one():
    noise = np.random.default_rng(0).normal(12.0, 3.0, (900, 700)).astype(np.float32)
    ice = measure_ice(noise, pixel_size=1.0)
    assert ice.iciness == pytest.approx(1.0, abs=0.02)
    assert ice.iciness_paper == pytest.approx(1.0, abs=0.03)
    assert ice.iciness_outer == pytest.approx(1.0, abs=0.02)
    assert abs(ice.ice_ring_excess) < 2.5


def test_bands_are_those_of_focus_and_of_the_paper():
    # amplitude 3 over 3.5-4.0 Å, 2 over 6-30 Å, 5 over 2.22-2.32 Å
    image = image_with(
        lambda k: 1.0 + 2.0 * in_band(k, 3.5, 4.0) + 1.0 * in_band(k, 6.0, 30.0) + 4.0 * in_band(k, 2.22, 2.32)
    )
    spectrum = amplitudes(image, 1.0)
    assert iciness(spectrum) == pytest.approx(1.5, rel=0.01)
    assert iciness_paper(spectrum) == pytest.approx(2.25, rel=0.01)
    assert iciness_outer(spectrum) == pytest.approx(2.5, rel=0.01)


def test_the_paper_stops_at_3_9():
    image = image_with(lambda k: 1.0 + 9.0 * in_band(k, 3.9, 4.0))
    spectrum = amplitudes(image, 1.0)
    k4, k39, k35 = 0.25, 1 / 3.9, 1 / 3.5
    part = (k39**2 - k4**2) / (k35**2 - k4**2)
    assert iciness(spectrum) == pytest.approx(1 + 9 * part, rel=0.01)
    assert iciness_paper(spectrum) == pytest.approx(1.0, rel=0.01)


def test_square_means_differ_from_squared_means():
    image = image_with(lambda k: np.where(in_band(k, 6.0, 30.0) & (k > 0.1), 3.0, 1.0))
    spectrum = amplitudes(image, 1.0)
    low, middle, high = 1 / 30, 0.1, 1 / 6
    part = (high**2 - middle**2) / (high**2 - low**2)
    assert iciness(spectrum) == pytest.approx(1 / (1 + 2 * part), rel=0.01)
    assert iciness_paper(spectrum) == pytest.approx(1 / (1 + 8 * part), rel=0.01)


def test_pixel_size_and_rectangle_count():
    def profile(k: np.ndarray) -> np.ndarray:
        return 1.0 + 2.0 * in_band(k, 3.5, 4.0)

    for shape in ((500, 840), (840, 500)):
        assert measure_ice(image_with(profile, shape, 1.6), pixel_size=1.6).iciness == pytest.approx(3.0, rel=0.01)
    assert measure_ice(image_with(profile, (500, 840), 1.6), pixel_size=1.2).iciness == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_rings_of_growing_strength_are_measured_as_growing(seed: int):
    noise = np.random.default_rng(seed).normal(size=(800, 800))
    k = np.hypot(np.fft.fftfreq(800, 1.0)[:, None], np.fft.rfftfreq(800, 1.0)[None, :])
    found = []
    for strength in (0.0, 0.05, 0.15, 0.5, 1.5):
        ring = 1 + strength * np.exp(-0.5 * ((k - 1 / 3.7) / 0.003) ** 2)
        image = np.fft.irfft2(np.fft.rfft2(noise) * ring, s=noise.shape)
        ice = measure_ice(image.astype(np.float32), pixel_size=1.0)
        found.append((ice.iciness, ice.iciness_paper, ice.ice_ring_excess))
    assert (np.diff(np.array(found), axis=0) > 0).all()
    assert found[0][2] < 2.5
    assert found[2][2] > 3
    assert found[3][2] > 10


def test_ring_excess_follows_a_slope_and_ignores_it():
    noise = np.random.default_rng(4).normal(size=(800, 800))
    k = np.hypot(np.fft.fftfreq(800, 1.0)[:, None], np.fft.rfftfreq(800, 1.0)[None, :])
    image = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-12 * k), s=noise.shape)
    assert abs(ice_ring_excess(amplitudes(image.astype(np.float32), 1.0))) < 2.5


@pytest.mark.parametrize("place", [3.64, 3.67, 3.70, 3.90])
@pytest.mark.parametrize("strength", [0.05, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("width", [0.002, 0.005])
def test_position_and_strength_of_a_ring_on_a_known_spectrum(place: float, strength: float, width: float):
    def profile(k: np.ndarray) -> np.ndarray:
        return np.exp(-3 * k) * (1 + strength * np.exp(-0.5 * ((k - 1 / place) / width) ** 2))

    spectrum = amplitudes(image_with(profile), 1.0)
    assert ice_ring_position(spectrum) == pytest.approx(place, abs=0.003)
    assert ice_ring_strength(spectrum) == pytest.approx(strength, rel=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_strength_grows_with_the_crystals_of_simulated_ice(seed: int):
    case, found = standard_case("small"), []
    for crystalline in (0.0, 15.0, 60.0, 250.0, 1000.0, 3000.0):
        icy = replace(case, specimen=replace(case.specimen, crystalline=crystalline))
        image, _ = simulate_micrograph(icy, seed)
        found.append(measure_ice(image, pixel_size=case.pixel_size))
    assert (np.diff([ice.ice_ring_strength for ice in found]) > 0).all()
    assert found[0].ice_ring_strength < 0.04
    assert found[0].ice_ring_position is None
    assert found[-1].ice_ring_strength > 2.0
    for ice in found[2:]:  # the weakest is hardly there
        assert ice.ice_ring_position == pytest.approx(3.7, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_no_ring_and_a_gap_is_none(seed: int):
    noise = np.random.default_rng(seed).normal(size=(800, 800))
    ring = find_ice_ring(amplitudes(noise.astype(np.float32), 1.0))
    assert ring.position is None
    assert 0 <= ring.strength < 4 * ring.error
    k = np.hypot(np.fft.fftfreq(800, 1.0)[:, None], np.fft.rfftfreq(800, 1.0)[None, :])
    gap = np.fft.irfft2(np.fft.rfft2(noise) * (1 - 0.5 * np.exp(-0.5 * ((k - 1 / 3.7) / 0.004) ** 2)), s=noise.shape)
    assert ice_ring_position(amplitudes(gap.astype(np.float32), 1.0)) is None


@pytest.mark.parametrize(
    ("pixel_size", "expected"),
    [
        (1.0, (True, True, True, True)),
        (1.2, (True, True, False, True)),
        (1.7, (True, True, False, False)),
        (1.8, (False, False, False, False)),
        (4.0, (False, False, False, False)),
    ],
)
def test_bands_the_pixels_do_not_reach_are_empty(pixel_size: float, expected: tuple[bool, ...]):
    noise = np.random.default_rng(1).normal(size=(300, 260)).astype(np.float32)
    ice = measure_ice(noise, pixel_size=pixel_size)
    assert tuple(value is not None for value in astuple(ice)[:4]) == expected
    assert ice.ice_ring_position is None
    assert (ice.ice_ring_strength is not None) == expected[3]


def test_constant_image_and_wrong_input():
    ice = measure_ice(np.full((256, 256), 7, np.uint16), pixel_size=1.0)
    assert astuple(ice) == (None,) * 6
    with pytest.raises(ParameterError, match="pixel size"):
        measure_ice(np.zeros((3, 64, 64)), pixel_size=1.0)
