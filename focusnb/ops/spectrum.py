"""Average the amplitude spectra of an image's tiles, and look at them along rings.

A spectrum is (box, box) float32 with its origin at (box // 2, box // 2): column x holds the frequency
``(x - box // 2) / (box * pixel_size)`` in 1/Å, row y likewise, y up as in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace, fft_namespace, to_numpy
from focusnb.ops.fourier import fast_size

FINEST_PIXEL_SIZE = 1.0
"""Å/px to which finer images are resampled for their spectrum."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How finely a spectrum samples frequency: the tile that is transformed, and what is kept of it.

    box : pixels of the spectrum on a side
    tile : pixels of the image on a side of one transformed tile
    bin : neighbouring frequencies averaged into one

    The spectrum reaches ``1 / (2 * pixel_size * factor)``; with ``factor`` above 1 the highest frequencies are
    left out, so that the same box samples the rings of a high defocus more finely.
    """

    box: int
    tile: int
    bin: int = 1

    @property
    def factor(self) -> float:
        """Effective pixel size of the spectrum over the pixel size of the image."""
        return self.tile / (self.box * self.bin)


def choose_sampling(
    pixel_size: float, *, box: int = 512, target: float = FINEST_PIXEL_SIZE, oversample: int = 1
) -> Sampling:
    """Choose tiles so that a spectrum reaches the frequencies a CTF fit uses, and no further.

    pixel_size : Å/px of the image; one finer than ``target`` is resampled to it (the rings of an image of 0.5 Å/px
    would otherwise be two pixels apart at a defocus of 1.5 µm), a coarser one keeps its own.
    oversample : tiles are this many times larger than the box and neighbouring frequencies are averaged; a large
    tile blurs close rings less, but wastes more of the border of a small image
    """
    if pixel_size <= 0:
        raise ParameterError(f"pixel size is {pixel_size} Å/px; it must be positive")
    factor = max(1.0, target / pixel_size)
    tile = fast_size(round(box * oversample * factor))
    return Sampling(box=box, tile=tile, bin=oversample)


def power_spectrum(
    image: Array, *, box: int = 512, overlap: float = 0.5, sampling: Sampling | None = None, robust: bool = True
) -> Array:
    """Average the amplitude spectra of overlapping tiles.

    image : (y, x), any shape, numpy or cupy; a side shorter than a tile is padded with the mean
    box : pixels of the spectrum on a side, even
    overlap : part of a tile shared with the next, 0 to below 1
    sampling : tiles other than ``box`` × ``box``; its ``factor`` multiplies the pixel size of the spectrum
    robust : tiles of unusual variance (gold, carbon edge, contamination, empty border) count less

    Returns (box, box) float32, mean amplitude, origin at (box // 2, box // 2). Each tile loses its mean and is
    tapered by a sine window (Welch 1967; it wastes less of the image's border than Hann's), scaled so that white
    noise of standard deviation s gives a mean amplitude of s·sqrt(π)/2 whatever the tile. A constant image gives zeros.
    """
    xp, fft = array_namespace(image), fft_namespace(image)
    if image.ndim != 2:
        raise ParameterError(f"a spectrum needs one image (y, x), not an array of {image.ndim} dimensions")
    if not 0 <= overlap < 1:
        raise ParameterError(f"overlap of tiles is {overlap}; it must be at least 0 and below 1")
    sampling = sampling or Sampling(box=box, tile=box)
    tile, box = sampling.tile, sampling.box
    if box < 16 or box % 2 or tile % 2 or tile < box * sampling.bin:
        raise ParameterError(f"box {box} and tile {tile} must be even, the box at least 16, the tile no smaller")
    window = _window(xp, tile, image.shape)
    rows, columns = (_starts(length, tile, overlap) for length in image.shape)
    corners = [(y, x) for y in rows for x in columns]
    weights = _tile_weights(image, corners, tile) if robust else [1.0] * len(corners)

    total = xp.zeros((tile, tile // 2 + 1), dtype=xp.float32)
    for (y, x), weight in zip(corners, weights, strict=True):
        if weight > 0:
            part = image[y : y + tile, x : x + tile].astype(xp.float32)
            part = (part - part.mean()) * window
            total += weight * xp.abs(fft.rfft2(part, s=(tile, tile)))
    total /= max(sum(weights), 1e-9)
    return _reduce(xp, total, sampling)


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Spread tiles evenly from edge to edge, sharing at least ``overlap``."""
    if length <= tile:
        return [0]
    number = int(np.ceil((length - tile) / (tile * (1 - overlap)) - 1e-6)) + 1
    return [int(start) for start in np.round(np.linspace(0, length - tile, number))]


def _window(xp: Any, tile: int, shape: tuple[int, int]) -> Array:
    """Make the sine window of a tile, or of what the image has where it is smaller, with unit sum of squares."""
    sides = [min(length, tile) for length in shape]
    tapers = [np.sin(np.pi * (np.arange(side) + 0.5) / side) for side in sides]
    window = np.outer(*tapers)
    return xp.asarray((window / np.sqrt((window**2).sum())).astype(np.float32))


def _tile_weights(image: Array, corners: list[tuple[int, int]], tile: int) -> list[float]:
    """Weigh tiles by how usual their variance is among all tiles of the image."""
    xp = array_namespace(image)
    # every second pixel tells the variance well enough, at a quarter of the cost
    deviations = [image[y : y + tile : 2, x : x + tile : 2].astype(xp.float32).std() for y, x in corners]
    spread = to_numpy(xp.stack(deviations)).astype(float)
    usual = float(np.median(spread))
    if not np.isfinite(usual) or usual == 0:
        return [1.0] * len(corners)
    ratio = spread / usual
    scatter = 1.4826 * float(np.median(np.abs(ratio - 1)))
    limit = 1 + max(3 * scatter, 0.1)
    weights = np.where(ratio > limit, (limit / np.maximum(ratio, 1e-9)) ** 2, 1.0)
    return [float(weight) for weight in np.where(ratio < 0.3, 0.0, weights)]


def _reduce(xp: Any, half: Array, sampling: Sampling) -> Array:
    """Unfold a half spectrum, average neighbouring frequencies and keep the central box."""
    tile, box, step = sampling.tile, sampling.box, sampling.bin
    full = xp.concatenate([half, _friedel(xp, half)[:, ::-1]], axis=1)
    full = xp.roll(full, (tile // 2, tile // 2), axis=(0, 1))
    centre = tile // 2
    full[centre, centre] = 0.25 * (
        full[centre - 1, centre] + full[centre + 1, centre] + full[centre, centre - 1] + full[centre, centre + 1]
    )  # the mean was subtracted, so the origin says nothing and would only spoil a display
    for axis in (0, 1):
        full = _bin_about_centre(xp, full, step, box, axis)
    return xp.ascontiguousarray(full, dtype=xp.float32)


def _friedel(xp: Any, half: Array) -> Array:
    """Return the columns a half transform leaves out, mirrored, in the order of the half transform."""
    tile = half.shape[0]
    mirrored = half[:, 1 : tile // 2]
    return xp.concatenate([mirrored[:1], mirrored[:0:-1]], axis=0)


def _bin_about_centre(xp: Any, full: Array, step: int, box: int, axis: int) -> Array:
    """Average ``step`` frequencies into one along an axis such that the origin stays on the origin."""
    length = full.shape[axis]
    start = length // 2 - (box // 2) * step
    # an even number of neighbours is centred by giving the two outermost half weight
    reach = step // 2
    offsets = list(range(-reach, reach + 1))
    taps = [0.5 if step % 2 == 0 and abs(offset) == reach else 1.0 for offset in offsets]
    total = 0.0
    for offset, tap in zip(offsets, taps, strict=True):
        index = (start + offset + step * np.arange(box)) % length
        total = total + (tap / step) * xp.take(full, xp.asarray(index), axis=axis)
    return total


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
    radius, _ = frequency_radius(box, pixel_size)
    ring = np.rint(radius * (box * pixel_size)).astype(np.int64).ravel()
    counts = np.bincount(ring, minlength=box // 2)[: box // 2]
    average = np.bincount(ring, values.ravel().astype(np.float64), minlength=box // 2)[: box // 2] / counts
    frequency = np.bincount(ring, radius.ravel(), minlength=box // 2)[: box // 2] / counts
    return frequency, average


def log_display(spectrum: Array) -> Array:
    """Return the logarithm of a spectrum; empty frequencies get that of the smallest amplitude found."""
    xp = array_namespace(spectrum)
    values = xp.asarray(spectrum, dtype=xp.float32)
    positive = values[values > 0]
    floor = float(positive.min()) if positive.size else 1.0
    return xp.log(xp.maximum(values, floor))
