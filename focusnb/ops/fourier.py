"""Change the size of images, shift them and compare them in Fourier space.

Spectra are in the layout of ``rfft2``: (ny, nx // 2 + 1), the zero frequency first. A change of size keeps pixel 0
on pixel 0 (x' = x / factor, unlike binning) and keeps the mean per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from focusnb.ops.backend import Array, array_namespace, fft_namespace

Shape = tuple[int, int]

# Two axes may differ in their ratio of sizes by this much: over 10,000 pixels one pixel.
RATIO_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Resize:
    """Sizes on the way of an image through Fourier space.

    padded : shape in which it is transformed (filled up with the mean)
    resized : shape of the spectrum after cropping or padding
    output : shape after trimming what belongs to the filling
    factor : pixel size of the output over that of the input
    """

    padded: Shape
    resized: Shape
    output: Shape
    factor: float


@lru_cache(maxsize=256)
def _smoothness(size: int) -> int:
    """Return the largest prime factor."""
    largest, prime = 1, 2
    while size > 1 and prime * prime <= size:
        while size % prime == 0:
            largest, size = prime, size // prime
        prime += 1
    return max(largest, size)


def fast_size(size: int) -> int:
    """Return the smallest even number, not below ``size``, with no prime factor above 7."""
    size += size % 2
    while _smoothness(size) > 7:
        size += 2
    return size


def fast_shape(shape: Shape) -> Shape:
    """Return the next larger shape whose sides are even and transform quickly (no prime factor above 7)."""
    return fast_size(int(shape[0])), fast_size(int(shape[1]))


def pad_mean(image: Array, shape: Shape) -> Array:
    """Enlarge an image (y, x) at the far end of both axes, filled with its mean; pixel 0 stays pixel 0."""
    ny, nx = image.shape
    if shape[0] < ny or shape[1] < nx:
        raise ValueError(f"cannot pad an image of {ny} x {nx} pixels to {shape[0]} x {shape[1]}")
    if (ny, nx) == tuple(shape):
        return image
    xp = array_namespace(image)
    padded = xp.empty(shape, dtype=image.dtype)
    mean = float(image.mean(dtype=xp.float64))
    padded[:ny, :nx] = image
    padded[ny:, :] = mean
    padded[:ny, nx:] = mean
    return padded


def resize_spectrum(spectrum: Array, shape: Shape, new_shape: Shape) -> Array:
    """Crop or zero-pad the half spectrum of an image of ``shape`` to that of an image of ``new_shape``.

    The sum of the image is kept, so its mean is multiplied by the ratio of the numbers of pixels; see
    ``crop_fourier``. A frequency that becomes Nyquist takes the sum of its positive and negative twin, one that stops
    being Nyquist is split between them: so the image stays real, waves are sampled where they are, and cropping undoes
    padding.
    """
    xp = array_namespace(spectrum)
    (ny, nx), (my, mx) = shape, new_shape
    if spectrum.shape != (ny, nx // 2 + 1):
        raise ValueError(f"a half spectrum of shape {spectrum.shape} does not belong to an image of {ny} x {nx} pixels")
    if (ny, nx) == (my, mx):
        return spectrum
    columns = min(nx, mx) // 2 + 1
    low = min(ny, my)
    half = low // 2  # rows of negative frequency; for even sizes the first of them is Nyquist
    result = xp.zeros((my, mx // 2 + 1), dtype=spectrum.dtype)
    positive = low - half
    result[:positive, :columns] = spectrum[:positive, :columns]
    result[my - half :, :columns] = spectrum[ny - half :, :columns]
    if low % 2 == 0 and my < ny:
        result[half, :columns] = spectrum[half, :columns] + spectrum[ny - half, :columns]
    elif low % 2 == 0 and my > ny:
        result[half, :columns] = 0.5 * spectrum[half, :columns]
        result[my - half, :columns] = 0.5 * spectrum[half, :columns]
    if min(nx, mx) % 2 == 0 and mx < nx:
        last = result[:, columns - 1]
        result[:, columns - 1] = last + xp.conj(xp.roll(last[::-1], 1))
    elif min(nx, mx) % 2 == 0 and mx > nx:
        result[:, columns - 1] = 0.5 * result[:, columns - 1]
    return result


def _resize(image: Array, shape: Shape) -> Array:
    fft = fft_namespace(image)
    old = (int(image.shape[0]), int(image.shape[1]))
    spectrum = resize_spectrum(fft.rfft2(image), old, shape)
    return fft.irfft2(spectrum, s=shape) * (shape[0] * shape[1] / (old[0] * old[1]))


def crop_fourier(image: Array, shape: Shape) -> Array:
    """Downsample an image by cropping its Fourier transform, keeping the mean and pixel 0.

    image : (y, x) float32
    shape : (ny, nx) of the result, in pixels, not above that of the image
    Raises ValueError when the result would be larger.
    """
    if shape[0] > image.shape[0] or shape[1] > image.shape[1]:
        raise ValueError(f"cannot crop {image.shape[0]} x {image.shape[1]} pixels to {shape[0]} x {shape[1]}")
    return _resize(image, shape)


def pad_fourier(image: Array, shape: Shape) -> Array:
    """Interpolate an image to more pixels by padding its Fourier transform, keeping the mean and pixel 0.

    image : (y, x) float32
    shape : (ny, nx) of the result, in pixels, not below that of the image
    Raises ValueError when the result would be smaller.
    """
    if shape[0] < image.shape[0] or shape[1] < image.shape[1]:
        raise ValueError(f"cannot pad {image.shape[0]} x {image.shape[1]} pixels to {shape[0]} x {shape[1]}")
    return _resize(image, shape)


def plan_resize(shape: Shape, factor: float) -> Resize:
    """Find sizes that change the pixel size by ``factor``, alike on both axes within 1e-4.

    shape : (ny, nx) of the image
    factor : new pixel size over old; above 1 crops, below 1 pads the spectrum
    Raises ValueError when the factor is not positive or leaves fewer than two pixels.
    """
    if not math.isfinite(factor) or factor <= 0:
        raise ValueError(f"the pixel size cannot change by a factor of {factor}; it must be above 0")
    if min(shape) / factor < 2:
        raise ValueError(f"a factor of {factor:g} leaves fewer than two pixels of {shape[0]} x {shape[1]}")
    if factor == 1:
        return Resize(fast_shape(shape), fast_shape(shape), (int(shape[0]), int(shape[1])), 1.0)
    (py, my), (px, mx) = _plan_axis(int(shape[0]), factor), _plan_axis(int(shape[1]), factor)
    reached = math.sqrt(py / my * px / mx)
    output = (int(shape[0] / reached + 1e-6), int(shape[1] / reached + 1e-6))
    return Resize((py, px), (my, mx), output, reached)


@lru_cache(maxsize=64)
def _plan_axis(size: int, factor: float) -> Shape:
    """Return (padded, resized), even, of one axis with the ratio ``factor`` within half the tolerance."""
    first = size + size % 2
    for span in (0.1, 0.5, 2.0, 8.0, 32.0):
        candidates = []
        for padded in range(first, first + 2 + int(span * size), 2):
            resized = 2 * round(padded / factor / 2)
            if resized and abs(padded / (resized * factor) - 1) <= RATIO_TOLERANCE / 2:
                # a transform of 3838 takes about twice the time of one of 3840
                effort = padded * (20 + max(5, _smoothness(padded))) + resized * (20 + max(5, _smoothness(resized)))
                candidates.append((effort, padded, resized))
        if candidates:
            _, padded, resized = min(candidates)
            return padded, resized
    raise ValueError(f"no size near {size} pixels divides by {factor:g} within {RATIO_TOLERANCE:g}")


def resize_to_plan(image: Array, plan: Resize) -> Array:
    """Resize an image (y, x) as planned by ``plan_resize``."""
    fft = fft_namespace(image)
    spectrum = fft.rfft2(pad_mean(image, plan.padded))
    return inverse_to_plan(resize_spectrum(spectrum, plan.padded, plan.resized), plan)


def inverse_to_plan(spectrum: Array, plan: Resize, factor: float = 1.0) -> Array:
    """Transform a resized half spectrum back, trim the filling, and multiply; by 1 the mean per pixel is kept."""
    fft = fft_namespace(spectrum)
    scale = factor * plan.resized[0] * plan.resized[1] / (plan.padded[0] * plan.padded[1])
    return fft.irfft2(spectrum, s=plan.resized)[: plan.output[0], : plan.output[1]] * scale


def crop_to_pixel_size(image: Array, pixel_size: float, target: float) -> tuple[Array, float]:
    """Bring an image to a pixel size by cropping (or padding) its Fourier transform.

    image : (y, x) float32
    pixel_size, target : Å/px of the image and wanted
    Returns the image and the pixel size reached, the same on both axes and as wanted within 1e-4. Twice the pixel size
    of 7676 x 7420 pixels gives exactly 3838 x 3710.
    """
    plan = plan_resize((int(image.shape[0]), int(image.shape[1])), target / pixel_size)
    if plan.factor == 1:
        return image, pixel_size
    return resize_to_plan(image, plan), pixel_size * plan.factor


def shift_phases(size: int, shift: float, *, half: bool, xp: Any = np) -> Array:
    """Return the factors (complex64) that move one axis of a spectrum by ``shift`` pixels.

    half : the frequencies of the half axis of ``rfft2`` instead of all
    Nyquist takes the real part, so that the image stays real.
    """
    frequency = np.fft.rfftfreq(size) if half else np.fft.fftfreq(size)
    phases = np.exp(-2j * np.pi * frequency * float(shift))
    if size % 2 == 0:
        phases[size // 2] = phases[size // 2].real
    return xp.asarray(phases.astype(np.complex64))


def shift_fourier(image: Array, shift: tuple[float, float]) -> Array:
    """Move an image by fractions of a pixel, around the edges: output(r) = image(r - shift).

    image : (y, x) float32
    shift : (dy, dx) in pixels
    """
    xp, fft = array_namespace(image), fft_namespace(image)
    ny, nx = int(image.shape[0]), int(image.shape[1])
    phase_y = shift_phases(ny, float(shift[0]), half=False, xp=xp)
    phase_x = shift_phases(nx, float(shift[1]), half=True, xp=xp)
    return fft.irfft2(fft.rfft2(image) * phase_y[:, None] * phase_x[None, :], s=(ny, nx))


def frequency_grid(shape: Shape, pixel_size: float = 1.0, *, xp: Any = np) -> Array:
    """Return the length of the spatial frequency (ny, nx // 2 + 1) float32 in 1/Å for spectra of ``rfft2``.

    shape : (ny, nx) of the image
    xp : array module of the result
    """
    y = xp.asarray(np.fft.fftfreq(shape[0], pixel_size).astype(np.float32))
    x = xp.asarray(np.fft.rfftfreq(shape[1], pixel_size).astype(np.float32))
    return xp.sqrt(y[:, None] ** 2 + x[None, :] ** 2)


def low_pass(image: Array, *, pixel_size: float, resolution: float, width: float = 0.1) -> Array:
    """Remove what is finer than a resolution, with a cosine edge.

    image : (y, x) float32
    resolution : Å where the amplitude is halved
    width : of the edge, as a fraction of that frequency
    """
    xp, fft = array_namespace(image), fft_namespace(image)
    shape = (int(image.shape[0]), int(image.shape[1]))
    frequency = frequency_grid(shape, pixel_size, xp=xp) * resolution
    edge = xp.clip((frequency - 1.0) / width + 0.5, 0.0, 1.0)
    return fft.irfft2(fft.rfft2(image) * (0.5 + 0.5 * xp.cos(math.pi * edge)), s=shape)


def ring_index(shape: Shape, *, xp: Any = np) -> Array:
    """Return the ring (int64) of each frequency of a half spectrum; ring i is centred on i / min(shape) cycles/px."""
    return xp.rint(frequency_grid(shape, xp=xp) * min(shape)).astype(xp.int64)


def ring_sums(values: Array, shape: Shape) -> Array:
    """Sum a real half spectrum (ny, nx // 2 + 1) over rings up to Nyquist, both halves counted: (min(shape) // 2 + 1,).

    Columns that stand for two frequencies count twice.
    """
    xp = array_namespace(values)
    rings = min(shape) // 2 + 1
    columns = shape[1] // 2 + 1
    twice = np.full(columns, 2.0)
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    weighted = values * xp.asarray(twice)[None, :]
    index = xp.minimum(ring_index(shape, xp=xp), rings)
    return xp.bincount(index.ravel(), weights=weighted.ravel(), minlength=rings + 1)[:rings]


def rotational_average(values: Array, shape: Shape, *, pixel_size: float = 1.0) -> tuple[Array, Array]:
    """Average a real half spectrum over rings.

    values : (ny, nx // 2 + 1), for instance the power of ``rfft2`` of an image
    shape : (ny, nx) of the image
    Returns frequency in 1/Å and the mean, both (min(shape) // 2 + 1,).
    """
    xp = array_namespace(values)
    count = ring_sums(xp.ones(values.shape, dtype=xp.float64), shape)
    return _ring_frequency(shape, pixel_size, xp), ring_sums(values, shape) / count


def ring_correlation(first: Array, second: Array, *, pixel_size: float = 1.0) -> tuple[Array, Array]:
    """Correlate two images ring by ring of Fourier space (Saxton & Baumeister 1982).

    first, second : (y, x) of one shape
    Returns frequency in 1/Å and the correlation in [-1, 1], both (min(shape) // 2 + 1,); an empty ring gives 0.
    """
    if first.shape != second.shape:
        raise ValueError(f"images of {first.shape} and {second.shape} pixels cannot be correlated; crop one of them")
    xp, fft = array_namespace(first, second), fft_namespace(first)
    shape = (int(first.shape[0]), int(first.shape[1]))
    a, b = fft.rfft2(first), fft.rfft2(second)
    cross = ring_sums(xp.real(a * xp.conj(b)), shape)
    power = ring_sums(xp.abs(a) ** 2, shape) * ring_sums(xp.abs(b) ** 2, shape)
    correlation = xp.where(power > 0, cross / xp.sqrt(xp.maximum(power, 1e-300)), 0.0)
    return _ring_frequency(shape, pixel_size, xp), correlation


def _ring_frequency(shape: Shape, pixel_size: float, xp: Any) -> Array:
    return xp.asarray(np.arange(min(shape) // 2 + 1) / (min(shape) * pixel_size))
