"""The spatial frequencies of a movie that tell how it moved: binned, transformed, masked and moved by phases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, fft_namespace, like, to_numpy
from focusnb.ops.fourier import fast_shape
from focusnb.ops.frames import CorrectedFrames

FloatArray = NDArray[np.floating[Any]]

COARSEST = 4.5  # Å of a binned pixel; coarser ones lose the signal
BINNED_SIDE = 900  # a field of fewer binned pixels keeps finer ones
SMALLEST = 16  # binned pixels along a side
CONSTANT = 1e-6  # standard deviation in counts: rounding of a constant


@dataclass(frozen=True)
class BinnedFrames:
    """Corrected frames in blocks of pixels, as alignment looks at them.

    images : (t, y, x) float32, each of mean 0 and standard deviation 1
    factor : pixels of the movie along a block
    """

    images: Array
    factor: int

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Binned rows and columns."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    def coarser(self, factor: int) -> BinnedFrames:
        """Return the frames in blocks that are larger by a whole factor."""
        if factor == 1:
            return self
        xp = array_namespace(self.images)
        ny, nx = (n // factor for n in self.shape)
        images = xp.empty((len(self), ny, nx), dtype=xp.float32)
        for t in range(len(self)):
            part = self.images[t, : ny * factor, : nx * factor]
            lines = sum((part[i::factor] for i in range(1, factor)), start=part[::factor])
            image = sum((lines[:, i::factor] for i in range(1, factor)), start=lines[:, ::factor])
            images[t] = (image - float(image.mean())) * (1.0 / max(float(image.std()), 1e-30))
        return BinnedFrames(images, self.factor * factor)


@dataclass(frozen=True)
class Band:
    """Spectra of all frames between two limits of frequency.

    spectra : (t, rows, columns) complex64 of unit mean noise per pixel; both halves of y, the positive half of x
    y, x : (rows,) and (columns,) frequency in cycles per pixel of the movie, on the host
    use : (rows, columns) float32, 1 where a frequency counts, 0 beyond the limits and on the cross of fixed patterns
    ring : (rows, columns) index of the ring of width 1 / (shorter side), on the host
    field : (ny, nx) pixels of the movie that the transform covers
    """

    spectra: Array
    y: FloatArray
    x: FloatArray
    use: Array
    ring: NDArray[np.int64]
    field: tuple[int, int]

    def __len__(self) -> int:
        return int(self.spectra.shape[0])

    def within(self, limit: float) -> Band:
        """Return the part below a frequency, in cycles per pixel of the movie."""
        xp = array_namespace(self.spectra)
        rows, columns = np.flatnonzero(np.abs(self.y) <= limit), int((self.x <= limit).sum())
        at = like(self.spectra, rows)
        spectra = xp.ascontiguousarray(self.spectra[:, at, :columns])
        inside = np.hypot(self.y[rows, None], self.x[None, :columns]) <= limit
        use = self.use[at, :columns] * like(self.spectra, inside.astype(np.float32))
        return Band(spectra * use, self.y[rows], self.x[:columns], use, self.ring[rows, :columns], self.field)


def choose_binning(shape: tuple[int, int], pixel_size: float) -> int:
    """Return the binning for alignment: pixels of up to 4.5 Å, the coarser the larger the field."""
    return int(np.clip(min(shape) // BINNED_SIDE, 1, max(1, int(COARSEST / pixel_size))))


def bin_frames(frames: CorrectedFrames, *, pixel_size: float, group: int = 1) -> BinnedFrames:
    """Correct and bin all frames.

    pixel_size : Å/px of the movie
    group : so many frames in a row are summed, the last ones with fewer
    Raises ValueError when a frame is constant, holds values that are not finite, or is too small.
    """
    xp = array_namespace(frames.here)
    factor = choose_binning(frames.shape[1:], pixel_size)
    ny, nx = (n // factor for n in frames.shape[1:])
    if min(ny, nx) < SMALLEST:
        raise ValueError(f"frames of {frames.shape[1]} x {frames.shape[2]} pixels are too small to be aligned")
    images = frames.coarse_sums(factor, group)
    for i in range(len(images)):
        image = images[i]
        image -= float(image.mean())
        deviation = math.sqrt(float(xp.vdot(image, image)) / image.size)
        if not math.isfinite(deviation) or deviation < CONSTANT:
            what = "is constant" if deviation < CONSTANT else "holds values that are not finite"
            number = frames.first + i * group + 1
            named = f"frame {number}" if group == 1 else f"one of the frames {number} to {number + group - 1}"
            raise ValueError(f"{named} (the first recorded is 1) {what}; it cannot be aligned, nor the movie with it")
        image *= 1.0 / deviation
    return BinnedFrames(images, factor)


def transform_frames(binned: BinnedFrames, *, pixel_size: float, resolution: float) -> Band:
    """Transform each frame and keep the frequencies up to a resolution.

    pixel_size : Å/px of the movie
    resolution : Å
    """
    xp, fft = array_namespace(binned.images), fft_namespace(binned.images)
    factor = binned.factor
    shape = fast_shape(binned.shape)
    side = min(binned.shape) * factor
    y, x, rows, use, ring = band_geometry(shape, factor, pixel_size=pixel_size, resolution=resolution, side=side)
    use_here, chosen = xp.asarray(use), xp.asarray(rows)
    spectra = xp.empty((len(binned), len(rows), len(x)), dtype=xp.complex64)
    factors = use_here * float(1.0 / (shape[0] * shape[1]) ** 0.5)
    for t in range(len(binned)):
        # what is filled up with 0 is filled with the mean; columns beyond the band need no second transform
        lines = fft.rfft(binned.images[t], n=shape[1], axis=1)[:, : len(x)]
        spectra[t] = fft.fft(lines, n=shape[0], axis=0)[chosen] * factors
    return Band(spectra, y, x, use_here, ring, (shape[0] * factor, shape[1] * factor))


def band_geometry(
    shape: tuple[int, int], factor: int, *, pixel_size: float, resolution: float, side: int
) -> tuple[FloatArray, FloatArray, NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return y, x, the rows kept of a transform of ``shape`` binned pixels, which frequencies count, and their rings.

    side : pixels of the movie along the shorter side of the field; a ring is as wide as its inverse
    """
    y, x = np.fft.fftfreq(shape[0], factor), np.fft.rfftfreq(shape[1], factor)
    # the edge of the spectrum holds aliases
    limit = min(0.47 / factor, pixel_size / resolution)
    rows, columns = np.flatnonzero(np.abs(y) <= limit), int((x <= limit).sum())
    y, x = y[rows], x[:columns]
    frequency = np.hypot(y[:, None], x[None, :])
    # below three waves in the field there is the beam's profile, on the axes lines and columns of the camera
    use = (frequency <= limit) & (frequency * side > 3.0) & (np.abs(y[:, None]) > 0) & (x[None, :] > 0)
    return y, x, rows, use.astype(np.float32), np.rint(frequency * side).astype(np.int64)


def move_phases(band: Band, shifts: FloatArray) -> tuple[Array, Array]:
    """Return the factors (t, rows) and (t, columns), complex64, that apply shifts (t, 2) in pixels of the movie."""
    phase_y, phase_x = (_turned(np.outer(shifts[:, axis], k)) for axis, k in enumerate((band.y, band.x)))
    return like(band.spectra, phase_y), like(band.spectra, phase_x)


def _turned(turns: FloatArray) -> NDArray[np.complex64]:
    """Return exp(-2πi turns); whole turns are taken off first, so that half the digits and a tenth of the time do."""
    angle = (-2.0 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    result = np.empty(turns.shape, np.complex64)
    result.real, result.imag = np.cos(angle), np.sin(angle)
    return result


def sum_moved(band: Band, phases: tuple[Array, Array]) -> Array:
    """Return the sum of the moved spectra, (rows, columns) complex64."""
    xp = array_namespace(band.spectra)
    if not isinstance(band.spectra, np.ndarray):
        return sum_moved_plain(band, phases)
    total = xp.zeros(band.spectra.shape[1:], dtype=xp.complex64)
    _sum_moved(band.spectra, phases[0], phases[1], total)
    return total


def sum_moved_plain(band: Band, phases: tuple[Array, Array]) -> Array:
    """Plain twin of ``sum_moved``."""
    return (band.spectra * phases[0][:, :, None] * phases[1][:, None, :]).sum(axis=0)


def sum_power(band: Band) -> Array:
    """Return the power of all frames, summed, (rows, columns) float32."""
    xp = array_namespace(band.spectra)
    total = xp.zeros(band.use.shape, dtype=xp.float32)
    for t in range(len(band)):
        # the absolute value of a complex number takes a root, and much longer
        total += band.spectra[t].real ** 2 + band.spectra[t].imag ** 2
    return total


def compare_moved(band: Band, phases: tuple[Array, Array], total: Array, weights: Array) -> FloatArray:
    """Compare each moved frame with the sum of the others.

    total : (rows, columns) of ``sum_moved``
    weights : (rows, columns) float32
    Returns (t, 2, 5) on the host, for even and for odd rows, whose noise is independent: the weighted overlap with the
    others, its gradient in y and x per pixel of shift, the frame's own weighted power, and the others'.
    """
    if not isinstance(band.spectra, np.ndarray):
        return compare_moved_plain(band, phases, total, weights)
    result = np.zeros((len(band), 2, 5))
    y, x = (2.0 * np.pi * values.astype(np.float32) for values in (band.y, band.x))
    _compare_moved(
        band.spectra, phases[0], phases[1], total, weights, y.astype(np.float32), x.astype(np.float32), result
    )
    return result


def compare_moved_plain(band: Band, phases: tuple[Array, Array], total: Array, weights: Array) -> FloatArray:
    """Plain twin of ``compare_moved``."""
    xp = array_namespace(band.spectra)
    y = like(band.spectra, (2.0 * np.pi * band.y).astype(np.float32))
    x = like(band.spectra, (2.0 * np.pi * band.x).astype(np.float32))
    moved = band.spectra * phases[0][:, :, None] * phases[1][:, None, :]
    others = total - moved
    product = moved * xp.conj(others)
    slope = product.imag * weights
    values = (
        product.real * weights,
        slope * y[:, None],
        slope * x[None, :],
        xp.abs(moved) ** 2 * weights,
        xp.abs(others) ** 2 * weights,
    )
    halves = [xp.stack([value[:, i::2].sum(axis=(1, 2)) for value in values], axis=-1) for i in range(2)]
    result: FloatArray = to_numpy(xp.stack(halves, axis=1)).astype(float)
    return result


def ring_sum(band: Band, values: Array) -> FloatArray:
    """Sum (rows, columns) over rings, on the host."""
    return np.bincount(band.ring.ravel(), weights=to_numpy(values).astype(float).ravel()).astype(float)


@compiled
def _add_moved_row(row: Array, phase: complex, phases: Array, total: Array) -> None:
    for x in range(row.shape[0]):
        total[x] += row[x] * (phase * phases[x])


@compiled
def _sum_moved(spectra: Array, phase_y: Array, phase_x: Array, total: Array) -> None:
    for t in range(spectra.shape[0]):
        for y in range(spectra.shape[1]):
            _add_moved_row(spectra[t, y], phase_y[t, y], phase_x[t], total[y])


@compiled
def _compare_row(
    row: Array, phase: complex, phases: Array, total: Array, weights: Array, frequency: Array
) -> tuple[Any, Any, Any, Any, Any]:
    overlap = slope = slope_x = own = other = np.float32(0.0)
    for x in range(row.shape[0]):
        moved = row[x] * (phase * phases[x])
        rest = total[x] - moved
        weight = weights[x]
        imaginary = (moved.imag * rest.real - moved.real * rest.imag) * weight
        overlap += (moved.real * rest.real + moved.imag * rest.imag) * weight
        slope += imaginary
        slope_x += imaginary * frequency[x]
        own += (moved.real * moved.real + moved.imag * moved.imag) * weight
        other += (rest.real * rest.real + rest.imag * rest.imag) * weight
    return overlap, slope, slope_x, own, other


@compiled
def _compare_moved(
    spectra: Array,
    phase_y: Array,
    phase_x: Array,
    total: Array,
    weights: Array,
    y_frequency: Array,
    x_frequency: Array,
    result: Array,
) -> None:
    for t in range(spectra.shape[0]):
        for y in range(spectra.shape[1]):
            overlap, slope, slope_x, own, other = _compare_row(
                spectra[t, y], phase_y[t, y], phase_x[t], total[y], weights[y], x_frequency
            )
            result[t, y & 1, 0] += overlap
            result[t, y & 1, 1] += slope * y_frequency[y]
            result[t, y & 1, 2] += slope_x
            result[t, y & 1, 3] += own
            result[t, y & 1, 4] += other
