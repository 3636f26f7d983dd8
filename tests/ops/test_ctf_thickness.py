"""Thickness by the node of the rings: known thicknesses, thin specimens, and what may not be taken for a node."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.ctf import CtfFit, Optics, estimate_ctf
from focusnb.ops.ctf.thickness import ThicknessFit, estimate_thickness, thickness_transfer
from focusnb.ops.spectrum import power_spectrum
from tests.strict import strict

from .thon import thon_image

PIXEL = 1.06
LENS = Optics(PIXEL, 300.0, 2.7, 0.1)
WAVELENGTH = 0.0196875  # Å at 300 kV


def layered(
    thickness: float,
    *,
    layers: int = 0,
    shape: tuple[int, int] = (1100, 1300),
    defocus: tuple[float, float, float] = (15300.0, 14700.0, 30.0),
    signal: float = 4.0,
    b_factor: float = 20.0,
    tilt: float = 0.0,
    apart: bool = False,
    seed: int = 1,
) -> np.ndarray:
    """Return the image of a specimen as a sum over layers at different heights, written from the formula of one.

    layers : left out, one every 60 Å; apart : every layer scatters on its own and its image is added (what happens),
    else their mean power is given to noise (what is expected); tilt : Å of defocus that the image rises by, added as
    layers of their own
    """
    rng = np.random.default_rng(seed)
    ky = np.fft.fftfreq(shape[0], PIXEL)[:, None]
    kx = np.fft.rfftfreq(shape[1], PIXEL)[None, :]
    k2, (u, v, angle) = ky**2 + kx**2, defocus
    along = kx * np.cos(np.radians(angle)) + ky * np.sin(np.radians(angle))
    middle = np.pi * WAVELENGTH * (u * along**2 + v * (k2 - along**2)) - 0.5 * np.pi * 2.7e7 * WAVELENGTH**3 * k2**2
    turn = (np.pi * WAVELENGTH * k2).astype(np.float32)
    middle = (middle + np.arcsin(0.1)).astype(np.float32)
    envelope = np.exp(-0.5 * b_factor * k2) * (1 + 4 / (1 + k2 / 0.03**2)) * signal

    def noise() -> np.ndarray:
        return np.fft.rfft2(rng.standard_normal(shape, np.float32))

    layers = layers or int(np.ceil(thickness / 60.0))
    heights = ((np.arange(layers) + 0.5) / layers - 0.5) * thickness
    if tilt:
        heights = (heights[:, None] + ((np.arange(7) + 0.5) / 7 - 0.5) * tilt).ravel()
    if apart:
        scattered = sum(-np.sin(middle + height * turn) * noise() for height in heights)
        spectrum = noise() + np.sqrt(envelope / len(heights)) * scattered
    else:
        power = sum(np.sin(middle + height * turn) ** 2 for height in heights) / len(heights)
        spectrum = noise() * np.sqrt(1 + envelope * power)
    return np.fft.irfft2(spectrum, s=shape).astype(np.float32)


def measure(image: np.ndarray, **options: object) -> tuple[ThicknessFit, CtfFit]:
    spectrum = power_spectrum(image)
    fit = estimate_ctf(spectrum, optics=LENS)
    return estimate_thickness(spectrum, optics=LENS, fit=fit, **options), fit


def test_transfer_vanishes_at_the_node_and_turns_round():
    node = 1 / np.sqrt(WAVELENGTH * 1000.0)
    squared = np.array([0.0, node**2, 1.5 * node**2])
    np.testing.assert_allclose(
        thickness_transfer(squared, 1000.0, WAVELENGTH), [1.0, 0.0, np.sin(1.5 * np.pi) / (1.5 * np.pi)], atol=1e-12
    )
    # the mean of CTF² over layers is what the formula says
    phase, spread = 3.3, np.linspace(-0.5, 0.5, 20001)[:-1] + 0.5 / 20000
    mean = np.mean(np.sin(phase + np.pi * 1.5 * spread) ** 2)
    expected = 0.5 * (1 - thickness_transfer(squared, 1000.0, WAVELENGTH)[2] * np.cos(2 * phase))
    assert mean == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("thickness", [500.0, 800.0, 1200.0, 1600.0, 2000.0])
def test_known_thicknesses(thickness: float):
    found, fit = measure(layered(thickness))
    assert found.thickness_fitted == pytest.approx(thickness, abs=100)
    assert abs(found.thickness_fitted - thickness) < 4 * found.thickness_error
    assert found.thickness_error < 50
    assert found.node_frequency == pytest.approx(1 / np.sqrt(WAVELENGTH * thickness), rel=0.06)
    assert found.reason == ""
    assert found.significance > 5
    assert thickness < found.upper_limit < thickness + 250
    # the defocus is that of the middle, and the fit that knows of no thickness stays usable
    assert found.defocus_u == pytest.approx(15300, abs=60)
    assert found.defocus_v == pytest.approx(14700, abs=60)
    assert 0.5 * (fit.defocus_u + fit.defocus_v) == pytest.approx(15000, abs=60)


def test_layers_that_scatter_on_their_own():
    found, _ = measure(layered(1000.0, apart=True))
    assert found.thickness_fitted == pytest.approx(1000, abs=100)


@pytest.mark.parametrize("thickness", [20.0, 150.0])
@pytest.mark.parametrize("b_factor", [10.0, 60.0, 150.0])
def test_thin_specimens_get_no_number(thickness: float, b_factor: float):
    found, _ = measure(layered(thickness, layers=3, b_factor=b_factor))
    assert found.thickness_fitted is None
    assert found.thickness_error is None
    assert found.node_frequency is None
    assert found.reason
    assert found.upper_limit is None or found.upper_limit > thickness
    if b_factor == 10:  # rings to 2.3 Å leave no room for a node
        assert found.upper_limit < 400
        assert "no node" in found.reason


def test_rings_that_end_before_the_node_give_no_number():
    found, _ = measure(layered(600.0, b_factor=150.0))
    assert found.thickness_fitted is None or found.thickness_fitted == pytest.approx(600, abs=100)
    assert found.upper_limit is None or found.upper_limit > 600


def test_a_known_tilt_is_not_taken_for_thickness():
    image = layered(20.0, layers=4, tilt=1500.0)
    unknowing, _ = measure(image)
    assert unknowing.thickness_fitted == pytest.approx(1500, abs=150)
    knowing, _ = measure(image, defocus_range=(1500.0, 0.0))
    assert knowing.thickness_fitted is None
    thick, _ = measure(layered(1400.0, layers=14, tilt=600.0), defocus_range=(0.0, 600.0))
    assert thick.thickness_fitted == pytest.approx(1400, abs=100)


def test_rings_closer_than_the_pixels_of_a_spectrum_are_no_node():
    image = thon_image((1100, 1100), PIXEL, (45500.0, 44500.0, 30.0), signal=3.0)
    found, fit = measure(image)
    assert fit.defocus_u is not None
    assert found.thickness_fitted is None


def test_strong_crystalline_ice_is_left_out():
    image = layered(1000.0)
    k = np.hypot(np.fft.fftfreq(1100, PIXEL)[:, None], np.fft.rfftfreq(1300, PIXEL)[None, :])
    ring = 1 + 2 * np.exp(-0.5 * ((k - 1 / 3.7) / 0.004) ** 2)
    icy = np.fft.irfft2(np.fft.rfft2(image) * ring, s=image.shape).astype(np.float32)
    found, _ = measure(icy)
    assert found.thickness_fitted == pytest.approx(1000, abs=100)


def test_without_a_ctf_there_is_no_thickness():
    noise = np.random.default_rng(2).normal(size=(900, 900)).astype(np.float32)
    found, fit = measure(noise)
    assert fit.ctf_quality == "failed"
    assert found.thickness_fitted is None
    assert found.reason.startswith("the CTF is not known")


def test_arguments_are_checked():
    image = layered(800.0, layers=4, shape=(600, 600))
    spectrum = power_spectrum(image)
    fit = estimate_ctf(spectrum, optics=LENS)
    with pytest.raises(ParameterError, match="square"):
        estimate_thickness(spectrum[:100], optics=LENS, fit=fit)
    with pytest.raises(ParameterError, match="largest thickness is 50"):
        estimate_thickness(spectrum, optics=LENS, fit=fit, max_thickness=50.0)
    narrow = estimate_thickness(spectrum, optics=LENS, fit=replace(fit), resolution_low=6.0, resolution_high=5.0)
    assert "too narrow" in narrow.reason


def test_a_spectrum_on_the_device_gives_the_same():
    spectrum = power_spectrum(layered(1500.0, shape=(800, 800)))
    fit = estimate_ctf(spectrum, optics=LENS)
    assert estimate_thickness(strict(spectrum), optics=LENS, fit=fit) == estimate_thickness(
        spectrum, optics=LENS, fit=fit
    )
