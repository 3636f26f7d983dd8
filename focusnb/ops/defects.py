"""Find pixels that cannot be trusted and replace them by good neighbours, so that noise stays noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from focusnb.compiled import compiled
from focusnb.ops.backend import Array, array_namespace, like, ndimage_namespace, to_numpy

RADIUS = 2
CANDIDATES = 24  # the neighbours within radius 2
ENOUGH = 8  # below as many good ones the search goes wider


@dataclass(frozen=True)
class BadPixels:
    """Bad pixels of a camera and the good neighbours that may stand in for each.

    indices : (n,) positions in the flattened frame
    neighbours : (n, 24) positions of good pixels, the nearest first
    counts : (n,) how many of the neighbours are valid
    shape : (ny, nx) of a frame
    """

    indices: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    counts: NDArray[np.int64]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, exposure: int, frame: int) -> NDArray[np.int64]:
        """Choose a neighbour for each bad pixel, the same again for the same exposure and frame."""
        generator = np.random.default_rng([exposure, frame])
        chosen = (generator.random(len(self.indices)) * self.counts).astype(np.int64)
        drawn: NDArray[np.int64] = self.neighbours[np.arange(len(self.indices)), chosen]
        return drawn


def prepare_bad_pixels(mask: Array) -> BadPixels:
    """List the good neighbours of each bad pixel once per movie.

    mask : (y, x) bool, True where bad
    Good pixels within radius 2 (a square of 5 x 5) are listed; where fewer than 8 are good, as within a bad column four
    pixels wide, the search goes on at larger radii. Raises ValueError when more than a quarter of the pixels are bad.
    """
    bad = to_numpy(mask).astype(bool)
    ny, nx = bad.shape
    y, x = np.divmod(np.flatnonzero(bad), nx)
    if 4 * len(y) > bad.size:
        raise ValueError(f"{len(y)} of {bad.size} pixels are bad, more than a quarter; check gain and defects")
    neighbours = np.zeros((len(y), CANDIDATES), np.int64)
    counts = np.zeros(len(y), np.int64)
    radius: float = RADIUS
    offsets = _square(RADIUS)
    seen = {(0, 0), *offsets}
    while True:
        todo = np.flatnonzero(counts < ENOUGH)
        for dy, dx in offsets:
            v, u = y[todo] + dy, x[todo] + dx
            inside = (v >= 0) & (v < ny) & (u >= 0) & (u < nx)
            good = inside & ~bad[np.clip(v, 0, ny - 1), np.clip(u, 0, nx - 1)] & (counts[todo] < CANDIDATES)
            rows = todo[good]
            neighbours[rows, counts[rows]] = v[good] * nx + u[good]
            counts[rows] += 1
        radius *= 1.5
        if not len(todo) or radius > ny + nx:
            break
        offsets = [offset for offset in dict.fromkeys(_circle(radius)) if offset not in seen]
        seen.update(offsets)
    return BadPixels(y * nx + x, neighbours, counts, (ny, nx))


def _square(radius: int) -> list[tuple[int, int]]:
    """Return the offsets within a square, the nearest first."""
    reach = range(-radius, radius + 1)
    offsets = [(dy, dx) for dy in reach for dx in reach if (dy, dx) != (0, 0)]
    return sorted(offsets, key=lambda offset: offset[0] ** 2 + offset[1] ** 2)


def _circle(radius: float) -> list[tuple[int, int]]:
    """Return 24 offsets around a circle, opposite ones in turn."""
    angles = np.pi * (np.arange(24) // 2 / 12.0 + np.arange(24) % 2)
    return [(round(radius * math.sin(a)), round(radius * math.cos(a))) for a in angles]


def replace_bad_pixels(frame: Array, bad_pixels: BadPixels, *, exposure: int, index: int) -> None:
    """Replace the bad pixels of a frame in place by a randomly drawn good neighbour.

    frame : (y, x) contiguous, of any type
    exposure, index : of the exposure and of the frame; they seed the draw
    """
    if tuple(frame.shape) != bad_pixels.shape:
        raise ValueError(f"bad pixels of {bad_pixels.shape} frames do not fit a frame of {tuple(frame.shape)}")
    if not len(bad_pixels):
        return
    flat = frame.reshape(-1)
    flat[like(frame, bad_pixels.indices)] = flat[like(frame, bad_pixels.draw(exposure, index))]


def fill_bad_pixels(image: Array, bad_pixels: BadPixels) -> Array:
    """Return an image (y, x) float32 with the mean of the good neighbours at bad pixels: smooth, unlike a draw."""
    xp = array_namespace(image)
    result = xp.array(image, dtype=xp.float32)
    if len(bad_pixels):
        flat = result.reshape(-1)
        valid = like(image, np.arange(bad_pixels.neighbours.shape[1])[None, :] < bad_pixels.counts[:, None])
        values = xp.where(valid, flat[like(image, bad_pixels.neighbours)], 0.0)
        flat[like(image, bad_pixels.indices)] = values.sum(axis=1) / xp.maximum(valid.sum(axis=1), 1).astype(xp.float32)
    return result


def find_hot_pixels(unaligned_sum: Array, *, false_alarms: float = 1e-3, known: Array | None = None) -> Array:
    """Return the mask (y, x) of pixels whose sum over frames is far above their neighbourhood.

    unaligned_sum : (y, x) sum of gain-corrected frames, counts or scaled counts
    false_alarms : expected number of good pixels taken for hot in the whole image, for Poisson noise of any mean
    known : (y, x) mask of pixels already known as bad; they are neither tested nor taken as neighbours

    The noise is measured where the pixel is (tiles of 64 pixels), and a hot pixel must also stand above four fifths of
    its 24 neighbours, so that crystals, the edges of gold and the bright fringes around it are left alone.
    """
    xp = array_namespace(unaligned_sum)
    image = unaligned_sum.astype(xp.float32)
    if known is not None:
        image = fill_bad_pixels(image, prepare_bad_pixels(known))
    excess = excess_over_mean(image)
    threshold = _thresholds(image, excess, math.log(image.size / false_alarms))
    # the screening mean contains the pixel itself, and maybe a hot neighbour
    suspects, limits = _above(excess, threshold, 0.8)
    mask = np.zeros(image.shape, bool)
    if len(suspects):
        surroundings = to_numpy(_surroundings(image, suspects))
        values = to_numpy(image[like(image, suspects[:, 0]), like(image, suspects[:, 1])])
        hot = values - np.percentile(surroundings, 80.0, axis=1) > limits
        mask[suspects[hot, 0], suspects[hot, 1]] = True
    found = like(image, mask)
    return found if known is None else found & ~known


def excess_over_mean(image: Array) -> Array:
    """Return each pixel's excess over the mean of the 5 x 5 around it, (y, x) float32; the edge is mirrored."""
    if not isinstance(image, np.ndarray):
        return excess_over_mean_plain(image)
    result = np.empty(image.shape, np.float32)
    _excess(np.pad(image, RADIUS, mode="symmetric"), result)
    return result


def excess_over_mean_plain(image: Array) -> Array:
    """Plain twin of ``excess_over_mean``."""
    return image - ndimage_namespace(image).uniform_filter(image, 2 * RADIUS + 1, mode="reflect")


@compiled
def _add_rows(rows: Array, line: Array) -> None:
    a, b, c, d, e = rows[0], rows[1], rows[2], rows[3], rows[4]
    for x in range(line.shape[0]):
        line[x] = a[x] + b[x] + c[x] + d[x] + e[x]


@compiled
def _subtract_mean(row: Array, line: Array, result: Array) -> None:
    for x in range(result.shape[0]):
        result[x] = row[x] - (line[x] + line[x + 1] + line[x + 2] + line[x + 3] + line[x + 4]) * np.float32(0.04)


@compiled
def _excess(padded: Array, result: Array) -> None:
    line = np.empty(padded.shape[1], np.float32)
    for y in range(result.shape[0]):
        _add_rows(padded[y : y + 5], line)
        _subtract_mean(padded[y + RADIUS, RADIUS:-RADIUS], line, result[y])


def _tile_size(shape: tuple[int, ...]) -> int:
    return int(min(64, *shape))


def _thresholds(image: Array, excess: Array, odds: float) -> NDArray[np.float32]:
    """Return what an excess stays below by chance with odds of 1 - exp(-odds), for each tile, on the host."""
    xp = array_namespace(image)
    tile = _tile_size(image.shape)
    rows, columns = image.shape[0] // tile, image.shape[1] // tile

    def tiles(values: Array) -> Array:
        # every third row and column are enough for a median of a tile
        parts = values[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile)[:, ::3, :, ::3]
        return parts.transpose(0, 2, 1, 3).reshape(rows, columns, -1)

    spread, level = xp.abs(tiles(excess)), tiles(image)
    # integer counts of a very weak beam have medians of 0; their means are the least there is
    noise = xp.maximum(xp.median(spread, axis=-1) / 0.6745, 0.5 * xp.mean(spread, axis=-1))
    level = xp.maximum(xp.median(level, axis=-1), 0.5 * xp.mean(level, axis=-1))
    # Bernstein's bound: for scaled Poisson counts of unit u = variance / mean, P(excess > t) < exp(-odds)
    unit = noise**2 / xp.maximum(level, 1e-6) * (odds / 3.0)
    threshold: NDArray[np.float32] = to_numpy(unit + xp.sqrt(unit**2 + 2.0 * odds * noise**2)).astype(np.float32)
    return threshold


def _above(excess: Array, threshold: NDArray[np.float32], part: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return where an excess is above a part of its tile's threshold, (n, 2), and that threshold, on the host."""
    xp, tile = array_namespace(excess), _tile_size(excess.shape)
    last = np.array(threshold.shape) - 1
    found = []
    for row in range(last[0] + 1):
        stop = None if row == last[0] else (row + 1) * tile
        columns = np.minimum(np.arange(excess.shape[1]) // tile, last[1])
        limits = like(excess, part * threshold[row][columns])
        places = to_numpy(xp.argwhere(excess[row * tile : stop] > limits))
        found.append(places + np.array([row * tile, 0]))
    suspects = np.concatenate(found)
    y, x = np.minimum(suspects // tile, last).T
    return suspects, threshold[y, x]


def _surroundings(image: Array, positions: NDArray[np.int64]) -> Array:
    """Return the 24 pixels around each position, (n, 24); the edge is mirrored."""
    ny, nx = int(image.shape[0]), int(image.shape[1])
    offsets = np.array(_square(RADIUS))
    y = np.abs(positions[:, :1] + offsets[None, :, 0])
    x = np.abs(positions[:, 1:] + offsets[None, :, 1])
    y, x = np.where(y >= ny, 2 * ny - 2 - y, y), np.where(x >= nx, 2 * nx - 2 - x, x)
    return image[like(image, y), like(image, x)]
