"""How far two halves of a movie agree: the ring correlation of their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, to_numpy
from focusnb.ops.fourier import ring_correlation, ring_sums

FloatArray = NDArray[np.floating[Any]]

THRESHOLD = 0.143


def frc_resolution(even: Array, odd: Array, *, pixel_size: float, threshold: float = THRESHOLD) -> float | None:
    """Return the resolution in Å where the ring correlation of two half sums falls below a threshold.

    even, odd : (y, x)
    pixel_size : Å/px
    The correlation is averaged over a band of about a twentieth of Nyquist first; between rings it is interpolated. A
    fixed pattern correlates too. None when it starts below; Nyquist when it never falls below.
    """
    correlation = to_numpy(ring_correlation(even, odd, pixel_size=pixel_size)[1])
    return correlation_resolution(correlation, min(even.shape), pixel_size=pixel_size, threshold=threshold)


def correlation_resolution(
    correlation: FloatArray, size: int, *, pixel_size: float, threshold: float = THRESHOLD
) -> float | None:
    """Return the resolution in Å where a ring correlation falls below a threshold; see ``frc_resolution``.

    correlation : (size // 2 + 1,) of images whose shorter side has ``size`` pixels
    """
    width = max(1, size // 40)
    smooth = np.convolve(correlation[1:], np.ones(width) / width, mode="valid")
    at = np.convolve(np.arange(1, len(correlation)), np.ones(width) / width, mode="valid") / (size * pixel_size)
    below = np.flatnonzero(smooth < threshold)
    if not len(below):
        return 2.0 * pixel_size
    if below[0] == 0:
        return None
    i = int(below[0])
    fraction = (smooth[i - 1] - threshold) / (smooth[i - 1] - smooth[i])
    return float(1.0 / (at[i - 1] + fraction * (at[i] - at[i - 1])))


def correlate_halves(even: Array, total: Array, shape: tuple[int, int]) -> FloatArray:
    """Correlate a part of a sum with the rest of it, ring by ring: (min(shape) // 2 + 1,), on the host.

    even, total : half spectra (ny, nx // 2 + 1) of images of ``shape``
    An empty ring gives 0; see ``fourier.ring_correlation`` for images.
    """
    if isinstance(even, np.ndarray):
        sums = np.zeros((2, 3, min(shape) // 2 + 2))
        y, x = ((np.asarray(f) * min(shape)) ** 2 for f in (np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])))
        _correlate(even, total, y.astype(np.float32), x.astype(np.float32), shape[1] % 2 == 0, sums)
        cross, first, second = sums.sum(axis=0)[:, :-1]
    else:
        cross, first, second = correlate_halves_plain(even, total, shape)
    power = first * second
    result: FloatArray = np.where(power > 0, cross / np.sqrt(np.maximum(power, 1e-300)), 0.0)
    return result


def correlate_halves_plain(even: Array, total: Array, shape: tuple[int, int]) -> FloatArray:
    """Plain twin of the kernel of ``correlate_halves``: the cross terms and the power of both, (3, rings)."""
    xp = array_namespace(even)
    odd = total - even
    products = (xp.real(even * xp.conj(odd)), xp.abs(even) ** 2, xp.abs(odd) ** 2)
    return np.stack([to_numpy(ring_sums(values, shape)) for values in products]).astype(float)


@compiled
def _products(even: Array, total: Array, y: float, squares: Array, products: Array, rings: Array, last: int) -> None:
    cross, first, second = products[0], products[1], products[2]
    for x in range(even.shape[0]):
        a, b = even[x], total[x] - even[x]
        cross[x] = a.real * b.real + a.imag * b.imag
        first[x] = a.real * a.real + a.imag * a.imag
        second[x] = b.real * b.real + b.imag * b.imag
        rings[x] = min(int(np.sqrt(y + squares[x]) + np.float32(0.5)), last)


@compiled
def _correlate(even: Array, total: Array, y_squared: Array, x_squared: Array, nyquist: bool, sums: Array) -> None:
    """Add the products of one row after the other to the rings; columns that stand for two frequencies count twice.

    sums : (2, 3, rings) of columns of even and of odd number: neighbours are in one ring and would wait for each other
    """
    columns = even.shape[1]
    products = np.empty((3, columns + columns % 2), np.float32)
    rings = np.empty(columns + columns % 2, np.int32)
    last = sums.shape[2] - 1
    products[:, columns:] = 0.0
    rings[columns:] = last
    for y in range(even.shape[0]):
        _products(even[y], total[y], y_squared[y], x_squared, products, rings, last)
        for i in range(3):
            products[i, 0] *= np.float32(0.5)
            if nyquist:
                products[i, columns - 1] *= np.float32(0.5)
        _add_to_rings(products[0], products[1], products[2], rings, sums[0], sums[1])


@compiled
def _add_to_rings(a: Array, b: Array, c: Array, rings: Array, even: Array, odd: Array) -> None:
    for i in range(rings.shape[0] // 2):
        x, y = 2 * i, 2 * i + 1
        first, second = rings[x], rings[y]
        even[0, first] += a[x]
        odd[0, second] += a[y]
        even[1, first] += b[x]
        odd[1, second] += b[y]
        even[2, first] += c[x]
        odd[2, second] += c[y]
