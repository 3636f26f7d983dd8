"""Previews: frame, levels, marks and designed states."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.ctf import Optics, estimate_ctf
from focusnb.ops.drawing import ACCENT, length_label, round_below
from focusnb.ops.preview import ctf_rings_preview, micrograph_preview, spectrum_preview, trajectory_preview
from focusnb.ops.spectrum import power_spectrum

from .thon import thon_image


def accent(picture: np.ndarray) -> np.ndarray:
    """Return where a picture has the accent colour."""
    return (np.abs(picture.astype(int) - np.array(ACCENT)) < 40).all(axis=2)


def test_micrograph_keeps_its_frame_and_shape():
    image = np.random.default_rng(0).normal(size=(300, 500)).astype(np.float32)
    image[40:70, 380:440] += 20  # low rows, right
    picture = micrograph_preview(image, pixel_size=2.0, size=250, scale_bar=False)
    assert picture.shape == (150, 250, 3)
    assert picture.dtype == np.uint8
    y, x = np.nonzero(picture[..., 0] > 250)
    assert (np.median(y), np.median(x)) == (pytest.approx(27, abs=3), pytest.approx(205, abs=3))


def test_contrast_ignores_gold_and_invalid_pixels():
    image = np.random.default_rng(1).normal(100.0, 5.0, (400, 400)).astype(np.float32)
    plain = micrograph_preview(image, pixel_size=1.0, size=200, scale_bar=False)
    spoiled = image.copy()
    spoiled[5:9, 5:9] = 1e6
    spoiled[100, 100] = np.nan
    shown = micrograph_preview(spoiled, pixel_size=1.0, size=200, scale_bar=False)
    assert abs(float(shown.mean()) - float(plain.mean())) < 6
    assert shown[20:].std() > 0.8 * plain[20:].std()


def test_scale_bar_has_the_length_it_says():
    # 1000 pixels of 2 Å, shown on 500: 500 Å are 125 pixels of the preview
    flat = np.zeros((800, 1000), np.float32)
    picture = micrograph_preview(flat, pixel_size=2.0, size=500)
    bar = picture[..., 0] == 245
    longest = max(int(row.sum()) for row in bar)
    assert length_label(round_below(0.25 * 500 * 4.0)) == "50 nm"
    assert longest == pytest.approx(125, abs=2)
    y, x = np.nonzero(bar)
    assert y.max() < 80  # row 0 is the bottom: the bar lies low
    assert x.max() < 200


@pytest.mark.parametrize(
    ("value", "expected", "label"),
    [(530.0, 500.0, "50 nm"), (199.0, 100.0, "10 nm"), (99.0, 50.0, "50 Å"), (20.0, 20.0, "20 Å"), (3.0, 2.0, "2 Å")],
)
def test_round_lengths(value: float, expected: float, label: str):
    assert round_below(value) == expected
    assert length_label(expected) == label


def test_spectrum_shows_a_ring_where_it_is():
    y, x = np.indices((256, 256)) - 128
    radius = np.hypot(y, x)
    spectrum = (100 / (1 + radius) * (1 + 0.8 * (np.abs(radius - 60) < 2))).astype(np.float32)
    picture = spectrum_preview(spectrum, pixel_size=2.0, size=256, rings=False)
    assert picture.shape == (256, 256, 3)
    assert picture[np.abs(radius - 60) < 1, 0].mean() > picture[np.abs(radius - 75) < 3, 0].mean() + 60
    marked = spectrum_preview(spectrum, pixel_size=2.0, size=256)
    # 10 Å lies at 256 · 2 / 10 pixels from the centre
    on_ring = np.abs(radius - 51.2) < 0.7
    assert marked[on_ring, 0].mean() > picture[on_ring, 0].mean() + 20


def test_fitted_rings_lie_on_the_measured_ones():
    image = thon_image((900, 900), 1.5, (16000.0, 14000.0, 35.0), signal=3.0)
    spectrum, optics = power_spectrum(image, box=256), Optics(1.5, 300.0, 2.7, 0.1)
    fit = estimate_ctf(spectrum, optics=optics)
    picture = ctf_rings_preview(spectrum, fit, optics=optics, size=256)[..., 0].astype(float)
    y, x = np.indices(picture.shape) - 128
    seen = (np.hypot(y, x) > 18) & (np.hypot(y, x) < 60) & (x > 4)
    mirrored = picture[(-y[seen] + 128), (-x[seen] + 128)]  # a spectrum is the same on the other side of its origin
    assert np.corrcoef(picture[seen], mirrored)[0, 1] > 0.6
    assert accent(ctf_rings_preview(spectrum, fit, optics=optics, size=256)).sum() > 100


def test_failed_fit_leaves_the_right_half_dark():
    noise = np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32)
    spectrum, optics = power_spectrum(noise, box=256), Optics(1.5, 300.0, 2.7, 0.1)
    fit = estimate_ctf(spectrum, optics=optics)
    picture = ctf_rings_preview(spectrum, fit, optics=optics, size=256)
    assert np.median(picture[:, 140:]) < 45
    assert np.median(picture[:, :116]) > 60
    assert not accent(picture).any()


def test_trajectory_shows_the_specimen_moving_against_the_shift():
    # the shift to apply goes to +x, so the specimen went to −x: the ring of the first frame is at the right
    shifts = np.stack([np.zeros(12), np.linspace(0, 5, 12)], axis=1)
    picture = trajectory_preview(shifts, 1.1, size=300)
    assert picture.shape == (300, 300, 3)
    _, x = np.nonzero(accent(picture))
    assert np.median(x) > 200
    # and the shift to +y shows the first frame above: high rows
    y, _ = np.nonzero(accent(trajectory_preview(shifts[:, ::-1], 1.1, size=300)))
    assert np.median(y) > 200


@pytest.mark.parametrize("frames", [1, 2])
def test_short_and_still_trajectories(frames: int):
    picture = trajectory_preview(np.zeros((frames, 2)), 1.0, size=200)
    assert accent(picture).any()


def test_constant_spectrum_and_image():
    assert np.unique(micrograph_preview(np.zeros((64, 64)), pixel_size=1.0, size=64, scale_bar=False)).size == 1
    assert spectrum_preview(np.zeros((64, 64), np.float32), pixel_size=1.0, size=64, rings=False).shape == (64, 64, 3)


def test_wrong_shapes_are_refused():
    with pytest.raises(ParameterError, match="preview"):
        micrograph_preview(np.zeros((2, 8, 8)), pixel_size=1.0)
    with pytest.raises(ParameterError, match="trajectory"):
        trajectory_preview(np.zeros((4, 3)), 1.0)
