"""Spectra, CTF, ice, statistics and previews of device arrays: the strict stand-in gives what numpy gives."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from focusnb.ops import statistics
from focusnb.ops.backend import to_numpy
from focusnb.ops.ctf import Optics, ctf_1d, ctf_2d, estimate_ctf
from focusnb.ops.ice import measure_ice
from focusnb.ops.preview import ctf_rings_preview, micrograph_preview, spectrum_preview, trajectory_preview
from focusnb.ops.spectrum import Sampling, log_display, power_spectrum, rotational_average
from tests.strict import strict

from .thon import thon_image

OPTICS = Optics(1.4, 300.0, 2.7, 0.1)


def to_gpu(values: Any) -> Any:
    import cupy

    return cupy.asarray(values)


@pytest.fixture(params=[pytest.param(strict, id="strict"), pytest.param(to_gpu, id="cupy", marks=pytest.mark.gpu)])
def bring(request: pytest.FixtureRequest) -> Any:
    """Give the function that brings a host array to the device."""
    return request.param


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return thon_image((700, 900), 1.4, (15500.0, 14500.0, 35.0), signal=2.0) + np.float32(20)


@pytest.mark.parametrize("sampling", [Sampling(128), Sampling(128, 1.25)])
def test_spectrum_stays_on_the_device(bring: Any, image: np.ndarray, sampling: Sampling):
    found = power_spectrum(bring(image), sampling=sampling)
    assert type(found) is type(bring(image[:2, :2]))
    np.testing.assert_allclose(to_numpy(found), power_spectrum(image, sampling=sampling), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(rotational_average(found, 1.4), rotational_average(to_numpy(found), 1.4), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(log_display(found)), log_display(to_numpy(found)), rtol=1e-4, atol=1e-5)


def test_integer_counts(bring: Any):
    counts = np.random.default_rng(0).poisson(3.0, (200, 300)).astype(np.uint16)
    np.testing.assert_allclose(
        to_numpy(power_spectrum(bring(counts), box=64)), power_spectrum(counts, box=64), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("layout", ["centred", "fft", "rfft"])
def test_ctf_is_made_on_the_device(bring: Any, layout: str):
    values = {"defocus_u": 15500.0, "defocus_v": 14500.0, "astigmatism_angle": 35.0, "layout": layout}
    frequency = np.linspace(0, 0.3, 50)
    found = ctf_1d(bring(frequency), 12000.0, OPTICS, phase_shift=20.0, b_factor=30.0)
    np.testing.assert_allclose(
        to_numpy(found), ctf_1d(frequency, 12000.0, OPTICS, phase_shift=20.0, b_factor=30.0), atol=1e-6
    )
    found = ctf_2d((40, 66), optics=OPTICS, like=bring(frequency), **values)
    np.testing.assert_allclose(to_numpy(found), ctf_2d((40, 66), optics=OPTICS, **values), atol=1e-4)


def test_fit_and_previews_take_device_arrays(bring: Any, image: np.ndarray):
    spectrum = power_spectrum(image, box=256)
    here, there = (estimate_ctf(values, optics=OPTICS) for values in (spectrum, bring(spectrum)))
    assert (here.defocus_u, here.ctf_fit_resolution) == (there.defocus_u, there.ctf_fit_resolution)
    for function in (
        lambda values: ctf_rings_preview(values, here, optics=OPTICS, size=128),
        lambda values: spectrum_preview(values, pixel_size=1.4, size=128),
    ):
        assert np.abs(function(spectrum).astype(int) - function(bring(spectrum)).astype(int)).max() <= 2
    pictures = [micrograph_preview(values, pixel_size=1.4, size=128) for values in (image, bring(image))]
    assert np.abs(pictures[0].astype(int) - pictures[1].astype(int)).max() <= 2
    shifts = np.array([[0.0, 0.0], [1.0, -2.0]])
    np.testing.assert_array_equal(trajectory_preview(shifts, 1.0), trajectory_preview(bring(shifts), 1.0))


def test_ice_and_statistics(bring: Any, image: np.ndarray):
    found, expected = (astuple(measure_ice(values, pixel_size=1.0)) for values in (bring(image), image))
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=1e-3)  # None becomes nan
    for function in (
        lambda values: statistics.mean_counts(values, frames=3),
        statistics.image_stddev_relative,
        statistics.stripe_measure,
    ):
        assert function(bring(image)) == pytest.approx(function(image), rel=1e-5)
