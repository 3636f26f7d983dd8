"""Average the amplitudes of an image over the pixels of a small spectrum, and look at them along rings.

A spectrum is (box, box) float32 with its origin at (box // 2, box // 2): column x holds the frequency
``(x - box // 2) / (box * pixel_size)`` in 1/Å, row y likewise, y up as in the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from focusnb.compiled import compiled
from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace, fft_namespace, to_numpy
from focusnb.ops.fourier import fast_size

FINEST_PIXEL_SIZE = 1.0
"""Å/px to which finer images are resampled for their spectrum."""

FAR_PIXEL_SIZE = 4.0
"""Å/px of the spectrum in which the close rings of a very large defocus are looked for."""


BLOCK = 256
"""Pixels of the spectrum's own size on a side of the parts whose mean and variance are compared."""

EDGE = 64
"""Pixels of the spectrum's own size over which an image fades at its edges, which would leave a cross otherwise."""

SMALLEST = 64
"""Pixels of a side below which an image has no spectrum worth the name: it is zero."""

MOST_EDGE = 0.15
"""Part of a side that may fade at either end."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How finely a spectrum samples frequency.

    box : pixels of the spectrum on a side
    factor : pixel size of the spectrum over that of the image, at least 1; above 1 the highest frequencies are left
        out, so that the same box samples the rings of a high defocus more finely
    """

    box: int
    factor: float = 1.0


def choose_sampling(pixel_size: float, *, box: int = 512, target: float = FINEST_PIXEL_SIZE) -> Sampling:
    """Choose a sampling that reaches the frequencies a CTF fit uses, and no further.

    pixel_size : Å/px of the image; one finer than ``target`` is resampled to it (the rings of an image of 0.5 Å/px
    would otherwise be two pixels apart at a defocus of 1.5 µm), a coarser one keeps its own
    """
    if pixel_size <= 0:
        raise ParameterError(f"pixel size is {pixel_size} Å/px; it must be positive")
    return Sampling(box, max(1.0, target / pixel_size))


def power_spectrum(image: Array, *, box: int = 512, sampling: Sampling | None = None, robust: bool = True) -> Array:
    """Average the amplitudes of an image's Fourier transform over the pixels of a spectrum.

    image : (y, x), any shape, numpy or cupy; a side too short for the spectrum is padded with 0
    box : pixels of the spectrum on a side, even
    sampling : another than ``box`` at the pixel size of the image
    robust : parts of the image with unusual variance (gold, carbon edge, contamination, empty border) count less

    Returns (box, box) float32, mean amplitude, origin at (box // 2, box // 2). The image loses its local mean and
    fades at its edges; white noise of standard deviation s gives a mean amplitude of s·sqrt(π)/2 whatever the image.
    An image that is constant or smaller than 64 pixels gives zeros. The whole transform uses all of the image alike,
    where tapered tiles (Welch 1967) waste a part of it: on simulated micrographs the median error of the defocus is a
    quarter smaller.
    """
    return power_spectra(image, [sampling or Sampling(box)], robust=robust)[0]


def power_spectra(image: Array, samplings: Sequence[Sampling], *, robust: bool = True) -> list[Array]:
    """Return the spectra of an image for several samplings, from one transform; see ``power_spectrum``."""
    xp, fft = array_namespace(image), fft_namespace(image)
    if image.ndim != 2 or np.dtype(image.dtype).kind not in "iufb":
        raise ParameterError(f"a spectrum needs one image (y, x) of numbers, not {image.ndim} axes of {image.dtype}")
    if not samplings:
        raise ParameterError("a spectrum needs a sampling; none is given")
    if isinstance(image, np.ndarray) and (image.dtype == np.float16 or not image.dtype.isnative):
        image = image.astype(np.float32)  # half precision and other byte orders are ways to store
    for sampling in samplings:
        if sampling.box < 16 or sampling.box % 2 or sampling.factor < 1:
            raise ParameterError(
                f"box {sampling.box} must be even and at least 16, the factor {sampling.factor:g} at least 1"
            )
    if min(image.shape) < SMALLEST:
        return [xp.zeros((sampling.box, sampling.box), dtype=xp.float32) for sampling in samplings]
    finest = min(sampling.factor for sampling in samplings)
    least = max(math.ceil(sampling.box * sampling.factor) for sampling in samplings)
    shape = tuple(fast_size(max(int(side), least)) for side in image.shape)
    even, square = _evened(image, max(1, round(BLOCK * finest)), robust)
    transform = fft.rfft2(even, s=shape)
    return [_averaged(xp, transform, sampling, square) for sampling in samplings]


def _averaged(xp: Any, transform: Array, sampling: Sampling, square: float) -> Array:
    """Average the amplitudes of a half transform over the pixels of a spectrum."""
    rows = _bins(int(transform.shape[0]), sampling, whole=True)
    columns = _bins(2 * (int(transform.shape[1]) - 1), sampling, whole=False)
    if isinstance(transform, np.ndarray):
        half = np.empty((sampling.box, sampling.box // 2 + 1), np.float32)
        _average(transform, *rows, *columns, half)
    else:
        half = average_plain(transform, rows, columns)
    return _unfolded(xp, half * (1.0 / max(square, 1e-30) ** 0.5))


def _evened(image: Array, block: int, robust: bool) -> tuple[Array, float]:
    """Return an image less its local mean, faded at its edges and where it is unusual, and its sum of squared weights.

    The mean and the weight of a place are linear between the middles of blocks.
    """
    xp = array_namespace(image)
    ny, nx = (int(side) for side in image.shape)
    parts = tuple(max(1, side // block) for side in (ny, nx))
    edges = [
        np.round(np.linspace(0, side, number + 1)).astype(int) for side, number in zip((ny, nx), parts, strict=True)
    ]
    mean, deviation = np.zeros(parts), np.zeros(parts)
    for i in range(parts[0]):
        for j in range(parts[1]):
            # every second pixel tells both well enough, at a quarter of the cost
            part = image[edges[0][i] : edges[0][i + 1] : 2, edges[1][j] : edges[1][j + 1] : 2].astype(xp.float32)
            mean[i, j], deviation[i, j] = float(part.mean()), float(part.std())
    weight = _block_weights(deviation) if robust else np.ones(parts)
    places = [_between(side, edge) for side, edge in zip((ny, nx), edges, strict=True)]
    fades = [_fade(side, round(EDGE * block / BLOCK)) for side in (ny, nx)]
    grids = mean.astype(np.float32), weight.astype(np.float32)
    if isinstance(image, np.ndarray):
        result = np.empty((ny, nx), np.float32)
        square = _even(np.ascontiguousarray(image), *grids, *places[0], *places[1], fades[0], fades[1], result)
        return result, float(square)
    return even_plain(image, grids, places, fades)


def _block_weights(deviation: np.ndarray) -> np.ndarray:
    """Weigh blocks by how usual their standard deviation is among all of the image."""
    usual = float(np.median(deviation))
    if not np.isfinite(usual) or usual == 0:
        return np.ones_like(deviation)
    ratio = deviation / usual
    scatter = 1.4826 * float(np.median(np.abs(ratio - 1)))
    limit = 1 + max(3 * scatter, 0.1)
    weight = np.where(ratio > limit, limit / np.maximum(ratio, 1e-9), 1.0)
    return np.where(ratio < 0.3, 0.0, weight)


def _between(side: int, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each pixel along a side, the block before it and the part that the next one has, float32."""
    middle = 0.5 * (edges[:-1] + edges[1:] - 1)
    place = np.interp(np.arange(side), middle, np.arange(len(middle)))
    first = np.minimum(place.astype(np.int64), max(len(middle) - 2, 0))
    return first, (place - first).astype(np.float32)


def _fade(side: int, width: int) -> np.ndarray:
    width = max(1, min(width, round(MOST_EDGE * side)))
    fade = np.ones(side, np.float32)
    ramp = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / width) ** 2
    fade[:width] *= ramp
    fade[side - width :] *= ramp[::-1]
    return fade


def even_plain(image: Array, grids: Any, places: Any, fades: Any) -> tuple[Array, float]:
    """Plain twin of the compiled kernel."""
    xp = array_namespace(image)

    def spread(grid: np.ndarray) -> Array:
        (y, v), (x, u) = places
        y_next, x_next = np.minimum(y + 1, grid.shape[0] - 1), np.minimum(x + 1, grid.shape[1] - 1)
        lines = grid[y] * (1 - v)[:, None] + grid[y_next] * v[:, None]
        return xp.asarray((lines[:, x] * (1 - u) + lines[:, x_next] * u).astype(np.float32))

    weight = spread(grids[1]) * xp.asarray(fades[0])[:, None] * xp.asarray(fades[1])[None, :]
    square = float((weight * weight).sum(dtype=xp.float64))
    return (image.astype(xp.float32) - spread(grids[0])) * weight, square


@compiled
def _even_row(
    row: Array, mean: Array, weight: Array, place: Array, part: Array, fade: Array, level: float, result: Array
) -> float:
    square = np.float32(0.0)
    last = mean.shape[0] - 1
    for x in range(row.shape[0]):
        i, u = place[x], part[x]
        j = min(i + 1, last)
        factor = (weight[i] + (weight[j] - weight[i]) * u) * fade[x] * level
        result[x] = (np.float32(row[x]) - (mean[i] + (mean[j] - mean[i]) * u)) * factor
        square += factor * factor
    return square  # type: ignore[return-value]


@compiled
def _even(
    image: Array,
    mean: Array,
    weight: Array,
    y_place: Array,
    y_part: Array,
    x_place: Array,
    x_part: Array,
    y_fade: Array,
    x_fade: Array,
    result: Array,
) -> float:
    square = 0.0
    last = mean.shape[0] - 1
    for y in range(image.shape[0]):
        i, v = y_place[y], y_part[y]
        j = min(i + 1, last)
        means, weights = mean[i] + (mean[j] - mean[i]) * v, weight[i] + (weight[j] - weight[i]) * v
        square += _even_row(image[y], means, weights, x_place, x_part, x_fade, y_fade[y], result[y])
    return square


def _bins(length: int, sampling: Sampling, *, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each pixel of a spectrum along an axis, the first frequency averaged, and weights of sum 1.

    length : of the transform
    whole : all frequencies, the origin in the middle; else those from 0 on, of a half transform
    """
    box = sampling.box
    step = length / (box * sampling.factor)  # frequencies of the transform between two pixels of the spectrum
    middle = (np.arange(box) - box // 2 if whole else np.arange(box // 2 + 1)) * step
    first = np.ceil(middle - 0.5 * step - 0.5).astype(np.int64)
    number = math.ceil(step) + 1
    at = first[:, None] + np.arange(number)[None, :]
    # each frequency stands for an interval as long as the distance to the next
    overlap = np.minimum(at + 0.5, middle[:, None] + 0.5 * step) - np.maximum(at - 0.5, middle[:, None] - 0.5 * step)
    weight = np.maximum(overlap, 0.0)
    if not whole:
        weight[(at < 0) | (at > length // 2)] = 0.0
    return first, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def average_plain(transform: Array, rows: Any, columns: Any) -> Array:
    """Plain twin of the compiled kernel."""
    xp = array_namespace(transform)
    ny, nx = int(transform.shape[0]), int(transform.shape[1])
    values = xp.abs(transform)
    for axis, (first, weight), length in ((0, rows, ny), (1, columns, nx)):
        total = 0.0
        for j in range(weight.shape[1]):
            index = (first + j) % length if axis == 0 else np.clip(first + j, 0, length - 1)
            part = xp.asarray(weight[:, j])
            total = total + xp.take(values, xp.asarray(index), axis=axis) * (part[:, None] if axis == 0 else part)
        values = total
    return values


@compiled
def _add_amplitudes(row: Array, weight: float, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] += weight * np.sqrt(row[x].real * row[x].real + row[x].imag * row[x].imag)


@compiled
def _average(
    transform: Array, row_first: Array, row_weight: Array, column_first: Array, column_weight: Array, result: Array
) -> None:
    ny, nx = transform.shape
    used = min(nx, column_first[-1] + column_weight.shape[1])
    line = np.empty(used, np.float32)
    for y in range(result.shape[0]):
        line[:] = 0.0
        for i in range(row_weight.shape[1]):
            if row_weight[y, i] > 0:
                _add_amplitudes(transform[(row_first[y] + i) % ny, :used], row_weight[y, i], line)
        for x in range(result.shape[1]):
            total = np.float32(0.0)
            for j in range(column_weight.shape[1]):
                total += column_weight[x, j] * line[min(max(column_first[x] + j, 0), used - 1)]
            result[y, x] = total


def _unfolded(xp: Any, half: Array) -> Array:
    """Complete a half spectrum (box, box // 2 + 1), rows from −box // 2 on, by what Friedel's law tells."""
    box = int(half.shape[0])
    centre = box // 2
    turned = xp.concatenate([half[:1], half[:0:-1]], axis=0)  # the row of −k for each k; that of Nyquist is its own
    full = xp.empty((box, box), dtype=xp.float32)
    full[:, centre:] = half[:, :centre]
    full[:, 1:centre] = turned[:, centre - 1 : 0 : -1]
    full[:, 0] = 0.5 * (half[:, centre] + turned[:, centre])
    # only frequencies of one sign were averaged there
    full[:, centre] = 0.5 * (half[:, 0] + turned[:, 0])
    full[centre, centre] = 0.25 * (
        full[centre - 1, centre] + full[centre + 1, centre] + full[centre, centre - 1] + full[centre, centre + 1]
    )  # the mean was subtracted, so the origin says nothing and would only spoil a display
    return full


def frequency_radius(box: int, pixel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return |k| in 1/Å and the azimuth in radians (from +x, counter-clockwise, y up) of a spectrum's pixels."""
    axis = (np.arange(box) - box // 2) / (box * pixel_size)
    return np.hypot(axis[:, None], axis[None, :]), np.arctan2(axis[:, None], axis[None, :])


def rotational_average(spectrum: Array, pixel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Average a spectrum over rings one pixel wide.

    spectrum : (box, box), origin at (box // 2, box // 2); pixel_size : Å/px of the spectrum

    Returns frequency in 1/Å (the mean over the pixels of each ring) and the averages, both (box // 2,), on the host.
    """
    values = to_numpy(spectrum)
    box = values.shape[0]
    ring, counts, radius = _rings(box)
    average = np.bincount(ring, values.ravel().astype(np.float64), minlength=box // 2)[: box // 2] / counts
    return radius / (box * pixel_size), average


@lru_cache(maxsize=4)
def _rings(box: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ring of each pixel, flat, and of each ring the number of pixels and their mean radius in pixels."""
    radius, _ = frequency_radius(box, 1.0 / box)
    ring = np.rint(radius).astype(np.int64).ravel()
    counts = np.bincount(ring, minlength=box // 2)[: box // 2]
    return ring, counts, np.bincount(ring, radius.ravel(), minlength=box // 2)[: box // 2] / counts


def log_display(spectrum: Array) -> Array:
    """Return the logarithm of a spectrum; empty frequencies get that of the smallest amplitude found."""
    xp = array_namespace(spectrum)
    values = xp.asarray(spectrum, dtype=xp.float32)
    positive = values[values > 0]
    floor = float(positive.min()) if positive.size else 1.0
    return xp.log(xp.maximum(values, floor))
