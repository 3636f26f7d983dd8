"""The rules by which another program's CTF is believed, poor or failed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from focusnb.io.ctf_record import (
    CtfLimits,
    CtfOptics,
    CtfSearch,
    MicrographCtf,
    RingAverages,
    axial,
    judge_ctf,
    order_defocus,
)

GOOD = MicrographCtf(
    "a.mrc",
    defocus_u=15300.0,
    defocus_v=14900.0,
    astigmatism_angle=35.0,
    ctf_score=0.15,
    ctf_fit_resolution=4.0,
    optics=CtfOptics(micrograph_pixel_size=1.06, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1),
    search=CtfSearch(box=512, resolution_low=30.0, resolution_high=5.0, defocus_min=5000.0, defocus_max=50000.0),
)


def test_a_good_fit() -> None:
    judged = judge_ctf(GOOD)
    assert (judged.ctf_quality, judged.reason) == ("ok", "")
    assert judged.astigmatism == 400


@pytest.mark.parametrize(
    ("change", "quality", "words"),
    [
        ({"defocus_u": None}, "failed", "no finite defocus"),
        ({"ctf_score": 0.017}, "failed", r"score 0.017 is what noise reaches \(below 0.028\)"),
        ({"ctf_score": -0.45}, "failed", "noise reaches"),
        ({"ctf_score": None}, "failed", "score is not finite"),
        ({"ctf_fit_resolution": None}, "failed", "fit resolution is not finite"),
        ({"ctf_fit_resolution": 30.0}, "failed", "beyond 30 Å"),
        ({"defocus_v": 8000.0}, "failed", "differ by 63 %"),
        ({"ctf_score": 0.04}, "poor", "score 0.040 is low"),
        ({"ctf_fit_resolution": 10.5}, "poor", "to 10.5 Å only, 10.0 Å is the limit"),
        ({"defocus_u": 6000.0, "defocus_v": 5900.0, "ctf_fit_resolution": 8.0}, "poor", "1 zeros lie in the fitted"),
        ({"defocus_u": 49700.0, "defocus_v": 49000.0}, "poor", "at the end of the search, 50000"),
        ({"defocus_u": 5400.0, "defocus_v": 5200.0, "ctf_fit_resolution": 3.0}, "poor", "at the beginning"),
        ({"defocus_v": 12000.0}, "poor", "differ by 24 %"),
        ({"defocus_u": -15000.0, "defocus_v": -15500.0}, "poor", "overfocus"),
    ],
)
def test_what_is_not_believed(change: dict[str, Any], quality: str, words: str) -> None:
    judged = judge_ctf(replace(GOOD, **change))
    assert judged.ctf_quality == quality
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(judged.reason)


def test_what_the_file_does_not_tell_is_no_fault() -> None:
    without = replace(GOOD, ctf_fit_resolution=None, optics=CtfOptics(), search=CtfSearch())
    assert judge_ctf(without, told=["ctf_score"]).ctf_quality == "ok"
    assert judge_ctf(replace(without, ctf_score=None), told=[]).reason == "neither score nor fit resolution is told"


def test_a_score_counts_less_where_few_points_are_fitted() -> None:
    assert judge_ctf(replace(GOOD, ctf_score=0.06)).ctf_quality == "ok"
    small = replace(GOOD, ctf_score=0.06, search=replace(GOOD.search, box=256))
    assert judge_ctf(small).ctf_quality == "poor"
    smaller = replace(GOOD, ctf_score=0.06, search=replace(GOOD.search, box=128))
    assert judge_ctf(smaller).ctf_quality == "failed"


def test_noise_fitted_by_the_best_of_many_ctfs_fails() -> None:
    box, pixel, rng = 256, 1.4, np.random.default_rng(5)
    frequency = np.hypot(np.fft.fftfreq(box, pixel)[:, None], np.fft.rfftfreq(box, pixel)[None])
    inside = (frequency > 1 / 30) & (frequency < 1 / 5)
    squared = frequency[inside] ** 2
    volts = 200e3
    wavelength = 12.2643 / math.sqrt(volts * (1 + 0.978466e-6 * volts))
    search = CtfSearch(box, 30.0, 5.0, 5000.0, 50000.0)
    optics = CtfOptics(pixel, 200.0, 1.4, 0.1)
    for _ in range(5):
        noise = rng.normal(size=inside.sum())
        scores = {}
        for defocus in np.arange(6000.0, 49000.0, 150.0):
            phase = math.pi * wavelength * squared * (defocus - 0.5 * 1.4e7 * wavelength**2 * squared) + 0.1
            scores[defocus] = float(np.corrcoef(np.abs(np.sin(phase)), noise)[0, 1])
        best = max(scores, key=lambda defocus: scores[defocus])
        fit = MicrographCtf("noise", best, best, 0.0, 0.0, scores[best], 9.0, optics=optics, search=search)
        assert judge_ctf(fit).ctf_quality == "failed"


def test_rings_within_the_noise_fail() -> None:
    frequency = np.linspace(0, 0.3, 100)
    noise = np.where(frequency > 1 / 30, 0.2, 0.0)

    def averages(part: float) -> RingAverages:
        band = (frequency > 1 / 30) & (frequency <= 1 / 4)
        agrees = np.zeros(100, bool)
        agrees[np.flatnonzero(band)[: round(part * band.sum())]] = True
        agrees |= frequency > 1 / 4  # beyond the fit resolution nothing counts
        return RingAverages(frequency, frequency, frequency, frequency, np.where(agrees, 0.5, 0.1), noise)

    assert judge_ctf(GOOD, rings=averages(0.75)).ctf_quality == "ok"
    judged = judge_ctf(GOOD, rings=averages(0.5))
    assert judged.ctf_quality == "failed"
    assert "% of the rings up to 4.0 Å agree with the fit better than noise does" in judged.reason


def test_limits_can_be_chosen() -> None:
    assert judge_ctf(GOOD, limits=CtfLimits(score_poor=0.2)).ctf_quality == "poor"
    fit = replace(GOOD, ctf_fit_resolution=5.0)
    assert judge_ctf(fit, limits=CtfLimits(resolution_poor=4.5)).ctf_quality == "poor"


@pytest.mark.parametrize(
    "change",
    [
        {"ctf_fit_resolution": 1e-300},
        {"optics": CtfOptics(1e300, -300.0, 1e300, 7.0)},
        {"optics": CtfOptics(0.0, 1e300, -1.0, -1.0)},
        {"search": CtfSearch(10**200, 1e-300, 1e-300, -1e300, 1e300)},
        {"defocus_u": 1e308, "defocus_v": -1e308},
    ],
)
def test_numbers_of_damaged_files_are_judged_too(change: dict[str, Any]) -> None:
    assert judge_ctf(replace(GOOD, **change)).ctf_quality in ("ok", "poor", "failed")


@pytest.mark.parametrize(
    ("angle", "expected"),
    [(0, 0), (90, 90), (-90, 90), (91, -89), (217.5, 37.5), (-135, 45), (350, -10), (-14.8, -14.8)],
)
def test_directions_of_axes(angle: float, expected: float) -> None:
    assert axial(angle) == pytest.approx(expected)


@pytest.mark.parametrize("angle", [-80.0, -30.0, 0.0, 45.0, 90.0, 130.0])
def test_exchanged_defoci_are_the_same_ctf(angle: float) -> None:
    """Δ(α) = ½ [U + V + (U − V) cos 2(α − angle)] does not change."""
    direction = np.radians(np.arange(0, 180, 7.0))

    def defocus(u: float, v: float, of: float) -> Any:
        return 0.5 * (u + v + (u - v) * np.cos(2 * (direction - math.radians(of))))

    u, v, turned = order_defocus(9000.0, 10500.0, angle)
    assert u is not None
    assert v is not None
    assert turned is not None
    assert u > v
    assert -90 < turned <= 90
    np.testing.assert_allclose(defocus(u, v, turned), defocus(9000.0, 10500.0, angle))


def test_defoci_that_are_not_finite() -> None:
    assert order_defocus(math.nan, 1.0, 2.0) == order_defocus(1.0, math.inf, 2.0) == (None, None, None)
