"""Averages of a spectrum as other programs have them."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.ops.ctf import CtfCurves, Optics, estimate_ctf
from focusnb.ops.ctf.averages import RingRows, curves_from_lists, ring_rows
from focusnb.ops.spectrum import power_spectrum

from .thon import thon_image

OPTICS = Optics(1.06, 300.0, 2.7, 0.1)


def rows_of(image: np.ndarray) -> RingRows:
    spectrum = power_spectrum(image)
    fit = estimate_ctf(spectrum, optics=OPTICS)
    assert fit.curves is not None
    assert fit.defocus_u is not None
    assert fit.defocus_v is not None
    mean = 0.5 * (fit.defocus_u + fit.defocus_v)
    return ring_rows(spectrum, fit.curves, optics=OPTICS, mean_defocus=mean)


def test_rings_are_followed_where_circles_blur_them() -> None:
    rows = rows_of(thon_image((1100, 1000), 1.06, (16000.0, 14000.0, 35.0), signal=2.0, seed=1))
    # |CTF| of 15000 Å by the formula
    length, squared = 0.019687, rows.frequency**2
    phase = np.pi * length * squared * (15000.0 - 0.5 * 2.7e7 * length**2 * squared) + np.arcsin(0.1)
    band = (rows.frequency > 1 / 30) & (rows.frequency < 1 / 4)
    np.testing.assert_allclose(
        rows.fit[rows.frequency < 1 / 8], np.abs(np.sin(phase))[rows.frequency < 1 / 8], atol=0.1
    )
    assert np.corrcoef(rows.measured[band], rows.fit[band])[0, 1] > 0.95
    fine = band & (rows.frequency > 1 / 8)
    assert np.corrcoef(rows.measured[fine], rows.fit[fine])[0, 1] > 0.93
    assert np.corrcoef(rows.measured_circular[fine], rows.fit[fine])[0, 1] < 0.4
    # both are scaled like |CTF|: rings rise from 0 to 1
    low, high = np.quantile(rows.measured[band], (0.05, 0.95))
    assert (low, high) == pytest.approx((0.1, 1.0), abs=0.15)


def test_without_astigmatism_circles_are_the_rings() -> None:
    rows = rows_of(thon_image((1000, 1000), 1.06, (15000.0, 15000.0, 0.0), signal=2.0, seed=2))
    band = (rows.frequency > 1 / 28) & (rows.frequency < 1 / 4)
    assert np.abs(rows.measured - rows.measured_circular)[band].std() < 0.08
    assert (rows.frequency[0], len(set(map(len, rows)))) == (0.0, 1)
    assert (np.diff(rows.frequency) > 0).all()
    assert np.median(np.diff(rows.frequency)) == pytest.approx(1 / (512 * 1.06), rel=0.02)
    below = rows.frequency < 1 / 31
    assert not np.concatenate([rows.measured[below], rows.quality[below], rows.noise[below]]).any()
    assert rows.fit[0] == pytest.approx(0.1)


def test_two_standard_deviations_of_noise_are_that() -> None:
    """Beyond the last ring the correlation is chance: 95 % of it lies within what is stated."""
    shape, within = (1200, 1100), []
    squared = np.fft.fftfreq(shape[0], 1.06)[:, None] ** 2 + np.fft.rfftfreq(shape[1], 1.06)[None, :] ** 2
    for seed in range(5):
        rings = np.fft.rfft2(thon_image(shape, 1.06, (15500.0, 15000.0, 30.0), signal=1.0, seed=seed))
        image = np.fft.irfft2(rings * np.exp(-60 * squared), s=shape)
        noise = np.random.default_rng(100 + seed).normal(0, 1.5, shape)
        rows = rows_of((image / image.std() + noise).astype(np.float32))
        beyond = rows.frequency > 1 / 3
        within.append(float((np.abs(rows.quality) < rows.noise)[beyond].mean()))
    assert 0.85 < np.mean(within) < 1.0


def test_strong_astigmatism_at_low_defocus_keeps_frequencies_in_order() -> None:
    rows = rows_of(thon_image((1000, 1000), 1.06, (9000.0, 7200.0, -50.0), signal=4.0, seed=5))
    assert (np.diff(rows.frequency) > 0).all()


def test_kept_curves_come_back() -> None:
    lists = {name: [0.5, 1.0] for name in ("frequency", "measured", "background", "contrast", "fit")}
    curves = curves_from_lists({**lists, "quality": [None, 1.0], "newer": [1.0]})
    assert isinstance(curves, CtfCurves)
    assert np.isnan(curves.quality[0])
    assert curves.fit.dtype == np.float32
    with pytest.raises(FormatError, match=r"a\.json: quality of frequency, measured, .* is missing; run fit_ctf again"):
        curves_from_lists(lists, source="a.json")
