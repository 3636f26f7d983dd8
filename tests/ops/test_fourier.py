"""Fourier resizing and shifting against analytic waves and naive transforms."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.ops import fourier


def waves(shape: tuple[int, int], factor: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """A mean and two waves, asymmetric, sampled every ``factor`` pixels of a field of ``shape``."""
    y = np.arange(round(shape[0] / factor[0]))[:, None] * factor[0]
    x = np.arange(round(shape[1] / factor[1]))[None, :] * factor[1]
    image = 3.0 + np.cos(2 * np.pi * (3 * y / shape[0] + 2 * x / shape[1]) + 0.4)
    return (image + 0.5 * np.sin(2 * np.pi * (-5 * y / shape[0] + 4 * x / shape[1]))).astype(np.float32)


def naive_resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize by evaluating the full complex transform frequency by frequency."""
    ny, nx = image.shape
    spectrum = np.fft.fft2(image.astype(float)) / image.size
    y, x = np.arange(shape[0]) * ny / shape[0], np.arange(shape[1]) * nx / shape[1]

    def waves_of(old: int, new: int, at: np.ndarray) -> np.ndarray:
        # a frequency at Nyquist of the smaller grid stands for both its signs: half of each
        matrix = np.zeros((new, old), complex)
        smaller = min(old, new)
        for i in range(old):
            k = i if i <= old // 2 else i - old
            for sign in (1, -1) if (old % 2 == 0 and k == old // 2) else (1,):
                part = 0.5 if old % 2 == 0 and k == old // 2 else 1.0
                if abs(k) * 2 > smaller:
                    continue
                if smaller % 2 == 0 and abs(k) * 2 == smaller and old > new:
                    part *= 0.5
                    matrix[:, i] += part * 2 * np.cos(2 * np.pi * k * at / old)
                else:
                    matrix[:, i] += part * np.exp(2j * np.pi * sign * k * at / old)
        return matrix

    full = waves_of(ny, shape[0], y) @ spectrum @ waves_of(nx, shape[1], x).T
    return full.real


@pytest.mark.parametrize("shape", [(20, 24), (21, 25), (20, 31), (19, 48)])
def test_crop_samples_the_same_waves_from_pixel_zero(shape: tuple[int, int]) -> None:
    field = (40, 48)
    cropped = fourier.crop_fourier(waves(field), shape)
    assert cropped.dtype == np.float32
    expected = waves(field, (field[0] / shape[0], field[1] / shape[1]))
    np.testing.assert_allclose(cropped, expected, atol=2e-6)
    assert cropped.mean() == pytest.approx(3.0, abs=1e-6)


@pytest.mark.parametrize("shape", [(40, 48), (31, 25), (22, 49)])
def test_pad_interpolates_the_same_waves(shape: tuple[int, int]) -> None:
    field = (22, 25)
    padded = fourier.pad_fourier(waves(field), shape)
    np.testing.assert_allclose(padded, waves(field, (field[0] / shape[0], field[1] / shape[1])), atol=2e-6)


@pytest.mark.parametrize("new", [(8, 6), (7, 6), (8, 5), (12, 6), (8, 10), (5, 5)])
@pytest.mark.parametrize("old", [(12, 10), (13, 10), (12, 11)])
def test_noise_resizes_as_a_naive_transform_does(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(2.0, 1.0, old).astype(np.float32)
    np.testing.assert_allclose(fourier.crop_fourier(image, new), naive_resize(image, new), atol=1e-5)


@pytest.mark.parametrize("new", [(12, 10), (13, 12), (18, 11)])
@pytest.mark.parametrize("old", [(12, 10), (11, 9), (12, 9)])
def test_noise_pads_as_a_naive_transform_does(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = np.random.default_rng(2).normal(2.0, 1.0, old).astype(np.float32)
    np.testing.assert_allclose(fourier.pad_fourier(image, new), naive_resize(image, new), atol=1e-5)


def test_wrong_direction_is_refused_with_both_sizes() -> None:
    image = waves((40, 48))
    with pytest.raises(ValueError, match=r"40 x 48 pixels to 42 x 48"):
        fourier.crop_fourier(image, (42, 48))
    with pytest.raises(ValueError, match=r"40 x 48 pixels to 38 x 48"):
        fourier.pad_fourier(image, (38, 48))


def test_factor_two_of_a_super_resolution_frame_is_exact() -> None:
    plan = fourier.plan_resize((7676, 7420), 2.0)
    assert plan.output == (3838, 3710)
    assert plan.factor == 2.0
    assert fourier.plan_resize((3838, 3710), 1.0).output == (3838, 3710)


@pytest.mark.parametrize("shape", [(3838, 3710), (4092, 5760), (512, 700), (90, 64)])
@pytest.mark.parametrize("factor", [1.37, 1.0 / 0.83, 2.5, 0.7, 4.0123])
def test_axes_share_one_ratio(shape: tuple[int, int], factor: float) -> None:
    plan = fourier.plan_resize(shape, factor)
    ratios = [plan.padded[i] / plan.resized[i] for i in (0, 1)]
    assert max(ratios) / min(ratios) - 1 <= fourier.RATIO_TOLERANCE
    assert plan.factor == pytest.approx(factor, rel=1e-4)
    for i in (0, 1):
        assert plan.padded[i] >= shape[i]
        assert plan.output[i] <= plan.resized[i]
        assert 0 <= shape[i] / plan.factor - plan.output[i] < 1 + 1e-6


def test_crop_to_pixel_size_keeps_places_and_counts() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:300, :410]
    image = 7.0 + 5.0 * np.exp(-((y - 60) ** 2 + (x - 200) ** 2) / 50.0) + rng.normal(0, 0.01, (300, 410))
    cropped, reached = fourier.crop_to_pixel_size(image.astype(np.float32), 0.8, 1.1)
    assert reached == pytest.approx(1.1, rel=1e-4)
    assert cropped.mean() == pytest.approx(image.mean(), rel=1e-3)
    bump = np.maximum(cropped - 7.2, 0.0)
    v, u = np.mgrid[: bump.shape[0], : bump.shape[1]]
    assert (bump * v).sum() / bump.sum() * reached / 0.8 == pytest.approx(60.0, abs=0.02)
    assert (bump * u).sum() / bump.sum() * reached / 0.8 == pytest.approx(200.0, abs=0.02)


def test_impossible_factors_are_named() -> None:
    with pytest.raises(ValueError, match="factor of -1"):
        fourier.plan_resize((64, 64), -1.0)
    with pytest.raises(ValueError, match="fewer than two pixels of 64 x 80"):
        fourier.plan_resize((64, 80), 60.0)


@pytest.mark.parametrize("shape", [(16, 20), (15, 21)])
def test_whole_pixels_shift_as_roll_does(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    # output(r) = image(r - shift): content moves to higher indices
    moved = fourier.shift_fourier(image, (3, -2))
    np.testing.assert_allclose(moved, np.roll(image, (3, -2), axis=(0, 1)), atol=1e-6)


def test_fractions_of_pixels_shift_waves() -> None:
    y, x = np.mgrid[:32, :40].astype(float)

    def wave(dy: float, dx: float) -> np.ndarray:
        return np.cos(2 * np.pi * (3 * (y - dy) / 32 - 7 * (x - dx) / 40) + 0.3)

    moved = fourier.shift_fourier(wave(0, 0).astype(np.float32), (0.37, -1.61))
    np.testing.assert_allclose(moved, wave(0.37, -1.61), atol=1e-5)


def test_fast_shapes_are_even_smooth_and_not_wasteful() -> None:
    assert fourier.fast_shape((3838, 3710)) == (3840, 3750)
    assert fourier.fast_shape((64, 17)) == (64, 18)
    for size in range(30, 3000, 37):
        fast = fourier.fast_size(size)
        rest = fast
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1
        assert fast % 2 == 0
        assert size <= fast <= 1.15 * size + 2


def test_pad_mean_fills_the_far_ends() -> None:
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    padded = fourier.pad_mean(image, (3, 5))
    np.testing.assert_array_equal(padded[:2, :3], image)
    assert (padded[2] == 2.5).all()
    assert (padded[:, 3:] == 2.5).all()
    with pytest.raises(ValueError, match="2 x 3 pixels to 1 x 5"):
        fourier.pad_mean(image, (1, 5))


@pytest.mark.parametrize("shape", [(24, 30), (25, 31)])
def test_rotational_average_counts_both_halves(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(7).normal(size=shape)
    full = np.abs(np.fft.fft2(image)) ** 2
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    ring = np.rint(np.hypot(y, x) * min(shape)).astype(int)
    expected = [full[ring == i].mean() for i in range(min(shape) // 2 + 1)]
    frequency, average = fourier.rotational_average(np.abs(np.fft.rfft2(image)) ** 2, shape, pixel_size=2.0)
    # rings at the edge of two bins may go either way in single precision
    close = np.isclose(average, expected, rtol=1e-3)
    assert close.mean() > 0.9
    assert frequency[6] == pytest.approx(6 / (24 * 2.0) if shape[0] == 24 else 6 / (25 * 2.0))


def test_ring_correlation_tells_signal_from_noise() -> None:
    rng = np.random.default_rng(11)
    signal, first, second = (rng.normal(size=(128, 100)).astype(np.float32) for _ in range(3))
    signal = fourier.low_pass(signal, pixel_size=1.0, resolution=5.0, width=0.02)
    frequency, correlation = fourier.ring_correlation(signal + first, signal + second, pixel_size=1.0)
    assert correlation[(frequency > 0.02) & (frequency < 0.18)].mean() == pytest.approx(0.5, abs=0.05)
    assert abs(correlation[frequency > 0.22].mean()) < 0.05
    np.testing.assert_allclose(fourier.ring_correlation(first, -first)[1], -1.0, atol=1e-6)
    with pytest.raises(ValueError, match="cannot be correlated"):
        fourier.ring_correlation(first, second[1:])


def test_low_pass_keeps_and_removes() -> None:
    x = np.arange(200)[None, :] * np.ones((160, 1))
    slow, fast = np.cos(2 * np.pi * x / 20), np.cos(2 * np.pi * x / 4)
    filtered = fourier.low_pass((1.0 + slow + fast).astype(np.float32), pixel_size=1.5, resolution=12.0)
    np.testing.assert_allclose(filtered, 1.0 + slow, atol=1e-5)
