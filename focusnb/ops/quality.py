"""Measure whether an exposure shows what it should: film in the field, a hole without ice, a tear.

Texture is what the specimen adds to the noise of counting: the power at 60-6 Å above that near the highest frequencies,
where an exposure holds hardly anything but noise (Poisson counts have the same power at all frequencies). The noise is
so measured in the image itself, and neither a scale nor an offset of the values matters. Cameras that integrate colour
their noise: the power falls with frequency, and even an empty hole seems to have a texture there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, label, median_filter

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace, fft_namespace, to_numpy
from focusnb.ops.edges import Edge, find_edge

TEXTURE_BAND = (60.0, 6.0)
"""Å; what scatters at lower frequencies may be the beam, at higher ones noise is all there is."""
_NOISE_BAND = (0.6, 0.85)
"""Of Nyquist; beyond, interpolation and the corners of a Fourier crop spoil the noise."""
_TILES = (64, 96, 128, 192, 256, 384, 512)
_FEWEST_TILES = 3
_ERROR_OF_MEDIAN = 1.25  # over that of a mean
_ALL_SIDES = np.ones((3, 3), bool)
_SPREAD = 2.2
"""Variance of the mean power of so many frequencies of a tile, times their number: the window ties neighbours."""
SMALLEST = 64
"""Pixels of a side below which no edge is looked for."""


class Excess(NamedTuple):
    """Power of the specimen over that of the noise less 1, and its standard error where there is noise alone."""

    value: float
    error: float

    def may_be_below(self, limit: float) -> bool:
        """Return whether so few tiles leave it possible that there is less than ``limit``."""
        return self.value - 1.5 * self.error < limit


@dataclass(frozen=True, slots=True)
class FieldMeasures:
    """What a field shows. None where it cannot be told.

    texture_excess : power of the specimen over that of the noise, median over the field; 0 is noise alone
    bare_fraction : largest piece of the field whose texture cannot be told from noise, 0 to 1
    bare_contrast : how much brighter that part is than what lies beside it, relative to it; None where it has no border
    bare_texture : excess of texture within it; near ``least_texture`` it is weak ice, and only 0 is none
    edge_score : how much better an edge explains the brightness than anything smooth does; 1 is a perfect edge
    edge_contrast : step of the brightness there, relative to the brighter part
    dark_fraction : part of the field on the darker side of that edge, 0 to 1
    edge_of_film : whether the edge is straight or hollow as that of a film around a hole; contamination is round
    texture_dark, texture_bright : as ``texture_excess``, on the two sides of the edge
    """

    texture_excess: Excess | None = None
    bare_fraction: float | None = None
    bare_contrast: float | None = None
    bare_texture: Excess | None = None
    edge_score: float | None = None
    edge_contrast: float | None = None
    dark_fraction: float | None = None
    edge_of_film: bool | None = None
    texture_dark: Excess | None = None
    texture_bright: Excess | None = None


@dataclass(frozen=True, slots=True)
class FieldLimits:
    """From which values on a measure counts.

    texture : excess below which there is no specimen; 120 Å of bare ice at 30 e⁻/Å² give 0.02 to 0.05
    edge : score from which on there is an edge; ordinary fields stay below 0.1
    contrast : step of the brightness, relative, that a film or a tear makes at least; halves of a camera make less
    empty : part without texture from which on the field counts as empty, and not as torn
    """

    texture: float = 0.03
    edge: float = 0.15
    contrast: float = 0.03
    empty: float = 0.93


LIMITS = FieldLimits()


def is_empty(measures: FieldMeasures, limits: FieldLimits = LIMITS) -> bool:
    """Return whether a field shows noise alone: neither ice nor anything else."""
    texture, bare = measures.texture_excess, measures.bare_fraction
    return texture is not None and bare is not None and texture.value < limits.texture and bare >= limits.empty


def open_fraction(measures: FieldMeasures, limits: FieldLimits = LIMITS) -> float | None:
    """Return the part of a field through which nothing but the beam shines beside a specimen; 0 without, None unknown.

    It has no texture, and its border is sharp: what lies beside it is darker at once.
    """
    bare, step, texture = measures.bare_fraction, measures.bare_contrast, measures.bare_texture
    if bare is None:
        return None
    if is_empty(measures, limits):
        return 0.0
    if step is not None and step >= limits.contrast and texture is not None and texture.may_be_below(limits.texture):
        return bare
    # where the specimen is weak, the border tells better where it ends than the texture of single tiles does
    dark, here, there = measures.dark_fraction, measures.texture_dark, measures.texture_bright
    if dark is None or here is None or there is None or not _has_edge(measures, limits):
        return 0.0
    return 1 - dark if there.may_be_below(limits.texture) and here.value > 2 * limits.texture else 0.0


def film_fraction(measures: FieldMeasures, limits: FieldLimits = LIMITS) -> float | None:
    """Return the part of a field that the film around a hole covers; 0 without, None unknown.

    A border of film is straight or hollow on the darker side, and the specimen goes on in the brighter part.
    """
    dark, here, there = measures.dark_fraction, measures.texture_dark, measures.texture_bright
    if dark is None or measures.edge_score is None:
        return None
    open_part = open_fraction(measures, limits)
    if not measures.edge_of_film or is_empty(measures, limits) or open_part:
        return 0.0
    if open_part is None:
        return None  # a tear has such a border as well
    # an offset of the values hides the contrast of the brightness, but not that of the textures
    rougher = here is not None and there is not None and here.value > 2 * max(there.value, limits.texture)
    return dark if _has_edge(measures, limits, rougher) else 0.0


def _has_edge(measures: FieldMeasures, limits: FieldLimits, whatever_contrast: bool = False) -> bool:
    score, contrast = measures.edge_score, measures.edge_contrast
    if score is None or score < limits.edge:
        return False
    return whatever_contrast or (contrast is not None and contrast >= limits.contrast)


@dataclass(frozen=True, slots=True)
class Texture:
    """Power of tiles of a field: in the band of the specimen and in that of the noise, (rows, columns) on the host.

    brightness : mean of the tiles; scatter : expected standard deviation of a tile's excess where there is noise alone
    y, x : middles of the rows and columns; tile : side of a tile; all in pixels; shape : of the image
    """

    specimen: np.ndarray
    noise: np.ndarray
    brightness: np.ndarray
    scatter: float
    y: np.ndarray
    x: np.ndarray
    tile: int
    shape: tuple[int, int]

    def excess(self, chosen: np.ndarray | None = None) -> Excess | None:
        """Return the excess of texture, median over tiles; None for too few.

        chosen : (rows, columns) of bool
        """
        usable = np.isfinite(self.specimen) & (self.noise > 0)
        if chosen is not None:
            usable &= chosen
        if usable.sum() < _FEWEST_TILES:
            return None
        # single tiles tell their noise badly, so that of all is scaled by their brightness alone: it cancels here
        value = float(np.median(self.specimen[usable]) / np.median(self.noise[usable]) - 1)
        return Excess(value, _ERROR_OF_MEDIAN * self.scatter / math.sqrt(usable.sum()))


@dataclass(frozen=True, slots=True)
class Bare:
    """The part of a field without texture, 0 to 1; what texture it has; how much brighter it is than what is beside."""

    fraction: float
    texture: Excess | None
    contrast: float | None


def measure_field(image: Array, *, pixel_size: float, least_texture: float = LIMITS.texture) -> FieldMeasures:
    """Look for an edge through a field, for the specimen's texture on both sides of it, and for parts without any.

    image : (y, x) of any scale, not dose-weighted, numpy or cupy; pixel_size : Å/px
    least_texture : excess below which there is no specimen
    """
    texture = measure_texture(image, pixel_size=pixel_size)
    edge = find_edge(image) if min(image.shape) >= SMALLEST else None
    bare = None if texture is None else find_bare(texture, least_texture=least_texture)
    sides = (None, None) if texture is None or edge is None else sides_of(edge, texture)
    return FieldMeasures(
        texture_excess=None if texture is None else texture.excess(),
        bare_fraction=None if bare is None else bare.fraction,
        bare_contrast=None if bare is None else bare.contrast,
        bare_texture=None if bare is None else bare.texture,
        edge_score=None if edge is None else edge.score,
        edge_contrast=None if edge is None else edge.contrast,
        dark_fraction=None if edge is None else edge.dark_fraction,
        edge_of_film=None if edge is None else edge.of_film,
        texture_dark=sides[0],
        texture_bright=sides[1],
    )


def measure_texture(image: Array, *, pixel_size: float) -> Texture | None:
    """Measure the power of the tiles of an image (y, x); None where pixels or image are too few or too coarse.

    pixel_size : Å/px, below 6.6 so that a band of the specimen is left below that of the noise
    """
    if image.ndim != 2 or not pixel_size > 0:
        raise ParameterError(f"texture is of one image (y, x) with a pixel size, not {image.shape}, {pixel_size} Å/px")
    nyquist = 0.5 / pixel_size
    low, high = 1 / TEXTURE_BAND[0], min(1 / TEXTURE_BAND[1], 0.5 * nyquist)
    if high < 2.2 * low:
        return None
    tile = next((size for size in _TILES if size * low * pixel_size >= 1.1), _TILES[-1])
    rows, columns = (length // tile for length in image.shape)
    if rows * columns < _FEWEST_TILES:
        return None
    xp, fft = array_namespace(image), fft_namespace(image)
    frequency = np.hypot(np.fft.fftfreq(tile, pixel_size)[:, None], np.fft.rfftfreq(tile, pixel_size)[None, :])
    # the mean and the slope of a tile leak into the next two frequencies of the windowed transform
    low = max(low, 2.2 / (tile * pixel_size))
    bands = [
        (frequency > low) & (frequency < high),
        (frequency > _NOISE_BAND[0] * nyquist) & (frequency < _NOISE_BAND[1] * nyquist),
    ]
    if not all(band.any() for band in bands):
        return None
    weights = xp.asarray(np.stack([(band / band.sum()).ravel() for band in bands], axis=1).astype(np.float32))
    taper = np.sin(np.pi * (np.arange(tile) + 0.5) / tile)
    window = np.outer(taper, taper)
    window = xp.asarray((window / math.sqrt(float((window**2).sum()))).astype(np.float32))
    top, left = ((length - number * tile) // 2 for length, number in zip(image.shape, (rows, columns), strict=True))
    powers, means = [], []
    for row in range(rows):
        strip = image[top + row * tile : top + (row + 1) * tile, left : left + columns * tile].astype(xp.float32)
        tiles = strip.reshape(tile, columns, tile).transpose(1, 0, 2)
        level = tiles.mean(axis=(1, 2), keepdims=True)
        tiles = (tiles - level) * window
        power = xp.abs(fft.rfft2(tiles)) ** 2
        powers.append(power.reshape(columns, -1) @ weights)
        means.append(level.reshape(columns))
    host = to_numpy(xp.stack(powers)).astype(np.float64)
    return Texture(
        specimen=host[..., 0],
        noise=host[..., 1],
        brightness=to_numpy(xp.stack(means)).astype(np.float64),
        scatter=math.sqrt(sum(_SPREAD / int(band.sum()) for band in bands)),
        y=top + (np.arange(rows) + 0.5) * tile,
        x=left + (np.arange(columns) + 0.5) * tile,
        tile=tile,
        shape=(int(image.shape[0]), int(image.shape[1])),
    )


def sides_of(edge: Edge, texture: Texture) -> tuple[Excess | None, Excess | None]:
    """Return the excess of texture in the darker and in the brighter part; tiles the edge crosses count for neither."""
    half = 0.5 * math.hypot(*texture.shape)
    y, x = ((place - 0.5 * size) / half for place, size in zip((texture.y, texture.x), texture.shape, strict=True))
    depth = edge.depth(y[:, None], x[None, :])
    clear = 0.75 * texture.tile / half
    return texture.excess(depth > clear), texture.excess(depth < -clear)


def find_bare(texture: Texture, *, least_texture: float = LIMITS.texture) -> Bare | None:
    """Find the part of a field that shows noise alone; None where the tiles are too few.

    It is of one piece; a tile counts where the median of its neighbourhood exceeds ``least_texture`` by no more than
    chance allows. Tiles that the border crosses count by their brightness, between that of both sides.
    """
    if min(texture.noise.shape) < 4 or not (texture.noise > 0).any():
        return None
    usable = texture.noise > 0
    noise = float(np.median(texture.noise[usable])) * 1e-6
    ratio = np.where(usable, texture.specimen / np.maximum(texture.noise, noise) - 1, np.inf)
    limit = least_texture + 2 * _ERROR_OF_MEDIAN * texture.scatter / 3  # of nine tiles
    bare = median_filter(ratio, size=3, mode="nearest") < limit
    pieces, number = label(bare)
    if number > 1:  # a tear is of one piece; tiles of weak ice that pass for none lie scattered
        bare = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    excess = texture.excess(bare)
    across = binary_dilation(bare, _ALL_SIDES) & ~bare
    beside = binary_dilation(bare, _ALL_SIDES, iterations=2) & ~bare & ~across
    rim = bare & binary_dilation(~bare, _ALL_SIDES, iterations=2)
    if not beside.any() or not rim.any():
        return Bare(float((bare | across).mean()), excess, None)
    # nearly all that lies beside an open part is darker; a piece of contamination beside thin ice is no border
    inside, outside = float(np.median(texture.brightness[rim])), float(np.quantile(texture.brightness[beside], 0.8))
    step = inside - outside
    if step <= 0 or inside <= 0:
        return Bare(float(bare.mean()), excess, step / inside if inside > 0 else None)
    part = np.clip((texture.brightness[across] - outside) / step, 0.0, 1.0)
    return Bare((float(bare.sum()) + float(part.sum())) / bare.size, excess, step / inside)
