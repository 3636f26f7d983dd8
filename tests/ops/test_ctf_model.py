"""The contrast transfer function against numbers and formulas written down independently."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.ctf import (
    Optics,
    astigmatism_vector,
    ctf_1d,
    ctf_2d,
    ctf_phase,
    defocus_at,
    from_astigmatism_vector,
    wavelength,
)
from focusnb.ops.simulate import optics as simulated

TITAN = Optics(1.06, 300.0, 2.7, 0.1)


@pytest.mark.parametrize(("voltage", "expected"), [(100, 0.03701), (120, 0.03349), (200, 0.02508), (300, 0.01969)])
def test_wavelength_of_the_textbook(voltage: float, expected: float):
    assert wavelength(voltage) == pytest.approx(expected, abs=1e-5)


def test_first_zero_of_an_underfocused_lens():
    # without Cs and amplitude contrast the first zero is where λ·Δ·k² = 1
    plain = Optics(1.0, 300.0, 0.0, 0.0)
    zero = 1 / np.sqrt(wavelength(300.0) * 20000.0)
    assert ctf_1d(np.array([zero]), 20000.0, plain)[0] == pytest.approx(0.0, abs=1e-9)
    # positive is under focus: particles are dark at low frequency
    assert ctf_1d(np.array([0.5 * zero]), 20000.0, plain)[0] < 0


def test_amplitude_contrast_phase_shift_and_aberration():
    still = Optics(1.0, 300.0, 2.7, 0.1)
    assert ctf_1d(np.array([0.0]), 15000.0, still)[0] == pytest.approx(-0.1)
    assert ctf_1d(np.array([0.0]), 15000.0, still, phase_shift=90.0)[0] == pytest.approx(-np.sqrt(1 - 0.01))
    k = np.array([0.3])
    expected = np.pi * 0.0196875 * 15000 * 0.09 - 0.5 * np.pi * 2.7e7 * 0.0196875**3 * 0.0081
    assert ctf_phase(k, 15000.0, still)[0] == pytest.approx(expected, rel=1e-4)
    assert ctf_phase(k, 15000.0, still, 30.0)[0] == pytest.approx(expected + np.pi / 6, rel=1e-4)
    assert ctf_1d(k, 15000.0, still, b_factor=100.0)[0] == pytest.approx(
        ctf_1d(k, 15000.0, still)[0] * np.exp(-100 * 0.09 / 4)
    )


def test_defocus_is_largest_along_its_angle():
    angles = np.radians([35.0, 125.0, 80.0, -145.0])
    np.testing.assert_allclose(defocus_at(angles, 15000.0, 14000.0, 35.0), [15000, 14000, 14500, 15000])


@pytest.mark.parametrize("shape", [(48, 80), (81, 46)])
def test_two_dimensions_agree_with_the_simulator_in_every_layout(shape: tuple[int, int]):
    lens = simulated.Optics(defocus_u=9000.0, defocus_v=7000.0, astigmatism_angle=35.0, phase_shift=20.0)
    ky = np.fft.fftfreq(shape[0], 1.06)[:, None]
    kx = np.fft.fftfreq(shape[1], 1.06)[None, :]
    expected = simulated.contrast_transfer(ky, kx, lens)
    values = {"defocus_u": 9000.0, "defocus_v": 7000.0, "astigmatism_angle": 35.0, "phase_shift": 20.0}
    found = ctf_2d(shape, optics=TITAN, layout="fft", **values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)
    half = ctf_2d(shape, optics=TITAN, layout="rfft", **values)
    columns = (shape[1] + 1) // 2  # the sign of the Nyquist column is a matter of taste
    np.testing.assert_allclose(half[:, :columns], expected[:, :columns], atol=2e-3)
    centred = ctf_2d(shape, optics=TITAN, **values)
    np.testing.assert_allclose(centred, np.fft.fftshift(expected), atol=2e-3)


def test_layout_is_checked():
    with pytest.raises(ParameterError, match="'half'"):
        ctf_2d((8, 8), defocus_u=1.0, defocus_v=1.0, astigmatism_angle=0.0, optics=TITAN, layout="half")


@pytest.mark.parametrize("angle", [-89.0, -40.0, 0.0, 35.0, 90.0])
def test_astigmatism_vector_and_back(angle: float):
    u, v, back = from_astigmatism_vector(14800.0, astigmatism_vector(15000.0, 14600.0, angle))
    assert (u, v, back) == pytest.approx((15000.0, 14600.0, angle))


def test_angles_keep_to_their_range():
    assert from_astigmatism_vector(10000.0, astigmatism_vector(10100.0, 9900.0, -90.0))[2] == pytest.approx(90.0)
    assert from_astigmatism_vector(10000.0, 0j) == (10000.0, 10000.0, 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 300.0, 2.7, 0.1), "pixel size"),
        ((1.0, 300000.0, 2.7, 0.1), "300000.0 kV"),
        ((1.0, 300.0, -1.0, 0.1), "spherical"),
        ((1.0, 300.0, 2.7, 1.0), "amplitude contrast"),
    ],
)
def test_impossible_optics_are_refused(values: tuple[float, ...], message: str):
    with pytest.raises(ParameterError, match=message):
        Optics(*values)
