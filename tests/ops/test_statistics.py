"""Counts, doses, spread and stripes: known numbers."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops import statistics
from focusnb.ops.statistics import (
    dose_from_counts,
    dose_rate,
    image_stddev_relative,
    judge_brightness,
    mean_counts,
    stripe_measure,
)


def test_counts_refer_to_physical_pixels_and_frames():
    movie_sum = np.full((40, 30), 60.0, np.float32)
    assert mean_counts(movie_sum, frames=40) == pytest.approx(1.5)
    # a super-resolution pixel covers a quarter of a physical one
    assert mean_counts(movie_sum, frames=40, detector_pixels=0.25) == pytest.approx(6.0)
    assert mean_counts(movie_sum, frames=40, counts_per_electron=12.0) == pytest.approx(0.125)
    assert mean_counts(movie_sum.astype(np.uint16), frames=1) == pytest.approx(60.0)


def test_mean_of_a_large_image_is_not_rounded():
    image = np.full((4000, 3000), 16777.3, np.float32)
    image[0, 0] = 0
    assert mean_counts(image, frames=1) == pytest.approx(float(image.astype(np.float64).mean()), rel=1e-7)


def test_dose_and_rate():
    assert dose_rate(0.8, 0.05) == pytest.approx(16.0)
    assert dose_from_counts(1.2, 0.5) == pytest.approx(4.8)
    assert dose_from_counts(1.2, 0.5, factor=1.3) == pytest.approx(6.24)


def test_spread_and_stripes():
    image = np.zeros((10, 20), np.float32)
    image[:, 10:] = 4.0
    assert image_stddev_relative(image) == pytest.approx(1.0)
    assert stripe_measure(image) == pytest.approx(50.0)
    ramp = np.linspace(1, 3, 1001, dtype=np.float32)[None, :].repeat(3, axis=0)
    assert stripe_measure(ramp) == pytest.approx(100 / np.sqrt(12), rel=2e-3)
    assert stripe_measure(np.random.default_rng(0).poisson(40, (500, 500))) < 15
    assert stripe_measure(np.full((5, 5), 3.0)) is None
    assert image_stddev_relative(np.zeros((5, 5))) is None


@pytest.mark.parametrize(
    ("counts", "known", "verdict", "words"),
    [
        (0.05, {}, "dark", "0.1"),
        (float("nan"), {}, "dark", "nan"),
        (1.0, {}, "ok", ""),
        (1.0, {"expected": 1.1, "session_median": 0.9}, "ok", ""),
        (1.0, {"expected": 3.0}, "dark", "recorded dose"),
        (1.0, {"session_median": 3.0}, "dark", "session"),
        (2.0, {"session_median": 1.0}, "bright", "session"),
        (2.0, {"session_median": 1.0, "bright_fraction": 2.5}, "ok", ""),
        (1.0, {"expected": 2.0, "dark_fraction": 0.6}, "dark", "2"),
        (1.0, {"darkest": 1.5}, "dark", "1.5"),
        (1.0, {"expected": 0.0}, "ok", ""),
    ],
)
def test_brightness_is_judged_and_said(counts: float, known: dict[str, float], verdict: str, words: str):
    judged = judge_brightness(counts, **known)
    assert judged.verdict == verdict
    assert words in judged.reason
    assert bool(judged.reason) == (verdict != "ok")


def test_impossible_arguments_are_refused():
    with pytest.raises(ParameterError, match="frames"):
        mean_counts(np.ones((2, 2)), frames=0)
    with pytest.raises(ParameterError, match="0 s"):
        dose_rate(1.0, 0)
    with pytest.raises(ParameterError, match="pixel size"):
        dose_from_counts(1.0, 0.0)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16", ">f4"])
def test_mean_and_deviation_equal_their_plain_twin(dtype: str) -> None:
    image = np.random.default_rng(41).normal(100.0, 3.0, (37, 52)).astype(dtype)
    assert statistics.mean_and_deviation(image) == pytest.approx(statistics.mean_and_deviation_plain(image), rel=1e-9)


def test_a_small_deviation_on_a_large_mean_keeps_its_digits() -> None:
    image = (1e6 + np.random.default_rng(42).normal(0.0, 2.0, (300, 200))).astype(np.float32)
    assert statistics.mean_and_deviation(image)[1] == pytest.approx(image.astype(np.float64).std(), rel=1e-9)
    assert statistics.mean_and_deviation(np.full((5, 6), 7.25, np.float32)) == (7.25, 0.0)


def test_a_mean_without_an_end_is_told_wherever_the_pixel_lies() -> None:
    for place in ((0, 0), (3, 4)):
        image = np.ones((5, 6), np.float32)
        image[place] = np.inf
        mean, deviation = statistics.mean_and_deviation(image)
        assert mean == np.inf
        assert np.isnan(deviation)
