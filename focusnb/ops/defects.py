"""Find pixels that cannot be trusted and replace them by good neighbours, so that noise stays noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

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
    image = xp.asarray(unaligned_sum, dtype=xp.float32)
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
    _excess(image, result)
    return result


def excess_over_mean_plain(image: Array) -> Array:
    """Plain twin of ``excess_over_mean``."""
    return image - ndimage_namespace(image).uniform_filter(image, 2 * RADIUS + 1, mode="reflect")


@compiled
def _mirrored(i: int, size: int) -> int:
    i %= 2 * size
    return i if i < size else 2 * size - 1 - i


@compiled
def _add_rows(a: Array, b: Array, c: Array, d: Array, e: Array, line: Array) -> None:
    for x in range(line.shape[0]):
        line[x] = a[x] + b[x] + c[x] + d[x] + e[x]


@compiled
def sum_rows_around(image: Array, y: int, line: Array) -> None:
    """Fill a line with the sums of the five rows about row y, and two more columns at both ends; edges are mirrored.

    line : (x + 4,) float32; the sum of five of its pixels, from number x on, is that of the 5 x 5 about column x
    """
    ny, nx = image.shape
    a, b = image[_mirrored(y - 2, ny)], image[_mirrored(y - 1, ny)]
    d, e = image[_mirrored(y + 1, ny)], image[_mirrored(y + 2, ny)]
    _add_rows(a, b, image[y], d, e, line[2 : 2 + nx])
    for x in (-2, -1, nx, nx + 1):
        line[2 + x] = line[2 + _mirrored(x, nx)]


@compiled
def _subtract_mean(row: Array, line: Array, result: Array) -> None:
    for x in range(result.shape[0]):
        result[x] = row[x] - (line[x] + line[x + 1] + line[x + 2] + line[x + 3] + line[x + 4]) * np.float32(0.04)


@compiled
def _excess(image: Array, result: Array) -> None:
    line = np.empty(image.shape[1] + 4, np.float32)
    for y in range(result.shape[0]):
        sum_rows_around(image, y, line)
        _subtract_mean(image[y], line, result[y])


def _tile_size(shape: tuple[int, ...]) -> int:
    return int(min(64, *shape))


def _thresholds(image: Array, excess: Array, odds: float) -> NDArray[np.float32]:
    """Return what an excess stays below by chance with odds of 1 - exp(-odds), for each tile, on the host."""
    xp = array_namespace(image)
    spread, level = tile_levels(excess, absolute=True), tile_levels(image)
    # integer counts of a very weak beam have medians of 0; their means are the least there is
    noise = xp.maximum(spread[0] / 0.6745, 0.5 * spread[1])
    level = xp.maximum(level[0], 0.5 * level[1])
    # Bernstein's bound: for scaled Poisson counts of unit u = variance / mean, P(excess > t) < exp(-odds)
    unit = noise**2 / xp.maximum(level, 1e-6) * (odds / 3.0)
    threshold: NDArray[np.float32] = to_numpy(unit + xp.sqrt(unit**2 + 2.0 * odds * noise**2)).astype(np.float32)
    return threshold


def tile_levels(image: Array, *, absolute: bool = False) -> Array:
    """Return the medians and the means of tiles of 64 pixels, (2, rows, columns) float32.

    absolute : of the absolute values
    Every third row and column are enough for a tile.
    """
    if not isinstance(image, np.ndarray):
        return tile_levels_plain(image, absolute=absolute)
    tile = _tile_size(image.shape)
    result = np.empty((2, image.shape[0] // tile, image.shape[1] // tile), np.float32)
    _tile_levels(image, tile, absolute, result)
    return result


def tile_levels_plain(image: Array, *, absolute: bool = False) -> Array:
    """Plain twin of ``tile_levels``."""
    xp, tile = array_namespace(image), _tile_size(image.shape)
    rows, columns = image.shape[0] // tile, image.shape[1] // tile
    parts = image[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile)[:, ::3, :, ::3]
    values = parts.transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    values = xp.abs(values) if absolute else values
    return xp.stack([xp.median(values, axis=-1), xp.mean(values, axis=-1)])


@compiled
def _count_up_to(keys: Array, limit: Any) -> int:
    count = np.int32(0)
    for i in range(keys.shape[0]):
        count += np.int32(keys[i] <= limit)
    return count  # type: ignore[return-value]


@compiled
def _median(values: Array, keys: Array) -> Any:
    """Return the median of numbers by halving the range where it may be: counting takes whole registers, sorting not.

    keys : (n,) int32 room for the bits of the numbers, which are in their order but for those below 0
    """
    bits = values.view(np.int32)
    for i in range(keys.shape[0]):
        keys[i] = bits[i] if bits[i] >= 0 else bits[i] ^ np.int32(0x7FFFFFFF)
    size = keys.shape[0]
    low, high = np.int64(keys.min()), np.int64(keys.max())
    while low < high:
        middle = (low + high) >> 1
        if _count_up_to(keys, np.int32(middle)) > (size - 1) // 2:
            high = middle
        else:
            low = middle + 1
    following = low
    if size % 2 == 0 and _count_up_to(keys, np.int32(low)) == size // 2:
        following = np.int64(keys.max())
        for i in range(size):
            if low < keys[i] < following:
                following = np.int64(keys[i])
    keys[0], keys[1 % size] = low, following
    for i in range(min(size, 2)):
        if keys[i] < 0:
            keys[i] ^= np.int32(0x7FFFFFFF)
    both = keys.view(np.float32)
    return 0.5 * (both[0] + both[1 % size])


@compiled
def _tile_levels(image: Array, tile: int, absolute: bool, result: Array) -> None:
    side = (tile + 2) // 3
    values, keys = np.empty(side * side, np.float32), np.empty(side * side, np.int32)
    for row in range(result.shape[1]):
        for column in range(result.shape[2]):
            total, i = 0.0, 0
            for y in range(row * tile, (row + 1) * tile, 3):
                for x in range(column * tile, (column + 1) * tile, 3):
                    value = abs(image[y, x]) if absolute else image[y, x]
                    values[i] = value
                    total += value
                    i += 1
            result[0, row, column] = _median(values, keys)
            result[1, row, column] = total / values.shape[0]


def _above(excess: Array, threshold: NDArray[np.float32], part: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return where an excess is above a part of its tile's threshold, (n, 2), and that threshold, on the host."""
    xp, tile = array_namespace(excess), _tile_size(excess.shape)
    last = np.array(threshold.shape) - 1
    columns = np.minimum(np.arange(excess.shape[1]) // tile, last[1])
    limits = np.ascontiguousarray((part * threshold)[:, columns], dtype=np.float32)
    if isinstance(excess, np.ndarray):
        counts = np.zeros(excess.shape[0], np.int64)
        _count_above(excess, limits, tile, counts)
        some = np.flatnonzero(counts)
    else:
        some = np.arange(excess.shape[0])
    of_tile = np.minimum(some // tile, last[0])
    found = [np.zeros((0, 2), np.int64)]
    for row in np.unique(of_tile):
        lines = some[of_tile == row]
        places = to_numpy(xp.argwhere(excess[like(excess, lines)] > like(excess, limits[row])))
        found.append(np.stack([lines[places[:, 0]], places[:, 1]], axis=1))
    suspects = np.concatenate(found)
    y, x = np.minimum(suspects // tile, last).T
    return suspects, threshold[y, x]


@compiled
def _count_row_above(row: Array, limits: Array) -> int:
    count = np.int32(0)
    for x in range(row.shape[0]):
        count += np.int32(row[x] > limits[x])
    return count  # type: ignore[return-value]


@compiled
def _count_above(excess: Array, limits: Array, tile: int, counts: Array) -> None:
    for y in range(excess.shape[0]):
        counts[y] = _count_row_above(excess[y], limits[min(y // tile, limits.shape[0] - 1)])


def _surroundings(image: Array, positions: NDArray[np.int64]) -> Array:
    """Return the 24 pixels around each position, (n, 24); the edge is mirrored."""
    ny, nx = int(image.shape[0]), int(image.shape[1])
    offsets = np.array(_square(RADIUS))
    y = np.abs(positions[:, :1] + offsets[None, :, 0])
    x = np.abs(positions[:, 1:] + offsets[None, :, 1])
    y, x = np.where(y >= ny, 2 * ny - 2 - y, y), np.where(x >= nx, 2 * nx - 2 - x, x)
    return image[like(image, y), like(image, x)]
