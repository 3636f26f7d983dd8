"""Measure how the defocus changes across a micrograph: tile by tile, and the tilt of the specimen that explains it.

A tilted specimen has a defocus that rises linearly in one direction. The plane is not fitted to defoci of single
tiles, which are uncertain and sometimes a ring off: every plane predicts a CTF for every tile, and the plane that
describes all their spectra together is sought, exhaustively first and by least squares then (the idea of tilted
fits in Rohou & Grigorieff 2015 and Elferink et al. 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import f as variance_ratio
from scipy.stats import norm

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace, fft_namespace, to_numpy
from focusnb.ops.ctf.fit import CtfFit
from focusnb.ops.ctf.model import Optics, astigmatism_vector, from_astigmatism_vector
from focusnb.ops.ctf.rings import spline_basis
from focusnb.ops.fourier import fast_size

SMALLEST_TILE = 420.0  # Å: a smaller one would hold too few frequencies for the rings
LARGEST_TILE = 1000.0  # Å: in a larger one the defocus of a tilted specimen changes too much
RING_SPAN = 0.026  # Å of tile per Å of defocus: so large that the rings of high frequencies are told apart
SEARCH_RESOLUTION = 6.0  # Å: the exhaustive search stops here, refinement goes on
SEARCH_REACH = 2500.0  # Å about the defocus of the whole image; tilts of 60° were seen to spoil it by 300 Å
WIDEST_SEARCH = (1000.0, 50000.0)  # Å, where the whole image has no defocus
DECAYS = (0.0, 100.0, 400.0)  # Å²: fall of the ring contrast with k² that the search tries
SECTORS = 12
SURE_AXIS, SURE_ANGLE = 2.5, 1.5  # degrees: standard deviations up to which a tilt is a good one
CLAIMED = 1e-4  # a gradient that chance gives more often than this is no tilt
OUTLIER = 3.5  # standard deviations of its defocus by which a tile may miss the plane
LEAST_CONTRAST = 0.25  # a tile whose rings have less than this part of the usual contrast says nothing
TREND_TERMS, CONTRAST_TERMS = 8, 8
FARTHEST = 1.25  # Å: side of a tile times this over the wavelength is the largest defocus whose rings it samples
LEAST_TILES = 6
CONFIRMED = 6.0  # standard deviations by which half of the tiles must confirm the other; chance reaches 3 to 4
_SHARED_NOISE = 1.5  # rings of a tapered tile share noise, so they tell less than their number says: by simulation
SHARED = 1.44  # neighbouring tiles overlap by half: the variance of a sum over tiles is that much larger
_UNSEEN = 1.3  # variance that robust weights and the fitted contrasts add to the covariance: by simulation
_CONTRAST_SPREAD = 0.4  # how far the contrast of good tiles is expected to differ from the usual


@dataclass(frozen=True, slots=True)
class TileDefoci:
    """The defocus of each tile, fitted to it alone; all (tiles,).

    y, x : middle of the tile, pixels of the image (row, column)
    defocus : mean of U and V, Å; NaN where a tile shows no rings
    error : its standard deviation, Å; infinite where a tile shows no rings
    used : whether the tile took part in the plane; the others are outliers or show no rings
    """

    y: np.ndarray
    x: np.ndarray
    defocus: np.ndarray
    error: np.ndarray
    used: np.ndarray


@dataclass(frozen=True, slots=True)
class TiltFit:
    """The plane that the defocus of an image lies on.

    tilt_axis_fitted : direction of the axis from +x towards +y (counter-clockwise, y up, the row index), degrees in
    (−90, 90]; None where the tilt is not significant
    tilt_angle_fitted : degrees, never negative; None where nothing could be fitted
    tilt_axis_error, tilt_angle_error : standard deviations, degrees
    defocus_gradient : Å of defocus per Å along +x and along +y; it points, across the axis, to the side whose under
    focus is larger: the side nearer to the objective lens, away from the electron source
    significant : whether chance would give such a gradient less than once in ten thousand images
    significance : the gradient over its error, in standard deviations of a normal distribution as unlikely
    defocus_u, defocus_v, astigmatism_angle : of the middle of the image, as in ``CtfFit``, fitted with the plane
    defocus_error : standard deviation of the mean defocus in the middle, Å
    tiles : the single tiles, outliers marked; None where the image holds too few
    reason : why there is no axis, in words; empty where there is one

    The angle alone does not say which side is which; ``signed_tilt_angle`` does.
    """

    tilt_axis_fitted: float | None
    tilt_angle_fitted: float | None
    tilt_axis_error: float | None
    tilt_angle_error: float | None
    defocus_gradient: tuple[float, float] | None
    significant: bool
    significance: float
    defocus_u: float | None
    defocus_v: float | None
    astigmatism_angle: float | None
    defocus_error: float | None
    tiles: TileDefoci | None
    reason: str

    @property
    def quality(self) -> str:
        """Return "ok" for a tilt known to 5° in its axis and 3° in its angle (two standard deviations), "poor" for one
        that is real but less certain, "none" where no tilt is seen, "failed" where nothing could be fitted.
        """
        if self.tilt_angle_fitted is None or self.tilt_angle_error is None:
            return "failed"
        if self.tilt_axis_error is None:
            return "none"
        return "ok" if self.tilt_axis_error <= SURE_AXIS and self.tilt_angle_error <= SURE_ANGLE else "poor"

    @property
    def signed_tilt_angle(self) -> float | None:
        """Tilt angle in degrees, positive where the side to the left of the axis has the larger under focus.

        Left is counter-clockwise of the direction ``tilt_axis_fitted``: +y for an axis along +x, −x for one along +y.
        """
        if self.tilt_axis_fitted is None or self.tilt_angle_fitted is None or self.defocus_gradient is None:
            return None
        axis = math.radians(self.tilt_axis_fitted)
        left = -math.sin(axis) * self.defocus_gradient[0] + math.cos(axis) * self.defocus_gradient[1]
        return math.copysign(self.tilt_angle_fitted, left)


class _Layout(NamedTuple):
    """Where the tiles are: side in pixels, first rows and first columns."""

    tile: int
    rows: list[int]
    columns: list[int]

    @property
    def middles(self) -> np.ndarray:
        """Return (tiles, 2) middles (y, x) in pixels, x running fastest."""
        half = 0.5 * (self.tile - 1)
        return np.array([(y + half, x + half) for y in self.rows for x in self.columns])


class _Cells(NamedTuple):
    """Spectra of tiles averaged over rings within sectors, each tile's background divided out and its trend removed.

    value : (tiles, sectors, rings); weight : (sectors, rings) pixels in each cell; squared : (rings,) mean k²
    direction : (sectors,) azimuth of their middles; trend : (rings, terms) orthonormal in the weights of the rings
    place : (tiles, 2) middles (x, y) in Å from the middle of the image
    """

    value: np.ndarray
    weight: np.ndarray
    squared: np.ndarray
    direction: np.ndarray
    trend: np.ndarray
    place: np.ndarray

    def without_trend(self, values: np.ndarray) -> np.ndarray:
        """Remove from (..., sectors, rings) what a smooth function of frequency alone describes."""
        return _without_trend(values, self.weight, self.trend)

    def up_to(self, highest: float) -> _Cells:
        """Return the rings up to a frequency in 1/Å, their trend removed anew."""
        keep = int(np.searchsorted(self.squared, highest**2))
        weight, squared = self.weight[:, :keep], self.squared[:keep]
        trend = _orthonormal_trend(weight, squared)
        value = _without_trend(self.value[:, :, :keep], weight, trend)
        return self._replace(value=value, weight=weight, squared=squared, trend=trend)


class _Plane(NamedTuple):
    """What is refined: defocus in the middle (Å), gradient along x and y (Å/Å), astigmatism vector (Å)."""

    defocus: float
    gradient: tuple[float, float]
    vector: complex

    def at(self, place: np.ndarray) -> np.ndarray:
        """Return the mean defocus in Å at places (n, 2)."""
        return np.asarray(self.defocus + place @ np.array(self.gradient))


class _Fitted(NamedTuple):
    """A plane with its covariance (defocus, gradient x, gradient y, vector), tiles, and the part explained."""

    plane: _Plane
    covariance: np.ndarray
    used: np.ndarray
    freedom: float
    explained: float


def estimate_tilt(
    image: Array,
    *,
    optics: Optics,
    fit: CtfFit,
    resolution_low: float = 30.0,
    resolution_high: float | None = None,
    max_tilt: float = 70.0,
) -> TiltFit:
    """Measure the local defocus of an image and the tilt of its specimen.

    image : (y, x), numpy or cupy; the tiles are transformed where it lies and fitted on the host
    optics : its ``pixel_size`` is that of the image
    fit : of the whole image; where it has a defocus, the search stays near it and takes its astigmatism and phase
    shift as a start, else defoci of 0.1 to 5 µm are tried without astigmatism
    resolution_low, resolution_high : Å, the band fitted; left out, the upper end is 4 Å, or what the pixels allow
    max_tilt : degrees, the largest tilt searched

    Tiles that show no rings (gold, an empty border) or that miss the plane count little or not at all. The tilt is
    that of the defocus: the specimen's own curvature widens the errors, but is not told from a tilt.

    Raises ParameterError for an array that is not an image, or for limits that leave nothing to fit.
    """
    if image.ndim != 2:
        raise ParameterError(f"a tilt needs one image (y, x), not an array of {image.ndim} dimensions")
    if not 0 < max_tilt < 85:
        raise ParameterError(f"the largest tilt is {max_tilt}°; it must lie above 0° and below 85°")
    high = max(4.0, 2.16 * optics.pixel_size) if resolution_high is None else resolution_high
    if high < 2 * optics.pixel_size or resolution_low < 1.5 * high:
        raise ParameterError(
            f"the band from {resolution_low} to {high:.4g} Å cannot be fitted with pixels of {optics.pixel_size:.4g} Å;"
            f" it must be wider, and end above {2 * optics.pixel_size:.4g} Å"
        )
    start = _level(fit)
    layout = _lay_tiles(image.shape, optics, start.defocus if start else None)
    side = layout.tile * optics.pixel_size
    if start and start.defocus > FARTHEST * side / optics.wavelength:
        return _nothing(f"the rings of a defocus of {start.defocus:.0f} Å are too close for tiles of {side:.0f} Å")
    if len(layout.rows) < 2 or len(layout.columns) < 2 or len(layout.rows) * len(layout.columns) < LEAST_TILES:
        return _nothing(f"{image.shape} pixels hold too few tiles of {layout.tile} pixels to see a tilt")
    cells, present = _measure_cells(image, layout, optics, 1 / resolution_low, 1 / high)
    if present.sum() < LEAST_TILES:
        return _nothing(f"only {int(present.sum())} of {len(present)} tiles hold an image; {LEAST_TILES} are needed")
    vector = start.vector if start else 0j
    phase = math.radians(fit.phase_shift or 0.0) + optics.amplitude_phase
    limits = (max(300.0, start.defocus - SEARCH_REACH), start.defocus + SEARCH_REACH) if start else WIDEST_SEARCH
    coarse = cells.up_to(1 / max(high, SEARCH_RESOLUTION))
    planes, confirmed = _search(coarse, optics, limits, vector, phase, max_tilt)
    if confirmed < CONFIRMED:
        return _nothing("no rings were found in the tiles that agree on a plane: no better than chance")
    found = [_refine(coarse, optics, plane, phase) for plane in [*planes, *([start] if start else [])]]
    longest = 1.0 / (math.pi * optics.wavelength / high**2)
    fits = [_refine(cells, optics, plane, phase) for plane in _distinct(found, cells.place, 0.3 * longest)]
    best = max(fits, key=lambda fitted: fitted.explained)
    return _describe(cells, optics, best, phase, layout, present)


def _level(fit: CtfFit) -> _Plane | None:
    """Return the fit of the whole image as a plane without a gradient, or None where it failed."""
    if fit.defocus_u is None or fit.defocus_v is None or fit.astigmatism_angle is None:
        return None
    vector = astigmatism_vector(fit.defocus_u, fit.defocus_v, fit.astigmatism_angle)
    return _Plane(0.5 * (fit.defocus_u + fit.defocus_v), (0.0, 0.0), vector)


def _nothing(reason: str) -> TiltFit:
    return TiltFit(None, None, None, None, None, False, 0.0, None, None, None, None, None, reason)


def _lay_tiles(shape: tuple[int, int], optics: Optics, defocus: float | None) -> _Layout:
    """Spread tiles over an image, sharing at least half with the next.

    A higher defocus has closer rings and needs larger tiles, as far as the image is large enough for five in a row.
    """
    wanted = float(np.clip(RING_SPAN * (defocus or 0.0), SMALLEST_TILE, LARGEST_TILE))
    wanted = max(SMALLEST_TILE, min(wanted, min(shape) * optics.pixel_size / 3.0))
    tile = fast_size(round(wanted / optics.pixel_size))
    rows, columns = (_starts(length, tile) for length in shape)
    return _Layout(tile, rows, columns)


def _starts(length: int, tile: int) -> list[int]:
    if length < tile:
        return []
    number = math.ceil((length - tile) / (0.5 * tile) - 0.2) + 1
    return [int(start) for start in np.round(np.linspace(0, length - tile, number))]


def _measure_cells(image: Array, layout: _Layout, optics: Optics, low: float, high: float) -> tuple[_Cells, np.ndarray]:
    """Transform the tiles and average each over rings within sectors.

    Returns the cells of the tiles that hold anything, and which those are, (tiles,).
    """
    tile, step = layout.tile, 1.0 / (layout.tile * optics.pixel_size)
    width = min(math.ceil(high / step) + 1, tile // 2 + 1)
    index, bin_of, ring, squared = _band(tile, width, step, low, high)
    rings = int(ring.max()) + 1
    count = np.bincount(bin_of, minlength=SECTORS * rings).astype(np.float64)
    sums = np.stack(
        [
            np.bincount(bin_of, amplitude[index], minlength=SECTORS * rings)
            for amplitude in _tile_amplitudes(image, layout, width)
        ]
    )
    # the square of the mean amplitude follows the mean power, and resists single bright pixels
    power = ((sums / np.maximum(count, 1)) ** 2).reshape(-1, SECTORS, rings)
    weight = count.reshape(SECTORS, rings)
    pixels = weight.sum(axis=0)
    squared_mean = np.bincount(ring, squared, minlength=rings) / pixels
    average = (power * weight).sum(axis=1) / pixels
    usual = float(np.median(average.mean(axis=1)))
    present = np.isfinite(average).all(axis=1) & (average.min(axis=1) > 1e-6 * usual) & (average.min(axis=1) > 0)
    basis = spline_basis(np.sqrt(np.sqrt(squared_mean)), 6)
    root = np.sqrt(pixels)
    terms = np.linalg.lstsq(basis * root[:, None], (np.log(average[present]) * root).T, rcond=None)[0]
    value = power[present] / np.exp(basis @ terms).T[:, None, :]
    trend = _orthonormal_trend(weight, squared_mean)
    direction = (np.arange(SECTORS) + 0.5) * (math.pi / SECTORS)
    middle = 0.5 * (np.array(image.shape) - 1)
    place = ((layout.middles - middle) * optics.pixel_size)[present, ::-1]
    return _Cells(_without_trend(value, weight, trend), weight, squared_mean, direction, trend, place), present


def _band(
    tile: int, width: int, step: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return flat index, bin (sector and ring), ring and k² of the pixels of a cut half spectrum within a band."""
    ky = np.fft.fftfreq(tile, 1.0 / tile)[:, None]
    kx = np.arange(width, dtype=np.float64)[None, :]
    radius = np.hypot(ky, kx) * step
    # the cross through the origin holds what lines and columns of a detector share, not rings
    index = np.flatnonzero((radius >= low) & (radius <= high) & (np.abs(ky) > 1) & (kx > 1))
    angle = (np.arctan2(ky, kx) % math.pi).ravel()[index]
    frequency = radius.ravel()[index]
    ring = np.rint((frequency - low) / step).astype(np.int64)
    sector = np.minimum((angle * (SECTORS / math.pi)).astype(np.int64), SECTORS - 1)
    return index, sector * (int(ring.max()) + 1) + ring, ring, frequency**2


def _tile_amplitudes(image: Array, layout: _Layout, width: int) -> list[np.ndarray]:
    """Return the amplitudes (tile · width,) of each tile's half spectrum, its first ``width`` columns, on the host.

    The rows of a column of tiles are transformed once for all of them, and only columns within the band go on.
    """
    xp, fft = array_namespace(image), fft_namespace(image)
    tile = layout.tile
    taper = np.sin(math.pi * (np.arange(tile) + 0.5) / tile).astype(np.float32)
    across, along = xp.asarray(taper[None, :]), xp.asarray(taper[:, None])
    found: dict[tuple[int, int], np.ndarray] = {}
    for x in layout.columns:
        strip = image[:, x : x + tile].astype(xp.float32)
        rows = fft.rfft((strip - strip.mean()) * across, axis=1)[:, :width]
        for y in layout.rows:
            spectrum = xp.abs(fft.fft(rows[y : y + tile] * along, axis=0))
            found[y, x] = to_numpy(spectrum).ravel()
    return [found[y, x] for y in layout.rows for x in layout.columns]


def _orthonormal_trend(weight: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Return five splines of the frequency, orthonormal once multiplied by the square roots of the rings' weights."""
    root = np.sqrt(weight.sum(axis=0))
    return np.asarray(np.linalg.qr(spline_basis(np.sqrt(np.sqrt(squared)), TREND_TERMS) * root[:, None])[0])


def _without_trend(values: np.ndarray, weight: np.ndarray, trend: np.ndarray) -> np.ndarray:
    root = np.sqrt(weight.sum(axis=0))
    projected = (np.einsum("...sr,sr->...r", values, weight) / root) @ trend
    return np.asarray(values - ((projected @ trend.T) / root)[..., None, :])


def _search(
    cells: _Cells, optics: Optics, limits: tuple[float, float], vector: complex, phase: float, max_tilt: float
) -> tuple[list[_Plane], float]:
    """Try every mean defocus between two limits (Å) with every gradient.

    Returns the best planes, best first, and by how many standard deviations one half of the tiles (a chequerboard's
    colour) confirms what the other half says: about 0 ± 1 for noise, however much was tried.
    """
    step = 0.4 / (math.pi * optics.wavelength * float(cells.squared[-1]))
    reach = float(np.hypot(*cells.place.T).max())
    steepest = math.tan(math.radians(max_tilt))
    number = math.ceil(steepest * reach / (1.5 * step))
    axis = np.linspace(-steepest, steepest, 2 * number + 1)
    gradients = np.array([(gx, gy) for gx in axis for gy in axis if math.hypot(gx, gy) <= steepest])
    margin = math.ceil(steepest * reach / step) + 1
    defoci = np.arange(limits[0], limits[1] + step, step)
    wide = defoci[0] + step * np.arange(-margin, len(defoci) + margin)
    first = _first_half(cells.place)
    offsets = np.rint(gradients @ cells.place.T / step).astype(np.int64) + margin
    best: list[tuple[float, _Plane, float]] = []
    for curves in _correlate(cells, optics, wide, vector, phase):
        windows = np.lib.stride_tricks.sliding_window_view(curves, len(defoci), axis=1)
        halves = np.empty((2, len(gradients), len(defoci)))
        for index, offset in enumerate(offsets):
            shifted = windows[np.arange(len(curves)), offset]
            halves[0, index], halves[1, index] = shifted[first].sum(axis=0), shifted[~first].sum(axis=0)
        halves /= np.sqrt(np.array([first.sum(), (~first).sum()]))[:, None, None]
        one, other = halves.reshape(2, -1)
        confirmed = 0.5 * float(other[np.argmax(one)] + one[np.argmax(other)])
        total = halves.sum(axis=0)
        for row, column in _peaks(total, gradients, 0.5 * reach / step):
            gradient = (float(gradients[row, 0]), float(gradients[row, 1]))
            best.append((float(total[row, column]), _Plane(float(defoci[column]), gradient, vector), confirmed))
    best.sort(key=lambda found: -found[0])
    return [plane for _, plane, _ in best[:4]], best[0][2]


def _first_half(place: np.ndarray) -> np.ndarray:
    """Return which tiles have one colour of a chequerboard."""
    columns, rows = (np.unique(np.round(part, 3), return_inverse=True)[1] for part in place.T)
    return np.asarray((columns + rows) % 2 == 0)


def _peaks(total: np.ndarray, gradients: np.ndarray, steps: float, number: int = 2) -> list[tuple[int, int]]:
    """Return the best places of (gradients, defoci), each at least three steps of defocus from a better one.

    steps : of defocus by which a gradient of 1 moves a tile half way to the border
    """
    remaining = total.copy()
    columns = np.arange(total.shape[1])
    found = []
    for _ in range(number):
        row, column = (int(part) for part in np.unravel_index(int(np.argmax(remaining)), total.shape))
        found.append((row, column))
        apart = np.hypot(*(gradients - gradients[row]).T)[:, None] * steps + np.abs(columns - column)
        remaining[apart < 3] = -np.inf
    return found


def _correlate(cells: _Cells, optics: Optics, defoci: np.ndarray, vector: complex, phase: float) -> list[np.ndarray]:
    """Correlate each tile with CTF² of each defocus; one (tiles, defoci) in standard deviations for each decay."""
    astigmatism = 0.5 * (vector * np.exp(-2j * cells.direction)).real
    local = (defoci[:, None] + astigmatism)[:, :, None]
    rings = -0.5 * np.cos(2.0 * (_phase(cells.squared, local, optics) + phase))
    # below 100 Å there are no rings, and a negative defocus would fit those of a positive one
    usable = (defoci > 100.0)[:, None, None]
    weighted = cells.value * cells.weight
    noise = np.sqrt((weighted * cells.value).sum(axis=(1, 2)) / cells.weight.astype(bool).sum())
    curves = []
    for decay in DECAYS:
        model = usable * cells.without_trend(rings * np.exp(-0.5 * decay * cells.squared))
        size = np.sqrt(np.maximum((model**2 * cells.weight).sum(axis=(1, 2)), 1e-12))
        product = weighted.reshape(len(weighted), -1) @ model.reshape(len(defoci), -1).T
        curves.append(product / (noise[:, None] * size))
    return curves


def _phase(squared: np.ndarray, defocus: np.ndarray, optics: Optics) -> np.ndarray:
    """Return χ in radians without constant terms at k² for defoci (Å) that broadcast."""
    return np.asarray((math.pi * optics.wavelength * defocus - optics.quartic * squared) * squared)


class _Linearised(NamedTuple):
    """Each tile's normal equations about the defocus of a plane.

    normal : (tiles, 3, 3), right : (tiles, 3), for the tile's defocus and the two parts of the astigmatism vector
    contrast : (tiles,) of its rings, relative to the usual
    left, total : weighted squares that remain, and that were there, (tiles,)
    """

    normal: np.ndarray
    right: np.ndarray
    contrast: np.ndarray
    left: np.ndarray
    total: np.ndarray


def _linearise(cells: _Cells, optics: Optics, defocus: np.ndarray, vector: complex, phase: float) -> _Linearised:
    """Compare each tile with CTF² of its defocus, the fall of the contrast common to all solved for."""
    double = np.exp(-2j * cells.direction)
    local = defocus[:, None] + 0.5 * (vector * double).real
    angle = 2.0 * (_phase(cells.squared, local[:, :, None], optics) + phase)
    model = cells.without_trend(-0.5 * np.cos(angle))
    strength = _common_contrast(cells, model)
    # power scatters in proportion to itself: the dark rings tell most
    weight = cells.weight / np.maximum(1.0 - 0.5 * strength * np.cos(angle), 0.3) ** 2
    expected = cells.without_trend(-0.5 * strength * np.cos(angle))
    contrast = _own_contrast(cells.value, expected, weight)
    expected = contrast[:, None, None] * expected
    slope = math.pi * optics.wavelength * cells.squared
    along = cells.without_trend(contrast[:, None, None] * strength * slope * np.sin(angle))
    rest = cells.value - expected
    heavy = weight * along
    # the derivative along the astigmatism is that along the defocus times half the sector's direction
    columns = np.stack([np.ones(SECTORS), 0.5 * double.real, -0.5 * double.imag])
    normal = np.einsum("ts,as,bs->tab", (heavy * along).sum(axis=2), columns, columns)
    right = (heavy * rest).sum(axis=2) @ columns.T
    left, total = (weight * rest**2).sum(axis=(1, 2)), (weight * cells.value**2).sum(axis=(1, 2))
    return _Linearised(normal, right, contrast, left, total)


def _common_contrast(cells: _Cells, model: np.ndarray) -> np.ndarray:
    """Return the contrast of the rings at each frequency, (rings,), a spline that is kept ≥ 0."""
    basis = spline_basis(np.sqrt(cells.squared), CONTRAST_TERMS)
    product = np.einsum("tsr,tsr,sr->r", model, cells.value, cells.weight, optimize=True)
    square = np.einsum("tsr,tsr,sr->r", model, model, cells.weight, optimize=True)
    normal = (basis * square[:, None]).T @ basis
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.asarray(np.maximum(basis @ np.linalg.solve(normal, basis.T @ product), 0.0))


def _own_contrast(value: np.ndarray, expected: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the contrast of each tile relative to the common one, drawn towards 1 as far as noise hides it."""
    square = np.maximum((weight * expected**2).sum(axis=(1, 2)), 1e-12)
    product = (weight * expected * value).sum(axis=(1, 2))
    noise = float(np.median((weight * (value - expected) ** 2).mean(axis=(1, 2))))
    prior = noise / _CONTRAST_SPREAD**2
    return np.asarray(np.clip((product + prior) / (square + prior), 0.0, 3.0))


def _refine(cells: _Cells, optics: Optics, start: _Plane, phase: float, iterations: int = 8) -> _Fitted:
    """Refine a plane against all cells; tiles that miss it are given less weight, and none beyond ``OUTLIER``."""
    place = cells.place
    slope = math.pi * optics.wavelength * float(cells.squared[-1])
    reach = np.array([1.0, *np.abs(place).max(axis=0), 0.5, 0.5])
    shape = np.zeros((len(place), 3, 5))
    shape[:, 0, 0], shape[:, 0, 1:3] = 1.0, place
    shape[:, 1, 3] = shape[:, 2, 4] = 1.0
    plane = start
    for _ in range(iterations):
        here = _linearise(cells, optics, plane.at(place), plane.vector, phase)
        scatter = float(np.median(here.left)) / cells.weight.astype(bool).sum()
        trust, missed = _trust(here, scatter)
        normal = np.einsum("tai,tab,tbj,t->ij", shape, here.normal, shape, trust, optimize=True)
        right = np.einsum("tai,ta,t->i", shape, here.right, trust, optimize=True)
        damped = normal + np.diag(1e-3 * np.diag(normal) + 1e-30)
        step = np.linalg.solve(damped, right)
        # beyond about one radian at the highest frequency a linearised step means nothing
        longest = float(np.abs(step * reach).max()) * slope
        step *= min(1.0, 1.0 / max(longest, 1e-12))
        plane = _Plane(
            plane.defocus + float(step[0]),
            (plane.gradient[0] + float(step[1]), plane.gradient[1] + float(step[2])),
            plane.vector + complex(step[3], step[4]),
        )
        if longest < 0.01:
            break
    used = trust > 0
    freedom = max(used.sum() / SHARED - 3.0, 1.0)
    misfit = float((missed[used] ** 2).sum()) / SHARED / freedom
    covariance = _UNSEEN * SHARED * misfit * scatter * np.linalg.pinv(normal)
    explained = float((here.total - here.left).sum() / scatter)
    return _Fitted(plane, covariance, used, freedom, explained)


def _distinct(fits: list[_Fitted], place: np.ndarray, nearest: float, number: int = 3) -> list[_Plane]:
    """Return the best planes, each somewhere more than ``nearest`` Å from every better one."""
    kept: list[_Plane] = []
    for fitted in sorted(fits, key=lambda one: -one.explained):
        if all(np.abs(fitted.plane.at(place) - plane.at(place)).max() > nearest for plane in kept):
            kept.append(fitted.plane)
    return kept[:number]


def _trust(here: _Linearised, scatter: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of each tile, and by how many standard deviations its own defocus misses the plane."""
    information = here.normal[:, 0, 0]
    missed = here.right[:, 0] / np.sqrt(np.maximum(scatter * information, 1e-30))
    missed[information <= 0] = 0.0
    usual = max(1.4826 * float(np.median(np.abs(missed))), 1e-9)
    missed_by = np.abs(missed) / usual
    trust = np.clip(1.5 / np.maximum(missed_by, 1e-9), 0.0, 1.0)
    trust[(missed_by > OUTLIER) | (here.contrast < LEAST_CONTRAST)] = 0.0
    return trust, missed


def _own_defoci(cells: _Cells, optics: Optics, fitted: _Fitted, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit each tile alone from the plane's defocus on; returns defoci and errors in Å, (tiles,)."""
    longest = 1.0 / (math.pi * optics.wavelength * float(cells.squared[-1]))
    defocus = fitted.plane.at(cells.place)
    for _ in range(4):
        here = _linearise(cells, optics, defocus, fitted.plane.vector, phase)
        information = here.normal[:, 0, 0]
        step = here.right[:, 0] / np.maximum(information, 1e-30)
        defocus = defocus + np.clip(step, -longest, longest)
    scatter = float(np.median(here.left)) / cells.weight.astype(bool).sum()
    seen = (here.contrast >= LEAST_CONTRAST) & (information > 0)
    error = np.where(seen, np.sqrt(_SHARED_NOISE * scatter / np.maximum(information, 1e-30)), np.inf)
    return np.where(seen, defocus, np.nan), error


def _describe(
    cells: _Cells, optics: Optics, fitted: _Fitted, phase: float, layout: _Layout, present: np.ndarray
) -> TiltFit:
    """Put a plane into the units and the frame of a record, and say whether it is tilted."""
    gradient, covariance = np.array(fitted.plane.gradient), fitted.covariance[1:3, 1:3]
    size = float(np.hypot(*gradient))
    along = gradient / max(size, 1e-12)
    across = np.array([-along[1], along[0]])
    error, error_across = (math.sqrt(max(float(way @ covariance @ way), 0.0)) for way in (along, across))
    ratio = 0.5 * float(gradient @ np.linalg.pinv(covariance) @ gradient)
    chance = float(variance_ratio.sf(ratio, 2, fitted.freedom))
    significant = chance < CLAIMED
    axis = 90.0 - math.degrees(math.atan2(-gradient[1], gradient[0])) % 180.0
    defocus_u, defocus_v, angle = from_astigmatism_vector(fitted.plane.defocus, fitted.plane.vector)
    middles = layout.middles
    defocus, errors, used = np.full(len(middles), np.nan), np.full(len(middles), np.inf), np.zeros(len(middles), bool)
    defocus[present], errors[present] = _own_defoci(cells, optics, fitted, phase)
    used[present] = fitted.used
    return TiltFit(
        tilt_axis_fitted=axis if significant else None,
        tilt_angle_fitted=math.degrees(math.atan(size)),
        tilt_axis_error=math.degrees(error_across / size) if significant else None,
        tilt_angle_error=math.degrees(error / (1.0 + size**2)),
        defocus_gradient=(float(gradient[0]), float(gradient[1])),
        significant=significant,
        significance=float(norm.isf(max(chance, 1e-300))),
        defocus_u=defocus_u,
        defocus_v=defocus_v,
        astigmatism_angle=angle,
        defocus_error=math.sqrt(max(float(fitted.covariance[0, 0]), 0.0)),
        tiles=TileDefoci(middles[:, 0], middles[:, 1], defocus, errors, used),
        reason="" if significant else f"the defocus rises by {size:.3f} ± {error:.3f} Å per Å: no tilt is seen",
    )
