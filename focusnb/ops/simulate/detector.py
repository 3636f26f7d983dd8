"""The camera: modulation transfer, counting, gain, hot and dead pixels.

Every electron that arrives is counted once, in a pixel displaced a little: so the transfer function acts on the
expected image and the counts are Poisson, without correlation between neighbours. Coincidence loss is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class DetectorSettings:
    """What a camera is like.

    gain_rms : relative root mean square of the gain
    hot, dead : number of pixels that count too much, or nothing
    hot_counts : mean counts per frame of a hot pixel, smallest and largest
    spread : root mean square displacement, in pixels, of where an electron is counted; None for an ideal detector
    """

    gain_rms: float = 0.06
    hot: int = 150
    dead: int = 150
    hot_counts: tuple[float, float] = (8.0, 30.0)
    spread: float | None = 0.25


@dataclass(frozen=True)
class Detector:
    """One camera: the same for all movies of a session.

    gain : (y, x) float32, corrected = raw * gain; 0 at dead pixels, mean 1 elsewhere
    sensitivity : (y, x) float32, counts per expected electron: 1 / gain, 0 at dead and hot pixels
    dark : (y, x) float32, counts per frame without any electron: 0 but at hot pixels
    hot, dead : (n, 2) positions (y, x)
    """

    gain: FloatArray
    sensitivity: FloatArray
    dark: FloatArray
    hot: IntArray
    dead: IntArray

    @property
    def defects(self) -> NDArray[np.bool_]:
        """(y, x) mask, True where a pixel is hot or dead."""
        mask = np.zeros(self.gain.shape, bool)
        for positions in (self.hot, self.dead):
            mask[positions[:, 0], positions[:, 1]] = True
        return mask


def make_detector(settings: DetectorSettings, shape: tuple[int, int], rng: np.random.Generator) -> Detector:
    """Draw a camera: pixel-to-pixel variation, bands of read-out columns, a slow slope, hot and dead pixels."""
    ny, nx = shape
    pattern = rng.standard_normal(shape, np.float32)
    bands = rng.normal(0.0, 0.35, (2, 1 + nx // 256)).repeat(256, axis=1)[:, :nx].repeat(-(-ny // 2), axis=0)[:ny]
    slope = 0.4 * (np.linspace(-1.0, 1.0, ny)[:, None] + 0.5 * np.linspace(-1.0, 1.0, nx)[None, :])
    pattern += (bands + slope).astype(np.float32)
    pattern *= np.float32(settings.gain_rms / pattern.std())
    gain = np.maximum(np.float32(1.0) + pattern - pattern.mean(), np.float32(0.1))

    chosen = rng.choice(ny * nx, settings.hot + settings.dead, replace=False)
    positions = np.stack(np.unravel_index(chosen, shape), axis=1)
    hot, dead = positions[: settings.hot], positions[settings.hot :]
    gain /= gain.mean()
    sensitivity = np.float32(1.0) / gain
    dark = np.zeros(shape, np.float32)
    dark[hot[:, 0], hot[:, 1]] = rng.uniform(*settings.hot_counts, settings.hot)
    gain[dead[:, 0], dead[:, 1]] = 0.0
    sensitivity[positions[:, 0], positions[:, 1]] = 0.0
    return Detector(gain=gain, sensitivity=sensitivity, dark=dark, hot=hot, dead=dead)


def modulation_transfer(shape: tuple[int, int], spread: float | None) -> tuple[FloatArray, FloatArray]:
    """Return the detector's transfer as factors (ny, 1) and (1, nx // 2 + 1) of a half spectrum.

    A square pixel (sinc) times a Gaussian displacement of ``spread`` pixels: 0.47 at Nyquist with 0.25.
    """
    factors = []
    for frequency in (np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])):
        ideal = np.ones_like(frequency)
        factor = ideal if spread is None else np.sinc(frequency) * np.exp(-2.0 * (np.pi * spread * frequency) ** 2)
        factors.append(factor.astype(np.float32))
    return factors[0][:, None], factors[1][None, :]


def count_electrons(
    expected: FloatArray, detector: Detector, rng: np.random.Generator, dtype: Any = np.uint8
) -> IntArray:
    """Record one frame: Poisson counts of (expected * sensitivity + dark).

    expected : (y, x) float32, electrons per pixel; negative values count as 0
    dtype : unsigned integer of the frame; counts above its largest value are clipped
    """
    counts = np.empty(expected.shape, dtype)
    largest = int(np.iinfo(dtype).max)
    rows = max(1, (1 << 20) // expected.shape[1])  # the uniform numbers of a whole frame would not fit the cache
    for start in range(0, expected.shape[0], rows):
        part = slice(start, start + rows)
        mean = expected[part] * detector.sensitivity[part] + detector.dark[part]
        np.maximum(mean, 0.0, out=mean)
        if mean.max() < 80.0:
            _invert_poisson(mean, rng.random(mean.shape), counts[part], largest)
        else:
            counts[part] = np.minimum(rng.poisson(mean), largest)
    return counts


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _invert_poisson(mean: FloatArray, uniform: FloatArray, counts: IntArray, largest: int) -> None:
    """Turn uniform numbers into Poisson ones by walking up the cumulative distribution."""
    for y in range(mean.shape[0]):
        for x in range(mean.shape[1]):
            rate = np.float64(mean[y, x])
            probability = np.exp(-rate)
            left = uniform[y, x] - probability
            n = 0
            while left >= 0.0 and n < largest:
                n += 1
                probability *= rate / n
                left -= probability
                if probability < 1e-18 and n > rate:  # the tail that float64 cannot resolve
                    break
            counts[y, x] = n
