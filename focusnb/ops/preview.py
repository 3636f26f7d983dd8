"""Draw the small pictures of an exposure: micrograph, spectrum, CTF rings and trajectory.

All return uint8 arrays on the host, (y, x, 3), in the frame of images: row 0 is the bottom of the picture.
``io.images.write_png`` turns them over, so that y points up and the lettering reads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, to_numpy
from focusnb.ops.binning import bin_frame
from focusnb.ops.ctf import CtfFit, Optics, ctf_2d
from focusnb.ops.drawing import (
    ACCENT,
    BACKGROUND,
    GRID,
    LATE,
    MUTED,
    TEXT,
    dot,
    draw_resolution_rings,
    draw_scale_bar,
    letter_size,
    mix,
    round_below,
    write,
)
from focusnb.ops.spectrum import frequency_radius, log_display, rotational_average

_SUPERSAMPLING = 3
_CENTRE = 1 / 40  # 1/Å: below it a spectrum shows the shape of the image, not rings


def micrograph_preview(
    image: Array,
    *,
    pixel_size: float,
    size: int = 512,
    percentiles: tuple[float, float] = (0.4, 99.6),
    scale_bar: bool = True,
) -> np.ndarray:
    """Shrink a micrograph to grey levels that show the specimen, with a scale bar.

    image : (y, x), numpy or cupy; pixel_size : Å/px; size : pixels of the longer side of the preview
    percentiles : of the smoothed picture, shown black and white; gold and dust beyond them do not matter
    """
    small, shown_pixel_size = _shrink(image, pixel_size, size)
    grey = _stretch(gaussian_filter(small, 0.7), percentiles)
    canvas = Image.fromarray(grey[::-1]).convert("RGB")
    if scale_bar:
        draw_scale_bar(canvas, shown_pixel_size)
    return np.asarray(canvas)[::-1]


def spectrum_preview(spectrum: Array, *, pixel_size: float, size: int = 512, rings: bool = True) -> np.ndarray:
    """Show the logarithm of an amplitude spectrum, its radial slope flattened, with resolution rings.

    spectrum : (box, box), origin at (box // 2, box // 2); pixel_size : Å/px of the spectrum
    """
    flat = gaussian_filter(_flat_logarithm(spectrum, pixel_size), 1.0)
    canvas = _enlarge(_spectrum_grey(flat, pixel_size), size)
    if rings:
        draw_resolution_rings(canvas, pixel_size)
    return np.asarray(canvas)[::-1]


def ctf_rings_preview(spectrum: Array, fit: CtfFit, *, optics: Optics, size: int = 512) -> np.ndarray:
    """Show the measured rings on the left and the fitted ones on the right, with the resolution of the fit.

    spectrum : (box, box), origin at (box // 2, box // 2); optics : those of the fit, pixel size of the spectrum

    The measured half is averaged over 6° along the rings and scaled to equal contrast at all frequencies. A failed
    fit leaves the right half empty and says so.
    """
    flat = _flat_logarithm(spectrum, optics.pixel_size)
    box = len(flat)
    picture = _spectrum_grey(gaussian_filter(_smooth_along_rings(flat), 0.7), optics.pixel_size)
    right = np.arange(box) >= box // 2
    fitted = fit.defocus_u is not None
    picture[:, right] = (_fitted_rings(fit, optics, box) if fitted else np.full((box, box), 0.13))[:, right]
    canvas = _enlarge(picture, size)
    draw_resolution_rings(canvas, optics.pixel_size, accent=fit.ctf_fit_resolution)
    pen, margin = ImageDraw.Draw(canvas), size // 40
    pen.line([(size // 2, 0), (size // 2, size)], fill=MUTED, width=max(1, size // 512))
    write(pen, (margin, margin), "measured", letter_size(size), TEXT, "lt", outline=True)
    caption = "fitted" if fitted else "no fit"
    write(pen, (size - margin, margin), caption, letter_size(size), TEXT, "rt", outline=True)
    return np.asarray(canvas)[::-1]


def trajectory_preview(shifts: Array, pixel_size: float, *, size: int = 512) -> np.ndarray:
    """Draw how the specimen moved, in Å, from the first frame (ring) to the last, early steps in the accent colour.

    shifts : (frames, 2) as (dy, dx), pixels, the shift to apply; the specimen moved by minus this
    pixel_size : Å/px of the pixels the shifts are counted in
    """
    path = -to_numpy(shifts).astype(np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or len(path) == 0:
        raise ParameterError(f"a trajectory is an array (frames, 2), not {path.shape}")
    path = (path - path[0])[:, ::-1] * pixel_size
    axes = _Axes.around(path, size * _SUPERSAMPLING)
    canvas = Image.new("RGB", (axes.side, axes.side), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    _draw_axes(pen, axes)
    points = [axes.place(x, y) for x, y in path]
    colours = [mix(ACCENT, LATE, step / max(len(points) - 1, 1)) for step in range(len(points))]
    thick = max(2, axes.side // 170)
    for start, end, colour in zip(points[:-1], points[1:], colours[1:], strict=True):
        pen.line([start, end], fill=colour, width=thick)
    for point, colour in reversed(list(zip(points, colours, strict=True))):
        dot(pen, point, thick * 1.1, colour)
    dot(pen, points[0], thick * 2.6, ACCENT)
    dot(pen, points[0], thick * 1.3, BACKGROUND)
    _label_trajectory(pen, axes, path, points)
    return np.asarray(canvas.reduce(_SUPERSAMPLING))[::-1]


def _shrink(image: Array, pixel_size: float, size: int) -> tuple[np.ndarray, float]:
    """Bin by whole pixels where the image lives, then resample to the size wanted on the host."""
    if image.ndim != 2 or min(image.shape) < 1 or not pixel_size > 0:
        raise ParameterError(f"a preview needs one image (y, x) and a pixel size, not {image.shape} and {pixel_size}")
    ny, nx = image.shape
    bin_by = max(1, min(max(ny, nx) // (2 * size), ny, nx))
    host = to_numpy(bin_frame(image, None, bin_by))
    ny, nx = host.shape
    finite = np.isfinite(host)
    if not finite.all():
        host = np.where(finite, host, host[finite].mean() if finite.any() else 0.0)
    factor = size / max(ny, nx)
    shape = (max(1, round(nx * factor)), max(1, round(ny * factor)))
    small = np.asarray(Image.fromarray(host.astype(np.float32)).resize(shape, Image.Resampling.LANCZOS))
    return small, pixel_size * bin_by / factor


def _stretch(values: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Map values to 0-255 between two percentiles; a constant picture becomes a dark grey."""
    low, high = np.percentile(values, percentiles)
    if not high > low:
        return np.full(values.shape, 96, dtype=np.uint8)
    grey = 255 * np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(np.rint(grey).astype(np.uint8))


def _flat_logarithm(spectrum: Array, pixel_size: float) -> np.ndarray:
    """Return the logarithm of a spectrum without the slowly varying part of its rotational average."""
    values = to_numpy(log_display(spectrum)).astype(np.float64)
    frequency, average = rotational_average(values, pixel_size)
    position = np.sqrt(frequency)
    trend = np.polynomial.Polynomial.fit(position[2:], average[2:], min(8, max(1, len(frequency) // 8)))
    radius, _ = frequency_radius(len(values), pixel_size)
    return np.asarray(values - trend(np.clip(np.sqrt(radius), position[2], position[-1])))


def _spectrum_grey(flat: np.ndarray, pixel_size: float) -> np.ndarray:
    """Scale every ring to the contrast of all, as brightness from 0 to 1 about a calm middle grey."""
    frequency, average = rotational_average(flat**2, pixel_size)
    spread = np.sqrt(gaussian_filter1d(average, max(2.0, len(average) / 24), mode="nearest"))
    radius, _ = frequency_radius(len(flat), pixel_size)
    scaled = flat / np.maximum(np.interp(radius, frequency, spread), 1e-9)
    return np.asarray(np.where(radius < _CENTRE, 0.22, np.clip(0.36 + 0.13 * scaled, 0.0, 1.0)))


def _smooth_along_rings(values: np.ndarray, degrees: float = 6.0) -> np.ndarray:
    """Average along circles about the origin, over an arc."""
    box = len(values)
    centre, turns = box // 2, 480
    angle = np.arange(turns) * (2 * math.pi / turns)
    radii = np.arange(0.0, centre * math.sqrt(2.0) + 2.0)
    where = centre + radii[:, None] * np.sin(angle), centre + radii[:, None] * np.cos(angle)
    polar = map_coordinates(values, where, order=1, mode="nearest")
    polar = gaussian_filter1d(polar, degrees / 360 * turns / 2, axis=1, mode="wrap")
    y, x = np.indices(values.shape) - centre
    turn = np.mod(np.arctan2(y, x), 2 * math.pi) * (turns / (2 * math.pi))
    polar = np.concatenate([polar, polar[:, :1]], axis=1)
    return np.asarray(map_coordinates(polar, (np.hypot(y, x), turn), order=1, mode="nearest"))


def _fitted_rings(fit: CtfFit, optics: Optics, box: int) -> np.ndarray:
    """Return CTF² as brightness; beyond the resolution of the fit it fades."""
    assert fit.defocus_u is not None
    assert fit.defocus_v is not None
    ctf = ctf_2d(
        (box, box),
        defocus_u=fit.defocus_u,
        defocus_v=fit.defocus_v,
        astigmatism_angle=fit.astigmatism_angle or 0.0,
        optics=optics,
        phase_shift=fit.phase_shift or 0.0,
    ).astype(np.float64)
    radius, _ = frequency_radius(box, optics.pixel_size)
    seen = radius <= 1 / fit.ctf_fit_resolution if fit.ctf_fit_resolution else radius < 0
    rings = 0.36 + np.where(seen, 0.5, 0.1) * (ctf**2 - 0.5)
    return np.asarray(np.where(radius < _CENTRE, 0.22, rings))


def _enlarge(brightness: np.ndarray, size: int) -> Image.Image:
    """Turn brightness (y, x) from 0 to 1 into a square RGB picture, top row first."""
    grey = Image.fromarray(np.rint(255 * np.clip(brightness[::-1], 0.0, 1.0)).astype(np.uint8))
    return grey.resize((size, size), Image.Resampling.LANCZOS).convert("RGB")


class _Axes(NamedTuple):
    """A square coordinate system: its side in pixels, the Å at its middle, and half the Å it spans."""

    side: int
    centre: tuple[float, float]
    half: float

    @classmethod
    def around(cls, path: np.ndarray, side: int) -> _Axes:
        """Make axes that hold a path (x, y) with some room, and never less than 1 Å."""
        low, high = path.min(axis=0), path.max(axis=0)
        middle = 0.5 * (low + high)
        return cls(side, (float(middle[0]), float(middle[1])), 0.6 * max(float((high - low).max()), 1.0))

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom in pixels."""
        return 0.14 * self.side, 0.11 * self.side, 0.92 * self.side, 0.89 * self.side

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a position in Å, y up."""
        left, top, right, bottom = self.frame
        across = 0.5 * (left + right) + (right - left) * 0.5 * (x - self.centre[0]) / self.half
        down = 0.5 * (top + bottom) - (bottom - top) * 0.5 * (y - self.centre[1]) / self.half
        return float(across), float(down)

    def ticks(self, axis: int) -> list[float]:
        """Return round values along an axis (0 for x, 1 for y)."""
        step = round_below(2 * self.half / 3)
        first = math.ceil((self.centre[axis] - self.half) / step)
        last = math.floor((self.centre[axis] + self.half) / step)
        return [number * step for number in range(first, last + 1)]


def _draw_axes(pen: ImageDraw.ImageDraw, axes: _Axes) -> None:
    """Draw grid lines at round values and write these beside them."""
    left, top, right, bottom = axes.frame
    width, height, gap = max(1, axes.side // 500), letter_size(axes.side, small=True), 0.018 * axes.side
    for value in axes.ticks(0):
        across = axes.place(value, 0.0)[0]
        pen.line([(across, top), (across, bottom)], fill=GRID, width=width)
        write(pen, (across, bottom + gap), f"{value:g}", height, MUTED, "mt")
    for value in axes.ticks(1):
        down = axes.place(0.0, value)[1]
        pen.line([(left, down), (right, down)], fill=GRID, width=width)
        write(pen, (left - gap, down), f"{value:g}", height, MUTED, "rm")


def _label_trajectory(
    pen: ImageDraw.ImageDraw, axes: _Axes, path: np.ndarray, points: list[tuple[float, float]]
) -> None:
    """Write the length of the path, what the axes mean, and which end is the first frame."""
    left, _, right, _ = axes.frame
    small = letter_size(axes.side, small=True)
    length = float(np.hypot(*np.diff(path, axis=0).T).sum()) if len(path) > 1 else 0.0
    write(pen, (left, 0.055 * axes.side), f"Motion {length:.1f} Å", letter_size(axes.side), TEXT, "lm")
    write(pen, (right, 0.055 * axes.side), "x, y in Å", small, MUTED, "rm")
    # the word goes to the side the path does not take
    away = -1 if len(points) > 1 and np.mean([x for x, _ in points[1:4]]) > points[0][0] else 1
    place = (points[0][0] + away * 0.028 * axes.side, points[0][1])
    write(pen, place, "first", small, ACCENT, "lm" if away > 0 else "rm")
