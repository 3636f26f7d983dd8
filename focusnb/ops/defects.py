"""Find pixels that cannot be trusted and replace them by good neighbours, so that noise stays noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    y, x = np.nonzero(bad)
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
    excess, threshold = _excess_and_threshold(image, math.log(image.size / false_alarms))
    # the screening mean contains the pixel itself, and maybe a hot neighbour
    suspects = to_numpy(xp.argwhere(excess > 0.8 * threshold))
    mask = np.zeros(image.shape, bool)
    if len(suspects):
        surroundings = to_numpy(_surroundings(image, suspects))
        limits = to_numpy(threshold[like(image, suspects[:, 0]), like(image, suspects[:, 1])])
        values = to_numpy(image[like(image, suspects[:, 0]), like(image, suspects[:, 1])])
        hot = values - np.percentile(surroundings, 80.0, axis=1) > limits
        mask[suspects[hot, 0], suspects[hot, 1]] = True
    found = like(image, mask)
    return found if known is None else found & ~known


def _excess_and_threshold(image: Array, odds: float) -> tuple[Array, Array]:
    """Return each pixel's excess over the 5 x 5 mean, and what it exceeds by chance with odds of exp(-odds), (y, x)."""
    xp, ndimage = array_namespace(image), ndimage_namespace(image)
    excess = image - ndimage.uniform_filter(image, 5, mode="reflect")
    tile = min(64, *image.shape)
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
    threshold = (unit + xp.sqrt(unit**2 + 2.0 * odds * noise**2)).astype(xp.float32)
    y = xp.minimum(xp.arange(image.shape[0]) // tile, rows - 1)
    x = xp.minimum(xp.arange(image.shape[1]) // tile, columns - 1)
    return excess, threshold[y][:, x]


def _surroundings(image: Array, positions: NDArray[np.int64]) -> Array:
    """Return the 24 pixels around each position, (n, 24); the edge is mirrored."""
    ny, nx = int(image.shape[0]), int(image.shape[1])
    offsets = np.array(_square(RADIUS))
    y = np.abs(positions[:, :1] + offsets[None, :, 0])
    x = np.abs(positions[:, 1:] + offsets[None, :, 1])
    y, x = np.where(y >= ny, 2 * ny - 2 - y, y), np.where(x >= nx, 2 * nx - 2 - x, x)
    return image[like(image, y), like(image, x)]
